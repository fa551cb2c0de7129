"""A thesaurus: which words share a meaning, are opposites, of one kind, or derived from one another.

The English one is WordNet 3.1 (its licence lies beside the data, ``wordnet.LICENSE``), cut to single words by
``docs/make_thesaurus.py``. A user's own file adds groups of words in any language. Senses are not told apart: two words
are synonyms if they are in any sense.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from importlib.resources import files
from pathlib import Path

from borngap.data.textfile import check_text, lines_of
from borngap.errors import UserError

_DATA = files("borngap.words") / "wordnet.xz"
_SEPARATORS = re.compile("[,;\t]")
_RULE = "two words or more a line, separated by commas, semicolons or tabs"
_LEAST = 2
_Numbers = dict[str, list[int]]
_Links = dict[str, list[str]]


class Thesaurus:
    """Groups of synonyms, kinds of groups, pairs of opposites and of derived words; case makes no difference."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._members: list[str] = []  # of each group, tabs between them
        self._groups: _Numbers = {}
        self._kinds: _Numbers = {}
        self._opposites: _Links = {}
        self._derived: _Links = {}

    def __contains__(self, word: object) -> bool:
        """Return whether it holds a base form."""
        return isinstance(word, str) and word.lower() in self._groups

    def groups(self, word: str) -> frozenset[int]:
        """Return the groups of synonyms that a base form is in; their numbers mean nothing else."""
        return frozenset(self._groups.get(word.lower(), ()))

    def kinds(self, word: str) -> frozenset[int]:
        """Return the direct hypernyms of a base form; their numbers mean nothing else."""
        return frozenset(self._kinds.get(word.lower(), ()))

    def synonyms(self, word: str) -> frozenset[str]:
        """Return the words that share a group with a base form, in lower case, itself left out."""
        found = {other for group in self.groups(word) for other in self._members[group].split("\t")}
        return frozenset(found - {word.lower()})

    def antonyms(self, word: str) -> frozenset[str]:
        """Return the direct opposites of a base form, in lower case."""
        return frozenset(self._opposites.get(word.lower(), ()))

    def derived(self, word: str) -> frozenset[str]:
        """Return the base forms that a base form is derived from, or that are from it: argue, argument."""
        return frozenset(self._derived.get(word.lower(), ()))

    def add(self, words: Iterable[str]) -> None:
        """Add a group of synonyms."""
        group, plain = len(self._members), [word.lower() for word in words]
        self._members.append("\t".join(plain))
        for word in plain:
            self._groups.setdefault(word, []).append(group)

    def rank(self, words: Iterable[str], kind: int) -> None:
        """Say of words that they are of a kind."""
        for word in words:
            self._kinds.setdefault(word.lower(), []).append(kind)

    def link(self, first: str, others: Iterable[str], *, opposite: bool) -> None:
        """Add pairs of opposites, or of words of which one is derived from the other."""
        links = self._opposites if opposite else self._derived
        for other in others:
            links.setdefault(first, []).append(other)
            links.setdefault(other, []).append(first)


@cache
def english() -> Thesaurus:
    """Return WordNet's single words; read once, at the first call."""
    found, kind, block = Thesaurus(), 0, ""
    for line in lzma.decompress(_DATA.read_bytes()).decode("utf-8").splitlines():
        words = line.split(" ")
        if not words[0]:
            block, kind = words[1], kind + 1
        elif block in {"!", "+"}:
            found.link(words[0], words[1:], opposite=block == "!")
        elif block == "=":
            found.rank((word for word in words if not word.endswith("~")), kind)
            found.add(word.removesuffix("~") for word in words)
        else:
            found.add(words)
    return found


def read_thesaurus(file: Path) -> Thesaurus:
    """Return the English thesaurus with a user's groups of synonyms, of any language, added.

    Args:
        file: UTF-8, UTF-16 or UTF-32, plain or compressed: a group a line, words or terms separated by commas,
            semicolons or tabs; lines that begin with # are comments.

    Returns:
        A thesaurus of its own.

    Raises:
        UserError: the file can't be read, has no group, or a line of it is none; the message says which line.
    """
    found, before = deepcopy(english()), 0
    for number, line in lines_of(file):
        if not line.lstrip("\ufeff ").startswith("#"):
            found.add(_group(line, f"{file}, line {number}"))
            before += 1
    if not before:
        raise UserError(f"{file} has no group of words", rule=_RULE, fix="client, customer")
    return found


def _group(line: str, place: str) -> list[str]:
    """Return the words of a line of a user's thesaurus."""
    try:
        check_text(line)
    except ValueError as error:
        raise UserError(f"{place} is not text", found=error, fix="save the file as UTF-8") from None
    words = [" ".join(word.split()).strip("\"'") for word in _SEPARATORS.split(line.strip("\ufeff"))]
    words = list(dict.fromkeys(word for word in words if word))
    if len({word.lower() for word in words}) < _LEAST:
        raise UserError(f"{place} is no group of words", rule=_RULE, found=repr(line.strip()), fix="client, customer")
    return words
