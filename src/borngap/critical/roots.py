"""Zeros of a margin over the logarithm of a rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

ROOT = 2.5e-4
WIDE = math.log(4.0)


def secants(function: Callable[[float], float], near: float, slope: float) -> float | None:
    """Return a zero of a function that rises through it, by a few secants from a point and a slope near the zero's.

    Args:
        function: of one number.
        near: where to begin.
        slope: of the function there, about.

    Returns:
        The zero, or None where secants do not lead to one at once.
    """
    x, value = near, function(near)
    for _ in range(4):
        if not slope > 0 or not abs(value / slope) < 0.5:
            return None
        step = -value / slope
        if abs(step) < ROOT:
            return x + step
        after = function(x + step)
        slope = (after - value) / step
        x, value = x + step, after
    return None


def root(function: Callable[[float], float], near: float) -> float | None:
    """Return a zero of a function that rises through it, looked for from a point outwards.

    Args:
        function: of one number; NaN counts as not positive.
        near: where to begin.

    Returns:
        The zero nearest to the start by doubling steps within log 4, or None.
    """
    up = not function(near) > 0
    edge, step = near, 0.05
    while abs(edge - near) <= WIDE:
        other = edge + (step if up else -step)
        if (function(other) > 0) == up:
            low, high = sorted((edge, other))
            if not math.isfinite(function(low)) or not math.isfinite(function(high)):
                return None
            return float(brentq(function, low, high, xtol=ROOT))
        edge, step = other, 2 * step
    return None
