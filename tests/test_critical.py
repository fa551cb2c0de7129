"""Critical rates and forecasts of bundled models, against real runs."""

import json
import math
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import borngap
from borngap.cli import app, main
from borngap.context import Context
from borngap.critical.collocation import _unmet
from borngap.critical.course import Course
from borngap.critical.forecast import End, Forecast, forecast, forecast_entry, rate_to_use, typical
from borngap.critical.landscape import Landscape
from borngap.critical.record import CriticalRate
from borngap.critical.roots import root, secants
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.judge.trajectory import MARGINS
from borngap.train.finetune import FineTune, weights_digest
from borngap.training import Training

BEHIND = [
    Context("Use this helper to", " build", " create"),
    Context("If the key is missing from the", " dictionary", " list"),
]
AHEAD = Context("The function raises an", " error", " exception")
STEPS = 12
ALONE = "each context trained alone, 12 steps on its one prompt; a run on a data set moves it far less"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def contexts(count=3):
    """Contexts of docs10 in which the rival leads on docs-gpt2-s."""
    return [borngap.read_contexts("docs10")[i] for i in (0, 4, 1)][:count]


def searcher(name="docs-gpt2-s", count=2, **settings):
    return Searcher(borngap.load(name), contexts(count), Training(**{"method": "lora", "steps": STEPS} | settings))


def exactly(search, near):
    """Critical rates by two real runs each, 0.4 % below and above rates nearby: where their largest margin is 0."""
    found, name = [], MARGINS[search.training.criterion]
    for i, rate in enumerate(near):
        ends = [
            max(step.records[i][name] for step in search.tuner.alone(i, rate=rate * math.exp(x), observe="margins"))
            for x in (-4e-3, 4e-3)
        ]
        offset = -4e-3 - ends[0] * 8e-3 / (ends[1] - ends[0])
        assert abs(offset) < 2e-2, "too far for a straight line"
        found.append(rate * math.exp(offset))
    return found


def ahead_within(tuner, index, rate, name="logit_gap"):
    return any(step.records[index][name] > 0 for step in tuner.alone(index, rate=rate))


@pytest.mark.parametrize(("name", "method"), [
    ("docs-gpt2-s", "lora"), ("docs-gpt2-s", "full"), ("docs-neox-s", "lora"), ("docs-neox-s", "full"),
])  # fmt: skip
def test_bisection_is_right(name, method):
    search = searcher(name, 1, method=method)
    (entry,) = search.search("bisect")
    rate = entry.critical.rate
    assert entry.critical.status == "ok"
    assert entry.critical.optimizer_steps > STEPS
    assert ahead_within(search.tuner, 0, rate)
    assert not ahead_within(search.tuner, 0, 0.98 * rate)


@pytest.mark.parametrize(("method", "criterion"), [("lora", "rank"), ("lora", "born"), ("full", "rank")])
def test_collocation_meets_bisection_without_a_step(method, criterion):
    search = searcher(count=2, method=method, criterion=criterion)
    truth = search.search("bisect")
    for entry, true in zip(search.search("collocation"), truth, strict=True):
        assert entry.critical.status == true.critical.status == "ok"
        assert abs(math.log(entry.critical.rate / true.critical.rate)) < 0.03
        assert entry.critical.optimizer_steps == 0
        assert entry.critical.low < entry.critical.rate < entry.critical.high


def test_collocation_heeds_schedule_betas_clip_and_decay():
    settings = {"schedule": "linear", "warmup": 4, "beta2": 0.95, "clip": 0.5, "weight_decay": 0.1, "method": "full"}
    search = searcher(count=1, **settings)
    (true,), (mine,) = search.search("bisect"), search.search("collocation")
    assert abs(math.log(mine.critical.rate / true.critical.rate)) < 0.03
    (plain,) = searcher(count=1, method="full").search("collocation")
    assert plain.critical.rate < 0.8 * mine.critical.rate


@pytest.mark.parametrize(("schedule", "warmup"), [("constant", 1), ("cosine", 10), ("linear", 25)])
def test_collocation_holds_under_warm_up_and_schedules(schedule, warmup):
    """LoRA's gradients grow from zero with the dose: over the steps, a cosine with warm-up came out 1.4 % low."""
    search = searcher(count=2, steps=50, schedule=schedule, warmup=warmup)
    solved = search.search("collocation")
    for entry, true in zip(solved, exactly(search, [e.critical.rate for e in solved]), strict=True):
        assert entry.critical.rate == pytest.approx(true, rel=5e-3)
        assert entry.critical.low < true < entry.critical.high


def test_the_error_of_the_grid_is_taken_off():
    """Two contexts whose six-piece grids are off by 0.4 and 0.2 %: added instead, the errors would double."""
    few = [borngap.read_contexts("docs10")[i] for i in (4, 5)]
    search = Searcher(borngap.load("docs-neox-s"), few, Training(method="lora", steps=50))
    solved = search.search("collocation")
    for entry, true in zip(solved, exactly(search, [e.critical.rate for e in solved]), strict=True):
        assert entry.critical.rate == pytest.approx(true, rel=2e-3)


@pytest.mark.parametrize(("method", "decay", "least"), [("full", 100.0, 1.01), ("lora", 3.0, 1.015)])
def test_weight_decay_is_part_of_the_dynamics(method, decay, least):
    search = searcher(count=1, method=method, weight_decay=decay, schedule="linear", warmup=2)
    (mine,) = search.search("collocation")
    (true,) = exactly(search, [mine.critical.rate])
    (plain,) = searcher(count=1, method=method, schedule="linear", warmup=2).search("collocation")
    assert true / plain.critical.rate > least
    assert mine.critical.rate == pytest.approx(true, rel=6e-3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_of_a_few_steps_is_solved_as_it_is(steps):
    search = searcher(count=1, steps=steps, method="full")
    (mine,) = search.search("collocation")
    (true,) = exactly(search, [mine.critical.rate])
    assert mine.critical.rate == pytest.approx(true, rel=2e-3)


def test_margins_are_those_of_their_criteria():
    search = searcher(count=1, steps=1)
    (row,), target = search.land.logits(0), search.tuner.targets[0]
    others = row.clone()
    others[target.gold_id] = -math.inf
    expected = {"rank": row[target.gold_id] - row[target.rival_id], "top1": row[target.gold_id] - others.max()}
    for criterion, value in expected.items():
        assert search.land.margin(0, criterion, row[None]) == pytest.approx(float(value), abs=1e-5)
    born = borngap.probe(search.tuner.model, search.tuner.tokenizer, contexts(1))["born_gap"][0]
    assert search.land.margin(0, "born", row[None]) == pytest.approx(born, abs=1e-6)


def test_its_cost_does_not_grow_with_the_run():
    short, long = (searcher(count=1, steps=steps).search("collocation")[0].critical for steps in (20, 2000))
    assert long.forward_passes <= 2 * short.forward_passes
    assert 50 < short.rate / long.rate < 200


def test_dose_keeps_to_its_budget():
    search = searcher(count=2, steps=50)
    for entry, true in zip(search.search("dose"), search.search("bisect"), strict=True):
        assert 0 < entry.critical.optimizer_steps <= 50
        assert abs(math.log(entry.critical.rate / true.critical.rate)) < 0.1


def test_sign_paths_come_near():
    search = searcher(count=1, steps=50, method="full")
    true = search.search("bisect")[0].critical.rate
    ray, path = (search.search(by)[0].critical for by in ("ray", "path"))
    assert abs(math.log(path.rate / true)) < 0.1
    assert abs(math.log(ray.rate / true)) < 0.3
    assert (ray.optimizer_steps, path.optimizer_steps) == (0, 0)
    assert ray.forward_passes < path.forward_passes


def test_stacked_and_single_trials_agree():
    search = searcher(count=2)
    single = searcher(count=2, forward="labels")  # the stack knows one forward only: this one runs alone
    rates = [[e.critical.rate for e in s.search("grid", rates=[1e-4, 2e-4, 4e-4, 8e-4])] for s in (search, single)]
    assert rates[0] == rates[1]


def test_collocation_where_the_margin_falls_before_it_rises():
    """Usually/typically on docs-neox-m: scaled back, the end of a run meets the criterion far from where a run does."""
    context = borngap.read_contexts("docs10")[9:]
    search = Searcher(borngap.load("docs-neox-m"), context, Training(method="lora", steps=50))
    (real,), (solved,) = search.search("bisect"), search.search("collocation")
    assert solved.critical.status == "ok"
    assert solved.critical.rate == pytest.approx(real.critical.rate, rel=0.02)
    assert solved.critical.forward_passes < real.critical.forward_passes


@pytest.mark.parametrize("start", [1e-5, 3e-3])
def test_collocation_finds_the_rate_from_afar(start):
    search = searcher(count=1, steps=50)
    (real,) = search.search("bisect")
    found, _ = search.collocate(0, start)
    assert found.status == "ok"
    assert found.rate == pytest.approx(real.critical.rate, rel=0.02)


def test_beyond_is_claimed_only_where_sweeps_agree():
    """At the rate 0.3 every sweep says something else: that is no evidence that nothing meets the criterion there."""
    course = Course(searcher(count=1).land, 0, "rank", 6)
    course.sweep(0.3, cold=True)
    lost = _unmet(course, 0.3)
    assert (lost.rate, lost.status) == (None, "abstained")
    assert "do not settle" in lost.why
    course.sweep(1e-6, cold=True)
    assert _unmet(course, 1e-6).status == "beyond"


def test_what_is_ahead_has_no_rate():
    search = Searcher(borngap.load("docs-gpt2-s"), [AHEAD], Training(method="lora", steps=5))
    for by in ("collocation", "dose", "ray", "bisect", "class-mean"):
        critical = search.search(by)[0].critical
        assert (critical.rate, critical.status, critical.optimizer_steps) == (None, "pre-resolved", 0)


@pytest.mark.parametrize("by", ["collocation", "bisect", "dose"])
def test_beyond_the_largest_rate(by):
    search = Searcher(borngap.load("docs-gpt2-s"), contexts(1), Training(method="lora", steps=10), limit=1e-5)
    critical = search.search(by)[0].critical
    assert (critical.rate, critical.status, critical.low) == (None, "beyond", 1e-5)


@pytest.mark.parametrize("by", ["collocation", "bisect", "dose"])
def test_divergence_is_recognised(by):
    loaded = borngap.load("docs-gpt2-s")
    search = Searcher(loaded, contexts(1), Training(method="full", steps=5), limit=1e-2)
    head = loaded.model.get_output_embeddings()
    base = search.land.base.clone()

    def broken(module, args, logits):  # any movement at all breaks the model
        return logits if torch.equal(search.land.parameters[0].flatten(), base[: 8192 * 128]) else logits * math.nan

    hook = head.register_forward_hook(broken)
    try:
        critical = search.search(by)[0].critical
    finally:
        hook.remove()
    assert (critical.rate, critical.status) == (None, "diverged")
    assert "finite" in critical.why


def test_the_weights_end_as_they_began():
    loaded = borngap.load("docs-gpt2-s")
    before = weights_digest(loaded.model)
    search = Searcher(loaded, contexts(1), Training(method="full", steps=5))
    for by in ("collocation", "dose", "path"):
        search.search(by)
    assert weights_digest(search.tuner.model) == before
    assert not any(p.grad is not None for p in search.tuner.model.parameters())


def test_a_landscape_is_the_model():
    tuner = FineTune(borngap.load("docs-gpt2-s"), contexts(1), Training(method="full", steps=2))
    plain = [step.loss for step in tuner.alone(0)]
    land = Landscape(tuner)
    with land.evaluating():
        gradient = land.zeros(1)[0]
        logits, _ = land.gradient(0, gradient)
        target = tuner.targets[0]
        assert land.margin(0, "rank", logits) == pytest.approx(
            float(logits[0, target.gold_id].double() - logits[0, target.rival_id].double())
        )
        # a small step down the gradient lowers the loss by its squared norm
        land.place(gradient, -1e-4 / float(gradient.norm()))
        after = float(-land.logits(0).log_softmax(-1)[0, target.gold_id])
    assert plain[0] - after == pytest.approx(1e-4 * float(gradient.norm()), rel=0.05)
    assert [step.loss for step in tuner.alone(0)] == plain


def test_a_joint_gradient_is_the_mean():
    tuner = FineTune(borngap.load("docs-gpt2-s"), contexts(2), Training(method="lora", steps=2))
    land = Landscape(tuner)
    single = land.zeros(2)
    for i in range(2):
        land.gradient(i, single[i])
    both = FineTune(borngap.load("docs-gpt2-s"), contexts(2), Training(method="lora", steps=2, joint=True))
    joint = land.zeros(1)[0]
    Landscape(both).gradient(1, joint)
    torch.testing.assert_close(joint, single.mean(0), atol=1e-6, rtol=1e-4)


def test_a_joint_run_has_critical_rates():
    search = searcher(count=2, joint=True, batch_size=2)
    true, mine = search.search("bisect"), search.search("collocation")
    for a, b in zip(true, mine, strict=True):
        assert abs(math.log(a.critical.rate / b.critical.rate)) < 0.03
    split = searcher(count=2, joint=True, batch_size=1).search("collocation")[0].critical
    assert split.status == "abstained"
    assert "batches smaller" in split.why


def test_roots_are_looked_for_outwards():
    assert root(lambda x: x - 0.3, 0.0) == pytest.approx(0.3, abs=1e-3)
    assert root(lambda x: x + 1.0, 0.0) == pytest.approx(-1.0, abs=1e-3)
    assert root(lambda x: -1.0, 0.0) is None
    assert root(lambda x: math.nan, 0.0) is None


def test_secants_take_few_evaluations():
    asked = []

    def curve(x):
        asked.append(x)
        return math.exp(x) - 2

    assert secants(curve, 0.6, 2.0) == pytest.approx(math.log(2), abs=1e-4)
    assert len(asked) <= 4
    assert secants(lambda x: x - 0.3, 0.0, -1.0) is None  # a falling slope
    assert secants(lambda x: x - 9.0, 0.0, 1.0) is None  # too far
    assert secants(lambda x: 1.0 - x, 0.9, 1.0) is None  # falls where a rise was expected
    assert secants(lambda _: math.nan, 0.0, 1.0) is None


def test_what_was_solved_before_shortens_the_search_and_leaves_the_rate():
    search = searcher(count=3)
    with search.land.evaluating():
        first = search.collocate(2)[0]
        search.collocate(1)
        again = search.collocate(2)[0]
    assert again.forward_passes < first.forward_passes
    assert again.rate == pytest.approx(first.rate, rel=5e-3)


def test_a_finer_grid_changes_little():
    search = searcher(count=1)
    with search.land.evaluating():
        course = Course(search.land, 0, "rank", 4)
        for cold in (True, False, False):
            course.sweep(2e-4, cold=cold)
        coarse = list(course.margins)
        course.refine()
        assert course.pieces == 8
        for _ in range(3):
            course.sweep(2e-4)
    assert course.margins[::2] == pytest.approx(coarse, abs=0.05)


@pytest.mark.parametrize(("method", "rates"), [("lora", (1.5e-4, 2e-3)), ("full", (1e-5, 1e-4))])
def test_forecast_outcomes_are_those_of_real_runs(method, rates):
    for rate in rates:
        training = Training(method=method, steps=STEPS, rate=rate)
        found = forecast(borngap.load("docs-gpt2-s"), contexts(1), training, lora=False)
        tuner = FineTune(borngap.load("docs-gpt2-s"), contexts(1), training)
        for index, entry in enumerate(found):
            last = list(tuner.alone(index))
            assert entry.outcome == tuner.entry(index, last)["outcome"]
            assert entry.end["logit_gap"] == pytest.approx(last[-1].records[index]["logit_gap"], abs=0.1)
            assert entry.end["born_gap"] == pytest.approx(last[-1].records[index]["born_gap"], abs=0.02)
        assert found[0].will_resolve == (rate == rates[1])


def test_a_forecast_says_whether_lora_does():
    loaded = borngap.load("docs-gpt2-s")
    before = weights_digest(loaded.model)
    (entry,) = forecast(loaded, contexts(1), Training(method="full", steps=STEPS, rate=1e-4))
    assert weights_digest(loaded.model) == before
    (alone,) = searcher(count=1).search("collocation")
    assert entry.lora.rate == pytest.approx(alone.critical.rate, rel=1e-3)
    assert entry.lora_does is (entry.lora.rate <= 1e-3)
    row = forecast_entry(0, entry)
    assert row["lora"]["critical_rate"] == entry.lora.rate
    assert row["class_mean"]["embedding_class"] in {"A", "B", "intermediate"}
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert rate_to_use([entry]) == entry.critical.high
    assert repr(entry).endswith(f"[{entry.critical.low:.3g}, {entry.critical.high:.3g}], planned 0.0001: "
                                f"{entry.prospect} ({ALONE})>")  # fmt: skip


def test_the_rate_to_use_is_above_every_interval():
    def found(status, high):
        critical = CriticalRate(high and high / 2, high and high / 4, high, status, "collocation")
        return Forecast(None, 0.9, 1e-4, critical, "at risk", None, {}, {}, "collocation", None, None, "A", ALONE)

    known = [found("ok", 1e-4), found("ok", 4e-4), found("ok", 2e-4)]
    assert rate_to_use([*known, found("beyond", 1.0), found("ok", None), found("pre-resolved", None)]) == 4e-4
    assert rate_to_use([found("pre-resolved", None)]) is None


def test_of_several_seeds_outcome_and_end_are_those_of_the_median_one():
    ends = [End(kind, {"logit_gap": gap}, "collocation") for kind, gap in
            (("unresolved", -0.4), ("resolved", 0.9), ("resolved", 0.1), ("unresolved", None))]  # fmt: skip
    assert typical(ends[:3], Training()) is ends[2]
    assert typical(ends[:2], Training()) is ends[0]
    assert typical(ends, Training()) is ends[0]
    loaded, training = borngap.load("docs-gpt2-s"), Training(method="lora", steps=STEPS, rate=1.56e-3)
    (entry,) = forecast(loaded, contexts(1), training, seeds=(0, 1, 2))
    single = [forecast(borngap.load("docs-gpt2-s"), contexts(1), replace(training, seed=s))[0] for s in (0, 1, 2)]
    gaps = sorted(e.end["logit_gap"] for e in single)
    assert entry.end["logit_gap"] == pytest.approx(gaps[1], rel=1e-3)
    assert entry.end["logit_gap"] != pytest.approx(single[0].end["logit_gap"], rel=1e-3)
    assert (entry.end["logit_gap"] > 0) == (entry.outcome == "resolved")
    assert sum(entry.outcomes.values()) == 3
    assert entry.outcomes["resolved"] == sum(gap > 0 for gap in gaps)


@pytest.mark.parametrize(("prospect", "outcome", "promise"), [
    ("will resolve", "resolved", True), ("will resolve", None, True), ("will resolve", "relapsed", False),
    ("will resolve", "unresolved", None), ("will fail", "unresolved", False), ("will fail", "resolved", None),
    ("at risk", "resolved", None), ("pre-resolved", "lost", False), ("pre-resolved", "pre-resolved", True),
])  # fmt: skip
def test_a_promise_needs_rate_and_run_to_agree(prospect, outcome, promise):
    critical = CriticalRate(1e-4, 9e-5, 1.1e-4, "ok", "collocation")
    entry = Forecast(None, 0.9, 1e-4, critical, prospect, outcome, {}, {}, "collocation", None, None, "A", ALONE)
    assert entry.will_resolve is promise


def test_seeds_widen_the_interval():
    loaded = borngap.load("docs-gpt2-s")
    training = Training(method="lora", steps=STEPS)
    (both,) = forecast(loaded, contexts(1), training, seeds=(0, 1))
    single = [searcher(count=1, seed=seed).search()[0].critical for seed in (0, 1)]
    assert both.critical.low == pytest.approx(min(c.low for c in single), rel=1e-3)
    assert both.critical.high == pytest.approx(max(c.high for c in single), rel=1e-3)
    assert single[0].rate != single[1].rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"joint": True}, "a joint run can't be forecast"), ({"dropout": True}, "dropout can't be forecast"),
     ({"steps": 0}, "no steps")],
)  # fmt: skip
def test_plans_that_cannot_be_forecast(settings, message):
    with pytest.raises(UserError, match=message):
        forecast(borngap.load("docs-gpt2-s"), contexts(1), Training(**settings))


def test_bad_searches():
    with pytest.raises(UserError, match="no rate is the smallest under dropout"):
        searcher(count=1, dropout=True)
    search = searcher(count=1)
    with pytest.raises(UserError, match="unknown way"):
        search.search("guess")
    with pytest.raises(UserError, match="only a grid takes them"):
        search.search("bisect", rates=[1e-4])
    with pytest.raises(UserError, match="do not increase"):
        search.search("grid", rates=[2e-4, 1e-4])
    with pytest.raises(UserError, match="largest rate is out of range"):
        Searcher(borngap.load("docs-gpt2-s"), contexts(1), Training(), limit=0.0)


def write(path, count=2):
    path.write_text(borngap.context.write_contexts([*contexts(count), AHEAD]), encoding="utf-8")
    return str(path)


def run(*args):
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands(tmp_path):
    file = write(tmp_path / "c.jsonl", 1)
    common = ["-m", "docs-gpt2-s", "-c", file, "--method", "lora", "--steps", "12"]
    found = json.loads(run("critical", *common, "--json"))
    assert (found["schema"], found["scope"]) == (1, ALONE)
    assert [row["status"] for row in found["critical"]] == ["ok", "pre-resolved"]
    ahead = json.loads(run("forecast", *common, "--lr", "3e-3", "--json"))
    assert ahead["scope"] == ALONE
    first, second = ahead["forecasts"]
    assert first["critical_rate"] == pytest.approx(found["critical"][0]["critical_rate"], rel=1e-6)
    assert (first["will_resolve"], first["outcome"], second["prospect"]) == (True, "resolved", "pre-resolved")
    assert ahead["environment"]["versions"]["torch"]
    text = run("forecast", *common, "--lr", "1e-5", "--by", "class-mean")
    assert text.startswith(f"E{ALONE[1:]}.\n")
    assert "Of 1 contexts to train (1 more are ahead already), each alone, 0 will resolve" in text
    assert "Rate to use if each is trained alone: " in text
    assert "class-mean" in text
    text = run("critical", *common, "--by", "grid", "--lrs", "1e-4:1e-3:4")
    assert text.startswith(f"E{ALONE[1:]}.\n")
    assert "cost: 46 optimiser steps" in text  # four runs of 12, the last ends at its flip


@pytest.mark.parametrize("command", ["forecast", "critical"])
def test_help_says_that_contexts_are_trained_alone(command):
    told = " ".join(run(command, "--help").split())
    assert "each context trained alone, all steps on its one prompt; a run on a data set moves it far less" in told


def test_the_scope_of_other_plans():
    joint = Training(steps=1, joint=True).scope
    assert joint == "these contexts trained together, 1 step on them alone; a run on a data set moves them far less"


@pytest.mark.parametrize(
    ("args", "message"),
    [(["critical", "--by", "grid", "--lrs", "3,2"], "rates do not increase"),
     (["critical", "--steps", "0"], "no steps"),
     (["critical", "--max-lr", "-1"], "largest rate is out of range"),
     (["forecast", "--seeds", "a"], "can't read the seeds"),
     (["forecast", "--by", "bisect"], "unknown value of --by")],
)  # fmt: skip
def test_bad_input_is_one_message(args, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["borngap", args[0], "-m", "docs-gpt2-s", *args[1:]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
