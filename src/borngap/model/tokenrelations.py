"""How the whole words of a vocabulary are related, by token id; looked up when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from borngap.model.words import Words, words_of
from borngap.words.inflection import lemmas
from borngap.words.relation import Relation, is_given
from borngap.words.relatives import OwnRelatives, Relatives
from borngap.words.thesaurus import Thesaurus


class TokenRelations:
    """Relations of the tokens of one vocabulary: the user's pairs, and what a thesaurus says."""

    def __init__(self, words: Words, thesaurus: Thesaurus | None = None, given: Iterable[tuple[str, str]] = ()) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            words: the vocabulary as words.
            thesaurus: WordNet unless given.
            given: pairs of the user's.
        """
        self._words, self._thesaurus = words, thesaurus
        self._given = frozenset((first.lower(), second.lower()) for first, second in given)
        self._labels: dict[tuple[int, int], Relation] = {}

    def synonyms(self, token: int) -> list[int]:
        """Return the tokens that are synonyms, spellings or given for a whole word, ascending; none of others."""
        if token not in self._listed:
            return []
        found = [self._whole[place] for place in self._relatives.of(self._words.text[token])]
        return sorted({*found, *self.given[token]}) if token in self.given else found

    @cached_property
    def given(self) -> Mapping[int, frozenset[int]]:
        """The whole words that the user's pairs give for a token, in any form; only of tokens that have one."""
        found: dict[int, set[int]] = {}
        for pair in self._given:
            for one, other in (pair, pair[::-1]):
                for token in self._forms.get(one, ()):
                    found.setdefault(token, set()).update(self._forms.get(other, ()))
        return {token: frozenset(others - {token}) for token, others in found.items() if others - {token}}

    def without_token(self, first: str, second: str) -> bool:
        """Return whether no form of one of the two words of a given pair is a whole word of the vocabulary."""
        return not (self._forms.get(first.lower()) and self._forms.get(second.lower()))

    @cached_property
    def _forms(self) -> Mapping[str, frozenset[int]]:
        """The whole words that are forms of a word of the user's pairs, in lower case."""
        sides = frozenset(word for pair in self._given for word in pair)
        found: dict[str, set[int]] = {}
        for token in self._whole if sides else ():
            text = self._words.text[token].strip()
            for base in sides.intersection((text.lower(), *lemmas(text))):
                found.setdefault(base, set()).add(token)
        return {word: frozenset(tokens) for word, tokens in found.items()}

    def relation(self, gold: int, rival: int) -> Relation:
        """Return how the words of two tokens are related."""
        pair = (gold, rival)
        if pair not in self._labels:
            texts = self._words.text[gold], self._words.text[rival]
            is_own = self._given and is_given(*texts, self._given)
            self._labels[pair] = "given" if is_own else self._relatives.relation(*texts)
        return self._labels[pair]

    @cached_property
    def _whole(self) -> list[int]:
        return self._words.whole.nonzero().flatten().tolist()

    @cached_property
    def _listed(self) -> frozenset[int]:
        return frozenset(self._whole)

    @cached_property
    def _relatives(self) -> Relatives | OwnRelatives:
        texts = [self._words.text[token] for token in self._whole]
        return Relatives(texts) if self._thesaurus is None else OwnRelatives(texts, self._thesaurus)


_KNOWN: WeakKeyDictionary[Any, tuple[int, TokenRelations]] = WeakKeyDictionary()  # a second for 50,000 tokens


def vocabulary_relations(tokenizer: Any, size: int) -> TokenRelations:
    """Return the relations of a tokenizer's words by WordNet; kept, and read anew where tokens were added.

    Args:
        tokenizer: a Hugging Face tokenizer.
        size: rows of the model.

    Returns:
        The relations.
    """
    state = hash((size, len(tokenizer)))
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = (state, TokenRelations(words_of(tokenizer, size)))
        _KNOWN[tokenizer] = known
    return known[1]
