"""The strings that a regular expression stands for, where they are few."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from re import _constants as op  # type: ignore[attr-defined]  # Python has no public way to take an expression apart
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_MOST = 64  # strings of one expression


@dataclass(frozen=True)
class Expansion:
    """What a regular expression stands for.

    Attributes:
        texts: its strings; the first one is the one that is listed first. None if a part stands for any character.
        complete: whether it matches these strings and no others, wherever they stand.
        cased: whether case counts in it.
    """

    texts: tuple[str, ...]
    complete: bool
    cased: bool


class _UnboundedError(Exception):
    """A part that stands for too many strings."""


def expand(pattern: str, *, cased: bool = True) -> Expansion:
    r"""Return the strings that a regular expression stands for.

    Word boundaries are dropped and any white space is a space. Of a part that may repeat without end, and of
    look-around, the shortest string is taken, and the expansion is not complete. An optional space or hyphen is there
    first; any other optional part is first left out.

    Args:
        pattern: the expression.
        cased: whether case counts unless the expression itself says that it does not.

    Returns:
        The strings; none of an expression that only the package ``regex`` can read.

    Example:
        >>> expand(r"(?:e-mail|mail)s?").texts
        ('e-mail', 'e-mails', 'mail', 'mails')
    """
    cased = cased and "(?i)" not in pattern
    walk = _Walk()
    try:
        texts = walk.sequence(parser.parse(pattern))
    except (_UnboundedError, re.error):
        return Expansion((), complete=False, cased=cased)
    return Expansion(tuple(dict.fromkeys(text for text in texts if text.strip())), walk.complete, cased)


class _Walk:
    """Goes through a parsed expression."""

    def __init__(self) -> None:
        self.complete = True
        self._parts: dict[Any, Callable[[Any], list[str]]] = {
            op.LITERAL: lambda code: [chr(code)],
            op.IN: self._among,
            op.BRANCH: lambda held: self._capped(text for part in held[1] for text in self.sequence(part)),
            op.SUBPATTERN: self._group,
            op.ATOMIC_GROUP: self.sequence,
            op.MAX_REPEAT: self._repeat,
            op.MIN_REPEAT: self._repeat,
            op.POSSESSIVE_REPEAT: self._repeat,
            op.AT: self._at,
            op.ASSERT: self._looked,
            op.ASSERT_NOT: self._looked,
        }

    def sequence(self, parts: Iterable[tuple[Any, Any]]) -> list[str]:
        """Return the strings of parts one after the other."""
        found = [""]
        for kind, held in parts:
            if kind not in self._parts:
                raise _UnboundedError
            found = self._capped(a + b for a, b in product(found, self._parts[kind](held)))
        return found

    def _among(self, held: list[tuple[Any, Any]]) -> list[str]:
        found: list[str] = []
        for kind, value in held:
            if kind is op.LITERAL:
                found.append(chr(value))
            elif kind is op.RANGE and value[1] - value[0] < _MOST:
                found += map(chr, range(value[0], value[1] + 1))
            elif kind is op.CATEGORY and value is op.CATEGORY_SPACE:
                found.append(" ")
            else:
                raise _UnboundedError
        return found

    def _group(self, held: tuple[Any, int, int, Any]) -> list[str]:
        if held[1] or held[2]:  # flags of its own
            self.complete = False
        return self.sequence(held[3])

    def _repeat(self, held: tuple[int, Any, Any]) -> list[str]:
        least, most, parts = held
        if most is op.MAXREPEAT or most - least > _MOST:
            self.complete, most = False, least
        one = self.sequence(parts) if most else [""]
        counts = range(least, most + 1)
        spaced = all(text.strip(" -") == "" for text in one)
        return self._capped(
            "".join(chosen) for n in (reversed(counts) if spaced else counts) for chosen in product(one, repeat=n)
        )

    def _at(self, held: Any) -> list[str]:
        self.complete = self.complete and held is op.AT_BOUNDARY
        return [""]

    def _looked(self, _: Any) -> list[str]:
        self.complete = False
        return [""]

    @staticmethod
    def _capped(texts: Iterable[str]) -> list[str]:
        found: list[str] = []
        for text in texts:
            found.append(text)
            if len(found) > _MOST:
                raise _UnboundedError
        return found
