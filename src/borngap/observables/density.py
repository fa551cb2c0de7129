"""The prediction density matrix rho = sum_k p_k e_k e_k^T (eq 1), without ever building it where a pool is smaller.

Every function takes ``probs``, shape (..., n), the pool's probabilities with sum 1, and ``rows``, shape (..., n, d),
the unit embedding rows of the same tokens. A slot of probability 0 takes no part, so pools of different size can
share a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_NEARLY_EQUAL = 0.99
_PAIR_ELEMENTS = 1 << 22
PairFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


def born_probability(probs: Tensor, overlaps: Tensor) -> Tensor:
    r"""Born probability of a token t, ``P_B(t) = e_t^T rho e_t = sum_k p_k G_kt^2``.

    Source: eqs 1 to 3.

    Args:
        probs: pool probabilities, shape (..., n), sum 1.
        overlaps: G_kt = e_k . e_t of the pool's tokens with t, shape (..., n), in [-1, 1].

    Returns:
        P_B(t), shape (...), unit 1, in [0, 1].

    Example:
        >>> float(born_probability(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])))
        0.5
    """
    return (probs * overlaps.square()).sum(-1)


def purity(probs: Tensor, rows: Tensor) -> Tensor:
    r"""Purity of the prediction, ``Tr rho^2 = sum_jk p_j p_k G_jk^2``.

    Source: eq 15. Cost: min(n^2 d, n d^2) multiply-adds; the n x n overlaps are made in blocks.

    Args:
        probs: pool probabilities, shape (..., n), sum 1.
        rows: unit rows, shape (..., n, d).

    Returns:
        Purity, shape (...), unit 1, in (0, 1]; 1 for a pure state, 1/min(n, d) at least.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.85, (1 - 0.85**2) ** 0.5]], dtype=torch.float64)
        >>> round(float(purity(torch.tensor([0.5, 0.5], dtype=torch.float64), rows)), 5)
        0.86125
    """
    n, d = rows.shape[-2:]
    if n > d:
        rho = (rows * probs.unsqueeze(-1)).transpose(-1, -2) @ rows
        return rho.square().sum((-1, -2))
    return _pair_sums(probs, rows, _squares)[0]


def participation_ratio(purity: Tensor) -> Tensor:
    r"""Participation ratio ``PR = 1 / Tr rho^2``: the number of geometrically distinct tokens populated.

    Source: eq 15.

    Args:
        purity: Tr rho^2, any shape, in (0, 1].

    Returns:
        PR, same shape, unit tokens, in [1, min(n, d)].

    Example:
        >>> round(float(participation_ratio(torch.tensor(0.86125))), 4)
        1.1611
    """
    return 1 / purity


def classical_participation_ratio(probs: Tensor) -> Tensor:
    r"""Participation ratio that ignores geometry, ``1 / sum_k p_k^2``; equals PR for orthogonal rows.

    Args:
        probs: pool probabilities, shape (..., n), sum 1.

    Returns:
        Shape (...), unit tokens, in [1, n].

    Example:
        >>> float(classical_participation_ratio(torch.tensor([0.5, 0.5])))
        2.0
    """
    return 1 / probs.square().sum(-1)


def localisation_length(probs: Tensor, rows: Tensor) -> Tensor:
    r"""Localisation length ``xi = sqrt(sum_jk p_j p_k theta_jk^2)``, theta_jk the angle between rows, theta_kk = 0.

    Source: eq 16; the sum runs over all ordered pairs (our choice, the paper leaves it open).
    Cost: n^2 d multiply-adds and n^2 angles, in blocks.

    Args:
        probs: pool probabilities, shape (..., n), sum 1.
        rows: unit rows, shape (..., n, d).

    Returns:
        xi, shape (...), unit rad, in [0, pi); exactly 0 where all rows that carry probability are equal.

    Example:
        >>> float(localisation_length(torch.tensor([0.5, 0.5]), torch.eye(2)) ** 2 / torch.pi**2)
        0.125
    """
    return _root(_pair_sums(probs, rows, _squared_angles)[0])


def spread(probs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Purity and localisation length at once: one pass over the pairs serves both.

    Args:
        probs: pool probabilities, shape (..., n), sum 1.
        rows: unit rows, shape (..., n, d).

    Returns:
        ``(purity, localisation_length)``, shape (...) each, as the functions of these names give them.

    Example:
        >>> [round(float(x), 4) for x in spread(torch.tensor([0.5, 0.5]), torch.eye(2))]
        [0.5, 1.1107]
    """
    squares, squared_angles = _pair_sums(probs, rows, _squares, _squared_angles)
    return squares, _root(squared_angles)


def squares_and_angles(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Squared overlaps and squared angles of all pairs of two lists of unit rows.

    Args:
        left: unit rows, shape (m, d).
        right: unit rows, shape (n, d).

    Returns:
        ``(G_jk^2, theta_jk^2)``, shape (m, n) each, units 1 and rad^2; angles of equal rows are exactly 0.
    """
    overlaps = left @ right.T
    return _squares(overlaps, left, right), _squared_angles(overlaps, left, right)


def angle(u: Tensor, v: Tensor) -> Tensor:
    r"""Angle between unit vectors, ``2 atan2(|u - v|, |u + v|)``: exact where arccos(u . v) loses its digits.

    Args:
        u: unit vectors, shape (..., d).
        v: unit vectors, shape (..., d).

    Returns:
        Shape (...), unit rad, in [0, pi]; exactly 0 for equal vectors, with zero gradient there.

    Example:
        >>> float(angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])))
        0.0
    """
    return 2 * torch.atan2(_norm(u - v), _norm(u + v))


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm whose gradient at 0 is 0 instead of NaN."""
    return _root(x.square().sum(-1))


def _root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    return torch.where(x > 0, x, 1).sqrt() * (x > 0)


def _squares(overlaps: Tensor, left: Tensor, right: Tensor) -> Tensor:  # noqa: ARG001
    return overlaps.square()


def _squared_angles(overlaps: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return _angles(overlaps, left, right).square()


def _angles(overlaps: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Angles of all pairs from their overlaps; nearly (anti)parallel pairs again from the vectors themselves."""
    near = overlaps.abs() > _NEARLY_EQUAL
    angles = overlaps.masked_fill(near, 0).arccos()
    if not bool(near.any()):
        return angles
    *batch, j, k = near.nonzero(as_tuple=True)
    # equal rows give exactly 0, whichever way the overlap was rounded; in parts, since all pairs may be near
    parts = torch.arange(len(j), device=j.device).split(max(1, _PAIR_ELEMENTS // left.shape[-1]))
    exact = [angle(left[(*(b[i] for b in batch), j[i])], right[(*(b[i] for b in batch), k[i])]) for i in parts]
    return angles.index_put((*batch, j, k), torch.cat(exact))


def _pair_sums(probs: Tensor, rows: Tensor, *functions: PairFunction) -> list[Tensor]:
    """Sums of p_j p_k f(G_jk) over ordered pairs, for symmetric functions f, in blocks of rows."""
    n = rows.shape[-2]
    lead = max(1, probs[..., 0].numel())
    # a quarter of the rows at once leaves out most of the second of each two equal pairs
    block = min(max(64, n // 4), max(16, _PAIR_ELEMENTS // (lead * n)))
    totals = [torch.zeros_like(probs[..., 0]) for _ in functions]
    for start in range(0, n, block):
        left, right = rows[..., start : start + block, :], rows[..., start:, :]
        overlaps = left @ right.transpose(-1, -2)
        # pairs within the block are met in both orders, pairs beyond it in one: those count twice
        beyond = torch.arange(right.shape[-2], device=probs.device) >= left.shape[-2]
        p_left, p_right = probs[..., start : start + block], probs[..., start:] * (1.0 + beyond)
        for i, function in enumerate(functions):
            values = function(overlaps, left, right)
            inner = (p_left.to(values.dtype).unsqueeze(-2) @ values).squeeze(-2)
            totals[i] = totals[i] + (inner * p_right).sum(-1)
    return totals
