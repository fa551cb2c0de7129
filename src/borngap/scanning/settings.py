"""Settings of one scan: everything that decides what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from borngap.choices import DEFAULT_TOP_P, KINDS, Kind
from borngap.errors import UserError

_LOWEST_PERCENTILE = 90.0
Loss = Literal["answers", "all"]


@dataclass(frozen=True)
class Scanning:
    """What counts as a rival, and how rows are read.

    Attributes:
        percentile: a rival's overlap with gold is above this percentile of the model's own bulk, in [90, 100).
        min_overlap: the same as a number, in (0, 1]; takes the place of the percentile.
        pairs: (gold, rival) words; only these are looked for, whatever their overlap, in both directions.
        geometry: geometry matrix.
        top_p: nucleus mass, in (0, 1].
        bulk_pairs: random token pairs that the bulk is sampled from.
        seed: seeds that sample.
        text_field: name of the text field; recognised if no field is named.
        prompt_field: name of the prompt field.
        completion_field: name of the completion field.
        messages_field: name of the field of chat messages.
        loss: which tokens count: ``answers``, what follows the prompt or is the assistant's; or ``all``.
        max_length: where rows are cut, as SFTTrainer's ``max_length`` does; None keeps them whole.
        window: tokens that the model reads at once, at least 4; longer rows are split. None for the model's context.
        limit: number of rows; None for all.
        chunk: rows that are written together.
        strict: whether a malformed row is an error.

    Raises:
        UserError: a setting is out of range.
    """

    percentile: float = 99.0
    min_overlap: float | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    geometry: Kind = "readout"
    top_p: float = DEFAULT_TOP_P
    bulk_pairs: int = 1_000_000
    seed: int = 0
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

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: one is out of range.
        """
        rules = {
            "percentile": (_LOWEST_PERCENTILE <= self.percentile < 100, f"in [{_LOWEST_PERCENTILE:g}, 100)"),
            "min_overlap": (self.min_overlap is None or 0 < self.min_overlap <= 1, "in (0, 1]"),
            "geometry": (self.geometry in KINDS, f"one of {', '.join(KINDS)}"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "loss": (self.loss in get_args(Loss), f"one of {', '.join(get_args(Loss))}"),
            "max_length": (self.max_length is None or self.max_length >= 2, "at least 2 tokens"),
            "window": (self.window is None or self.window >= 4, "at least 4 tokens"),
            "limit": (self.limit is None or self.limit >= 1, "at least 1 row"),
            "chunk": (self.chunk >= 1, "at least 1 row"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise UserError(f"{name} is out of range", rule=rule, found=getattr(self, name))

    @property
    def fields(self) -> dict[str, str | None]:
        """Role -> field name, None where the user names none."""
        return {
            "text": self.text_field,
            "prompt": self.prompt_field,
            "completion": self.completion_field,
            "messages": self.messages_field,
        }
