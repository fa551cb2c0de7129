"""Trajectories with known answers: flips, jumps, outcomes, characters (docs/track.md#how-verdicts-are-made)."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from borngap.errors import UserError
from borngap.judge.trajectory import Trajectory
from borngap.judge.verdicts import ablation, character, outcome, phantom, silent, verdict

NAN = math.nan


def run(steps=None, **columns):
    """A trajectory whose other columns are harmless."""
    length = len(next(iter(columns.values())))
    quiet = {"born_gap": [-0.1] * length, "logit_gap": [-1.0] * length, "top1_margin": [-2.0] * length}
    quiet |= {"drag": [0.0] * length, "cross_entropy": [3.0] * length}
    return Trajectory(tuple(steps or range(length)), quiet | columns)


# Paper, tables 2 and 3: jump ratio and character, the facts that our cuts are fitted to
TABLE_2 = {
    "longing": (33.7, "catapult"),
    "skepticism": (18.7, "catapult"),
    "remorse": (11.5, "catapult-like"),
    "ashes": (9.9, "catapult-like"),
    "awe": (8.1, "catapult-like"),
    "terror": (7.4, "intermediate"),
    "shame": (7.3, "intermediate"),
    "relief": (5.5, "borderline"),
    "purpose": (4.3, "drift"),
}
TABLE_3 = {
    "longing": (4.2, "drift"),
    "skepticism": (3.6, "drift"),
    "ashes": (2.3, "drift"),
    "awe": (3.1, "drift"),
    "terror": (3.8, "drift"),
    "remorse": (4.2, "drift"),
    "relief": (5.1, "borderline"),
    "purpose": (4.3, "drift"),
}


@pytest.mark.parametrize(("ratio", "name"), [*TABLE_2.values(), *TABLE_3.values()])
def test_characters_of_the_paper(ratio, name):
    assert character(ratio) == name


def test_shock_of_table_2_is_pre_resolved_in_spite_of_its_jump():
    assert character(9.9, pre_resolved=True) == "pre-resolved"


def test_a_run_with_the_jump_ratio_of_longing_is_a_catapult():
    # 50 changes, of which one is x times the other 49: ratio = 50 x / (x + 49) = 33.7
    big = 33.7 * 49 / (50 - 33.7)
    phi = [-40.0] + [-40.0 + i + (big - 1) * (i >= 9) for i in range(1, 51)]
    result = verdict(run(born_gap=[p / 200 for p in phi]), "born")
    assert result.jump_ratio == pytest.approx(33.7)
    assert (result.jump_step, result.character) == (9, "catapult")
    assert result.jump_share == pytest.approx(33.7 / 50)


OUTCOMES = [
    # margins, drag, criterion, outcome
    ([0.1, 0.2], [0, 0], "rank", "pre-resolved"),
    ([0.1, -0.2], [0, 0], "rank", "lost"),
    ([0.1, 0.0], [0, 0], "rank", "lost"),  # a tie is not ahead
    ([-0.1, 0.2], [0, 0], "rank", "resolved"),
    ([0.0, 0.2], [0, 0], "rank", "resolved"),
    ([-0.1, 0.2, -0.1], [0, 0, 0], "rank", "relapsed"),
    ([-0.1, -0.2], [0, -0.1], "rank", "unresolved"),
    ([-0.1, -0.2], [0, -0.1], "top1", "unresolved"),
    ([-0.1, -0.2], [0, -0.0051], "born", "structural"),
    ([-0.1, -0.2], [0, -0.0049], "born", "kinematic"),
    ([-0.1, -0.2, -0.2], [0, -0.1, 0], "born", "kinematic"),  # the drag at the end counts, not on the way
    ([-0.1, NAN], [0, 0], "rank", "diverged"),
    ([-0.1, math.inf], [0, 0], "born", "diverged"),
    ([-0.1], [0], "born", "kinematic"),  # one record
    ([0.1], [0], "rank", "pre-resolved"),
]


@pytest.mark.parametrize(("margin", "drag", "criterion", "expected"), OUTCOMES)
def test_outcomes(margin, drag, criterion, expected):
    column = {"rank": "logit_gap", "top1": "top1_margin", "born": "born_gap"}[criterion]
    trajectory = run(**{column: margin, "drag": drag})
    assert outcome(trajectory, criterion) == expected
    result = verdict(trajectory, criterion)
    assert result.outcome == expected
    assert result.why
    assert result.advice


def test_drag_worsening_is_a_flag_beside_unresolved():
    result = verdict(run(logit_gap=[-1, -1], drag=[0, -0.01]), "rank")
    assert (result.outcome, result.drag_worsened) == ("unresolved", True)
    assert verdict(run(logit_gap=[-1, -1], drag=[0, 0.01]), "rank").drag_worsened is False


def test_a_value_that_ceases_to_be_finite_ends_every_outcome_and_is_named():
    result = verdict(run(cross_entropy=[3, 2, NAN]), "rank")
    assert set(result.outcomes.values()) == {"diverged"}
    assert result.why == "a value is not finite at step 2"
    assert result.silent is None


def test_flip_time_is_interpolated():
    trajectory = run(logit_gap=[-3, -1, 0.5, 2])
    assert trajectory.flip_step("rank") == 2
    assert trajectory.flip_time("rank") == pytest.approx(1 + 1 / 1.5)
    assert trajectory.flip_time("born") is None
    assert run(logit_gap=[1, 2]).flip_step("rank") is None


def test_flip_time_over_unequal_spacing():
    trajectory = run(steps=(0, 10, 30), logit_gap=[-3, -1, 1])
    assert trajectory.flip_time("rank") == pytest.approx(20)


def test_jump_needs_even_spacing_and_a_change():
    assert run(steps=(0, 1, 3), born_gap=[0, 1, 2]).jump is None
    assert run(born_gap=[0.3, 0.3, 0.3]).jump is None
    assert run(born_gap=[0.3]).jump is None
    assert run(born_gap=[0, NAN, 1]).jump is None
    jump = run(steps=(0, 5, 10, 15), born_gap=[0, 0.1, 0.8, 0.9]).jump
    assert (jump.index, jump.step) == (2, 10)
    assert jump.ratio == pytest.approx(0.7 / 0.3)


def test_a_steady_rise_has_ratio_one():
    assert run(born_gap=[0, 0.25, 0.5, 0.75]).jump.ratio == 1.0


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_jump_ratio_lies_between_one_and_the_number_of_changes(phi):
    jump = run(born_gap=phi).jump
    if jump is not None:
        assert 1 - 1e-9 <= jump.ratio <= len(phi) - 1 + 1e-9
        assert jump.share == pytest.approx(jump.ratio / (len(phi) - 1))


def test_a_constant_series_has_no_character():
    result = verdict(run(born_gap=[-0.3] * 4), "born")
    assert (result.outcome, result.character, result.jump_ratio, result.phantom) == ("kinematic", None, None, None)


def test_jump_judged_at_the_pace_that_the_observer_ended_with():
    trajectory = run(steps=(0, 1, 2, 4, 6, 7), born_gap=[-1, -0.9, -0.8, -0.6, 0.6, 0.7])
    assert verdict(trajectory, "born").jump_ratio is None
    result = verdict(trajectory, "born", spacing=2)
    assert result.jump_ratio == pytest.approx(1.2 / (1.6 / 3))
    assert result.outcome == "resolved"


def test_readout_share_and_phantom():
    phi, frozen = [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.96], [0, 0, 0, 0, 0, 0, 0.01, 0.82]
    result = verdict(run(born_gap=phi, frozen_born_gap=frozen), "born")
    assert result.readout_share == pytest.approx(0.9)
    assert result.phantom is True
    assert verdict(run(born_gap=phi, frozen_born_gap=[f / 2 for f in frozen]), "born").phantom is False
    assert verdict(run(born_gap=phi), "born").phantom is None


@pytest.mark.parametrize(
    ("ratio", "share", "expected"),
    [(5, 1.1, True), (5, 1.11, False), (5, 0.89, False), (4.99, 1, False), (None, 1, None), (9, None, None)],
)
def test_phantom_edges(ratio, share, expected):
    assert phantom(ratio, share) is expected


def test_amplification_compares_the_sharpness_of_both_gaps():
    trajectory = run(born_gap=[0, 0.1, 0.9, 1.0], logit_gap=[0, 1, 3, 4])
    # Phi: 0.8 over a mean of 1/3; Delta: 2 over a mean of 4/3
    assert trajectory.amplification == pytest.approx((0.8 / (1 / 3)) / (2 / (4 / 3)))
    assert run(born_gap=[0, 0.1, 0.9, 1.0], logit_gap=[0, 1, 1, 2]).amplification is None


@pytest.mark.parametrize(
    ("loss", "gap", "expected"),
    [
        ([3, 2.9], [-1, -0.5], True),
        ([3, 2.991], [-1, -0.5], False),
        ([3, 2.9, 2.902], [-1, -1, -1], False),
        ([3, 2.9, 2.9005], [-1, -1, -1], True),
        ([3, 2.9, 2.8], [-1, 0.1, -1], False),
    ],
)
def test_silent(loss, gap, expected):
    assert silent(run(cross_entropy=loss, logit_gap=gap)) is expected


def test_rank_and_born_disagree():
    assert verdict(run(logit_gap=[-1, -1], born_gap=[0.1, 0.2])).disagrees is True
    assert verdict(run(logit_gap=[-1, -1], born_gap=[-0.1, -0.2])).disagrees is False
    assert verdict(run(logit_gap=[-1, 1], born_gap=[0.1, 0.2])).disagrees is True


def test_character_follows_the_criterion_in_naming_what_was_resolved_before():
    trajectory = run(logit_gap=[-1, -1, 1], born_gap=[0.1, 0.2, 0.9])
    assert verdict(trajectory, "born").character == "pre-resolved"
    assert verdict(trajectory, "rank").character == "drift"


def test_ablation():
    trajectory = run(gold_probability=[0.1, 0.2], rival_probability=[0.6, 0.5])
    assert ablation(trajectory) == pytest.approx((0.2, 0.4))
    assert ablation(run(drag=[0])) is None
    assert ablation(run(gold_probability=[0.0], rival_probability=[1.0])) is None


def test_a_table_gives_the_trajectory_in_order_with_nan_for_null():
    table = pl.DataFrame(
        {"context": [0, 0], "step": [1, 0], "born_gap": [None, 0.5], "gold_rank": [3, 4], "x": ["a", "b"]}
    )
    trajectory = Trajectory.of(table)
    assert trajectory.steps == (0, 1)
    assert trajectory.series("gold_rank") == (4.0, 3.0)
    assert trajectory.series("born_gap")[0] == 0.5
    assert math.isnan(trajectory.series("born_gap")[1])
    assert set(trajectory.values) == {"born_gap", "gold_rank"}


def test_malformed_trajectories():
    with pytest.raises(UserError, match="no records"):
        Trajectory((), {})
    with pytest.raises(UserError, match="steps do not increase"):
        Trajectory((0, 0), {})
    with pytest.raises(UserError, match="another length"):
        Trajectory((0, 1), {"drag": [1.0]})
    with pytest.raises(UserError, match="lacks an observable"):
        Trajectory((0,), {}).series("drag")
    with pytest.raises(UserError, match="unknown criterion"):
        run(drag=[0]).margin("best")
    with pytest.raises(UserError, match="unknown criterion"):
        verdict(run(drag=[0]), "best")


def test_a_verdict_is_json():
    import json

    data = verdict(run(born_gap=[-0.1, 0.2], logit_gap=[-1, 1])).to_json()
    assert json.loads(json.dumps(data, allow_nan=False))["outcome"] == "resolved"
