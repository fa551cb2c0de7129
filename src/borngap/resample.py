"""Intervals by resampling: rows, contexts or models are drawn again, each as often as chance has it (the bootstrap).

What is drawn must be independent of each other: contexts, not their runs; rows of a data set, not their tokens.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Interval = tuple[float | None, float | None]
RESAMPLES = 1000
_OF_A_MEAN = 2000  # a mean is cheap


def percentile_interval(
    statistic: Callable[[Array], float], count: int, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval, unless asked otherwise of 95 %, of a statistic of ``count`` things, drawn with replacement.

    A share over rows, a difference of two models on the same rows (paired, since both see the same draw), and a
    statistic of clusters::

        percentile_interval(lambda drawn: wrong[drawn].sum() / places[drawn].sum(), len(places))
        percentile_interval(lambda drawn: (after[drawn] - before[drawn]).mean(), len(before))
        percentile_interval(lambda drawn: slope(np.concatenate([rows_of[i] for i in drawn])), len(rows_of))

    Args:
        statistic: of the indices drawn, int64, shape (count,), each in [0, count); NaN where it has no value.
        count: how many there are to draw from.
        resamples: how often they are drawn.
        seed: seeds the draws.
        level: how sure it is, in (0, 1).

    Returns:
        Both ends; None with fewer than 2 things, or where the statistic has no value in half of the resamples.

    Example:
        >>> percentile_interval(lambda drawn: 3.0, 10)
        (3.0, 3.0)
    """
    from scipy import stats

    if count < 2:
        return None, None
    options: dict[str, Any] = {"n_resamples": resamples, "method": "percentile", "vectorized": False}
    with warnings.catch_warnings():
        # resamples without a value are NaN, of which scipy warns
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap((np.arange(count),), statistic, rng=np.random.default_rng(seed), **options)
    known = drawn.bootstrap_distribution[np.isfinite(drawn.bootstrap_distribution)]
    if len(known) < resamples // 2:
        return None, None
    low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def mean_interval(values: Array, seed: int = 0) -> Interval:
    """95 % bootstrap interval of a mean (BCa; percentile where that does not exist).

    Args:
        values: independent of each other, at least 2.
        seed: seeds the draws.

    Returns:
        Both ends; equal where all values are.
    """
    from scipy import stats

    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            # where BCa does not exist percentile's turn has come
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                (values,), np.mean, n_resamples=_OF_A_MEAN, method=method, rng=np.random.default_rng(seed)
            ).confidence_interval
        if math.isfinite(found.low + found.high):
            return float(found.low), float(found.high)
    return None, None
