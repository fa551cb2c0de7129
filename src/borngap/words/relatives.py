"""Which words of a list mean the same as another: found by what they share, without a look at all pairs."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat

from borngap.words.relation import SYNONYMOUS, Relation, bases, relation, unlike, word_of
from borngap.words.spelling import regular_spelling, regular_spellings
from borngap.words.synonyms import synonyms_among
from borngap.words.thesaurus import Thesaurus


class Relatives:
    """A list of words, such as a vocabulary, in which WordNet's synonyms and spelling variants are looked up."""

    def __init__(self, words: Sequence[str]) -> None:
        """Look up all of them.

        Args:
            words: words without white space, or tokens' texts.
        """
        with uncollected():
            places = _places(words)
            self._numbers = dict(zip(places, range(len(places)), strict=True))
            links = synonyms_among(list(places))
        self._places = list(places.values())
        self._starts, self._ends = links.starts.tolist(), links.ends.tolist()

    def of(self, word: str) -> list[int]:
        """Return the places in the list of the words that are a word's synonyms, or the word in another spelling.

        Args:
            word: one of the list, in any case.

        Returns:
            All places at which ``relation`` has one of ``SYNONYMOUS``, ascending; these do not depend on case.
        """
        number, places = self._numbers[word_of(word).lower()], self._places
        return sorted(chain(places[number], *[places[other >> 1] for other in self._linked(number)]))

    def relation(self, gold: str, rival: str) -> Relation:
        """Return how two words are related, whether they are in the list or not."""
        one, other = (self._numbers.get(word_of(word).lower()) for word in (gold, rival))
        if one is not None and other is not None:
            linked = self._linked(one)
            if 2 * other in linked:
                return "synonym"
            if one == other or 2 * other + 1 in linked:
                return "spelling"
        return relation(gold, rival)

    def _linked(self, number: int) -> list[int]:
        return self._ends[self._starts[number] : self._starts[number + 1]]


class OwnRelatives:
    """... by a user's own thesaurus, in which each word is looked up by itself."""

    def __init__(self, words: Sequence[str], thesaurus: Thesaurus) -> None:
        """Look up what each word is a form of; some 5 microseconds a word.

        Args:
            words: words, or tokens' texts.
            thesaurus: says what they mean.
        """
        self._book = thesaurus
        self._forms: dict[str, list[str]] = defaultdict(list)
        self._alike: dict[str, list[str]] = defaultdict(list)
        with uncollected():
            self._places = _places(words)
            for word, spelling in zip(self._places, regular_spellings(list(self._places)), strict=True):
                self._alike[spelling].append(word)
                for base in bases(word):
                    self._forms[base].append(word)

    def of(self, word: str) -> list[int]:
        """Return the places of synonyms and spellings, as ``Relatives.of`` does, also of a word that is not listed."""
        word = word_of(word).lower()
        own, book, places = bases(word), self._book, self._places
        meant = frozenset().union(*map(book.synonyms, own)) - own
        found = set(chain.from_iterable(map(self._forms.get, meant, repeat(()))))
        same = set(unlike(word, found, book))
        found.update(self._alike.get(regular_spelling(word), ()), *(self._forms.get(base, ()) for base in own))
        same.update(form for form in found - same if self.relation(word, form) in SYNONYMOUS)
        return sorted(place for form in same for place in places[form])

    def relation(self, gold: str, rival: str) -> Relation:
        """Return how two words are related, whether they are in the list or not."""
        return relation(gold, rival, thesaurus=self._book)


def _places(words: Sequence[str]) -> dict[str, list[int]]:
    """Where each word stands in a list, in any case."""
    found: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        found.setdefault(word_of(word).lower(), []).append(place)
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's garbage collector from going through all of the program's objects while many are made to stay."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
