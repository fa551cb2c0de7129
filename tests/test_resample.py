"""Intervals by resampling, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from borngap.resample import mean_interval, percentile_interval


def test_intervals_of_a_mean():
    assert mean_interval(np.array([2.0, 2.0, 2.0])) == (2.0, 2.0)
    low, high = mean_interval(np.random.default_rng(3).normal(5, 1, 400))
    assert low == pytest.approx(5 - 1.96 / 20, abs=0.12)
    assert high == pytest.approx(5 + 1.96 / 20, abs=0.12)


def test_a_share_of_few_draws_has_the_binomial_interval():
    """Of 10 things 3 have the property: hits in a draw are binomial(10, 0.3), whose percentiles are 0 and 6."""
    from scipy import stats

    has = np.arange(10) < 3
    found = percentile_interval(lambda drawn: has[drawn].mean(), 10, resamples=20_000)
    assert found == tuple(stats.binom(10, 0.3).ppf([0.025, 0.975]) / 10) == (0.0, 0.6)


def test_a_difference_on_the_same_rows_is_paired():
    """Rows differ widely, but each by exactly 1 between the two models: so do all draws."""
    before = np.random.default_rng(0).normal(0, 100, 50)
    low, high = percentile_interval(lambda drawn: (before[drawn] + 1 - before[drawn]).mean(), 50)
    assert (low, high) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_draws_depend_on_the_seed_alone():
    values = np.random.default_rng(0).normal(size=30)
    one, again, other = (percentile_interval(lambda d: values[d].mean(), 30, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_no_interval_where_nothing_can_be_drawn_or_little_is_known():
    assert percentile_interval(lambda drawn: 1.0, 1) == (None, None)
    assert percentile_interval(lambda drawn: 1.0, 0) == (None, None)
    # thing 0 is in a draw of 3 with the chance 1 - (2/3)^3 = 0.70, in all three places with 1/27
    assert percentile_interval(lambda drawn: 1.0 if 0 in drawn else math.nan, 3) == (1.0, 1.0)
    assert percentile_interval(lambda drawn: 1.0 if not drawn.any() else math.nan, 3) == (None, None)
