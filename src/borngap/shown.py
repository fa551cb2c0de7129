"""Text as it is shown: on one line, with nothing invisible in it and nothing that turns the line around."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath

_PART = r"[^/\\\s'\"`,;()<>]+"
# from a home folder or a drive on, or two parts from a root, so that neither a unit such as 1/d nor an address is one
_LOCAL = re.compile(rf"(?<![\w/\\.:~-])(?:(?:~|[A-Za-z]:)(?:[/\\]+{_PART})+|(?:\.{{0,2}}[/\\]{_PART}){{2,}})")
_JOINERS = frozenset("\u200c\u200d")  # invisible, but parts of emoji and of several scripts
_SIGNS = {"\n": "↵", "\r": "↵", "\u2028": "↵", "\u2029": "↵", "\t": "⇥"}


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


def public(text: str) -> str:
    """Return visible text for a page that is passed on: of a local path its last part, nothing of its folders.

    Example:
        >>> public("/home/ann/my models/llama"), public("org/name"), public("can't read ~/runs/a/run.json: damaged")
        ('llama', 'org/name', "can't read run.json: damaged")
    """
    if re.match(r"[/~]|\.{1,2}[/\\]|[A-Za-z]:[/\\]", text) and not re.search(r"[\n:]", text[2:]):
        return visible(_last(text))
    return visible(_LOCAL.sub(lambda found: _last(found.group()), text))


def _last(path: str) -> str:
    return PureWindowsPath(path).name or path  # it knows both kinds of slashes


def quoted(text: str) -> str:
    """Return text in quotation marks, on one line."""
    return f"'{visible(text)}'"


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return _SIGNS.get(character) or repr(character)[1:-1]
