"""Sign paths: critical rates from the sign of the gradient, AdamW's first step (``ray`` and ``path``).

Definitions: docs/threshold.md.

``u = -g / (|g| + eps)`` at the base weights; where the gradient is exactly zero there (LoRA's A), that at weights
displaced by 1e-5 u. The critical dose is the smallest s at which base + s u meets the criterion. ``path`` walks
there in segments, the sign is taken again after each.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from borngap.choices import Criterion
from borngap.critical.landscape import Landscape
from borngap.critical.roots import root

SEGMENTS = 5
_NUDGE = 1e-5
_DOSE_TRIED_FIRST = 1e-4
_SMALLEST = 1e-9


def critical_dose(land: Landscape, index: int, criterion: Criterion, limit: float, segments: int = 1) -> float | None:
    """Return the dose (rate times steps at the full rate) at which a sign path meets the criterion.

    Args:
        land: the model.
        index: the context.
        criterion: what counts as ahead.
        limit: largest dose.
        segments: 1 for the ray, more for the path.

    Returns:
        The dose; None if none up to the limit does. Cost: ``segments`` gradients (one more where some are zero at the
        start) and some ten forwards each.
    """
    gradient = land.zeros(1)[0]
    land.home()
    land.gradient(index, gradient)
    direction = _nudged(land, index, gradient)
    walked, done = torch.zeros_like(gradient), 0.0
    for left in range(segments, 0, -1):
        rest = _rest(land, index, criterion, walked, direction, limit)
        if rest is None or left == 1:
            return None if rest is None or done + rest > limit else done + rest
        walked.add_(direction, alpha=rest / left)
        done += rest / left
        land.place(walked)
        land.gradient(index, gradient)
        direction = torch.where(gradient == 0, direction, _sign(land, gradient))
    return None


def _sign(land: Landscape, gradient: Tensor) -> Tensor:
    return -gradient / (gradient.abs() + land.tuner.training.eps)


def _nudged(land: Landscape, index: int, gradient: Tensor) -> Tensor:
    direction = _sign(land, gradient)
    still = gradient == 0
    if bool(still.any()):
        land.place(direction, _NUDGE)
        moved = torch.empty_like(gradient)
        land.gradient(index, moved)
        direction = torch.where(still, _sign(land, moved), direction)
    return direction


def _rest(
    land: Landscape, index: int, criterion: Criterion, walked: Tensor, direction: Tensor, limit: float
) -> float | None:
    """The smallest dose along a direction that meets the criterion, by doubling and then a root."""

    @lru_cache
    def margin(log_dose: float) -> float:
        land.place(walked + math.exp(log_dose) * direction)
        return land.margin(index, criterion, land.logits(index))

    dose = min(_DOSE_TRIED_FIRST, limit)
    while margin(math.log(dose)) > 0 and dose > _SMALLEST * limit:
        dose /= 2
    while dose < 4 * limit:  # a path may be shorter than its first, straight estimate
        if margin(math.log(dose)) > 0:
            found = root(margin, math.log(dose))
            return None if found is None else math.exp(found)
        dose *= 2
    return None
