"""By what a host divides the losses of a batch, and which label each position predicts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
Items = Tensor | int | None
"""Supervised tokens of all batches whose gradients add up to one update; None where a host averages each batch."""


def per_item(values: Tensor, labels: Tensor, items: Items = None) -> Tensor:
    """Return a sum over targets divided as the host divides.

    Args:
        values: shape (n,).
        labels: token ids, -100 where nothing is learnt, shape (..., T); token t is predicted at t - 1.
        items: by what the sum is divided; the batch's own supervised tokens unless given.

    Returns:
        A scalar; 0 where there is no target at all.
    """
    total = values.sum()
    return total / _on((shifted(labels) != IGNORED_LABEL).sum().clamp(min=1) if items is None else items, total)


def shifted(labels: Tensor) -> Tensor:
    """Return the label that each position predicts: the next one's, none at the last."""
    return functional.pad(labels, (0, 1), value=IGNORED_LABEL)[..., 1:]


def _on(items: Tensor | int, like: Tensor) -> Tensor | int:
    return items.to(like.device) if isinstance(items, torch.Tensor) else items
