"""A thesaurus: which words share a meaning, are opposites, of one kind, or derived from one another.

The English one is WordNet 3.1 (its licence lies beside the data, ``wordnet.LICENSE``), cut to single words by
``docs/make_thesaurus.py``. A user's own file adds groups of words in any language. Senses are not told apart: two words
are synonyms if they are in any sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from borngap.data.textfile import check_text, lines_of
from borngap.errors import UserError

if TYPE_CHECKING:
    from borngap.words.packed import Links, WordList

_BOOK = "wordnet"
_SEPARATORS = re.compile("[,;\t]")
_RULE = "two words or more a line, separated by commas, semicolons or tabs"
_FIX = "write the words that mean the same in one line, as in: client, customer"
_LEAST = 2


@dataclass(frozen=True, eq=False)
class WordNet:
    """The packed thesaurus: words and groups of them by number.

    Attributes:
        words: in lower case.
        groups: word -> groups of synonyms.
        kinds: word -> direct hypernyms.
        opposites: word -> its antonyms.
        derived: word -> words that it is derived from, or that are from it.
    """

    words: WordList
    groups: Links
    kinds: Links
    opposites: Links
    derived: Links

    @cached_property
    def members(self) -> Links:
        """Group -> words; made when it is first asked for."""
        return self.groups.reversed()


class Thesaurus:
    """Groups of synonyms, kinds of words, pairs of opposites and of derived words; case makes no difference."""

    def __init__(self, data: WordNet) -> None:
        """Begin with WordNet's."""
        self._data = data
        self._added: list[list[str]] = []
        self._own: dict[str, list[int]] = {}

    def __contains__(self, word: object) -> bool:
        """Return whether it holds a base form."""
        return isinstance(word, str) and bool(self.groups(word))

    def groups(self, word: str) -> frozenset[int]:
        """Return the groups of synonyms that a base form is in; their numbers mean nothing else."""
        found = self._of(self._data.groups, word)
        return frozenset((*found, *self._own.get(word.lower(), ())) if self._own else found)

    def kinds(self, word: str) -> frozenset[int]:
        """Return the direct hypernyms of a base form; their numbers mean nothing else."""
        return frozenset(self._of(self._data.kinds, word))

    def synonyms(self, word: str) -> frozenset[str]:
        """Return the words that share a group with a base form, in lower case, itself left out."""
        words, members = self._data.words, self._data.members
        found = {words[other] for group in self._of(self._data.groups, word) for other in members.of(group)}
        for group in self._own.get(word.lower(), ()):
            found.update(self._added[-1 - group])
        found.discard(word.lower())
        return frozenset(found)

    def antonyms(self, word: str) -> frozenset[str]:
        """Return the direct opposites of a base form, in lower case."""
        return frozenset([self._data.words[other] for other in self._of(self._data.opposites, word)])

    def derived(self, word: str) -> frozenset[str]:
        """Return the base forms that a base form is derived from, or that are from it: argue, argument."""
        return frozenset([self._data.words[other] for other in self._of(self._data.derived, word)])

    def add(self, words: Iterable[str]) -> None:
        """Add a group of synonyms."""
        plain = [word.lower() for word in words]
        for word in plain:
            self._own.setdefault(word, []).append(-1 - len(self._added))
        self._added.append(plain)

    def _of(self, kind: Links, word: str) -> list[int]:
        number = self._data.words.number(word.lower())
        return [] if number is None else kind.of(number)


@cache
def english() -> Thesaurus:
    """Return WordNet's single words; read once, at the first call."""
    return Thesaurus(_wordnet())


@cache
def _wordnet() -> WordNet:
    from borngap.words.packed import WordList, packed_data, unpacked  # loads NumPy

    arrays = packed_data(_BOOK)
    links = (unpacked(arrays, name) for name in ("groups", "kinds", "opposites", "derived"))
    return WordNet(WordList(arrays["words"]), *links)


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
    found, before = Thesaurus(_wordnet()), 0
    for number, line in lines_of(file):
        if not line.lstrip("\ufeff ").startswith("#"):
            found.add(_group(line, f"{file}, line {number}"))
            before += 1
    if not before:
        raise UserError(f"{file} has no group of words", rule=_RULE, fix=_FIX)
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
        raise UserError(f"{place} is no group of words", rule=_RULE, found=repr(line.strip()), fix=_FIX)
    return words
