"""Text as it is shown: on one line, with nothing invisible in it and nothing that turns the line around."""

from __future__ import annotations

_JOINERS = frozenset("\u200c\u200d")  # invisible, but parts of emoji and of several scripts
_MARKS = {"\n": "↵", "\r": "↵", "\u2028": "↵", "\u2029": "↵", "\t": "⇥"}


def visible(text: str) -> str:
    r"""Return text on one line: breaks and tabs as ↵ and ⇥, other control, format and surrogate characters escaped.

    Args:
        text: any text.

    Returns:
        Printable text that can be encoded and that can't reverse the direction of what follows it.

    Example:
        >>> visible("a\tb\r\nc\u202ed")
        'a⇥b↵c\\u202ed'
    """
    return "".join(_shown(c) for c in text.replace("\r\n", "\n"))


def quoted(text: str) -> str:
    """Return text in quotation marks, on one line."""
    return f"'{visible(text)}'"


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return _MARKS.get(character) or repr(character)[1:-1]
