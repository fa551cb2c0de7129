"""Rules over a whole run: what ends it, what is remembered, and at which records they are judged."""

import math

import pytest
from tests.hosts import CONTEXTS

import borngap
from borngap.choices import CRITERIA
from borngap.context import Context, Target
from borngap.errors import UserError
from borngap.judge.stopping import (
    CrossEntropyPatience,
    PatienceState,
    SaturationRule,
    SaturationState,
    all_resolved,
    all_saturated,
)
from borngap.judge.trajectory import Trajectory
from borngap.judge.verdicts import outcome, verdict
from borngap.judge.watch import Watch, judge
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.train.finetune import FineTune
from borngap.training import Training

NAMES = ("born_gap", "logit_gap", "top1_margin", "drag", "cross_entropy")
# saturated at the fifth record: changes 0.5, 0.8, 0.01, 0.01
SATURATING = [-0.5, 0.0, 0.8, 0.81, 0.82, 0.83]


def followed(watch, series):
    """Feed a watch: one list of (Born gap, logit gap) a context; return its reason after each evaluation."""
    reasons = []
    for moment in zip(*series, strict=True):
        records = {
            i: dict(zip(NAMES, (phi, delta, delta - 1, 0.0, 1.0), strict=True)) for i, (phi, delta) in enumerate(moment)
        }
        watch.update(records, evaluate=True)
        reasons.append(watch.reason)
    return reasons


def path(phi, every, **columns):
    values = {name: list(phi) for name in NAMES} | {"drag": [0.0] * len(phi)} | columns
    return Trajectory(tuple(every * i for i in range(len(phi))), values)


def test_resolved_ends_a_run_once_enough_contexts_stay_ahead():
    behind, ahead, late = [(-0.1, -1)] * 5, [(-0.1, 1)] * 5, [(-0.1, -1)] * 2 + [(-0.1, 1)] * 3
    said = "gold is ahead in enough contexts and stays so"
    assert followed(Watch("resolved"), [ahead, late]) == [None, None, None, said, said]
    assert followed(Watch("resolved", fraction=0.5), [ahead, behind]) == [None, *[said] * 4]
    assert followed(Watch("resolved", fraction=0.51), [ahead, behind]) == [None] * 5
    assert followed(Watch("resolved", SaturationRule(patience=4)), [ahead]) == [None] * 3 + [said] * 2


def test_resolved_counts_anew_after_a_relapse():
    assert followed(Watch("resolved"), [[(0, 1), (0, -1), (0, 1), (0, math.nan), (0, 1)]]) == [None] * 5


@pytest.mark.parametrize(("criterion", "fires"), [("rank", True), ("top1", False), ("born", False)])
def test_resolved_goes_by_the_criterion(criterion, fires):
    watch = Watch("resolved", criterion=criterion)
    assert (followed(watch, [[(-0.1, 0.5)] * 3])[-1] is not None) == fires


def test_what_is_remembered_of_resolved_contexts_survives_a_checkpoint():
    before, after = Watch("resolved"), Watch("resolved")
    followed(before, [[(0.0, 1.0)]])
    after.load(before.state())
    assert followed(after, [[(0.0, 1.0)]]) != [None]


def test_shares_are_met_exactly():
    # 0.07 * 100 is above 7 in floating point
    assert all_resolved([2] * 7 + [0] * 93, 2, 0.07)
    assert all_saturated([SaturationState(saturated=True)] * 7 + [SaturationState()] * 93, 0.07)


def test_why_a_run_was_not_ended_by_saturation():
    noise = [0.4 + 0.06 * (-1) ** i for i in range(12)]
    saturated = [*SATURATING, *[0.83] * 6]
    series = [
        [(phi, 1.0) for phi in saturated],
        [(phi, 1.0) for phi in noise],  # batches' noise: changes of 0.12, and none smaller
        [(phi - 1, 1.0) for phi in saturated],  # ahead by rank, the drag keeps the Born gap below 0
        [(-0.5, -1.0)] * 12,
    ]
    watch = Watch("saturation", fraction=0.5)
    assert followed(watch, series) == [None] * 12
    assert watch.account == (
        "stop='saturation' did not fire: 1 of 4 contexts are saturated; 1 ahead but still moving, "
        "1 ahead but not by the Born gap, 1 behind."
    )
    by_rank = Watch("saturation", SaturationRule(require="rank"), fraction=0.5)
    assert followed(by_rank, series)[3:5] == [None, "the Born gap is saturated"]
    assert by_rank.account == "Training was to end there: the Born gap is saturated."


def test_why_a_run_was_not_ended_by_the_other_rules():
    watch = Watch("resolved", fraction=0.9)
    followed(watch, [[(0, 1)] * 2, [(0, -1)] * 2])
    assert watch.account == "stop='resolved' did not fire: gold stays ahead in 1 of 2 contexts, 90% were asked for."
    watch = Watch("structural")
    followed(watch, [[(0, 1)] * 2])
    assert watch.account == "stop='structural' did not fire: 0 of 1 contexts lose to a worsening drag."
    assert Watch().account == ""


@pytest.mark.parametrize(("options", "message"), [
    ({"stop": "saturated"}, "unknown stop\n  rule: .*saturation, structural, resolved, hopeless\n  found: saturated"),
    ({"criterion": "best"}, "unknown criterion"),
    ({"fraction": 0}, "fraction is out of range"),
    ({"fraction": 1.5}, "fraction is out of range"),
    ({"rule": {"patience": 0}}, "patience is out of range"),
])  # fmt: skip
def test_wrong_settings_are_told_before_training_begins(options, message):
    with pytest.raises(UserError, match=message):
        BornGapCallback(**options)


def test_a_rule_takes_part_in_checkpoints():
    kept = BornGapCallback(rule=SaturationRule(patience=3)).state()["args"]
    assert BornGapCallback(**kept).state()["args"] == kept
    assert kept["rule"] == {"tolerance": 0.05, "patience": 3, "require": "both"}


def test_what_was_saturated_stays_so():
    rule, state = SaturationRule(), SaturationState()
    for phi in (*SATURATING, 0.1, -0.9, -0.1):
        state = rule.update(state, phi, phi, 0.0)
    assert (state.saturated, state.calm) == (True, 0)


def test_patience_that_ran_out_stays_so():
    rule, state = CrossEntropyPatience(), PatienceState()
    for loss, waited in ((3.0, 0), (3.0, 1), (3.0, 2), (3.0, 3), (1.0, 0), (1.0, 1)):
        state = rule.update(state, loss)
        assert (state.stopped, state.waited) == (loss == 1.0 or waited == 3, waited)


def test_rules_are_judged_at_the_records_of_a_run_that_has_them_wider():
    target = Target(Context("a", " b", " c"), (1,), 2, 3, {}, fragment=False)
    # every 8 steps: at multiples of 5 alone there are the records 0 and 40
    falling = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    saving = judge(target, path(SATURATING, 8, cross_entropy=falling), "rank", spacing=8)["saving"]
    assert (saving["saturation_step"], saving["patience_step"]) == (32, 40)
    assert judge(target, path(SATURATING, 5), "rank", spacing=5)["saving"]["saturation_step"] == 20
    # records every step are still judged every 5
    fine = path([phi for phi in SATURATING for _ in range(5)], 1)
    assert judge(target, fine, "rank", spacing=1)["saving"]["saturation_step"] == 20


@pytest.mark.parametrize("name", NAMES)
def test_any_value_that_is_not_finite_is_divergence(name):
    broken = path(SATURATING, 5, **{name: [0.1, 0.1, math.inf, 0.1, 0.1, 0.1]})
    assert [outcome(broken, criterion) for criterion in CRITERIA] == ["diverged"] * 3
    assert verdict(broken).why == "a value is not finite at step 10"


def test_a_tracker_judges_at_its_own_records_where_these_are_wider():
    loaded = borngap.load("docs-gpt2-s")
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS, every=8, stop="resolved", fraction=0.3)
    seen = []
    for step in range(1, 17):
        tracker.step(step)
        seen.append(tracker.stop_reason is not None)
    # one of the three is ahead from the start, so at steps 0 and 8
    assert seen == [False] * 7 + [True] * 9
    assert sorted(tracker._follower.watch.held.values()) == [0, 0, 3]


@pytest.mark.parametrize(("context", "last"), [(0, 5), (1, 8)])
def test_finetune_ends_a_run_that_is_resolved(context, last):
    # the first is ahead of its rival from the start, so at steps 0 and 5; the second stays behind at this rate
    training = Training(rate=1e-9, steps=8, stop="resolved")
    steps = list(FineTune(borngap.load("docs-gpt2-s"), [CONTEXTS[context]], training).alone(0, observe="light"))
    assert [entry.step for entry in steps if entry.last] == [last]
