"""Numbers with intervals from few points: rank correlation, shares, and resampling of whole models and contexts.

Runs of one context are not independent, nor are contexts of one model: every interval resamples contexts and models,
never runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from borngap.resample import RESAMPLES, Array, percentile_interval

Columns = Mapping[str, Array]
LEAST = 3  # points below which there is no rank correlation, and models below which there is no t interval
CLUSTERS = 5  # below that a resampled interval is far too narrow: none is given
_EXACT = 8  # points up to which all permutations are gone through
_RANDOM = 9999


@dataclass(frozen=True)
class Quantity:
    """A number with its 95 % interval and what it rests on.

    Attributes:
        value: the number; None if there is no basis for one.
        low: lower end; None if there is no interval.
        high: upper end.
        n: how many units it rests on.
        unit: what they are.
        note: what the reader must know: a p-value, or why there is no number.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str = "contexts"
    note: str = ""


def nothing(note: str, n: int = 0, unit: str = "contexts") -> Quantity:
    """Return a quantity that could not be measured, and why."""
    return Quantity(None, None, None, n, unit, note)


def share(hits: int, n: int, unit: str = "contexts") -> Quantity:
    """Share of units, with the exact (Clopper-Pearson) 95 % interval.

    Args:
        hits: how many have the property.
        n: how many there are.
        unit: what they are.

    Returns:
        The share; no value for n = 0.

    Example:
        >>> share(0, 10).high  # doctest: +ELLIPSIS
        0.308...
    """
    from scipy import stats

    if n == 0:
        return nothing(f"no {unit}", unit=unit)
    found = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    return Quantity(hits / n, float(found.low), float(found.high), n, unit)


def spearman(x: Sequence[float], y: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Spearman's rank correlation with a two-sided permutation p-value.

    All permutations up to 8 points, else 9,999 random ones.

    Args:
        x: one number a point.
        y: the same.
        seed: seeds the permutations.

    Returns:
        Coefficient and p; both NaN where one side does not vary or there are fewer than 3 points.

    Example:
        >>> rho, p = spearman([1, 2, 3, 4], [1, 2, 3, 4])
        >>> round(rho, 9), round(p, 4)
        (1.0, 0.0833)
    """
    from scipy import stats

    a, b = np.asarray(x, float), np.asarray(y, float)
    rho = rank_correlation(a, b)
    if not math.isfinite(rho):
        return math.nan, math.nan
    count = np.inf if len(a) <= _EXACT else _RANDOM
    # ranks need not be taken again: in every permutation their covariance alone differs
    mine, other = _ranks(a), _ranks(b) - _ranks(b).mean()
    found = stats.permutation_test(
        (mine,),
        lambda one, axis: (one * other).sum(axis),
        permutation_type="pairings",
        n_resamples=count,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return rho, float(found.pvalue)


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's coefficient alone; NaN where one side does not vary or there are fewer than 3 points."""
    if len(x) < LEAST:
        return math.nan
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt((a @ a) * (b @ b))
    return float(a @ b) / norm if norm > 0 else math.nan


def mean_correlation(x: str, y: str) -> Callable[[Columns], float]:
    """Return a statistic: the rank correlation of two columns within each model, averaged over models."""

    def statistic(columns: Columns) -> float:
        each = [
            rank_correlation(columns[x][columns["copy"] == m], columns[y][columns["copy"] == m])
            for m in np.unique(columns["copy"])
        ]
        known = [rho for rho in each if math.isfinite(rho)]
        return float(np.mean(known)) if known else math.nan

    return statistic


def resampled(
    statistic: Callable[[Columns], float], columns: Columns, unit: str = "contexts", seed: int = 0
) -> Quantity:
    """A statistic with a 95 % percentile interval; models and contexts are drawn again, each with replacement.

    Both kinds of cluster are resampled at once (the pigeonhole bootstrap), so that a word that is special in all
    models, and a model that is special in all words, both widen the interval. A kind with fewer than 5 members is not
    resampled: the interval then says nothing about others of that kind.

    Args:
        statistic: of columns; they hold ``copy`` besides, which tells resampled models apart.
        columns: equally long; ``model`` and ``context`` name the clusters.
        unit: what is counted as n: the distinct pairs of model and context.
        seed: seeds the resampling.

    Returns:
        The quantity; without an interval where neither kind has 5 members or no resample has a value.
    """
    models, contexts = np.asarray(columns["model"]), np.asarray(columns["context"])
    cells = len(set(zip(models.tolist(), contexts.tolist(), strict=True)))
    if cells == 0:
        return nothing("no runs to measure it on", unit=unit)
    value = statistic({**columns, "copy": models})
    if not math.isfinite(value):
        return nothing("the statistic has no value on these runs", cells, unit)
    names, words = np.unique(models), np.unique(contexts)
    if max(len(names), len(words)) < CLUSTERS:
        few = f"{_count(len(words), 'context')} of {_count(len(names), 'model')}: too few for an interval"
        return Quantity(value, None, None, cells, unit, few)
    low, high = _interval(statistic, columns, (models, names), (contexts, words), seed)
    note = (
        "" if len(names) >= CLUSTERS else f"{len(names)} model{'s' * (len(names) > 1)}: the interval is over contexts"
    )
    return Quantity(value, low, high, cells, unit, note)


def over_models(statistic: Callable[[Columns], float], columns: Columns, seed: int = 0) -> Quantity:
    """A statistic of one row a model, with a 95 % percentile interval over models.

    Args:
        statistic: of columns.
        columns: equally long, one entry a model.
        seed: seeds the resampling.

    Returns:
        The quantity; without an interval below 5 models.
    """
    count = len(next(iter(columns.values())))
    if count == 0:
        return nothing("no model has what it takes", unit="models")
    value = statistic(columns)
    if not math.isfinite(value):
        return nothing("the statistic has no value on these models", count, "models")
    if count < CLUSTERS:
        return Quantity(value, None, None, count, "models", f"{_count(count, 'model')}: too few for an interval")
    low, high = percentile_interval(
        lambda drawn: statistic({name: column[drawn] for name, column in columns.items()}), count, seed=seed
    )
    return Quantity(value, low, high, count, "models")


def mean_over_models(values: Sequence[float], *, log: bool = False) -> Quantity:
    """Mean of one number a model, with Student's 95 % interval.

    Args:
        values: one a model; positive if ``log``.
        log: whether the geometric mean is meant.

    Returns:
        The quantity; without an interval below 3 models. The interval takes the numbers, or their logarithms, for
        normally distributed.

    Example:
        >>> found = mean_over_models([1.0, 2.0, 3.0])
        >>> found.value, round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
    """
    from scipy import stats

    x = np.log(values) if log else np.asarray(values, float)
    back = math.exp if log else float
    if not len(x):
        return nothing("no model has what it takes", unit="models")
    if len(x) < LEAST:
        return Quantity(
            back(x.mean()), None, None, len(x), "models", f"{_count(len(x), 'model')}: too few for an interval"
        )
    half = float(stats.t.ppf(0.975, len(x) - 1) * stats.sem(x))
    return Quantity(back(x.mean()), back(x.mean() - half), back(x.mean() + half), len(x), "models")


def variation(values: Array) -> float:
    """Coefficient of variation: standard deviation (over n, as the paper's 9.3 % is) over mean; NaN below 2 values."""
    return float(np.std(values) / np.mean(values)) if len(values) > 1 else math.nan


def area(scores: Array, positive: Array) -> float:
    """Chance that a positive has the larger score than a negative, ties half (area under the ROC curve).

    Args:
        scores: one a point.
        positive: booleans.

    Returns:
        In [0, 1]; NaN where one kind is missing.

    Example:
        >>> area(np.array([1.0, 2.0, 3.0]), np.array([False, False, True]))
        1.0
    """
    up, down = scores[positive], scores[~positive]
    if not len(up) or not len(down):
        return math.nan
    above = (up[:, None] > down).mean() + (up[:, None] == down).mean() / 2
    return float(above)


def _interval(
    statistic: Callable[[Columns], float],
    columns: Columns,
    models: tuple[Array, Array],
    contexts: tuple[Array, Array],
    seed: int,
) -> tuple[float | None, float | None]:
    rng = np.random.default_rng(seed)
    (model, names), (context, words) = models, contexts
    rows = {(m, c): np.flatnonzero((model == m) & (context == c)) for m in names for c in words}
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.choice(names, len(names)) if len(names) >= CLUSTERS else names
        chosen = rng.choice(words, len(words)) if len(words) >= CLUSTERS else words
        parts = [(copy, rows[m, c]) for copy, m in enumerate(drawn) for c in chosen]
        index = np.concatenate([part for _, part in parts])
        if len(index):
            copies = np.concatenate([np.full(len(part), copy) for copy, part in parts])
            values.append(statistic({name: column[index] for name, column in columns.items()} | {"copy": copies}))
    return _ends(values)


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    known = np.asarray([v for v in values if math.isfinite(v)])
    if len(known) < RESAMPLES // 2:
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _ranks(values: Array) -> Array:
    """Ranks from 1, ties share their mean; scipy's are the same, but ten times slower on a few numbers."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
