"""Searches for critical rates by runs: a bracket of rates is narrowed down by bisection, or read off a grid.

Everything here is pure: runs are done by a function that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from borngap.critical.record import By, CriticalRate
from borngap.rates import check_rates

# run(index, rate) pairs -> flip times in steps, None where not met, NaN where values ceased to be finite
Runs = Callable[[Sequence[tuple[int, float]]], Sequence[float | None]]

WIDTH = 0.01
_GRID = 2.0


@dataclass
class Bracket:
    """What is known of one context's critical rate from runs.

    Attributes:
        low: largest rate below ``high`` that did not suffice.
        high: smallest rate that did.
        time: flip time at ``high``, unit steps.
        checked: rates further down that were seen not to suffice.
        broken: a rate at which values ceased to be finite.
    """

    low: float | None = None
    high: float | None = None
    time: float = math.nan
    checked: tuple[float, ...] = ()
    broken: float | None = None

    def learn(self, rate: float, time: float | None) -> None:
        """Take in a run: its rate and flip time, None if not met, NaN if it diverged."""
        if time is not None and math.isnan(time):
            self.broken = rate if self.broken is None else min(self.broken, rate)
        elif time is not None:
            if self.high is None or rate < self.high:
                self.high, self.time = rate, time
                if self.low is not None and self.low > rate:
                    self.low = max((x for x in self.checked if x < rate), default=None)
        else:
            self.checked += (rate,)
            if self.high is None or rate < self.high:
                self.low = rate if self.low is None else max(self.low, rate)

    def next(self, start: float, limit: float, dose: Callable[[float], float], *, width: float = WIDTH) -> float | None:
        """Return the rate to try next; None if the bracket is as wanted or can't be had.

        The dose, rate times the share of the budget that was needed, is nearly independent of the rate, and so names
        the rate to try; halving the bracket stands behind it. Half and a quarter of the rate found are tried too, so
        that a lower crossing is not missed.

        Args:
            start: first rate to try.
            limit: largest rate to try.
            dose: flip time -> share of the whole run's dose.
            width: relative width of the bracket wanted.
        """
        if self.high is None:
            return self._upwards(start, limit)
        guess = self.high * dose(self.time)
        if self.low is None:
            return min(guess / (1 + width / 2), self.high / _GRID)
        if self.high / self.low <= 1 + width:
            return next((rate for rate in (self.low / _GRID, self.low / _GRID**2) if not self._was_tried(rate)), None)
        step = 1 + width / 2
        above, below = guess * step, guess / step
        wanted = above if above < self.high / step else below
        halving = len(self.checked) % 3 == 2 or not self.low * (1 + width / 10) < wanted < self.high / (1 + width / 10)
        return math.sqrt(self.low * self.high) if halving else wanted

    def _was_tried(self, rate: float) -> bool:
        """Whether a rate, or one up to a tenth larger, was seen not to suffice."""
        return any(0.999 * rate <= seen <= 1.1 * rate for seen in self.checked)

    def _upwards(self, start: float, limit: float) -> float | None:
        if self.broken is not None and (self.low is None or self.broken <= _GRID * self.low):
            return None if self.low is not None else self.broken / 8
        if self.low is None:
            return min(start, limit)
        return None if self.low >= limit else min(_GRID * self.low, limit)


def bisection(
    contexts: Sequence[int],
    runs: Runs,
    start: Mapping[int, float],
    limit: float,
    dose: Callable[[float], float],
    width: float = WIDTH,
) -> dict[int, Bracket]:
    """Search for the critical rates of many contexts at once, a run each a round.

    Args:
        contexts: which.
        runs: does the runs.
        start: context -> first rate to try.
        limit: largest rate to try.
        dose: flip time -> share of the whole run's dose.
        width: relative width of the brackets wanted.

    Returns:
        Context -> bracket.
    """
    brackets = {i: Bracket() for i in contexts}
    while True:
        tries = [(i, brackets[i].next(start[i], limit, dose, width=width)) for i in contexts]
        wanted = [(i, rate) for i, rate in tries if rate is not None]
        if not wanted:
            return brackets
        for (i, rate), time in zip(wanted, runs(wanted), strict=True):
            brackets[i].learn(rate, time)


def grid_search(contexts: Sequence[int], runs: Runs, rates: Sequence[float]) -> dict[int, Bracket]:
    """Run every context at every rate of a grid.

    Args:
        contexts: which.
        runs: does the runs.
        rates: learning rates, increasing.

    Returns:
        Context -> the lowest crossing bracket of the grid.
    """
    check_rates(rates)
    brackets = {i: Bracket() for i in contexts}
    wanted = [(i, rate) for i in contexts for rate in rates]
    for (i, rate), time in zip(wanted, runs(wanted), strict=True):
        brackets[i].learn(rate, time)
    return brackets


def found(bracket: Bracket, by: By, limit: float) -> CriticalRate:
    """Return what a bracket says.

    Args:
        bracket: after a search.
        by: the search.
        limit: largest rate that was to be tried.

    Returns:
        The critical rate: the smallest rate known to suffice, its interval the bracket.
    """
    if bracket.high is not None:
        return CriticalRate(bracket.high, bracket.low, bracket.high, "ok", by)
    if bracket.broken is not None:
        why = f"values ceased to be finite at the rate {bracket.broken:.3g} before gold came ahead"
        return CriticalRate(None, bracket.low, None, "diverged", by, why)
    return CriticalRate(None, bracket.low, None, "beyond", by, f"not met up to the rate {bracket.low or limit:.3g}")
