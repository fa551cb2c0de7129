"""The phase diagram of a rate sweep: who crosses at which rate, theta*, reduced fields, and the phase boundary.

A *point* is one run. Points of one context are not independent, so every interval resamples contexts, never points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import geometric_mean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from borngap.choices import Criterion
from borngap.judge.verdicts import character
from borngap.resample import mean_interval
from borngap.sweep.boundary import LEAST_OF_A_KIND, Boundary, Comparison, boundary, compare_cuts

SweptStatus = Literal["ok", "pre-resolved", "beyond", "below", "diverged"]
_CATAPULTS, _DRIFTS = {"catapult", "catapult-like"}, {"drift"}


@dataclass(frozen=True)
class Point:
    """One run of a sweep, seen by one criterion.

    Attributes:
        context: index of its context.
        seed: seed of LoRA's initial matrices.
        rate: learning rate eta.
        gold_overlap: Gmax at the base model.
        outcome: by the criterion.
        flip_share: share of the run's dose (the sum of its rates) at which the criterion was first met, in [0, 1]; None
            if it was not.
        jump_ratio: largest over mean change of the Born gap; None if unknown.
    """

    context: int
    seed: int
    rate: float
    gold_overlap: float
    outcome: str
    flip_share: float | None
    jump_ratio: float | None


@dataclass(frozen=True)
class SweptRate:
    """Critical rate of a context, as far as a sweep tells.

    Attributes:
        context: index.
        gold_overlap: Gmax.
        status: ``ok``; ``pre-resolved``; ``beyond``: not met at the largest rate; ``below``: met at the smallest rate
            already; ``diverged``: no crossing, and a run diverged.
        rate: eta_c by the crossing dose of the lowest rate that crosses, within the bracket, the geometric mean over
            seeds; None unless ok.
        low: largest rate below all crossings, or None.
        high: smallest rate that crosses with every seed, or None.
        theta: eta_c * Gmax; None unless ok.
    """

    context: int
    gold_overlap: float
    status: SweptStatus
    rate: float | None
    low: float | None
    high: float | None
    theta: float | None


@dataclass(frozen=True)
class Estimate:
    """A number with an interval and what it rests on.

    Attributes:
        value: the number; None if there is no basis for one.
        low: lower end of the 95 % interval.
        high: upper end.
        contexts: how many contexts it rests on.
        reason: why there is no number or no interval, or how to read it; empty if nothing is to be said.
    """

    value: float | None
    low: float | None
    high: float | None
    contexts: int
    reason: str = ""


@dataclass(frozen=True)
class Field:
    """Reduced field H = eta * Gmax / theta* at one rate.

    Attributes:
        rate: eta.
        mean: of H over contexts; low and high carry the interval of theta* over.
        low: lower end of the 95 % interval; None if theta* has none.
        high: upper end.
        least: smallest H of a context.
        largest: largest H of a context.
    """

    rate: float
    mean: float
    low: float | None
    high: float | None
    least: float
    largest: float


@dataclass(frozen=True)
class Phase:
    """The phase diagram by one criterion.

    Attributes:
        criterion: what counts as resolved.
        runs: finished runs.
        left_out: reason -> runs that take no part in the boundaries.
        critical: one entry a context.
        theta: theta*, mean of eta_c * Gmax over contexts.
        fields: reduced field at each rate; empty without theta*.
        boundaries: the cut on each candidate: kappa = eta * Gmax first.
        comparisons: kappa's held-out accuracy less that of each other candidate.
    """

    criterion: Criterion
    runs: int
    left_out: dict[str, int]
    critical: list[SweptRate]
    theta: Estimate
    fields: list[Field]
    boundaries: list[Boundary]
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        """Return the diagram as JSON-ready values; what is unknown is None."""
        return asdict(self)


def phase(
    points: Sequence[Point],
    criterion: Criterion,
    further: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
) -> Phase:
    """Return the phase diagram of a sweep by one criterion.

    Candidates for what decides between catapult and drift: ``kappa = eta * Gmax`` (eq 12), ``rate`` = eta alone,
    ``drive = eta * (1 - Gmax)`` (eq 11), and ``dose = eta / eta_c`` of the run's own context, where that is known.

    Args:
        points: finished runs.
        criterion: what counts as resolved.
        further: other candidates, name -> a value a point; NaN where there is none.
        seed: seeds the resampling.

    Returns:
        The diagram; numbers without a basis are None, with a reason.
    """
    critical = [_critical(context, list(group)) for context, group in _by_context(points)]
    theta = theta_star(critical, seed)
    kind, left_out = _kinds(points)
    candidates = _candidates(points, critical) | {name: np.asarray(values) for name, values in (further or {}).items()}
    contexts = np.array([point.context for point in points])
    boundaries = [boundary(name, values, kind, contexts, seed) for name, values in candidates.items()]
    others = [name for name in candidates if name != "kappa"]
    comparisons = [
        compare_cuts(("kappa", candidates["kappa"]), (name, candidates[name]), kind, contexts, seed) for name in others
    ]
    fields = _fields(points, critical, theta)
    return Phase(criterion, len(points), left_out, critical, theta, fields, boundaries, comparisons)


def theta_star(critical: Sequence[SweptRate], seed: int = 0) -> Estimate:
    """Mean of ``theta_i = eta_c * Gmax`` over contexts, with a 95 % bootstrap interval (BCa, over contexts).

    Source: docs/threshold.md.

    Args:
        critical: one entry a context; only those with status ok count.
        seed: seeds the resampling.

    Returns:
        The estimate; no value below 3 contexts.
    """
    thetas = np.array([entry.theta for entry in critical if entry.theta is not None])
    if len(thetas) < LEAST_OF_A_KIND:
        few = f"{len(thetas)} contexts cross within the rates tried, at least {LEAST_OF_A_KIND} are needed"
        return Estimate(None, None, None, len(thetas), few)
    bounds = Counter(entry.status for entry in critical if entry.status in {"beyond", "below"})
    reason = ""
    if bounds:
        named = " and ".join(f"{count} {status}" for status, count in sorted(bounds.items()))
        reason = f"{named} the rates tried are left out: the mean of all contexts may lie further that way"
    low, high = mean_interval(thetas, seed)
    return Estimate(float(thetas.mean()), low, high, len(thetas), reason)


def _by_context(points: Sequence[Point]) -> Any:
    order: Callable[[Point], int] = lambda point: point.context  # noqa: E731
    return groupby(sorted(points, key=order), order)


def _critical(context: int, points: list[Point]) -> SweptRate:
    """Combine the brackets of all seeds of a context."""
    overlap = points[0].gold_overlap
    if any(point.outcome in {"pre-resolved", "lost"} for point in points):
        return SweptRate(context, overlap, "pre-resolved", None, None, None, None)
    by_seed = {seed: [p for p in points if p.seed == seed] for seed in dict.fromkeys(p.seed for p in points)}
    brackets = [_bracket(sorted(group, key=lambda p: p.rate)) for group in by_seed.values()]
    statuses = {status for status, _, _, _ in brackets}
    status: SweptStatus = next(s for s in ("diverged", "beyond", "below", "ok") if s in statuses)
    lows, highs = [b[1] for b in brackets if b[1] is not None], [b[2] for b in brackets if b[2] is not None]
    low = min(lows) if len(lows) == len(brackets) else None
    high = max(highs) if len(highs) == len(brackets) else None
    if status != "ok":
        return SweptRate(context, overlap, status, None, low, high, None)
    rate = min(max(geometric_mean(b[3] for b in brackets), low or 0.0), high or math.inf)
    return SweptRate(context, overlap, status, rate, low, high, rate * overlap)


def _bracket(points: list[Point]) -> tuple[SweptStatus, float | None, float | None, float]:
    """Status, the rates on both sides of the lowest crossing, and eta_c by its dose; of one seed, rates increasing."""
    crossing = next((i for i, point in enumerate(points) if point.flip_share is not None), None)
    if crossing is None:
        diverged = any(point.outcome == "diverged" for point in points)
        return "diverged" if diverged else "beyond", points[-1].rate, None, math.nan
    first = points[crossing]
    if crossing == 0:
        return "below", None, first.rate, math.nan
    if points[crossing - 1].outcome == "diverged":
        return "diverged", None, first.rate, math.nan
    low, high = points[crossing - 1].rate, first.rate
    dose = first.rate * (first.flip_share or 0.0)
    return "ok", low, high, min(max(dose, low), high)


def _kinds(points: Sequence[Point]) -> tuple[NDArray[Any], dict[str, int]]:
    """1 for a catapult, 0 for a drift, NaN for what takes no part; and how many that are, by reason."""
    kinds, left_out = np.full(len(points), np.nan), Counter[str]()
    for i, point in enumerate(points):
        name = character(point.jump_ratio) or "no jump ratio"
        if point.outcome in {"diverged", "pre-resolved", "lost"}:
            left_out[point.outcome] += 1
        elif name in _CATAPULTS | _DRIFTS:
            kinds[i] = name in _CATAPULTS
        else:
            left_out[name] += 1
    return kinds, dict(left_out)


def _candidates(points: Sequence[Point], critical: Sequence[SweptRate]) -> dict[str, NDArray[Any]]:
    rate = np.array([point.rate for point in points])
    overlap = np.array([point.gold_overlap for point in points])
    known = {entry.context: entry.rate for entry in critical}
    own = np.array([known[point.context] or np.nan for point in points])
    return {"kappa": rate * overlap, "rate": rate, "drive": rate * (1 - overlap), "dose": rate / own}


def _fields(points: Sequence[Point], critical: Sequence[SweptRate], theta: Estimate) -> list[Field]:
    if theta.value is None or theta.value <= 0:
        return []
    overlaps = [entry.gold_overlap for entry in critical]
    mean = sum(overlaps) / len(overlaps)
    return [
        Field(
            rate,
            rate * mean / theta.value,
            _over(rate * mean, theta.high),
            _over(rate * mean, theta.low),
            rate * min(overlaps) / theta.value,
            rate * max(overlaps) / theta.value,
        )
        for rate in sorted({point.rate for point in points})
    ]


def _over(product: float, theta: float | None) -> float | None:
    """Quotient by an end of an interval, if there is a positive one."""
    return product / theta if theta is not None and theta > 0 else None
