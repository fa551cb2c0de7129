"""Methods side by side: which rate each takes for the same contexts, and what its usual rate does (docs/methods.md)."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from borngap.context import Context
from borngap.critical.record import CriticalRate
from borngap.critical.search import Searcher, unwrapped
from borngap.errors import UserError
from borngap.methods import METHODS, Method
from borngap.model.load import Loaded
from borngap.resample import Interval, percentile_interval
from borngap.training import Training

SHARES = (0.5, 0.9)
_TIMED = 3
_BEYOND = 1e30
_A_NUMBER = 4  # of what an optimiser holds: the number, its gradient, two moments


@dataclass(frozen=True)
class Quantile:
    """The rate that a share of the contexts takes.

    Attributes:
        share: of the contexts in which the rival leads at first, in (0, 1].
        rate: smallest rate that resolves so many; None where none up to the largest does.
        interval: 95 % by resampling contexts; an end is None where it lies beyond the largest rate.
    """

    share: float
    rate: float | None
    interval: Interval


@dataclass(frozen=True)
class MethodRates:
    """What a method does for some contexts, each trained alone.

    Attributes:
        method: which.
        usual: the rate that is usual for it.
        parameters: how many numbers it trains.
        rates: critical rates, one a context; none where it was refused.
        step_seconds: median time of a training step on one context; None where it was refused.
        training_bytes: what weights that are trained, gradients and AdamW's moments take.
        refused: why the method can't be applied; empty if it can.
    """

    method: Method
    usual: float
    parameters: int = 0
    rates: tuple[CriticalRate, ...] = ()
    step_seconds: float | None = None
    training_bytes: int = 0
    refused: str = ""

    @property
    def open(self) -> tuple[CriticalRate, ...]:
        """Those of the contexts in which the rival leads at first."""
        return tuple(rate for rate in self.rates if rate.status != "pre-resolved")

    @property
    def known(self) -> tuple[float, ...]:
        """Their rates; infinite where none up to the largest resolves, left out where the search found none."""
        found = [math.inf if rate.status == "beyond" else rate.rate for rate in self.open]
        return tuple(rate for rate in found if rate is not None)

    @property
    def at_usual(self) -> int:
        """How many of them the usual rate resolves."""
        return sum(rate <= self.usual for rate in self.known)

    def quantile(self, share: float) -> Quantile:
        """Return the rate that a share of the contexts takes.

        Args:
            share: in (0, 1].
        """
        values = np.sort(self.known)
        if not len(values):
            return Quantile(share, None, (None, None))
        low, high = _interval(values, share)
        return Quantile(share, _finite(_at(values, share)), (low, high))


def methods_of(
    loaded: Loaded,
    contexts: Sequence[Context],
    methods: Sequence[Method],
    training: Training,
    on_context: Callable[[str, int], None] = lambda *_: None,
) -> list[MethodRates]:
    """Find the critical rates of the same contexts under several methods, by collocation.

    Args:
        loaded: model and tokenizer; the model ends as it began, to rounding under PiSSA.
        contexts: what would be trained on, each alone.
        methods: which; one that the model can't take is listed with the reason.
        training: the settings; method, rate and rank play no part.
        on_context: called with the method and the number of contexts done.

    Returns:
        One entry a method, in order.

    Raises:
        UserError: the settings are none that a search can honour, or no method can be applied.
    """
    found = []
    for method in methods:
        settings = training.under(method)
        entry, loaded = _one(loaded, contexts, settings, partial(on_context, METHODS[method].words))
        found.append(entry)
    if all(entry.refused for entry in found):
        raise UserError("no method can be applied", found="; ".join(f"{e.method}: {e.refused}" for e in found))
    return found


def methods_entry(entry: MethodRates) -> dict[str, Any]:
    """Return a method's rates JSON-ready."""
    quantiles = {f"{share:g}": entry.quantile(share) for share in SHARES}
    return {
        "method": entry.method,
        "usual_rate": entry.usual,
        "usual_of": METHODS[entry.method].source,
        "trained_parameters": entry.parameters,
        "contexts": len(entry.rates),
        "open": len(entry.open),
        "found": len(entry.known),
        "resolved_at_usual": entry.at_usual,
        "takes": {
            share: {"rate": q.rate, "low": q.interval[0], "high": q.interval[1]} for share, q in quantiles.items()
        },
        "critical_rates": [{"rate": r.rate, "status": r.status, "why": r.why} for r in entry.rates],
        "step_seconds": entry.step_seconds,
        "training_bytes": entry.training_bytes,
        "refused": entry.refused or None,
    }


def _one(
    loaded: Loaded, contexts: Sequence[Context], settings: Training, on_context: Callable[[int], None]
) -> tuple[MethodRates, Loaded]:
    try:
        searcher = Searcher(loaded, contexts, settings)
    except UserError as error:
        return MethodRates(settings.method, settings.learning_rate, refused=error.line), loaded
    rates = tuple(entry.critical for entry in searcher.search(on_context=on_context))
    base, seconds = searcher.land.base, _step_seconds(searcher)
    size = _A_NUMBER * base.numel() * base.element_size()
    entry = MethodRates(settings.method, settings.learning_rate, base.numel(), rates, seconds, size)
    return entry, unwrapped(searcher, loaded)


def _step_seconds(searcher: Searcher) -> float:
    times = []
    for _ in searcher.tuner.alone(0, observe="none"):
        times.append(time.perf_counter())
        if len(times) > _TIMED:
            break
    return statistics.median(after - before for before, after in pairwise(times))


def _at(values: np.ndarray, share: float) -> float:
    return float(values[math.ceil(share * len(values)) - 1])


def _interval(values: np.ndarray, share: float) -> Interval:
    """Percentile interval; rates beyond the largest are drawn as one far above all."""
    limited = np.minimum(values, _BEYOND)
    low, high = percentile_interval(lambda drawn: _at(np.sort(limited[drawn]), share), len(values))
    return (None if low is None else _finite(low)), (None if high is None else _finite(high))


def _finite(rate: float) -> float | None:
    return rate if rate < _BEYOND / 2 else None
