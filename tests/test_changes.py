"""What changed from one model to another: counts, intervals and tests against enumeration, scipy and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from borngap.changes.change import change_interval, change_of, gap_columns, joined
from borngap.changes.significance import SMALLEST, mcnemar_p, sign_flip_p


def places(*rows):
    """One place a tuple: its row, and its logit gap under each model."""
    models = len(rows[0]) - 1
    return pl.DataFrame(rows, schema=["row", *gap_columns(models)], orient="row")


@pytest.mark.parametrize("changes", [
    [1], [0, 0], [1, 1, -1], [3, -1, 2], [2, 2, -2, 5, 0], [1, 2, 4, 8], [-4, 1, 1, 1, -2, 3, 3, -1],
])  # fmt: skip
def test_the_sign_flip_test_is_the_enumeration_of_all_flips(changes):
    observed = abs(sum(changes))
    sums = [abs(np.dot(signs, changes)) for signs in itertools.product((1, -1), repeat=len(changes))]
    assert sign_flip_p(np.array(changes)) == pytest.approx(np.mean(np.array(sums) >= observed), rel=1e-12)
    assert sign_flip_p(-np.array(changes)) == sign_flip_p(np.array(changes))


def test_the_sign_flip_test_is_that_of_scipy():
    changes = np.random.default_rng(1).integers(-2, 4, 11)
    exact = stats.permutation_test(
        (changes,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided", vectorized=True
    )
    assert sign_flip_p(changes) == pytest.approx(exact.pvalue, rel=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (5, 1), (40, 25), (0, 12), (600, 480)])
def test_with_one_place_a_row_it_is_mcnemars_exact_test(gained, lost):
    both = gained + lost
    one_sided = sum(math.comb(both, k) for k in range(max(gained, lost), both + 1)) / 2**both
    assert mcnemar_p(gained, lost) == pytest.approx(min(1, 2 * one_sided), rel=1e-9)
    changes = np.array([1] * gained + [-1] * lost + [0] * 7)
    assert sign_flip_p(changes) == pytest.approx(mcnemar_p(gained, lost), rel=1e-9)


def test_places_of_one_row_are_no_evidence_of_their_own():
    """Eight places gained in two rows: 2 * 2 ** -8 as if independent, and no less than half of all flips by rows."""
    found = change_of(places(*[(row, -1.0, 1.0) for row in (3, 9) for _ in range(4)]), 2)
    assert (found.p_mcnemar, found.p) == (pytest.approx(2 / 2**8), pytest.approx(0.5))


def test_many_rows_take_no_time_and_a_tiny_p_is_not_zero():
    assert sign_flip_p(np.array([1] * 20_000 + [2] * 300)) == SMALLEST
    changes = np.array([1] * 5_100 + [-1] * 4_900 + [2] * 150 + [-2] * 150)
    spread = math.sqrt(float(np.square(changes).sum()))
    assert sign_flip_p(changes) == pytest.approx(2 * stats.norm.sf(199 / spread), rel=0.01)  # steps of 2
    assert sign_flip_p(np.zeros(5, dtype=int)) == 1.0


def test_each_place_is_counted_once_by_what_became_of_it():
    table = places(
        (0, -1.0, 1.0, 2.0), (0, -1.0, -1.0, 0.5), (1, 1.0, -1.0, -2.0), (1, 1.0, -1.0, 1.0), (2, -1.0, 2.0, -1.0),
        (2, 0.0, 0.0, 0.0), (3, -3.0, -2.0, -1.0),
    )  # fmt: skip
    found = change_of(table, 3)
    assert (found.gained, found.lost, found.kept, found.relapsed, found.behind) == (2, 1, 1, 1, 2)
    assert (found.places, found.rows, found.shares) == (7, 4, (2 / 7, 2 / 7, 3 / 7))
    assert found.change == pytest.approx(1 / 7)
    two = change_of(table.select("row", "gap_0", pl.col("gap_2").alias("gap_1")), 2)
    assert (two.relapsed, two.behind, two.change) == (None, 3, found.change)


def test_the_interval_of_a_change_draws_rows_in_pairs():
    """Rows of one place each: the interval of a mean of -1, 0 and 1, so mean +- 1.96 s / sqrt(n)."""
    change = np.array([1] * 90 + [-1] * 20 + [0] * 190)
    low, high = change_interval(change, np.ones(300, dtype=int))
    half = 1.96 * change.std() / math.sqrt(300)
    assert (low, high) == (pytest.approx(70 / 300 - half, abs=0.01), pytest.approx(70 / 300 + half, abs=0.01))


def test_rows_that_hold_many_places_widen_the_interval():
    change = np.array([1] * 30 + [-1] * 10 + [0] * 20)
    alone = change_interval(change, np.ones(60, dtype=int))
    crowded = change_interval(change.reshape(6, 10).sum(1), np.full(6, 10))
    assert crowded[1] - crowded[0] > 1.5 * (alone[1] - alone[0])


@pytest.mark.parametrize(("change", "count", "ends"), [
    ([0, 0, 0, 0], [1, 2, 1, 1], (-(1 - 0.025**0.25), 1 - 0.025**0.25)),
    ([1, 2, 1], [1, 2, 1], (0.025 ** (1 / 3), 1.0)),
    ([-1, -2, -1], [1, 2, 1], (-1.0, -(0.025 ** (1 / 3)))),
    ([1], [1], (None, None)),
    ([], [], (None, None)),
])  # fmt: skip
def test_where_drawing_has_no_spread_the_interval_is_exact(change, count, ends):
    found = change_interval(np.array(change, dtype=int), np.array(count, dtype=int))
    assert found == tuple(end if end is None else pytest.approx(end) for end in ends)


def test_without_places_nothing_is_known():
    empty = pl.DataFrame(schema={"row": pl.Int64, "gap_0": pl.Float64, "gap_1": pl.Float64})
    found = change_of(empty, 2)
    assert (found.places, found.shares, found.change, found.p, found.low) == (0, (None, None), None, None, None)


def test_places_are_joined_by_their_keys_in_the_order_of_the_first():
    first = pl.DataFrame({"row": [5, 1, 2], "offset": [7, 7, 7], "logit_gap": [0.5, 1.5, 2.5]})
    second = pl.DataFrame({"row": [2, 5, 9], "offset": [7, 7, 7], "logit_gap": [-2.5, -0.5, 9.0]})
    assert joined([first, second], ["row", "offset"]).rows() == [(5, 7, 0.5, -0.5), (2, 7, 2.5, -2.5)]
