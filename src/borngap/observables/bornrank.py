"""Rank of a token among all others by Born probability, without working out every token's Born probability.

With eigenvalues s_1 >= s_2 >= ... and eigenvectors u_i of the density matrix, ``P_B(t) = sum_i s_i (u_i . e_t)^2``.
Let a be the sum of (u_i . e_t)^2 over i <= r; what the other eigenvectors add lies between 0 and ``s_(r+1) (1 - a)``,
since e_t has length 1. So a few eigenvectors tell most tokens from gold, more of them most of the rest, and what is
left is worked out as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from borngap.observables.geometry import Geometry

_STAGES = (8, 64)  # eigenvectors looked at; a stage is left out where the next takes less than four times as many
_SLACK = 256  # spacings of numbers around 1: what rounding can do to a sum over eigenvectors
_TIE = 32  # spacings of gold's probability: so far apart products of equal rows can come out


@dataclass(frozen=True, eq=False)
class _State:
    """One prediction.

    Attributes:
        rows: unit rows of its pool, shape (n, d).
        probs: their probabilities, shape (n,).
        form: the density matrix, shape (d, d), where the pool has more than d tokens; else None.
        axes: of each stage its eigenvectors that those before have not, shape (d, r), with their eigenvalues, shape
            (r,), and the next eigenvalue.
    """

    rows: Tensor
    probs: Tensor
    form: Tensor | None
    axes: tuple[tuple[Tensor, Tensor, Tensor], ...]

    def exactly(self, rows: Tensor) -> Tensor:
        """Born probabilities of unit rows, shape (m,)."""
        if self.form is None:
            return (rows @ self.rows.T).square() @ self.probs
        return ((rows @ self.form) * rows).sum(1)


def born_rank(geometry: Geometry, rows: Tensor, probs: Tensor, gold: Tensor) -> Tensor:
    """Return 1 + the number of tokens whose Born probability is larger than gold's.

    Args:
        geometry: the geometry.
        rows: unit rows of the pools, 0 in empty slots, shape (batch, n, d).
        probs: their probabilities, 0 in empty slots, shape (batch, n).
        gold: token ids, shape (batch,).

    Returns:
        int64, shape (batch,). Cost: V d times some ten to forty a prediction, instead of min(n, d).
    """
    states = [_state(r.detach(), p.detach()) for r, p in zip(rows, probs.to(rows.dtype), strict=True)]
    golds = geometry.unit(gold.to(rows.device)).detach()
    above = torch.zeros(len(states), dtype=torch.int64, device=rows.device)
    with torch.no_grad():
        for block in geometry.scaled_blocks():
            for number, state in enumerate(states):
                above[number] += _above(geometry, block, state, golds[number])
    return 1 + above


def _state(rows: Tensor, probs: Tensor) -> _State:
    n, d = rows.shape
    scaled = rows * probs.sqrt().unsqueeze(1)
    form = scaled.T @ scaled if n > d else None
    stages = list(_stages(min(n, d)))
    if not stages:
        return _State(rows, probs, form, ())
    values, vectors = torch.linalg.eigh(scaled @ scaled.T if form is None else form)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, : stages[-1]]
    if form is None:
        # of the n x n overlaps to d dimensions; where an eigenvalue vanishes so does what its vector could tell
        vectors = torch.nn.functional.normalize(scaled.T @ vectors, dim=0)
    edges = zip([0, *stages], stages, strict=False)
    return _State(rows, probs, form, tuple((vectors[:, a:b], values[a:b], values[b]) for a, b in edges))


def _stages(dimension: int) -> Iterator[int]:
    for number, following in zip(_STAGES, [*_STAGES[1:], dimension], strict=True):
        if 4 * number <= min(following, dimension):
            yield number


def _above(geometry: Geometry, block: tuple[int, Tensor, Tensor], state: _State, gold: Tensor) -> Tensor:
    """How many of some tokens have a larger Born probability than gold; few of their rows are made unit."""
    start, rows, factors = block
    eps = torch.finfo(rows.dtype).eps
    slack, least = _SLACK * eps, state.exactly(gold.unsqueeze(0))[0]
    above = torch.zeros((), dtype=torch.int64, device=rows.device)
    low, seen = rows.new_zeros(2, len(rows))
    ids = torch.arange(start, start + len(rows), device=rows.device)
    for vectors, values, following in state.axes:
        squares = ((rows @ vectors) * factors.unsqueeze(1)).square()
        low, seen = low + squares @ values, seen + squares.sum(1)
        sure = low > least + slack
        above += sure.sum()
        open_ = (~sure & (low + following * (1 - seen).clamp(min=0) >= least - slack)).nonzero().flatten()
        rows, factors, low, seen, ids = rows[open_], factors[open_], low[open_], seen[open_], ids[open_]
    return above + (state.exactly(geometry.unit(ids)) > least * (1 + _TIE * eps)).sum()
