"""Which words of a list mean the same as another: found by what they share, without a look at all pairs."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat

from borngap.words.relation import SYNONYMOUS, bases, relation, unlike, word_of
from borngap.words.spelling import regular_spelling, skeleton
from borngap.words.thesaurus import Thesaurus, english


class Relatives:
    """A list of words, such as a vocabulary, in which synonyms and spelling variants are looked up."""

    def __init__(self, words: Sequence[str], thesaurus: Thesaurus | None = None) -> None:
        """Look up what each word is a form of; some 5 microseconds a word.

        Args:
            words: words, or tokens' texts.
            thesaurus: WordNet unless given.
        """
        self._book = english() if thesaurus is None else thesaurus
        self._places: dict[str, list[int]] = defaultdict(list)
        self._forms: dict[str, list[str]] = defaultdict(list)
        self._alike: dict[str, list[str]] = defaultdict(list)
        with uncollected():
            for place, word in enumerate(words):
                self._places[word_of(word).lower()].append(place)
            for word in self._places:
                self._alike[skeleton(word)].append(word)
                for base in bases(word):
                    self._forms[base].append(word)

    def of(self, word: str) -> list[int]:
        """Return the places in the list of the words that are a word's synonyms, or the word in another spelling.

        Args:
            word: a word or a token's text.

        Returns:
            All places at which ``relation`` has one of ``SYNONYMOUS``, ascending; these do not depend on case.
        """
        word = word_of(word).lower()
        own, book, places = bases(word), self._book, self._places
        meant = frozenset().union(*map(book.synonyms, own)) - own
        found = set(chain.from_iterable(map(self._forms.get, meant, repeat(()))))
        same = set(unlike(word, found, book))
        spelt = regular_spelling(word)
        found.update(form for form in self._alike.get(skeleton(word), ()) if regular_spelling(form) == spelt)
        found.update(*(self._forms.get(base, ()) for base in own))
        same.update(form for form in found - same if relation(word, form, thesaurus=book) in SYNONYMOUS)
        return sorted(place for form in same for place in places[form])


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
