"""Logits picked out of a batch, whose gradient goes into the batch's own in place.

Indexing alone would fill a second gradient of the size of all logits with zeros: at a vocabulary of 262,144 that is
most of what a step takes. So the batch passes through a function that also hands out what is picked, and whose
backward adds the gradient of what was picked to the one that arrives for the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Picked(torch.autograd.Function):
    """Passes logits through, and hands out some of them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*index)
        ctx.shape = logits.shape
        ctx.set_materialize_grads(False)
        return logits.view_as(logits), logits[index]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, through: Tensor | None, wanted: Tensor | None) -> tuple[Tensor | None, ...]:
        index = ctx.saved_tensors
        if wanted is not None:
            through = wanted.new_zeros(ctx.shape) if through is None else through.contiguous()
            # nobody else has this gradient: its only source is the loss of what was passed through
            through.index_put_(index, wanted.to(through.dtype), accumulate=True)
        return (through, *[None] * len(index))


def picked(logits: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    """Pick logits out of a batch.

    Args:
        logits: of a batch, of any shape; what is returned in their place is to be used once, and they no more.
        index: int64, as in ``logits[index]``.

    Returns:
        The logits to go on with, and those that were picked; both differentiable once.
    """
    through, wanted = _Picked.apply(logits, *index)
    return through, wanted
