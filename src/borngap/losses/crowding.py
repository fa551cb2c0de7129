"""Penalties on the geometry of an embedding matrix: overlaps of given pairs, and of all rows (the paper's section 7.2).

With E the matrix's rows at unit length and G_ij their inner products::

    pair overlap    sum over given pairs of G_gc^2
    decorrelation   mean over all i != j of G_ij^2 = (|E^T E|_F^2 - V) / (V (V - 1))

Neither makes a V x V matrix: the second goes by the second moment E^T E, of shape (d, d). They act on the matrix alone:
where it is not trained, as under LoRA, they change nothing (docs/remedies.md#penalties-on-the-geometry).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from borngap.errors import UserError
from borngap.losses.form import Penalty
from borngap.losses.formulae import precise


def penalty_term(penalty: Penalty, matrix: Tensor, pairs: Iterable[tuple[int, int]]) -> Tensor:
    """Return what a penalty adds to the loss of an update.

    Args:
        penalty: which, with its weight.
        matrix: embedding rows, shape (V, d); 16 bit becomes float32.
        pairs: right tokens and their rivals, one at least for ``overlap``; one that is there twice counts once, and so
            do two that are each other's reverse.

    Returns:
        A scalar, at least 0.
    """
    if penalty.kind == "decorrelation":
        return penalty.weight * decorrelation(matrix)
    golds, rivals = torch.tensor(list({(min(pair), max(pair)): None for pair in pairs}), device=matrix.device).unbind(1)
    return penalty.weight * pair_overlap(matrix, golds, rivals)


def pair_overlap(matrix: Tensor, golds: Tensor, rivals: Tensor) -> Tensor:
    """Return the sum over pairs of the squared overlap of both rows, G_gc^2.

    Args:
        matrix: embedding rows, shape (V, d); 16 bit becomes float32.
        golds: right tokens, int64, shape (n,).
        rivals: their rivals, int64, shape (n,).

    Returns:
        A scalar in [0, n]; a row of zeros overlaps with nothing.

    Raises:
        UserError: the lists of ids are not of equal length.
    """
    if golds.ndim != 1 or golds.shape != rivals.shape:
        found = f"shapes {tuple(golds.shape)} and {tuple(rivals.shape)}"
        raise UserError("golds and rivals are no pairs", rule="two lists of ids of equal length", found=found)
    right, other = (_directions(matrix[side]) for side in (golds, rivals))
    return (right * other).sum(1).square().sum()


def decorrelation(matrix: Tensor, rows: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Return the mean over pairs of different rows of their squared overlap.

    Args:
        matrix: embedding rows, shape (V, d); 16 bit becomes float32. Rows of zeros take no part.
        rows: how many rows are drawn of those that are not zero, without repeating one, at least 2; their mean stands
            for that of all. All unless given.
        generator: draws them.

    Returns:
        A scalar in [0, 1]; 0 of fewer than two rows. It takes 2 n d^2 multiplications forwards and twice that
        backwards, n being the rows.

    Raises:
        UserError: fewer than two rows are to be drawn.
    """
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 2):
        raise UserError("the number of rows is out of range", rule="a whole number of at least 2", found=rows)
    known = matrix.detach().any(1).nonzero().flatten()
    if rows is not None and rows < len(known):
        known = known[torch.randperm(len(known), generator=generator)[:rows].to(known.device)]
    unit, count = _directions(matrix[known]), len(known)
    if count < 2:
        return unit.sum() * 0
    return ((unit.T @ unit).square().sum() - count) / (count * (count - 1))


def _directions(rows: Tensor) -> Tensor:
    """Rows at unit length, however small or large; rows of zeros stay."""
    rows = precise(rows)
    size = rows.detach().abs().amax(1, keepdim=True)
    return functional.normalize(rows / torch.where(size > 0, size, 1), dim=1)
