"""Statistics from few points: exact values, and intervals that are wide where they must be."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from borngap.experiments import stats
from borngap.experiments.stats import area, mean_correlation, mean_over_models, over_models, resampled, share, spearman


def test_the_papers_own_correlations_come_out():
    overlap = [0.847, 0.652, 0.573, 0.607, 0.583, 0.585, 0.607, 0.385, 0.303, 0.768]
    ratio = [33.7, 18.7, 11.5, 9.9, 8.1, 7.4, 7.3, 5.5, 4.3, 9.9]
    rho, p = spearman(overlap, ratio)
    assert rho == pytest.approx(0.7165, abs=1e-4)
    assert p == pytest.approx(0.023, abs=0.006)
    assert rho == pytest.approx(scipy_stats.spearmanr(overlap, ratio).statistic, abs=1e-12)


def test_a_permutation_p_is_exact_for_few_points():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    rho, p = spearman(x, y)
    all_rho = [np.corrcoef(x, order)[0, 1] for order in itertools.permutations(y)]
    above = sum(r >= rho - 1e-12 for r in all_rho) / len(all_rho)
    assert rho == pytest.approx(0.8)
    assert p == pytest.approx(min(1.0, 2 * above))


def test_what_does_not_vary_has_no_correlation():
    assert all(map(math.isnan, spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])))
    assert all(map(math.isnan, spearman([1.0, 2.0], [1.0, 2.0])))


def test_a_share_has_the_exact_interval():
    found = share(0, 10)
    assert found.value == found.low == 0.0
    assert found.high == pytest.approx(1 - 0.025**0.1)
    assert share(10, 10).low == pytest.approx(0.025**0.1)
    assert share(0, 0).value is None


def test_copies_of_a_run_do_not_narrow_an_interval():
    rng = np.random.default_rng(1)
    values = rng.normal(size=8)
    once = {"model": np.array(["a"] * 8), "context": np.arange(8), "v": values}
    often = {name: np.repeat(column, 50) for name, column in once.items()}
    first, second = (resampled(lambda c: float(c["v"].mean()), columns) for columns in (once, often))
    assert (first.low, first.high, first.n) == pytest.approx((second.low, second.high, second.n))
    assert first.low < values.mean() < first.high


def test_a_special_model_widens_the_interval():
    model = np.repeat([f"m{i}" for i in range(6)], 6)
    context = np.tile(np.arange(6), 6)
    columns = {"model": model, "context": context, "v": (model == "m0").astype(float)}
    found = resampled(lambda c: float(c["v"].mean()), columns)
    assert found.value == pytest.approx(1 / 6)
    assert found.low == 0.0
    assert found.high >= 0.4


def test_few_clusters_have_no_interval():
    columns = {"model": np.array(["a"] * 4), "context": np.arange(4), "v": np.arange(4.0)}
    found = resampled(lambda c: float(c["v"].mean()), columns)
    assert (found.value, found.low, found.high) == (1.5, None, None)
    assert found.note == "4 contexts of 1 model: too few for an interval"
    assert over_models(lambda c: float(c["v"].sum()), {"v": np.arange(4.0)}).low is None
    assert mean_over_models([1.0, 2.0]).low is None


def test_correlations_are_taken_within_models():
    # within both models perfectly falling, though rising over all points
    columns = {
        "model": np.repeat(["a", "b"], 5),
        "context": np.tile(np.arange(5), 2),
        "x": np.concatenate([np.arange(5.0), 10 + np.arange(5.0)]),
        "y": np.concatenate([-np.arange(5.0), 20 - np.arange(5.0)]),
    }
    found = resampled(mean_correlation("x", "y"), columns)
    assert found.value == pytest.approx(-1.0)
    assert scipy_stats.spearmanr(columns["x"], columns["y"]).statistic > 0


def test_students_interval_of_logarithms():
    found = mean_over_models([1.0, 10.0, 100.0], log=True)
    half = scipy_stats.t.ppf(0.975, 2) * math.log(10) / math.sqrt(3)
    assert found.value == pytest.approx(10.0)
    assert found.high == pytest.approx(math.exp(math.log(10) + half))


def test_area_counts_ties_half():
    assert area(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert area(np.array([3.0, 1.0, 2.0]), np.array([True, False, False])) == 1.0
    assert math.isnan(area(np.array([1.0]), np.array([True])))


def test_variation_is_the_papers():
    assert stats.variation(np.array([8.80, 9.74, 9.92, 9.82, 11.67])) == pytest.approx(0.093, abs=3e-4)
