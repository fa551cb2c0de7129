"""Rivals of many predictions at once: which of gold's candidates stands in the nucleus, and who leads.

The numbers are those of ``observables.predictions``; here gold's candidates are found once a word, each prediction is
sorted once, and the overlaps of a word that is met again and again are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from borngap.errors import UserError
from borngap.observables import gap
from borngap.observables.geometry import Geometry
from borngap.observables.overlaprows import OverlapRows
from borngap.observables.sorting import Ranking, ranking
from borngap.scanning.candidates import Candidates

_OVERLAP_ELEMENTS = 1 << 22
NUMBERS = (
    "gold_overlap", "gold_probability", "rival_probability", "gold_rank", "rival_rank", "logit_gap",
    "born_gap", "signal", "drag",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """Predictions that have a rival.

    Attributes:
        index: which predictions of the batch, int64, ascending, shape (n,).
        rival: their rivals' token ids, int64, shape (n,).
        numbers: id of an observable -> values, shape (n,) each.
    """

    index: Tensor
    rival: Tensor
    numbers: Mapping[str, Tensor]


class Rivals:
    """Finds rivals: of gold's candidates, the first that stands in the nucleus."""

    def __init__(self, geometry: Geometry, candidates: Candidates, top_p: float) -> None:
        """Prepare.

        Args:
            geometry: the geometry matrix, in which predictions are measured.
            candidates: which tokens may be a rival of which; their order says which goes before which.
            top_p: nucleus mass.
        """
        self.candidates = candidates
        self._geometry, self._top_p = geometry, top_p
        self._blank = sorted(geometry.blank)
        self._overlaps = OverlapRows(geometry)

    def find(self, logits: Tensor, gold: Tensor) -> Found:
        """Find the rivals of a batch of predictions.

        Args:
            logits: the model's own logits, shape (batch, rows of the head), unit nat.
            gold: token ids that have candidates, int64, shape (batch,).

        Returns:
            Those that have one.

        Raises:
            UserError: logits are NaN or infinite.
        """
        step = max(1, _OVERLAP_ELEMENTS // logits.shape[1])
        parts = [self._find(*part) for part in zip(logits.split(step), gold.to(logits.device).split(step), strict=True)]
        starts = range(0, len(gold), step)
        index = torch.cat([part.index + start for part, start in zip(parts, starts, strict=True)])
        numbers = {name: torch.cat([part.numbers[name] for part in parts]) for name in NUMBERS}
        return Found(index, torch.cat([part.rival for part in parts]), numbers)

    def _find(self, logits: Tensor, gold: Tensor) -> Found:
        logits = logits.float()
        logits, rest = self._geometry.split(logits)
        order = ranking(logits, rest, self._top_p)
        if not bool(order.log_normaliser.isfinite().all()):
            found = f"at {int((~order.log_normaliser.isfinite()).sum())} of {len(gold)} targets"
            raise UserError("the model's logits are NaN or infinite", rule="they are finite", found=found)
        near = [self.candidates.ids(token) for token in gold.tolist()]
        sizes = torch.tensor([len(ids) for ids in near], device=logits.device)
        index = torch.repeat_interleave(torch.arange(len(gold), device=logits.device), sizes)
        ids = torch.cat(near).to(logits.device)
        inside = logits[index, ids] >= order.edge[index]
        index, ids = index[inside], ids[inside]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]  # the best come first
        index, ids = index[first], ids[first]
        return Found(index, ids, self._measure(logits[index], order, index, gold[index], ids))

    def _measure(self, logits: Tensor, order: Ranking, rows: Tensor, gold: Tensor, rival: Tensor) -> dict[str, Tensor]:
        gold_logit, rival_logit = (logits.gather(1, t.unsqueeze(1)).squeeze(1) for t in (gold, rival))
        normaliser = order.log_normaliser[rows]
        gold_p, rival_p = ((x.double() - normaliser).exp() for x in (gold_logit, rival_logit))
        background = self._background(logits, order.edge[rows], normaliser, gold, rival)
        mass = background[0] + gold_p + rival_p
        left, right = (self._geometry.unit(t, torch.float64).to(logits.device) for t in (gold, rival))
        signal = gap.signal(gap.throttle(left, right), gold_p / mass, rival_p / mass)
        drag = background[1] / mass
        ranks = order.ranks(rows, torch.stack([gold_logit, rival_logit], 1))
        values = (
            (left * right).sum(1).clamp(-1, 1), gold_p, rival_p, ranks[:, 0], ranks[:, 1],
            (gold_logit - rival_logit).double(), gap.born_gap(signal, drag),
            signal, drag,
        )  # fmt: skip
        return dict(zip(NUMBERS, values, strict=True))

    def _background(
        self, logits: Tensor, edge: Tensor, normaliser: Tensor, gold: Tensor, rival: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mass and unnormalised drag of the nucleus without gold and rival, float64, shape (batch,) each."""
        if logits.device.type == "cpu":
            return background_by_row(logits, edge, normaliser, (gold, rival), self._overlaps, self._blank)
        return background_at_once(logits, edge, normaliser, (gold, rival), self._overlaps, self._blank)


_Pair = tuple[Tensor, Tensor]


def background_at_once(
    logits: Tensor, edge: Tensor, normaliser: Tensor, pair: _Pair, overlaps: OverlapRows, blank: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mass and unnormalised drag of the nucleus without gold and rival, of all predictions together.

    Args:
        logits: shape (batch, V).
        edge: the smallest logit in the nucleus, shape (batch,).
        normaliser: log sum exp of all logits, shape (batch,).
        pair: token ids of gold and rival, shape (batch,) each.
        overlaps: of words with all tokens.
        blank: tokens that are in no pool.

    Returns:
        Mass and drag, float64, shape (batch,) each.
    """
    kept = (logits - normaliser[:, None].to(logits.dtype)).exp_().mul_(logits >= edge[:, None])
    kept.scatter_(1, torch.stack(pair, 1), 0)
    kept[:, blank] = 0
    words = [tokens.tolist() for tokens in pair]
    overlaps.expect(dict.fromkeys(chain(*words), logits.shape[1]))
    squares = [overlaps.table[[overlaps.slots[word] for word in own]].square_() for own in words]
    return kept.sum(1).double(), (kept * (squares[0] - squares[1]).to(kept)).sum(1).double()


def background_by_row(
    logits: Tensor, edge: Tensor, normaliser: Tensor, pair: _Pair, overlaps: OverlapRows, blank: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The same on a CPU, prediction by prediction: only the nucleus is looked at."""
    rows, words = logits.numpy(), list(zip(*(tokens.tolist() for tokens in pair), strict=True))
    nuclei = [np.flatnonzero(row >= smallest) for row, smallest in zip(rows, edge.tolist(), strict=True)]
    looks: Counter[int] = Counter()
    for nucleus, own in zip(nuclei, words, strict=True):
        looks.update(dict.fromkeys(own, len(nucleus)))
    overlaps.expect(looks)
    sums = []
    for row, kept, log_total, own in zip(rows, nuclei, normaliser.tolist(), words, strict=True):
        weights = np.exp(row[kept] - np.float32(log_total))
        for token in (*own, *blank):
            weights[kept == token] = 0
        gold, rival = _squares(overlaps, own, kept)
        sums.append((float(weights.sum()), float(weights @ (gold - rival))))
    mass, drag = torch.tensor(sums, dtype=torch.float64).reshape(-1, 2).T
    return mass, drag


def _squares(overlaps: OverlapRows, words: tuple[int, int], ids: NDArray[np.intp]) -> NDArray[np.float32]:
    """Squared overlaps of gold and rival with tokens, shape (2, n)."""
    slots = [overlaps.slots.get(word) for word in words]
    if None in slots:
        return np.square(overlaps.of(list(words), torch.from_numpy(ids)).numpy())
    table = overlaps.table.numpy()
    return np.square([table[slot][ids] for slot in slots])
