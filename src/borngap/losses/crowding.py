"""Penalties on the geometry of an embedding matrix: overlaps of given pairs, and of all rows (the paper's section 7.2).

With E the matrix's rows at unit length and G_ij their inner products::

    pair overlap    sum over given pairs of G_gc^2
    decorrelation   mean over all i != j of G_ij^2 = (|E^T E|_F^2 - V) / (V (V - 1))

Neither makes a V x V matrix: the second goes by the second moment E^T E, of shape (d, d). They act on the matrix alone:
where it is not trained, as under LoRA, they change nothing (docs/remedies.md#penalties-on-the-geometry).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from borngap.losses.formulae import precise


def pair_overlap(matrix: Tensor, golds: Tensor, rivals: Tensor) -> Tensor:
    """Return the sum over pairs of the squared overlap of both rows, G_gc^2.

    Args:
        matrix: embedding rows, shape (V, d); 16 bit becomes float32.
        golds: right tokens, int64, shape (n,).
        rivals: their rivals, int64, shape (n,).

    Returns:
        A scalar in [0, n]; a row of zeros overlaps with nothing.
    """
    right, other = (functional.normalize(precise(matrix[side]), dim=1) for side in (golds, rivals))
    return (right * other).sum(1).square().sum()


def decorrelation(matrix: Tensor, rows: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Return the mean over pairs of different rows of their squared overlap.

    Args:
        matrix: embedding rows, shape (V, d); 16 bit becomes float32. Rows of zeros take no part.
        rows: how many rows are drawn, without repeating one, whose mean stands for that of all; all unless given.
        generator: draws them.

    Returns:
        A scalar in [0, 1]; 0 of fewer than two rows. It takes 2 n d^2 multiplications forwards and twice that
        backwards, n being the rows.
    """
    if rows is not None and rows < len(matrix):
        matrix = matrix[torch.randperm(len(matrix), generator=generator)[:rows].to(matrix.device)]
    unit = functional.normalize(precise(matrix), dim=1)
    count = int(unit.detach().any(1).sum())
    if count < 2:
        return unit.sum() * 0
    return ((unit.T @ unit).square().sum() - count) / (count * (count - 1))
