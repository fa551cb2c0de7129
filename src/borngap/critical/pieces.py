"""AdamW on a coarse grid: the sum of its updates while the gradient changes linearly with the dose (docs/threshold.md).

Between two nodes the gradient is taken as a straight line in the dose, the sum of the rates so far, so that AdamW's
first moment is a combination of three vectors (the moment before, the gradients at both nodes) and its second moment
one of four. The coefficients are scalars, the same for every parameter, and exact; only the sum of the updates is a
quadrature over a few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor

_POINTS = 3
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Piece:
    """The updates between two nodes, as coefficients of moments and gradients.

    Attributes:
        means: bias-corrected first moment at the quadrature's updates, of (moment before, gradient before, gradient
            after), shape (points, 3).
        squares: second moment alike, of (moment before, and the gradients' products before-before, before-after,
            after-after), shape (points, 4).
        weights: of the quadrature, schedule included, shape (points,).
        corrections: by what both moments were divided after the last update, which is the last of the quadrature.
    """

    means: Tensor
    squares: Tensor
    weights: Tensor
    corrections: tuple[float, float]


@dataclass(eq=False)
class State:
    """AdamW's moments and the displacement so far.

    Attributes:
        mean: first moment, not bias-corrected, shape (parameters,).
        square: second moment, not bias-corrected, shape (parameters,).
        displacement: sum of the updates per unit rate, shape (parameters,).
    """

    mean: Tensor
    square: Tensor
    displacement: Tensor

    @classmethod
    def zero(cls, like: Tensor) -> State:
        """Return the state before the first update."""
        return cls(torch.zeros_like(like), torch.zeros_like(like), torch.zeros_like(like))

    def reset(self) -> None:
        """Go back to before the first update."""
        for part in (self.mean, self.square, self.displacement):
            part.zero_()


def piece(first: int, last: int, schedule: Sequence[float], beta1: float = 0.9, beta2: float = 0.999) -> Piece:
    """Return the updates ``first + 1 .. last``, the gradient of update n + 1 being that after n updates.

    ``m_n = beta1 m_(n-1) + (1 - beta1) g_(n-1)``, ``v_n`` alike with the square; corrected by ``1 - beta^n``.

    Args:
        first: updates done at the first node.
        last: updates done at the second node, larger.
        schedule: factor on the rate of every update of the run, from the first one on.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.

    Returns:
        The coefficients. Cost: the number of updates, in scalars.
    """
    done = np.arange(first + 1, last + 1)
    rates = np.asarray(schedule[first:last], dtype=np.float64)
    after = _walked(rates)
    line = np.stack([1 - after, after], 1)
    products = np.stack([line[:, 0] ** 2, 2 * line[:, 0] * line[:, 1], line[:, 1] ** 2], 1)
    mean, square = _decayed(line, beta1), _decayed(products, beta2)
    at, weights = _quadrature(done, rates, _quiet(schedule))
    means, squares = mean[at] / (1 - beta1 ** done[at])[:, None], square[at] / (1 - beta2 ** done[at])[:, None]
    return Piece(_tensor(means), _tensor(squares), _tensor(weights), (1 - beta1**last, 1 - beta2**last))


def advance(
    state: State, gradients: Sequence[Tensor], part: Piece, eps: float, out: State, *, moments: bool = True
) -> None:
    """Do the updates of a piece.

    ``displacement -= sum of schedule * m / (sqrt(v) + eps)``. Cost: some 30 passes over the parameters, whatever the
    number of updates, in blocks that stay in the cache.

    Args:
        state: at the first node; not changed.
        gradients: at both nodes, each of shape (parameters,).
        part: the piece.
        eps: AdamW's epsilon.
        out: takes the state at the second node; may be ``state`` itself.
        moments: whether its moments are wanted too; else they are left as they are.
    """
    before, after = gradients
    size, points = min(_BLOCK, len(before)), len(part.means)
    means, squares, weights = (x.to(before.device) for x in (part.means, part.squares, part.weights))
    buffers = [before.new_empty(rows, size) for rows in (3, 4, points, points)]
    for start in range(0, len(before), size):
        block = slice(start, min(start + size, len(before)))
        x, products, m, v = (buffer[:, : block.stop - start] for buffer in buffers)
        x[0], x[1], x[2] = state.mean[block], before[block], after[block]
        products[0] = state.square[block]
        torch.mul(x[1:], x[1], out=products[1:3])
        torch.mul(x[2], x[2], out=products[3])
        torch.mm(means, x, out=m)
        torch.mm(squares, products, out=v)
        # rounding can take a sum of squares just below 0
        v.clamp_(min=0)
        if moments:
            torch.mul(m[-1], part.corrections[0], out=out.mean[block])
            torch.mul(v[-1], part.corrections[1], out=out.square[block])
        m.div_(v.sqrt_().add_(eps))
        torch.addmv(state.displacement[block], m.T, weights, alpha=-1, out=out.displacement[block])


def _walked(rates: np.ndarray) -> np.ndarray:
    """Share of a piece's dose that is given before each of its updates; of its steps where it gives none."""
    total = rates.sum()
    return (np.cumsum(rates) - rates) / total if total > 0 else np.arange(len(rates)) / len(rates)


def _quiet(schedule: Sequence[float]) -> int:
    """How many updates at the start of a run move nothing, as the first of a warm-up."""
    return next((n for n, factor in enumerate(schedule) if factor), len(schedule))


def _decayed(inputs: np.ndarray, beta: float) -> np.ndarray:
    """Coefficients of (moment before, inputs) in the moving average after each update, shape (updates, 1 + inputs)."""
    found, held = np.empty((len(inputs), 1 + inputs.shape[1])), np.zeros(1 + inputs.shape[1])
    held[0] = 1.0
    for row, values in enumerate(inputs):
        held *= beta
        held[1:] += (1 - beta) * values
        found[row] = held
    return found


def _quadrature(done: np.ndarray, rates: np.ndarray, quiet: int) -> tuple[np.ndarray, np.ndarray]:
    """Few of a piece's updates, and weights that sum polynomials in log(update - quiet) over all of them exactly."""
    points = _POINTS + 2 * bool(done[0] <= quiet + 1)  # moments change fastest at the start of a run
    # updates are counted from the first one that moves anything; those before have no weight
    first = min(max(0, quiet + 1 - int(done[0])), len(done) - 1)
    if len(done) - first <= points:
        return np.arange(first, len(done)), rates[first:]
    x = np.log(done[first:] - quiet)
    x = (2 * x - x[0] - x[-1]) / (x[-1] - x[0])
    wanted = -np.cos(np.pi * np.arange(points) / (points - 1))
    at = np.unique(np.abs(x[:, None] - wanted).argmin(0))
    basis = legvander(x, len(at) - 1)
    return first + at, np.linalg.solve(basis[at].T, basis.T @ rates[first:])


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
