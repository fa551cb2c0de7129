"""What the fields of a data set's rows mean: text, prompt and completion, chat messages, or token ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from borngap.textfile import check_text


@dataclass(frozen=True)
class Layout:
    """How to read a row.

    Attributes:
        kind: ``text``, ``completion``, ``chat`` or ``tokens``.
        fields: pairs of role and the name of the field; none where a row is the text itself.
    """

    kind: str
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return it in words."""
        named = ", ".join(name if name == role else f"{name} as {role}" for role, name in self.fields)
        return f"{_NAMES[self.kind]} ({named or 'the row itself'})"

    def of(self, value: Any) -> dict[str, Any]:
        """Return the values of a row by role.

        Args:
            value: a row's value.

        Returns:
            Role -> value, of the right types.

        Raises:
            ValueError: a field is missing or of a wrong type; the message says which.
        """
        if not self.fields:
            _CHECKS["text"](value)
            return {"text": value}
        _check(isinstance(value, dict), f"an object was expected, not a {type(value).__name__}")
        found = {}
        for role, name in self.fields:
            _check(value.get(name) is not None, f"the field {name!r} is missing")
            try:
                _CHECKS[role](value[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            found[role] = value[name]
        alike = len({isinstance(item, str) for item in found.values()}) == 1
        _check(alike or self.kind != "completion", "prompt and completion are both texts or both lists of messages")
        return found | {key: value[key] for key in ("tools", "chat_template_kwargs") if value.get(key) is not None}


def known_layout(value: Any) -> Layout | None:
    """Return the layout that the fields of a row tell; None if they tell none."""
    if isinstance(value, str):
        return Layout("text")
    if not isinstance(value, dict):
        return None
    return next((layout for layout in _KNOWN if {name for _, name in layout.fields} <= set(value)), None)


def _check(holds: Any, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


def _is_text(value: Any) -> None:
    _check(isinstance(value, str), f"a text was expected, not a {type(value).__name__}")
    check_text(value)


def _are_messages(value: Any) -> None:
    messages = isinstance(value, list) and all(isinstance(m, dict) and _MESSAGE_KEYS & m.keys() for m in value)
    _check(messages and value, 'messages are a list of objects like {"role": "user", "content": "..."}')


def _text_or_messages(value: Any) -> None:
    if isinstance(value, list):
        _are_messages(value)
    else:
        _check(isinstance(value, str), f"a text or a list of messages was expected, not a {type(value).__name__}")


def _are_ids(value: Any) -> None:
    listed = isinstance(value, list) and all(isinstance(i, int) for i in value)
    _check(listed, "token ids are a list of integers")


_MESSAGE_KEYS = {"role", "from"}
_NAMES = {
    "text": "plain text",
    "completion": "prompt and completion",
    "chat": "chat messages, assistant tokens only",
    "tokens": "token ids",
}
ROLES = {"text": ("text",), "completion": ("prompt", "completion"), "chat": ("messages",)}
_KNOWN = (
    Layout("tokens", (("input_ids", "input_ids"), ("labels", "labels"))),
    Layout("tokens", (("input_ids", "input_ids"),)),
    Layout("chat", (("messages", "messages"),)),
    Layout("chat", (("messages", "conversations"),)),
    Layout("completion", (("prompt", "prompt"), ("completion", "completion"))),
    Layout("text", (("text", "text"),)),
)
_CHECKS: dict[str, Callable[[Any], None]] = {
    "text": _is_text,
    "prompt": _text_or_messages,
    "completion": _text_or_messages,
    "messages": _are_messages,
    "input_ids": _are_ids,
    "labels": _are_ids,
}
