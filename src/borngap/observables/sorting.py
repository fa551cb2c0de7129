"""Predictions in order: ranks of any token, and the nucleus.

The edge of the nucleus is found among the largest probabilities alone. Whole rows are sorted on devices other than a
CPU, where that is quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from borngap.errors import UserError
from borngap.observables.topk import largest

_COLUMNS_A_GROUP = 64
_FIRST_TOKENS = 64  # looked at first: most nuclei are no larger
_SLACK = 1e-3  # for rounding
_FIRST_LOOK = 4  # of 300 predictions of two models with V 8,192 and 49,152 enough for 99 and 100 %


@dataclass(frozen=True, eq=False)
class Ranking:
    """Predictions with what says which of their tokens are in the nucleus.

    Attributes:
        logits: the logits of the tokens, float32, shape (batch, V), unit nat; -inf where there is no token.
        log_normaliser: log sum exp of all the model's logits, padding rows included, float64, shape (batch,).
        edge: the smallest logit in the nucleus, shape (batch,).
    """

    logits: Tensor
    log_normaliser: Tensor
    edge: Tensor

    def ranks(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Return 1 + the number of tokens with a larger logit, for m logits in each of some rows; int64, (rows, m)."""
        if self.logits.device.type != "cpu":
            return 1 + (self.logits[rows].unsqueeze(1) > logits.unsqueeze(2)).sum(2)
        table, wanted = self.logits.numpy(), zip(rows.tolist(), logits.tolist(), strict=True)
        above = [[np.count_nonzero(table[row] > value) for value in own] for row, own in wanted]
        return 1 + torch.tensor(above, dtype=torch.int64).reshape(logits.shape)


def sorted_rows(rows: Tensor) -> Tensor:
    """Sort rows, smallest first; NumPy's sort is some ten times as fast as torch's on a CPU."""
    if rows.device.type != "cpu":
        return rows.sort(-1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=-1))


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


def ranking(logits: Tensor, rest: Tensor, top_p: float) -> Ranking:
    """Find the nucleus of a batch of predictions.

    The edge is that of ``nucleus``: the most probable tokens up to and including the first at which the
    cumulative probability reaches ``top_p``, with every token tied with that one.

    Args:
        logits: logits of the tokens, float32, shape (batch, V), unit nat; -inf where there is no token.
        rest: logits of rows that are no tokens, shape (batch, any), which only count in the normaliser.
        top_p: nucleus mass, in (0, 1].

    Returns:
        The ranking. Where a logit is NaN or inf, so is the normaliser.

    Example:
        >>> found = ranking(torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.empty(1, 0), 0.7)
        >>> round(float(found.edge.exp()), 6)
        0.3
    """
    if logits.device.type != "cpu":
        return _by_sorting(logits, rest, top_p)
    others = rest.double().logsumexp(1).tolist()
    found = [_edge(row, own, top_p) for row, own in zip(logits.numpy(), others, strict=True)]
    normaliser, edge = torch.tensor(found, dtype=torch.float64).reshape(-1, 2).T
    return Ranking(logits, normaliser, edge.to(logits.dtype))


def _edge(row: NDArray[np.float32], rest: float, top_p: float) -> tuple[float, float]:
    """Find the log normaliser of a prediction, and the smallest logit in its nucleus."""
    top = row.max()
    weights = np.exp(row - top)
    mass = float(weights.sum(dtype=np.float64))
    total = mass + math.exp(rest - top)
    if not 0 < total < math.inf:
        return math.nan, math.nan
    if top_p == 1:
        return math.log(total) + float(top), float(row.min())
    largest_first = np.sort(row[_holding(weights, mass, top_p * total)])[::-1]
    running = np.exp(largest_first - top).cumsum(dtype=np.float64)
    # a token is kept if those above it hold less than top_p
    last = min(int(running.searchsorted(top_p * total)), len(running) - 1)
    return math.log(total) + float(top), float(largest_first[last])


def _holding(weights: NDArray[np.float32], mass: float, wanted: float) -> NDArray[np.intp] | slice:
    """Tokens that hold a mass together, some more than needed; the first look leaves out more, and may do with less."""
    # a token with less than 1 / V of what is left out is left out, for it and all below it hold less than that
    least = (mass - wanted) / len(weights) * (1 - _SLACK)
    few = np.flatnonzero(weights >= _FIRST_LOOK * least)
    if weights[few].sum(dtype=np.float64) >= wanted * (1 + _SLACK):
        return few
    return np.flatnonzero(weights >= least) if least > 0 else slice(None)


def _by_sorting(logits: Tensor, rest: Tensor, top_p: float) -> Ranking:
    """The same, of all rows at once."""
    ascending = logits.sort(-1).values
    top = ascending[:, -1:].float()
    groups = _grouped((ascending - top).exp_())
    running = groups.sum(2).double().cumsum(1)
    tokens = running[:, -1]
    total = tokens + (rest - top).exp().sum(1, dtype=torch.float64)
    missed = tokens - top_p * total
    last = logits.shape[1] - 1
    edge = _passing(groups, running, missed).clamp(max=last) if top_p < 1 else torch.zeros_like(missed).long()
    return Ranking(logits, total.log() + top.squeeze(1).double(), ascending.gather(1, edge.unsqueeze(1)).squeeze(1))


def _grouped(weights: Tensor) -> Tensor:
    """Rows in groups of columns, the last filled up with zeros, shape (batch, groups, columns)."""
    missing = -weights.shape[1] % _COLUMNS_A_GROUP
    return (torch.nn.functional.pad(weights, (0, missing)) if missing else weights).unflatten(1, (-1, _COLUMNS_A_GROUP))


def _passing(groups: Tensor, running: Tensor, mass: Tensor) -> Tensor:
    """First column at which a row's running sum exceeds a mass: the group first, then the column in it."""
    group = torch.searchsorted(running, mass.unsqueeze(1), right=True).clamp(max=groups.shape[1] - 1)
    before = torch.where(group > 0, running.gather(1, (group - 1).clamp(min=0)), 0)
    inside = (
        groups.gather(1, group.unsqueeze(2).expand(-1, -1, _COLUMNS_A_GROUP)).squeeze(1).double().cumsum(1) + before
    )
    within = torch.searchsorted(inside, mass.unsqueeze(1), right=True)
    return (group * _COLUMNS_A_GROUP + within).squeeze(1)


def _smallest_kept(probs: Tensor, top_p: float) -> Tensor:
    """Probability of the token at which the cumulative probability reaches top_p, shape (batch,)."""
    few = min(_FIRST_TOKENS, probs.shape[-1])
    found, reached = _reaching(largest(probs, few)[0], top_p)
    wide = ~reached
    if bool(wide.any()):
        # rounding can leave even the whole sum just below top_p: then every token is kept
        found[wide], _ = _reaching(sorted_rows(probs[wide]).flip(-1), top_p)
    return found


def _reaching(ordered: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Entry of each row at which its cumulative sum reaches top_p, or the last one, and whether it does reach it."""
    sums = ordered.cumsum(-1, dtype=torch.float64)
    first = torch.searchsorted(sums, sums.new_full((len(sums), 1), top_p))
    return ordered.gather(-1, first.clamp(max=ordered.shape[-1] - 1)).squeeze(-1), sums[:, -1] >= top_p
