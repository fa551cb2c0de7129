"""Chats as token ids, and which of them the assistant says: what a trainer would supervise."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from borngap.data.messages import check
from borngap.errors import UserError

_MARK = re.compile(r"{%-?\s*generation\s*-?%}")
_PROBE = "borngap"
_SCAN_ALL = "scan all tokens (--loss all)"
_MARK_ANSWERS = (
    "mark the answers in the chat template by {% generation %}, install trl, which knows many templates, or "
    f"{_SCAN_ALL}"
)
_OURS = {  # arguments of apply_chat_template that are not the row's to give
    "add_generation_prompt", "chat_template", "messages", "return_assistant_tokens_mask", "return_dict", "self",
    "tokenize", "tools",
}  # fmt: skip
Messages = Sequence[dict[str, Any]]


class Chats:
    """Renders chats by the tokenizer's template, and finds the assistant's tokens in one of three ways.

    The template marks them by ``{% generation %}``; or TRL has a version of it that does, as SFTTrainer takes with
    ``assistant_only_loss``; or the chat is rendered up to the answer and with it, which is right only if both
    renderings are the beginning of the whole: that is checked of each answer.

    Attributes:
        way: how they are found, in words.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Prepare.

        Args:
            tokenizer: the model's tokenizer.

        Raises:
            UserError: the tokenizer has no chat template.
        """
        template = getattr(tokenizer, "chat_template", None)
        template = template.get("default") if isinstance(template, dict) else template
        if not template:
            fix = "use the tokenizer of an instruction-tuned model, or set tokenizer.chat_template"
            raise UserError("the tokenizer has no chat template", rule="chat messages need one", fix=fix)
        self._tokenizer = tokenizer
        self._marking, self.way = _marking(tokenizer, template)
        self._parts = self._wants_parts()

    def ids(self, messages: Messages, **options: Any) -> list[int]:
        """Return a chat as token ids.

        Args:
            messages: the chat.
            **options: for the template.

        Returns:
            Token ids.
        """
        return list(self._applied(messages, tokenize=True, return_dict=True, **options)["input_ids"])

    def answers(self, messages: Messages, **options: Any) -> tuple[list[int], list[bool]]:
        """Return a chat as token ids, and which of them the assistant says.

        Args:
            messages: the chat.
            **options: for the template.

        Returns:
            Token ids, and whether each is the assistant's.

        Raises:
            ValueError: they can't be told.
        """
        check(self._tokenizer.is_fast, f"the assistant's tokens can't be told without a fast tokenizer; {_SCAN_ALL}")
        if self._marking is None:
            return self._by_beginnings(messages, **options)
        options |= {"return_assistant_tokens_mask": True, "chat_template": self._marking}
        done = self._applied(messages, tokenize=True, return_dict=True, **options)
        return list(done["input_ids"]), [bool(mark) for mark in done["assistant_masks"]]

    def _by_beginnings(self, messages: Messages, **options: Any) -> tuple[list[int], list[bool]]:
        whole = self._applied(messages, tokenize=False, **options)
        encoded = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        mask = [False] * len(encoded["input_ids"])
        for at, message in enumerate(messages):
            if message["role"] == "assistant":
                check(
                    at, f"the chat begins with the assistant, before which there is nothing to render; {_MARK_ANSWERS}"
                )
                before = self._applied(messages[:at], tokenize=False, add_generation_prompt=True, **options)
                until = self._applied(messages[: at + 1], tokenize=False, **options)
                if not whole.startswith(until):  # some templates end every chat with an end of text
                    until = until.removesuffix(self._tokenizer.eos_token or "")
                if not (whole.startswith(until) and until.startswith(before)):
                    raise ValueError(
                        f"the assistant's tokens can't be told: {_trouble(at, before, until)}; {_MARK_ANSWERS}"
                    )
                said = (start < len(until) and stop > len(before) for start, stop in encoded["offset_mapping"])
                mask = [a or b for a, b in zip(mask, said, strict=True)]
        return list(encoded["input_ids"]), mask

    def _applied(self, messages: Messages, **options: Any) -> Any:
        """Apply the template; what it refuses is a ValueError."""
        from jinja2 import TemplateError

        given = [_in_parts(message) for message in messages] if self._parts else list(messages)
        try:
            return self._tokenizer.apply_chat_template(given, **options)
        except (TemplateError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"the chat template refuses it: {error}") from None

    def _wants_parts(self) -> bool:
        """Whether the template shows a content in parts only, as those of vision-language models may."""
        self._parts = False
        probe = {"role": "user", "content": _PROBE}
        return not self._shows(probe) and self._shows(_in_parts(probe))

    def _shows(self, message: dict[str, Any]) -> bool:
        try:
            return _PROBE in self._applied([message], tokenize=False)
        except ValueError:
            return False


def template_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a row gives to the chat template beside its messages, as SFTTrainer does.

    Args:
        values: of a row, by role.

    Returns:
        Options of ``apply_chat_template``.

    Raises:
        ValueError: they are of a wrong type, or not for a row to give.
    """
    tools, kwargs = values.get("tools"), values.get("chat_template_kwargs", {})
    check(isinstance(kwargs, dict), f"chat_template_kwargs: an object was expected, not a {type(kwargs).__name__}")
    ours = sorted(_OURS & kwargs.keys())
    check(not ours, f"chat_template_kwargs: {', '.join(ours)} can't be given by a row")
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except json.JSONDecodeError as error:
        raise ValueError(f"tools: a text that is no JSON ({error})") from None
    return {"tools": tools, **kwargs}


def _trouble(at: int, before: str, until: str) -> str:
    if not until.startswith(before):
        return f"the chat template begins message {at + 1} in another way than its generation prompt"
    return f"the chat template writes message {at + 1} in another way when others follow"


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return message | {"content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _marking(tokenizer: Any, template: str) -> tuple[str | None, str]:
    """The template with marks, None where there is none; and the way of finding the assistant's tokens, in words."""
    if _MARK.search(template):
        return template, "as the chat template marks them"
    patched = _patched(tokenizer)
    if patched is not None:
        return patched, "as TRL's version of the chat template marks them"
    return None, "found by rendering each chat up to the answer and with it"


def _patched(tokenizer: Any) -> str | None:
    """TRL's template with marks for the same model family; None where TRL is missing or knows none."""
    try:
        from trl.chat_template_utils import get_training_chat_template
    except ImportError:
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:
        return None
