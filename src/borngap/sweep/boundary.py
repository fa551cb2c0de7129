"""A cut on one number that tells catapults from drifts; how well on contexts it has not seen, and against another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from borngap.resample import Array, Interval, mean_interval, percentile_interval

LEAST_OF_A_KIND = 3  # of each kind, and contexts: below that nothing is claimed


@dataclass(frozen=True)
class Boundary:
    """The cut on one candidate.

    Attributes:
        by: the candidate.
        cut: where the cut lies, in the candidate's unit; None if there is no basis for one.
        low: lower end of its 95 % interval (contexts resampled), and of the gap if the kinds are separated.
        high: upper end.
        side: on which side of it the catapults lie.
        separable: whether it makes no error.
        accuracy: balanced accuracy on the points that it was fitted to: mean of the shares right of both kinds.
        held_out: balanced accuracy on contexts left out of the fit, one at a time; None where a fit fails.
        catapults: points of that kind (jump ratio at least 8).
        drifts: points of that kind (jump ratio below 5).
        contexts: how many contexts they come from.
        reason: why there is no cut; empty if there is one.
    """

    by: str
    cut: float | None
    low: float | None
    high: float | None
    side: Literal["above", "below"] | None
    separable: bool | None
    accuracy: float | None
    held_out: float | None
    catapults: int
    drifts: int
    contexts: int
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Which of two candidates tells the kinds of unseen contexts better, on the same points.

    Attributes:
        by: the candidate.
        against: the other one.
        difference: share of points told right, averaged over contexts, by the first less that of the second.
        low: lower end of the 95 % interval, contexts resampled.
        high: upper end.
        contexts: how many contexts it rests on.
        verdict: ``better``, ``worse``, ``no difference seen`` (the interval holds 0), or ``not known``.
    """

    by: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    contexts: int
    verdict: str


def boundary(by: str, values: Array, catapult: Array, contexts: Array, seed: int = 0) -> Boundary:
    """Fit the cut on one candidate (eq 21 for kappa).

    Args:
        by: the candidate's name.
        values: its value at each point; NaN where it has none.
        catapult: 1 for a catapult, 0 for a drift, NaN for what takes no part.
        contexts: index of each point's context.
        seed: seeds the resampling.

    Returns:
        The cut; without one where a kind has fewer than 3 points, or there are fewer than 3 contexts.
    """
    use = np.isfinite(values) & np.isfinite(catapult)
    x, kind, of = values[use], catapult[use] == 1, contexts[use]
    count, groups = int(kind.sum()), len(np.unique(of))
    empty = Boundary(by, None, None, None, None, None, None, None, count, len(kind) - count, groups)
    if min(count, len(kind) - count) < LEAST_OF_A_KIND or groups < LEAST_OF_A_KIND:
        return replace(empty, reason=_too_little(by, x, kind, groups))
    cut, above, accuracy = fit(x, kind)
    low, high = _interval(x, kind, of, seed)
    separable = accuracy > 1 - 1e-12
    if separable:  # anywhere between the kinds is as good
        ends = [end for end in (low, high, *_gap(x, kind, above)) if end is not None]
        low, high = min(ends), max(ends)
    return replace(
        empty, cut=cut, low=low, high=high, side="above" if above else "below", separable=separable,
        accuracy=accuracy, held_out=_balanced(kind, _unseen(x, kind, of)),
    )  # fmt: skip


def fit(values: Array, catapult: Array) -> tuple[float, bool, float]:
    """Return the cut of the largest balanced accuracy.

    Args:
        values: finite, shape (n,).
        catapult: booleans, some true and some false.

    Returns:
        The cut, whether catapults lie above it, and its balanced accuracy. Among equals the middle one; if no cut is
        better than chance (all values equal), that value and 0.5.

    Example:
        >>> fit(np.array([1.0, 2.0, 4.0]), np.array([False, False, True]))
        (3.0, True, 1.0)
    """
    order = np.argsort(values, kind="stable")
    x, y = values[order], catapult[order]
    ends = np.flatnonzero(x[1:] > x[:-1])  # a cut lies behind each of these
    if not len(ends):
        return float(x[0]), True, 0.5
    drifts_below = np.cumsum(~y)[ends] / (~y).sum()
    catapults_below = np.cumsum(y)[ends] / y.sum()
    score = (drifts_below + 1 - catapults_below) / 2
    above = bool(score.max() >= 1 - score.min())
    score = score if above else 1 - score
    best = ends[np.flatnonzero(score >= score.max() - 1e-12)]
    middle = best[len(best) // 2]
    return float((x[middle] + x[middle + 1]) / 2), above, float(score.max())


def compare_cuts(
    first: tuple[str, Array], second: tuple[str, Array], catapult: Array, contexts: Array, seed: int = 0
) -> Comparison:
    """Compare two candidates on contexts left out of the fit.

    Args:
        first: name and values of a candidate.
        second: of the other.
        catapult: 1 for a catapult, 0 for a drift, NaN for what takes no part.
        contexts: index of each point's context.
        seed: seeds the resampling.

    Returns:
        The difference, over the points at which both have a value.
    """
    use = np.isfinite(first[1]) & np.isfinite(second[1]) & np.isfinite(catapult)
    kind, of = catapult[use] == 1, contexts[use]
    groups = np.unique(of)
    nothing = Comparison(first[0], second[0], None, None, None, len(groups), "not known")
    if len(groups) < LEAST_OF_A_KIND or min(kind.sum(), (~kind).sum()) < LEAST_OF_A_KIND:
        return nothing
    told = [_unseen(values[use], kind, of) == kind for _, values in (first, second)]
    gains = np.array([(told[0][of == g].astype(float) - told[1][of == g]).mean() for g in groups])
    low, high = mean_interval(gains, seed)
    verdict = "no difference seen" if low is None or high is None or low <= 0 <= high else None
    verdict = verdict or ("better" if gains.mean() > 0 else "worse")
    return replace(nothing, difference=float(gains.mean()), low=low, high=high, verdict=verdict)


def _unseen(values: Array, catapult: Array, contexts: Array) -> Array:
    """What a cut fitted to the other contexts says of each point; of the only kind left if there is but one."""
    told = np.zeros(len(values), bool)
    for group in np.unique(contexts):
        out = contexts == group
        rest = catapult[~out]
        if rest.all() or not rest.any():
            told[out] = bool(rest.all())
            continue
        cut, above, _ = fit(values[~out], rest)
        told[out] = (values[out] > cut) == above
    return told


def _balanced(catapult: Array, told: Array) -> float:
    return float((told[catapult].mean() + (~told[~catapult]).mean()) / 2)


def _interval(values: Array, catapult: Array, contexts: Array, seed: int) -> Interval:
    """95 % percentile interval of the cut, contexts resampled; resamples of one kind have no cut and are left out."""
    groups = [np.flatnonzero(contexts == group) for group in np.unique(contexts)]

    def cut(drawn: Array) -> float:
        index = np.concatenate([groups[i] for i in drawn])
        kind = catapult[index]
        return np.nan if kind.all() or not kind.any() else fit(values[index], kind)[0]

    return percentile_interval(cut, len(groups), seed=seed)


def _gap(values: Array, catapult: Array, above: bool) -> Iterator[float]:
    """Both sides of the gap between kinds that are separated."""
    lower, upper = (values[~catapult], values[catapult]) if above else (values[catapult], values[~catapult])
    yield from (float(lower.max()), float(upper.min()))


def _too_little(by: str, values: Array, catapult: Array, contexts: int) -> str:
    """Say what is missing, and what the points tell all the same."""
    count = int(catapult.sum())
    text = f"{count} catapults and {len(catapult) - count} drifts of {contexts} contexts"
    if not len(values) or (count and count < len(catapult)):
        return f"{text}: at least {LEAST_OF_A_KIND} of each are needed"
    kind = "a catapult" if count else "a drift"
    return f"{text}: every point is {kind}, with {by} from {values.min():.3g} to {values.max():.3g}"
