"""Critical rates of one model's contexts for a reproduction: found a unit at a time, with the time that each took."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from borngap.context import Context
from borngap.critical.brackets import Bracket
from borngap.critical.record import By
from borngap.critical.search import ContextRate, Searcher, critical_entry
from borngap.critical.trials import Trials
from borngap.model.load import load
from borngap.runfolder import clean
from borngap.training import Training

BESIDE = 0.015  # how far below and above a forecast rate the two runs are
BRACKET_WIDTH = 0.005  # relative width that a bisection inside them ends with
REFINED = 5  # contexts a method that are bisected

RateEntry = dict[str, Any]


class RateFinder:
    """Finds critical rates of one model's contexts, and holds forecasts of them against runs.

    A *unit* is what is found together, and lost together when the program is stopped.
    """

    def __init__(self, name: str, contexts: Sequence[Context], training: Training, device: str = "cpu") -> None:
        """Load the model.

        Args:
            name: bundled name, local folder, or hub id.
            contexts: what would be trained on, each alone.
            training: method, steps and criterion count.
            device: torch device.
        """
        self._training = training
        self._searcher = Searcher(load(name, device, training.dtype), contexts, training)
        self._trials = Trials(self._searcher.land, training.criterion, training.seed)
        # beside other work on the machine the processor's time says more; a GPU's is not the processor's
        self._clock = time.process_time if device == "cpu" else time.perf_counter

    def units(self, by: By) -> list[list[int]]:
        """Return the contexts in units: one by one, or all where runs go through the model together."""
        numbers = list(self._searcher.contexts)
        return [numbers] if by == "bisect" and self._trials.stacks else [[i] for i in numbers]

    def rates(self, by: By, unit: Sequence[int], before: Sequence[RateEntry]) -> list[RateEntry]:
        """Find the critical rates of a unit.

        Args:
            by: the way.
            unit: contexts.
            before: entries of the units before, which say where collocation begins.

        Returns:
            One JSON-ready entry a context, ``seconds`` its part of the time.
        """
        searcher, began = self._searcher, self._clock()
        searcher.solved = [e["critical_rate"] for e in before if e["critical_rate"] is not None]
        with searcher.land.evaluating():
            found = sorted(searcher.each(by, unit))
        seconds = (self._clock() - began) / len(unit)
        rates = [
            ContextRate(searcher.tuner.targets[i], searcher.overlaps[i], rate, self._training.scope)
            for i, rate in found
        ]
        return [clean(self._entry(critical_entry(i, rate), seconds)) for i, rate in zip(unit, rates, strict=True)]

    def brackets(self, forecasts: Mapping[int, RateEntry], unit: Sequence[int]) -> list[RateEntry]:
        """Hold forecast rates against two real runs each, and some of them against a bisection between these.

        Args:
            forecasts: context -> entry of its critical rate by collocation; those without a rate are left out.
            unit: contexts.

        Returns:
            One JSON-ready entry a context of the unit that has a forecast: ``forecast``, ``below``, ``above`` (rates
            of the two runs), ``below_flip``, ``above_flip`` (steps, None where gold does not come ahead), ``fails``,
            ``resolves``, ``bisected`` (middle of the last bracket; None where it was not asked for or not found),
            ``forecast_seconds``, ``run_seconds``, ``bisection_seconds``.
        """
        rates = {i: forecasts[i]["critical_rate"] for i in unit if i in forecasts}
        if not rates:
            return []
        with self._searcher.land.evaluating():
            brackets, told, seconds = self._two_runs(rates)
            chosen = [i for i in rates if i in evenly(sorted(forecasts), REFINED)]
            later = self._bisect(chosen, brackets, rates)
        return [
            clean(
                self._head(i) | told[i] | {"forecast_seconds": forecasts[i]["seconds"], "run_seconds": seconds}
                | {"bisected": _middle(brackets[i]) if i in chosen else None}
                | {"bisection_seconds": later if i in chosen else None}
            )
            for i in rates
        ]  # fmt: skip

    def _two_runs(self, rates: Mapping[int, float]) -> tuple[dict[int, Bracket], dict[int, RateEntry], float]:
        began, brackets, told = self._clock(), {i: Bracket() for i in rates}, {}
        wanted = [(i, rate * (1 + side)) for i, rate in rates.items() for side in (-BESIDE, BESIDE)]
        times = self._trials(wanted)
        for (i, rate), flip in zip(wanted, times, strict=True):
            brackets[i].learn(rate, flip)
        for place, (i, rate) in enumerate(rates.items()):
            (below, above), (low, high) = ([x[2 * place], x[2 * place + 1]] for x in ([r for _, r in wanted], times))
            told[i] = {
                "forecast": rate, "below": below, "above": above, "below_flip": low, "above_flip": high,
                "fails": low is None, "resolves": high is not None and not math.isnan(high),
            }  # fmt: skip
        return brackets, told, (self._clock() - began) / len(rates)

    def _bisect(self, chosen: Sequence[int], brackets: Mapping[int, Bracket], rates: Mapping[int, float]) -> float:
        """Narrow brackets down; return the time a context, unit s."""
        began, searcher = self._clock(), self._searcher
        open_ = list(chosen)
        while open_:
            tries = {
                i: brackets[i].next(rates[i], searcher.limit, searcher.share, width=BRACKET_WIDTH)
                for i in open_
                if not _narrow(brackets[i])
            }
            wanted = [(i, rate) for i, rate in tries.items() if rate is not None]
            for (i, rate), flip in zip(wanted, self._trials(wanted) if wanted else [], strict=True):
                brackets[i].learn(rate, flip)
            open_ = [i for i, _ in wanted]
        return (self._clock() - began) / max(1, len(chosen))

    def _entry(self, found: RateEntry, seconds: float) -> RateEntry:
        kept = {key: found[key] for key in found if key not in {"prompt", "gold", "rival", "step_kept"}}
        return self._settings() | kept | {"seconds": seconds}

    def _head(self, index: int) -> RateEntry:
        return self._settings() | {"context": index, "gold_overlap": self._searcher.overlaps[index]}

    def _settings(self) -> RateEntry:
        settings = self._training
        return {"method": settings.method, "criterion": settings.criterion, "seed": settings.seed}


def evenly(numbers: Sequence[int], count: int) -> set[int]:
    """Return some of many numbers, evenly evenly over them, first and last among them.

    Example:
        >>> sorted(evenly([3, 5, 7, 9, 11], 3))
        [3, 7, 11]
    """
    count = min(count, len(numbers))
    return {numbers[round(k * (len(numbers) - 1) / max(1, count - 1))] for k in range(count)}


def _narrow(bracket: Bracket) -> bool:
    return bracket.low is not None and bracket.high is not None and bracket.high / bracket.low <= 1 + BRACKET_WIDTH


def _middle(bracket: Bracket) -> float | None:
    """Geometric middle of a bracket that is as narrow as wanted."""
    return (bracket.low * bracket.high) ** 0.5 if _narrow(bracket) and bracket.low and bracket.high else None
