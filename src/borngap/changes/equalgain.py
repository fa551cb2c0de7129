"""Methods side by side on a data set: their curves over rates, read where each gains as much (docs/methods.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_MOVES = 0.05  # of the places that must come ahead for a method to count as doing anything


@dataclass(frozen=True)
class AtGain:
    """A method at the rate at which the wanted words lead at a given share of the places.

    Attributes:
        rate: the rate, interpolated in its logarithm between two of the curve.
        over_use: share of the places at which the word to avoid is right, and does not lead; None where not known.
        loss: held-out loss of the pilot, unit nat; too high for the run's, so that it only compares methods.
    """

    rate: float
    over_use: float | None
    loss: float | None


def common_gain(curves: Sequence[Sequence[Mapping[str, Any]]]) -> float | None:
    """Return the largest share of the places that every method reaches at one of its rates.

    Args:
        curves: of each method an entry a rate, ascending, as a forecast's ``curve`` has them.

    Returns:
        The share, in [0, 1]. Methods that do not go a twentieth of the places beyond where any of them begins (a drawn
        prefix begins elsewhere than the base model) do not count; None where all are such.
    """
    least = max(_before(curve) for curve in curves) + _MOVES
    best = (max(reached) for curve in curves if (reached := _reached(curve)))
    return min((most for most in best if most >= least), default=None)


def at_gain(curve: Sequence[Mapping[str, Any]], share: float) -> AtGain | None:
    """Return where a method's curve first reaches a share of the places.

    Args:
        curve: an entry a rate, ascending.
        share: in [0, 1].

    Returns:
        Rate, over-use and loss there; None where it is not reached, or already before the lowest rate.
    """
    known = [entry for entry in curve if entry["ahead_after"] is not None]
    for low, high in pairwise(known):
        a, b = low["ahead_after"], high["ahead_after"]
        if a < share <= b:
            part = (share - a) / (b - a)
            rate = math.exp(_between(math.log(low["rate"]), math.log(high["rate"]), part))
            ends = [[entry[name] for entry in (low, high)] for name in ("over_use_after", "pilot_loss")]
            over, loss = (None if x is None or y is None else _between(x, y, part) for x, y in ends)
            return AtGain(rate, over, loss)
    if known and known[0]["ahead_after"] == share:
        return AtGain(known[0]["rate"], known[0]["over_use_after"], known[0]["pilot_loss"])
    return None


def why_not(curve: Sequence[Mapping[str, Any]], share: float) -> str:
    """Return why ``at_gain`` finds nothing: not reached, or passed before the lowest rate."""
    reached = _reached(curve)
    if not reached:
        return "unstable"
    return "below its rates" if reached[0] > share else "not reached"


def _reached(curve: Sequence[Mapping[str, Any]]) -> list[float]:
    return [entry["ahead_after"] for entry in curve if entry["ahead_after"] is not None]


def _before(curve: Sequence[Mapping[str, Any]]) -> float:
    return float(curve[0]["ahead_before"] or 0.0)


def _between(low: float, high: float, part: float) -> float:
    return low + part * (high - low)
