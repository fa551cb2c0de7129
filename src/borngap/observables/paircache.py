"""Overlaps and angles of the token pairs of a pool, kept from step to step while the geometry rests."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from borngap.observables import density
from borngap.observables.geometry import Geometry
from borngap.observables.overlaprows import OverlapRows

BUDGET = 1 << 26  # pairs of all predictions together; two float32 numbers each, 512 MiB
WIDEST = 2048  # tokens: beyond that reading a table takes as long as a pass over the pairs


class PairCache:
    """Overlaps with gold and rival; purity and localisation length by tables of ``G_jk^2`` and ``theta_jk^2``.

    A pool changes by a few tokens a step, its pairs hardly at all. Looking them up turns n^2 d multiply-adds and n^2
    angles into n^2 multiply-adds; runs of one context share a table. Not differentiable.
    """

    def __init__(self, geometry: Geometry, budget: int = BUDGET) -> None:
        """Start with nothing kept.

        Args:
            geometry: at rest for as long as the tables are used.
            budget: pairs kept at most.
        """
        self._geometry, self._budget = geometry, budget
        self._tables: dict[tuple[int, int], _Table] = {}
        self._overlaps = OverlapRows(geometry)

    def overlaps(self, token: Tensor, ids: Tensor) -> Tensor:
        """Return the overlaps of tokens with one token a prediction.

        Args:
            token: token ids, shape (batch,).
            ids: token ids, shape (batch, n).

        Returns:
            G, float64, shape (batch, n).
        """
        words = token.tolist()
        self._overlaps.expect({one: count * ids.shape[1] for one, count in Counter(words).items()})
        return torch.stack([self._overlaps.of([one], row)[0] for one, row in zip(words, ids, strict=True)]).double()

    def spread(self, gold: Tensor, rival: Tensor, ids: Tensor, mask: Tensor, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return purity and localisation length as ``density.spread`` does.

        Args:
            gold: token ids, shape (batch,); with the rival's they name the table.
            rival: token ids, shape (batch,).
            ids: tokens of the pools, shape (batch, n).
            mask: which slots hold one, shape (batch, n).
            probs: their probabilities, float64, 0 in empty slots, shape (batch, n).

        Returns:
            Both, float64, shape (batch,) each; NaN where a table would become too large.
        """
        found = [probs.new_full((len(ids),), torch.nan) for _ in range(2)]
        pairs = torch.stack([gold, rival], 1)
        for key in dict.fromkeys(map(tuple, pairs.tolist())):
            rows = (pairs == pairs.new_tensor(key)).all(1).nonzero().flatten()
            table = self._table(key, ids[rows][mask[rows]])
            if table is None:
                continue
            for total, part in zip(found, table.sums(ids[rows], probs[rows]), strict=True):
                total[rows] = part
        return found[0], found[1].sqrt()

    def _table(self, key: tuple[int, int], ids: Tensor) -> _Table | None:
        """The table of a prediction, with all these tokens in it."""
        table = self._tables.get(key) or _Table(self._geometry)
        fresh = table.missing(ids)
        others = sum(len(other.rows) ** 2 for name, other in self._tables.items() if name != key)
        size = len(table.rows) + len(fresh)
        if size > WIDEST or others + size**2 > self._budget:
            return None
        if len(fresh):
            table.extend(fresh)
        self._tables[key] = table
        return table


class _Table:
    """Squared overlaps and squared angles of all pairs of some tokens.

    Attributes:
        rows: unit rows of the tokens, shape (m, d).
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        device = geometry.matrix.device
        self._slot = torch.full((geometry.size,), -1, device=device)
        self.rows = torch.empty(0, geometry.dimension, dtype=geometry.dtype, device=device)
        self._values = torch.empty(2, 0, 0, dtype=geometry.dtype, device=device)

    def missing(self, ids: Tensor) -> Tensor:
        """Which of some tokens are not in the table."""
        return ids[self._slot[ids] < 0].unique()

    def extend(self, fresh: Tensor) -> None:
        """Take in tokens that are not in the table."""
        old, total = len(self.rows), len(self.rows) + len(fresh)
        rows = self._geometry.unit(fresh)
        self._slot[fresh] = torch.arange(old, total, device=fresh.device)
        self.rows = torch.cat([self.rows, rows])
        if total > self._values.shape[1]:  # with room for more, so that most steps copy nothing
            room = total + total // 2
            values = self._values.new_empty(2, room, room)
            values[:, :old, :old] = self._values[:, :old, :old]
            self._values = values
        for kept, block in zip(self._values, density.squares_and_angles(rows, self.rows), strict=True):
            kept[old:total, :total] = block
            kept[:total, old:total] = block.T

    def sums(self, ids: Tensor, probs: Tensor) -> list[Tensor]:
        """Sums of p_j p_k G_jk^2 and of p_j p_k theta_jk^2, shape (batch,) each."""
        used, slots = self._slot[ids].clamp(min=0).unique(return_inverse=True)
        values = self._values[:, : len(self.rows), : len(self.rows)]
        if 2 * len(used) < len(self.rows):
            values = values[:, used][:, :, used]
        else:
            used, slots = torch.arange(len(self.rows), device=ids.device), used[slots]
        # empty slots hold probability 0, whichever token they name
        weights = probs.new_zeros(len(ids), len(used)).scatter_add_(1, slots, probs)
        single = weights.to(values.dtype)
        return [((single @ kept).double() * weights).sum(1) for kept in values]
