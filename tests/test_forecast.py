"""Forecasts of bundled models against real runs, and the commands that print them."""

import json
from dataclasses import replace

import pytest
import torch
from tests.searching import AHEAD, ALONE, STEPS, contexts, searcher
from typer.testing import CliRunner

import borngap
from borngap.cli import app
from borngap.critical.forecast import End, Forecast, forecast, forecast_entry, rate_to_use, typical
from borngap.critical.record import CriticalRate
from borngap.errors import UserError
from borngap.train.finetune import FineTune, weights_digest
from borngap.training import Training


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
    text = run("forecast", *common, "--lr", "1e-5", "--by", "class-mean", "--rival-loss", "logistic:0.1")
    assert text.startswith(f"E{ALONE[1:]}.\ndocs-gpt2-s: lora, cross-entropy + logistic:0.1 at 1e-05")
    assert "Of 1 contexts to train (1 more are ahead already), each alone, 0 will resolve" in text
    assert "Rate to use if each is trained alone: " in text
    assert "class-mean" in text
    text = run("critical", *common, "--by", "grid", "--lrs", "1e-4:1e-3:4")
    assert text.startswith(f"E{ALONE[1:]}.\n")
    assert "cross-entropy" not in text
    assert "cost: 46 optimiser steps" in text  # four runs of 12, the last ends at its flip


def test_a_heading_names_what_is_added_to_the_cross_entropy(tmp_path):
    options = ["--method", "readout-only", "--steps", "1", "--rival-loss", "logistic:3", "--penalty", "overlap:1"]
    text = run("critical", "-m", "docs-gpt2-s", "-c", write(tmp_path / "c.jsonl", 1), *options)
    told = "docs-gpt2-s: readout-only, cross-entropy + logistic:3 + overlap:1"
    assert text.splitlines()[1].startswith(told)


@pytest.mark.parametrize("command", ["forecast", "critical"])
def test_help_says_that_contexts_are_trained_alone(command):
    told = " ".join(run(command, "--help").split())
    assert "each context trained alone, all steps on its one prompt; a run on a data set moves it far less" in told


def test_the_scope_of_other_plans():
    joint = Training(steps=1, joint=True).scope
    assert joint == "these contexts trained together, 1 step on them alone; a run on a data set moves them far less"
