"""Pairs of tokens: which rows of the output matrix belong to words to use and to those that they stand instead of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from borngap.model.vocabulary import tokenizer_of
from borngap.rivals.host import refuse_missing
from borngap.rivals.spots import TermSpots
from borngap.words.termfile import terms_of


def token_pairs(terms: Any, tokenizer: Any, rows: Iterable[Any], where: str = "the rows") -> list[tuple[int, int]]:
    """Return the tokens by which words are told from their rivals in rows, at the places of ``RivalLoss``.

    Args:
        terms: a file of terms, or a sequence of pairs of words, the wanted one first.
        tokenizer: the model's tokenizer.
        rows: labels of each row: token ids, -100 where nothing is learnt, shape (T,).
        where: what the rows are, for the message.

    Returns:
        The right token and its rival, wherever a word to use stands, in every form; each pair once, ascending.

    Raises:
        UserError: the words can't be read or held apart, or none of those to use stands in any row.
    """
    finder, labels = TermSpots(terms_of(terms), tokenizer_of(tokenizer)), [torch.as_tensor(row) for row in rows]
    found = set[tuple[int, int]]()
    for row in labels:
        spots = finder.find(row[None])
        every = zip(spots.golds.tolist(), spots.rivals.tolist(), strict=True)
        found |= {(gold, rival) for gold, rivals in every for rival in rivals if rival >= 0}
    if not found:
        refuse_missing(finder.missing(labels), where)
    return sorted(found)
