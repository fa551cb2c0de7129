"""Stopping rules on series with known answers, and as properties (docs/track.md#stopping-by-saturation)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borngap.errors import UserError
from borngap.judge.stopping import (
    CrossEntropyPatience,
    SaturationRule,
    SaturationState,
    all_failing,
    all_saturated,
    patience_step,
    saturation_step,
    saving,
)
from borngap.judge.trajectory import Trajectory

GAPS = st.floats(-1, 1, allow_nan=False)


def run(phi, delta=None, drag=None, loss=None, every=5, **more):
    n = len(phi)
    values = {"born_gap": phi, "logit_gap": delta or phi, "drag": drag or [0.0] * n, "cross_entropy": loss or [1.0] * n}
    return Trajectory(tuple(every * i for i in range(n)), values | more)


def test_fires_after_two_calm_evaluations():
    # changes 0.5, 0.8, 0.04 (exactly 5 % of 0.8), 0.01: calm twice at the fifth record
    assert saturation_step(run([-0.5, 0.0, 0.8, 0.84, 0.85]), SaturationRule()) == 20
    assert saturation_step(run([-0.5, 0.0, 0.8, 0.85, 0.86]), SaturationRule()) is None


def test_one_lively_evaluation_starts_the_count_anew():
    assert saturation_step(run([-0.5, 0.5, 0.51, 0.7, 0.71, 0.72]), SaturationRule()) == 25


def test_a_constant_series_has_not_moved_and_so_is_not_saturated():
    assert saturation_step(run([0.5] * 20), SaturationRule()) is None


def test_the_paper_asks_for_the_born_gap_alone():
    trajectory = run([-0.5, 0.5, 0.5, 0.5], delta=[-1.0] * 4)
    assert saturation_step(trajectory, SaturationRule()) is None
    assert saturation_step(trajectory, SaturationRule(require="born")) == 15


@given(st.lists(st.tuples(GAPS, GAPS), max_size=30))
def test_never_saturated_while_gold_is_behind(pairs):
    rule, state = SaturationRule(), SaturationState()
    for phi, delta in pairs:
        before = state.saturated
        state = rule.update(state, phi, delta, 0.0)
        assert before or not state.saturated or (phi > 0 and delta > 0)


@given(st.lists(GAPS, max_size=30), st.floats(0.01, 100))
def test_rescaling_the_born_gap_changes_no_decision(phi, scale):
    rule = SaturationRule(tolerance=0.05)
    a = b = SaturationState()
    for value in phi:
        value = round(value, 3)
        a, b = rule.update(a, value, 1.0, 0.0), rule.update(b, value * 2.0 ** round(math.log2(scale)), 1.0, 0.0)
        assert a.saturated == b.saturated


def test_values_that_are_not_finite_break_the_count():
    rule, state = SaturationRule(), SaturationState()
    for phi in (-0.5, 0.5, 0.5, math.nan, 0.5):
        state = rule.update(state, phi, phi, 0.0)
    assert (state.saturated, state.calm) == (False, 1)
    assert rule.update(state, math.nan, 1.0, 0.0).broken


def test_worsening_drag_over_two_evaluations_while_the_logit_gap_grows():
    rule = SaturationRule()

    def last(drag, delta, phi=(-0.3, -0.3, -0.3)):
        state = SaturationState()
        for values in zip(phi, delta, drag, strict=True):
            state = rule.update(state, *values)
        return state.worsening

    assert last((0, -0.003, -0.006), (-3, -2, -1))
    assert not last((0, -0.003, -0.0049), (-3, -2, -1))
    assert not last((0, -0.003, -0.006), (-1, -2, -3))
    assert not last((0, -0.003, -0.006), (1, 2, 3), phi=(0.1, 0.2, 0.3))


def test_patience_counts_evaluations_without_a_fall():
    assert patience_step(run([0.0] * 6, loss=[3, 2, 2, 2, 2, 1]), CrossEntropyPatience()) == 20
    assert patience_step(run([0.0] * 5, loss=[3, 2, 1.9995, 1.9985, 1.998]), CrossEntropyPatience()) is None
    assert patience_step(run([0.0] * 4, loss=[1, math.nan, math.nan, math.nan]), CrossEntropyPatience()) == 15


def test_saving_against_a_patience_that_never_fires():
    phi = [-0.5, 0.0, 0.8, 0.81, 0.82, 0.83, 0.84]
    ranks = [9, 5, 1, 1, 1, 1, 1]
    result = saving(run(phi, loss=[7, 6, 5, 4, 3, 2, 1], gold_rank=ranks, born_rank=[math.nan] * 7))
    assert (result.saturation_step, result.patience_step, result.patience_fired) == (20, 30, False)
    assert (result.saved_steps, result.saved_share) == (10, pytest.approx(1 / 3))
    assert result.changed == {"gold_rank": False, "born_rank": None, "order": False}


def test_saving_names_what_changed_between_both_stops():
    phi = [-0.5, 0.0, 0.8, 0.81, 0.82, 0.83, 0.84]
    result = saving(
        run(phi, delta=[-1, 0, 1, 1, 1, 1, -1], loss=[7, 6, 5, 4, 3, 2, 1], gold_rank=[9, 5, 2, 2, 2, 1, 1])
    )
    assert result.changed == {"gold_rank": True, "born_rank": None, "order": True}


def test_an_unresolved_run_saves_nothing():
    result = saving(run([-0.5, -0.4, -0.4, -0.4]))
    assert (result.saturation_step, result.saved_steps, result.saved_share) == (None, None, None)


def test_evaluations_are_every_fifth_step_of_a_finer_run():
    fine = run([-0.5] + [0.8 - 0.01 / (i + 1) for i in range(30)], every=1)
    assert saving(fine).saturation_step == 15


def test_records_of_a_host_that_evaluates_at_its_own_steps():
    trajectory = run([-0.5, 0.0, 0.8, 0.81, 0.82, 0.83], every=7)
    assert saving(trajectory, None).saturation_step == 28
    assert saving(trajectory).saturation_step is None


def test_many_contexts():
    done, going = SaturationState(saturated=True), SaturationState()
    failing, broken = SaturationState(worsening=True), SaturationState(broken=True)
    assert all_saturated([done, failing, broken])
    assert not all_saturated([done, going])
    assert all_saturated([done, going], fraction=0.5)
    assert not all_saturated([failing, broken])
    assert all_failing([done, failing, broken])
    assert not all_failing([done, going, failing])
    assert not all_failing([done, broken])


def test_settings_out_of_range():
    with pytest.raises(UserError, match="tolerance is out of range"):
        SaturationRule(tolerance=0)
    with pytest.raises(UserError, match="patience is out of range"):
        SaturationRule(patience=0)
    with pytest.raises(UserError, match="unknown requirement"):
        SaturationRule(require="top1")
