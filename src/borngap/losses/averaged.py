"""Cross-entropy as transformers' models have it, and by what a host divides."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
Items = Tensor | int | None
"""Supervised tokens of all batches whose gradients add up to one update; None where a host averages each batch."""


def host_cross_entropy(logits: Tensor, labels: Tensor, items: Items = None) -> Tensor:
    """Return the mean cross-entropy of a causal LM, bit for bit as transformers' own.

    Args:
        logits: shape (..., T, V); token t is predicted at t - 1.
        labels: token ids, -100 where nothing is learnt, shape (..., T).
        items: by what the sum is divided; the batch's own supervised tokens unless given.

    Returns:
        A scalar, unit nat; NaN without supervised tokens, as transformers has it.
    """
    targets = shifted(labels).reshape(-1).to(logits.device)
    rows = logits.float().view(-1, logits.shape[-1])
    loss = functional.cross_entropy(
        rows, targets, ignore_index=IGNORED_LABEL, reduction="mean" if items is None else "sum"
    )
    return loss if items is None else loss / _on(items, loss)


def per_item(values: Tensor, labels: Tensor, items: Items = None) -> Tensor:
    """Return a sum over targets divided as the host divides.

    Args:
        values: shape (n,).
        labels: of the batch, as above.
        items: as above.

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
