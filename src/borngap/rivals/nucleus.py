"""Rivals from the model itself: synonyms of each target, of which the likeliest counts if it is in the nucleus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from borngap.data.tokenised import IGNORED
from borngap.losses.formulae import precise
from borngap.model.tokenrelations import vocabulary_relations
from borngap.rivals.spots import Spots

_MOST = 32  # synonyms of a word that are looked at: hardly a word has more


class SynonymSpots:
    """Spots of every target that is a whole word with synonyms (docs/terms.md#relations), in any sense of the two."""

    def __init__(self, tokenizer: Any) -> None:
        """Prepare.

        Args:
            tokenizer: the model's tokenizer.
        """
        self._relations = vocabulary_relations(tokenizer, len(tokenizer))
        self._rivals: dict[int, list[int]] = {}

    @property
    def count(self) -> int:
        """How many pairs there are: not known before they are met."""
        return 0

    def find(self, labels: Tensor) -> Spots:
        """Find the spots of a batch; as ``SpotFinder``, before the model is asked which rivals are in its nucleus."""
        learnt = labels.cpu().clone()
        learnt[:, 0] = IGNORED
        tokens, which = learnt.unique(return_inverse=True)
        each = [self._of(token) for token in tokens.tolist()]
        table = torch.tensor([own + [-1] * (_MOST - len(own)) for own in each])
        rows, columns = (table[:, 0] >= 0)[which].nonzero(as_tuple=True)
        rivals = table[which[rows, columns]]
        parts = (rows, columns, learnt[rows, columns], rivals, torch.empty(0, 4, dtype=torch.long))
        return Spots(*(part.to(labels.device) for part in parts))

    def missing(self, rows: Iterable[Tensor]) -> list[str]:  # noqa: ARG002  # nothing is asked for by name
        """Return nothing: no word is asked for by name."""
        return []

    def _of(self, token: int) -> list[int]:
        if token not in self._rivals:
            self._rivals[token] = [] if token < 0 else self._relations.synonyms(token)[:_MOST]
        return self._rivals[token]


def in_nucleus(rows: Tensor, rivals: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the likeliest rival of each prediction, and whether it is in the nucleus.

    A token is in the nucleus if those that are likelier have less than ``top_p`` of the probability.

    Args:
        rows: logits, unit nat, shape (n, V).
        rivals: token ids, -1 where there are fewer, one at least, shape (n, k).
        top_p: nucleus mass, in (0, 1].

    Returns:
        Token ids, int64, shape (n,); and booleans, shape (n,).
    """
    rows = precise(rows)
    logits = rows.gather(1, rivals.clamp(min=0)).masked_fill(rivals < 0, -torch.inf)
    best, which = logits.max(1)
    before = rows.softmax(1).masked_fill(rows <= best[:, None], 0).sum(1)
    return rivals.gather(1, which[:, None])[:, 0], before < top_p
