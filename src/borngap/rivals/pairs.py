"""Pairs of tokens: which rows of the output matrix belong to words to use and to those that they stand instead of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.model.vocabulary import tokenizer_of
from borngap.rivals.host import labels_of, looked_through, refuse_missing, rest_of
from borngap.rivals.spots import TermSpots
from borngap.words.termfile import terms_of


def token_pairs(terms: Any, tokenizer: Any, rows: Any, where: str = "the rows") -> list[tuple[int, int]]:
    """Return the tokens by which words are told from their rivals in rows, at the places of ``RivalLoss``.

    Args:
        terms: a file of terms, or a sequence of pairs of words, the wanted one first.
        tokenizer: the model's tokenizer.
        rows: a data set that a trainer has prepared, as ``RivalLoss`` reads it: labels where it has them, else all ids
            that its masks leave; or the labels of each row: token ids, -100 where nothing is learnt, shape (T,). Of
            more than 4,096 rows as many random ones are read, always the same; where none of them has a word, all.
        where: what the rows are, for the message.

    Returns:
        The right token and its rival, wherever a word to use stands, in every form; each pair once, in one order,
        ascending.

    Raises:
        UserError: the words can't be read or held apart, rows hold no tokens, or none of the words to use stands in
            any row.
    """
    finder, padding = TermSpots(terms_of(terms), tokenizer_of(tokenizer)), getattr(tokenizer, "pad_token_id", None)
    first = looked_through(rows)
    found = _pairs(finder, (_labels(row, padding) for row in first))
    found = found or _pairs(finder, (_labels(row, padding) for row in rest_of(rows)))
    if not found:
        missing = finder.missing(_labels(row, padding) for row in first)
        refuse_missing(missing, where if hasattr(rows, "__len__") else f"the first {len(first)} of {where}")
    return sorted((a, b) for a, b in found if a < b or (b, a) not in found)


def _pairs(finder: TermSpots, rows: Iterable[Tensor]) -> set[tuple[int, int]]:
    found = set[tuple[int, int]]()
    for row in rows:
        spots = finder.find(row[None])
        every = zip(spots.golds.tolist(), spots.rivals.tolist(), strict=True)
        found |= {(gold, rival) for gold, rivals in every for rival in rivals if rival >= 0}
    return found


def _labels(row: Any, padding: int | None) -> Tensor:
    if not isinstance(row, Mapping):
        return torch.as_tensor(row)
    labels = labels_of(row, padding)
    if labels is None:
        rule, fix = "rows that a trainer has prepared: input_ids", "give the labels of the rows as a list"
        raise UserError("a row holds no tokens", rule=rule, found=sorted(row), fix=fix)
    return labels
