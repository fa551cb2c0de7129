"""The nucleus pool: the tokens that take part in a prediction's density matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.observables.largest import largest

_FIRST_TOKENS = 64  # tokens looked at first: most nuclei are no larger


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


def nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Return which tokens belong to the nucleus.

    The nucleus holds the most probable tokens up to and including the first at which the cumulative probability
    reaches ``top_p``, with every token tied with that one. ``top_p=1`` is the whole vocabulary.

    Args:
        probs: the model's probabilities, shape (batch, V).
        top_p: in (0, 1].

    Returns:
        Boolean mask, shape (batch, V).

    Raises:
        UserError: top_p is not in (0, 1].

    Example:
        >>> nucleus(torch.tensor([[0.5, 0.3, 0.2]]), 0.7).tolist()
        [[True, True, False]]
    """
    if not 0 < top_p <= 1:
        raise UserError("top_p is out of range", rule="0 < top_p <= 1", found=top_p, fix="use 0.9, or 1 for all tokens")
    if top_p == 1:
        return torch.ones_like(probs, dtype=torch.bool)
    return probs >= _smallest_kept(probs.detach(), top_p).unsqueeze(-1)


def pool(probs: Tensor, gold: Tensor, rival: Tensor, top_p: float = 0.9, left_out: Collection[int] = ()) -> Pool:
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


def _smallest_kept(probs: Tensor, top_p: float) -> Tensor:
    """Probability of the token at which the cumulative probability reaches top_p, shape (batch,)."""
    few = min(_FIRST_TOKENS, probs.shape[-1])
    found, reached = _reaching(largest(probs, few)[0], top_p)
    wide = ~reached
    if bool(wide.any()):
        # rounding can leave even the whole sum just below top_p: then every token is kept
        found[wide], _ = _reaching(_descending(probs[wide]), top_p)
    return found


def _reaching(ordered: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Entry of each row at which its cumulative sum reaches top_p, or the last one, and whether it does reach it."""
    sums = ordered.cumsum(-1, dtype=torch.float64)
    first = torch.searchsorted(sums, sums.new_full((len(sums), 1), top_p))
    return ordered.gather(-1, first.clamp(max=ordered.shape[-1] - 1)).squeeze(-1), sums[:, -1] >= top_p


def _descending(rows: Tensor) -> Tensor:
    """Sorted rows, largest first; NumPy's sort is some ten times as fast as torch's on a CPU."""
    if rows.device.type != "cpu":
        return rows.sort(-1, descending=True).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=-1)).flip(-1)
