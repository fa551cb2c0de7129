"""Near-synonym rivals of many predictions at once: which neighbour of gold stands in the nucleus, and who leads.

The numbers are those of ``observables.predictions``; here gold's neighbours are found once a word, each prediction is
sorted once, and the overlaps of a word with the vocabulary are kept, since data repeats its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.observables import gap
from borngap.observables.geometry import Geometry
from borngap.observables.sorting import Ranking, ranking

_TABLE_ELEMENTS = 1 << 26
_OVERLAP_ELEMENTS = 1 << 22
_DOT_ELEMENTS = 1 << 17  # what a core's cache holds
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
    """Finds rivals: of the nucleus tokens that may be one, the one with the largest overlap with gold."""

    def __init__(
        self,
        geometry: Geometry,
        words: Tensor,
        key: Tensor,
        least: float,
        top_p: float,
        pairs: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            geometry: the geometry matrix.
            words: which tokens may be gold or rival, shape (V,); all have a direction.
            key: equal for variants of a word, which are no rivals of one another, shape (V,).
            least: smallest overlap of a rival with gold; without effect on given pairs.
            top_p: nucleus mass.
            pairs: (gold, rival) pairs of token ids; only these are looked for.
        """
        self._geometry, self._least, self._top_p = geometry, least, top_p
        self._device, self._blank = geometry.matrix.device, sorted(geometry.blank)
        self._words, self._key = words.nonzero().flatten().to(self._device), key.to(self._device)
        self._near: dict[int, tuple[Tensor, Tensor]] = {}
        self._count = torch.where(words, -1, 0)  # -1: not looked up yet
        self._squares = _Squares(geometry)
        if pairs is not None:
            self._count.zero_()
            self._give(pairs)

    def possible(self, gold: Tensor) -> Tensor:
        """Return whether a token has any neighbour that could be a rival; bool, of the shape of ``gold``, on CPU."""
        unknown = gold.unique()
        unknown = unknown[self._count[unknown] < 0]
        if len(unknown):
            self._look_up(unknown)
        return self._count[gold] > 0

    def neighbours(self, gold: int) -> list[tuple[int, float]]:
        """Return the tokens that may be a rival of one, with their overlaps, nearest first."""
        if not bool(self.possible(torch.tensor([gold]))[0]):
            return []
        ids, overlaps = self._near[gold]
        return list(zip(ids.tolist(), overlaps.tolist(), strict=True))

    def find(self, logits: Tensor, gold: Tensor) -> Found:
        """Find the rivals of a batch of predictions.

        Args:
            logits: the model's own logits, shape (batch, rows of the head), unit nat.
            gold: token ids that ``possible`` affirms, int64, shape (batch,).

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
        near = [self._near[token][0] for token in gold.tolist()]
        sizes = torch.tensor([len(ids) for ids in near], device=logits.device)
        index = torch.repeat_interleave(torch.arange(len(gold), device=logits.device), sizes)
        ids = torch.cat(near).to(logits.device)
        inside = logits[index, ids] >= order.edge[index]
        index, ids = index[inside], ids[inside]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]  # neighbours come nearest first
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
        table, slots = self._squares.of(torch.stack([gold, rival]))
        mass, drag = normaliser.new_zeros(len(logits)), normaliser.new_zeros(len(logits))
        step = max(1, _DOT_ELEMENTS // logits.shape[1])
        for start in range(0, len(logits), step):
            part = slice(start, start + step)
            x = logits[part]
            kept = (x - normaliser[part, None].to(x.dtype)).exp_().mul_(x >= edge[part, None])
            kept.scatter_(1, torch.stack([gold[part], rival[part]], 1), 0)
            if self._blank:
                kept[:, self._blank] = 0  # in no pool
            mass[part] = kept.sum(1).double()
            drag[part] = _differences(kept, table, slots[:, part]).double()
        return mass, drag

    def _look_up(self, tokens: Tensor) -> None:
        """Find the neighbours of tokens, in blocks of bounded size."""
        step = max(1, _OVERLAP_ELEMENTS // len(self._words))
        keys = self._geometry.unit(self._words)
        for part in tokens.to(self._device).split(step):
            overlaps = self._geometry.unit(part) @ keys.T
            fits = (overlaps >= self._least) & (self._key[part][:, None] != self._key[self._words])
            for token, row, kept in zip(part.tolist(), overlaps, fits, strict=True):
                self._keep(token, self._words[kept], row[kept])

    def _give(self, pairs: Iterable[tuple[int, int]]) -> None:
        wanted: dict[int, set[int]] = {}
        for gold, rival in pairs:
            wanted.setdefault(gold, set()).add(rival)
        for gold, rivals in wanted.items():
            ids = torch.tensor(sorted(rivals), device=self._device)
            self._keep(gold, ids, self._geometry.overlap(ids, torch.tensor([gold], device=self._device)))

    def _keep(self, token: int, ids: Tensor, overlaps: Tensor) -> None:
        order = overlaps.argsort(descending=True, stable=True)
        self._near[token] = (ids[order], overlaps[order])
        self._count[token] = len(ids)


def _differences(kept: Tensor, table: Tensor, slots: Tensor) -> Tensor:
    """Sums of each row with the first of its two rows of the table, less those with the second, shape (rows,)."""
    if kept.device.type != "cpu":
        return (kept * (table[slots[0]] - table[slots[1]]).to(kept)).sum(1)
    # on a CPU row by row: that copies no row of the table, and takes half the time
    pairs = zip(kept, slots.T.tolist(), strict=True)
    return torch.stack([torch.dot(row, table[a].to(row)) - torch.dot(row, table[b].to(row)) for row, (a, b) in pairs])


class _Squares:
    """Squared overlaps of words with the whole vocabulary, kept while there is room."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.capacity = max(2, _TABLE_ELEMENTS // geometry.size)  # a block of predictions needs an eighth of it
        self._slots: dict[int, int] = {}
        self._table: Tensor | None = None

    def of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return a table of G_kt^2 over all tokens k, shape (slots, V), and the slots of at most ``capacity`` t."""
        distinct, places = tokens.unique(return_inverse=True)
        wanted = distinct.tolist()
        missing = [token for token in wanted if token not in self._slots]
        if len(self._slots) + len(missing) > self.capacity:
            self._slots, missing = {}, wanted
        used = len(self._slots)
        table = self._grown(used + len(missing))
        if missing:
            rows = self._geometry.unit(torch.tensor(missing))
            for start, block in self._geometry.unit_blocks():
                table[used : used + len(missing), start : start + len(block)] = rows @ block.T
            table[used : used + len(missing)].square_()
            self._slots |= {token: used + i for i, token in enumerate(missing)}
        return table, torch.tensor([self._slots[token] for token in wanted], device=table.device)[
            places.to(table.device)
        ]

    def _grown(self, rows: int) -> Tensor:
        """The table with room for so many rows: doubled as needed, so that short scans stay small."""
        if self._table is None or rows > len(self._table):
            room = min(self.capacity, max(64, 2 * rows))
            grown = torch.empty(
                room, self._geometry.size, dtype=self._geometry.dtype, device=self._geometry.matrix.device
            )
            if self._table is not None:
                grown[: len(self._table)] = self._table
            self._table = grown
        return self._table
