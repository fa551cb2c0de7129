"""Which words of a list mean the same as another: found by what they share, without a look at all pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from borngap.words.relation import SYNONYMOUS, bases, relation, word_of
from borngap.words.spelling import regular_spelling
from borngap.words.thesaurus import Thesaurus, english


class Relatives:
    """A list of words, such as a vocabulary, in which synonyms and spelling variants are looked up."""

    def __init__(self, words: Sequence[str], thesaurus: Thesaurus | None = None) -> None:
        """Look up what each word is a form of; some 15 microseconds a word.

        Args:
            words: words, or tokens' texts.
            thesaurus: WordNet unless given.
        """
        self._book = english() if thesaurus is None else thesaurus
        self._words = [word_of(word) for word in words]
        places: dict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(self._words):
            places[word.lower()].append(place)
        self._forms: dict[str, list[int]] = defaultdict(list)
        self._spelt: dict[str, list[int]] = defaultdict(list)
        for word, own in places.items():
            self._spelt[regular_spelling(word)] += own
            for base in bases(word):
                self._forms[base] += own

    def of(self, word: str) -> list[int]:
        """Return the places in the list of the words that are a word's synonyms, or the word in another spelling.

        Args:
            word: a word or a token's text.

        Returns:
            All places at which ``relation`` has one of ``SYNONYMOUS``, ascending.
        """
        word = word_of(word)
        meant = {other for base in bases(word) for other in (base, *self._book.synonyms(base))}
        found = {place for base in meant for place in self._forms.get(base, ())}
        found.update(self._spelt.get(regular_spelling(word), ()))
        return sorted(p for p in found if relation(word, self._words[p], thesaurus=self._book) in SYNONYMOUS)
