"""Which tokens of a vocabulary are whole words, and which are variants of one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from borngap.model.vocabulary import vocabulary_of
from borngap.tokens import WORD_STARTS

_CONTRACTED = "'t"  # of "don't" the first token is " don", no word


@dataclass(frozen=True, eq=False)
class Words:
    """A vocabulary as words.

    Attributes:
        whole: whether a token starts a word and is made of letters, shape (V,).
        continues: whether a token, standing next, makes the one before it a fragment, shape (V,).
        key: equal for tokens whose texts differ in case or white space only, int64, shape (V,).
        text: each token's text.
    """

    whole: Tensor
    continues: Tensor
    key: Tensor
    text: tuple[str, ...]

    def tokens(self) -> dict[str, int]:
        """Return whole word -> token; of tokens that differ in white space only, the one with the least."""
        whole = sorted(self.whole.nonzero().flatten().tolist(), key=lambda i: (-len(self.text[i]), -i))
        return {self.text[i].strip(): i for i in whole}


def words_of(tokenizer: Any, size: int) -> Words:
    """Classify the tokens of a vocabulary.

    A token is a whole word if its piece starts with the tokenizer's word mark (``Ġ``, ``▁`` or a space), the rest of
    its text are letters, hyphens or apostrophes between letters allowed, and it is no special or added token. A word
    at the start of a row or after a bracket has no mark and does not count.

    Args:
        tokenizer: a Hugging Face tokenizer.
        size: rows of the model.

    Returns:
        The classification; ids that no token has are empty texts.
    """
    vocabulary = vocabulary_of(tokenizer, size)
    special, known = vocabulary.special, vocabulary.ids
    pieces, texts = ([""] * vocabulary.size for _ in range(2))
    read = (tokenizer.convert_ids_to_tokens(known), tokenizer.batch_decode([[i] for i in known]))
    for i, piece, text in zip(known, *read, strict=True):
        pieces[i], texts[i] = piece, text
    keys: dict[str, int] = {}
    return Words(
        torch.tensor(
            [
                i not in special and piece.startswith(WORD_STARTS) and _is_word(text.strip())
                for i, (piece, text) in enumerate(zip(pieces, texts, strict=True))
            ]
        ),
        torch.tensor([_goes_on(piece, text) for piece, text in zip(pieces, texts, strict=True)]),
        torch.tensor([keys.setdefault(text.strip().casefold(), i) for i, text in enumerate(texts)]),
        tuple(texts),
    )


def _is_word(text: str) -> bool:
    return all(part.isalpha() for part in text.replace("'", "-").split("-"))


def _goes_on(piece: str, text: str) -> bool:
    if piece.startswith(WORD_STARTS) or not text:
        return False
    return text[0].isalnum() or text[0] in "_�" or text.startswith(_CONTRACTED)
