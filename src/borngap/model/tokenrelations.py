"""How the whole words of a vocabulary are related, by token id; worked out when it is asked for, and kept."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from borngap.model.words import Words, words_of
from borngap.words.relation import Relation, relation
from borngap.words.relatives import Relatives
from borngap.words.thesaurus import Thesaurus


class TokenRelations:
    """Relations of the tokens of one vocabulary."""

    def __init__(self, words: Words, thesaurus: Thesaurus | None = None) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            words: the vocabulary as words.
            thesaurus: WordNet unless given.
        """
        self._words, self._thesaurus = words, thesaurus
        self._known: dict[tuple[int, int], Relation] = {}

    def synonyms(self, token: int) -> list[int]:
        """Return the whole words that are synonyms or other spellings of a whole word, ascending; none of others."""
        if not self._words.whole[token]:
            return []
        return [self._whole[place] for place in self._relatives.of(self._words.text[token])]

    def relation(self, gold: int, rival: int) -> Relation:
        """Return how the words of two tokens are related."""
        pair = (gold, rival)
        if pair not in self._known:
            texts = self._words.text
            self._known[pair] = relation(texts[gold], texts[rival], thesaurus=self._thesaurus)
        return self._known[pair]

    @cached_property
    def _whole(self) -> list[int]:
        return self._words.whole.nonzero().flatten().tolist()

    @cached_property
    def _relatives(self) -> Relatives:
        return Relatives([self._words.text[token] for token in self._whole], self._thesaurus)


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
