"""Chat messages as people write them, read as ``role`` and ``content``: ShareGPT, JSON texts, content in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from borngap.data.textfile import check_text

_ROLES_AND_TEXTS = {"from": "role", "value": "content"}  # ShareGPT's, as TRL renames them
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
_FORM = 'messages are a list of objects like {"role": "user", "content": "..."}'


def messages_of(value: Any) -> list[dict[str, Any]]:
    """Return messages with ``role`` and ``content``.

    ShareGPT's ``from`` and ``value`` get these names, and its speakers human and gpt the roles user and assistant, by
    which chat templates know them. A content that is a list of text parts is joined.

    Args:
        value: a list of messages, or the same as a JSON text.

    Returns:
        New messages, at least one.

    Raises:
        ValueError: these are no messages, or a part is no text; the message says what was found.
    """
    found = _from_json(value) if isinstance(value, str) else value
    check(isinstance(found, list) and found and all(isinstance(m, Mapping) for m in found), _FORM)
    return [_message(message) for message in found]


def check(holds: Any, reason: str) -> None:
    """Refuse a row.

    Args:
        holds: the condition.
        reason: what was expected and found.

    Raises:
        ValueError: it does not hold.
    """
    if not holds:
        raise ValueError(reason)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"a text that is no JSON ({error}); {_FORM}") from None


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {_ROLES_AND_TEXTS.get(key, key): value for key, value in message.items()}
    found = ", ".join(map(str, message)) or "nothing"
    check("role" in renamed, f"a message without a role, with {found}; {_FORM}")
    check(isinstance(renamed["role"], str), f"a role is a text, not {renamed['role']!r:.40}")
    if "from" in message:
        renamed["role"] = _ROLES.get(renamed["role"], renamed["role"])
    if isinstance(renamed.get("content"), list):
        renamed["content"] = "".join(map(_part, renamed["content"]))
    if isinstance(renamed.get("content"), str):
        check_text(renamed["content"])
    return renamed


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type", "text") == "text":
        return part["text"]
    found = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ValueError(f"a content in parts is made of texts, found a part of type {found}")
