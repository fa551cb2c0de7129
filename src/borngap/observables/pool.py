"""The nucleus pool: the tokens that take part in a prediction's density matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from borngap.observables.sorting import nucleus


@dataclass(frozen=True)
class Pool:
    """Pools of a batch of predictions, padded to the largest.

    Attributes:
        ids: token ids, int64, shape (batch, n): gold first, rival second, then the background in id order.
        mask: True where a slot holds a token, shape (batch, n).
        probs: probabilities renormalised to sum 1 over the pool, float64, shape (batch, n), 0 in empty slots.
        mass: what the probabilities summed to before, shape (batch,), in (0, 1].
    """

    ids: Tensor
    mask: Tensor
    probs: Tensor
    mass: Tensor


def pools_of(probs: Tensor, gold: Tensor, rival: Tensor, top_p: float = 0.9, left_out: Collection[int] = ()) -> Pool:
    """Return the pool of each prediction: its nucleus with gold and rival forced in.

    Args:
        probs: the model's probabilities over the vocabulary, shape (batch, V).
        gold: token ids, int64, shape (batch,).
        rival: token ids, int64, shape (batch,).
        top_p: nucleus mass, in (0, 1].
        left_out: ids that are in no pool; the nucleus is that of all tokens all the same.

    Returns:
        The pools, padded to the largest.
    """
    pair = torch.stack([gold, rival], 1)
    background = nucleus(probs, top_p).scatter(1, pair, False)
    if left_out:
        background[:, sorted(left_out)] = False
    row, token = background.nonzero(as_tuple=True)
    sizes = torch.bincount(row, minlength=len(pair))
    slot = torch.arange(len(token), device=probs.device) - (sizes.cumsum(0) - sizes)[row]
    ids = pair.new_zeros(len(pair), int(sizes.max()) if len(pair) else 0)
    ids[row, slot] = token
    ids = torch.cat([pair, ids], 1)
    mask = torch.arange(ids.shape[1], device=probs.device) < (sizes + 2)[:, None]
    raw = probs.gather(1, ids).double() * mask
    mass = raw.sum(1)
    return Pool(ids, mask, raw / mass[:, None], mass)
