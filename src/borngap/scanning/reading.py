"""Settings of how rows are read, whatever is looked for in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from borngap.errors import UserError

Loss = Literal["answers", "all"]
LONGEST_WINDOW = 1 << 20  # tokens, of a model that sets no limit
InRange = tuple[bool, str]
"""Whether a setting is in its range, and the range."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read.

    Attributes:
        text_field: name of the text field; recognised if no field is named.
        prompt_field: name of the prompt field.
        completion_field: name of the completion field.
        messages_field: name of the field of chat messages.
        loss: which tokens count: ``answers``, what follows the prompt or is the assistant's; or ``all``.
        max_length: tokens at which rows are cut, as SFTTrainer's ``max_length`` does; unless given, rows stay whole.
        window: tokens that the model reads at once, at least 4; longer rows are split. By default the model's context.
        limit: number of rows; all unless given.
        chunk: rows that are written together.
        strict: end at the first malformed row.
        seed: seeds what is sampled.

    Raises:
        UserError: a setting is out of range.
    """

    text_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    messages_field: str | None = None
    loss: Loss = "answers"
    max_length: int | None = None
    window: int | None = None
    limit: int | None = None
    chunk: int = 512
    strict: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one is out of range.
        """
        for name, (holds, rule) in self.rules().items():
            if not holds:
                found = getattr(self, name)
                if isinstance(found, tuple) and all(isinstance(one, str) for one in found):
                    found = ", ".join(found)
                raise UserError(f"{name} is out of range", rule=rule, found=found)

    def rules(self) -> Mapping[str, InRange]:
        """Return the range of each setting that has one."""
        return {
            "loss": (self.loss in get_args(Loss), f"one of {', '.join(get_args(Loss))}"),
            "max_length": (self.max_length is None or self.max_length >= 2, "at least 2 tokens"),
            "window": (self.window is None or self.window >= 4, "at least 4 tokens"),
            "limit": (self.limit is None or self.limit >= 1, "at least 1 row"),
            "chunk": (self.chunk >= 1, "at least 1 row"),
        }

    @property
    def fields(self) -> dict[str, str | None]:
        """Role -> field name, None where the user names none."""
        return {
            "text": self.text_field,
            "prompt": self.prompt_field,
            "completion": self.completion_field,
            "messages": self.messages_field,
        }

    def window_of(self, limit: int | None) -> int:
        """Return the tokens that a model reads at once.

        Args:
            limit: the most that it can; None where nothing sets a limit.

        Returns:
            As many, or those that the user names.

        Raises:
            UserError: the user names more.
        """
        limit = limit or LONGEST_WINDOW
        if self.window is not None and self.window > limit:
            rule = f"at most {limit} tokens, the model's context"
            raise UserError("the window is too long", rule=rule, found=self.window)
        return self.window or limit
