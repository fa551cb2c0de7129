"""Forecast rates held against real runs in a reproduction: what is found, what a stop costs, what the claims say."""

from dataclasses import replace

import pytest
import torch
from tests.studies import study

from borngap.context import read_contexts
from borngap.experiments import campaign, estimating, ratefinding
from borngap.experiments.arms import Scope
from borngap.experiments.campaign import reproduce_model, undone
from borngap.experiments.claims.quantities import bracketed_error, brackets_hold
from borngap.experiments.estimating import estimated, planned_runs
from borngap.experiments.folder import Plan, entries, home, start
from borngap.experiments.parts.bracketed import tables
from borngap.experiments.ratefinding import BESIDE, RateFinder, evenly
from borngap.experiments.run import BRACKETS, REAL, scope_of
from borngap.experiments.study import BRACKET_COLUMNS, frame, read_study
from borngap.files import json_bytes, write_whole
from borngap.model.load import load
from borngap.train.finetune import FineTune
from borngap.training import Training

MODEL = "docs-gpt2-s"
SETTINGS = {method: Training(method=method, steps=6, criterion="rank") for method in ("full", "lora")}
PLAN = Plan(
    (MODEL,), tuple(read_contexts("docs10")[:3]), scope_of([BRACKETS], replace(REAL, steps=6, pairs=2000, most=2))
)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_the_two_runs_say_is_what_the_reference_loop_says(method):
    contexts = read_contexts("docs10")[:2]
    finder = RateFinder(MODEL, contexts, SETTINGS[method])
    (unit,) = {"full": [[0]], "lora": finder.units("bisect")}[method]
    found = [entry for one in finder.units("collocation") for entry in finder.rates("collocation", one, ())]
    rows = finder.brackets({entry["context"]: entry for entry in found}, unit)
    assert [row["context"] for row in rows] == unit
    tuner = FineTune(load(MODEL), contexts, SETTINGS[method])
    for row in rows:
        assert (row["below"], row["above"]) == pytest.approx(
            (row["forecast"] * (1 - BESIDE), row["forecast"] * (1 + BESIDE))
        )
        for side, kept in (("below", not row["fails"]), ("above", row["resolves"])):
            steps = list(tuner.alone(row["context"], rate=row[side], observe="margins"))
            gaps = [step.records[row["context"]]["logit_gap"] for step in steps]
            flip = next((i for i, gap in enumerate(gaps) if gap > 0), None)
            assert (flip is not None) is kept
            assert (row[f"{side}_flip"] is None) is (flip is None)
            assert flip is None or flip - 1 < row[f"{side}_flip"] <= flip
        assert row["bisected"] == pytest.approx(row["forecast"], rel=BESIDE + 1e-6)
        assert min(row[name] for name in ("forecast_seconds", "run_seconds", "bisection_seconds")) > 0


def test_a_forecast_that_is_off_does_not_hold_and_is_bisected_all_the_same():
    finder = RateFinder(MODEL, read_contexts("docs10")[:1], SETTINGS["full"])
    (entry,) = finder.rates("collocation", [0], ())
    true = entry["critical_rate"]
    for factor, told in ((0.7, (True, False)), (1.4, (False, True))):
        (row,) = finder.brackets({0: entry | {"critical_rate": factor * true}}, [0])
        assert (row["fails"], row["resolves"]) == told
        assert row["bisected"] == pytest.approx(true, rel=0.01)
    assert finder.brackets({}, [0]) == []


def test_a_stop_costs_one_unit_and_changes_no_number(tmp_path, monkeypatch):
    reproduce_model(tmp_path / "whole", MODEL, PLAN)
    assert undone(tmp_path / "whole", MODEL, PLAN) == []
    calls, find = [], RateFinder.rates

    def stopped(self, by, unit, before):
        calls.append(unit)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(self, by, unit, before)

    start(tmp_path / "stopped", PLAN).close()
    monkeypatch.setattr(RateFinder, "rates", stopped)
    with pytest.raises(KeyboardInterrupt):
        reproduce_model(tmp_path / "stopped", MODEL, PLAN)
    assert undone(tmp_path / "stopped", MODEL, PLAN) == [
        "critical rates (lora, rank, collocation)", "critical rates (full, rank, collocation)", "what rests on them",
    ]  # fmt: skip
    reproduce_model(tmp_path / "stopped", MODEL, PLAN)
    assert calls == [[0], [1], [1], *[[0], [1]]]
    for kind in ("critical", "brackets"):
        files = [sorted((home(tmp_path / name, MODEL) / kind).iterdir()) for name in ("whole", "stopped")]
        assert [path.name for path in files[0]] == [path.name for path in files[1]]
        for whole, resumed in zip(*files, strict=True):
            assert [_timeless(e) for e in entries([whole])] == [_timeless(e) for e in entries([resumed])]
    monkeypatch.setattr(campaign, "RateFinder", None)
    reproduce_model(tmp_path / "stopped", MODEL, PLAN)
    # stopped between the units of a file, what is there is read all the same
    assert read_study(tmp_path / "stopped").brackets["method"].to_list() == ["full", "full", "lora", "lora"]
    path = home(tmp_path / "stopped", MODEL) / "brackets" / "full.json"
    half = entries([path])[:1]
    path.unlink()
    write_whole(path.with_suffix(".parts") / "0000.json", json_bytes({"schema": 1, "entries": half}))
    read = read_study(tmp_path / "stopped")
    assert read.brackets["method"].to_list() == ["full", "lora", "lora"]
    assert read.undone == [f"{MODEL}: forecast rates against runs (full: 1 of 2 are done)"]


def test_brackets_alone_train_nothing_else():
    assert PLAN.scope.arms == ()
    assert PLAN.scope.brackets
    assert planned_runs(PLAN) == 0
    assert not scope_of(["steps"], Scope()).brackets
    assert sorted(evenly([3, 5, 7, 9, 11], 3)) == [3, 7, 11]
    assert evenly([1, 2], 5) == {1, 2}
    assert evenly([], ratefinding.REFINED) == set()


def test_claims_and_table_of_brackets():
    rows = [
        {
            "model": f"m{c % 5}", "method": "full", "context": c, "forecast": 1.01, "bisected": 1.0 if c < 5 else None,
            "fails": True, "resolves": c != 9, "forecast_seconds": 2.0, "run_seconds": 4.0,
        }
        for c in range(10)
    ]  # fmt: skip
    made = replace(study(), brackets=frame(rows, BRACKET_COLUMNS))
    assert brackets_hold(made).value == pytest.approx(0.9)
    assert bracketed_error(made).value == pytest.approx(0.01)
    (table,) = tables(made)
    first = table.rows.row(4, named=True)
    assert (first["contexts"], first["hold"], first["bisected"], first["forecast_seconds"]) == (2, 0.5, 1, 2.0)


def _timeless(entry):
    return {key: value for key, value in entry.items() if not key.endswith("seconds")}


def test_the_estimate_adds_up_what_is_run(monkeypatch, tmp_path):
    """By hand: 2 contexts; runs alone 1 s, in a stack 0.1 s; and one thread while it measures."""
    threads = []

    def costs(_plan, _model, _contexts, method, _device):
        threads.append(torch.get_num_threads())
        return estimating._Costs(1.0, 0.1 if method == "lora" else 1.0)

    monkeypatch.setattr(estimating, "_costs", costs)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    # collocation 2 and 1 runs; two runs each, and two bisections of 3.4
    assert estimated(PLAN, tmp_path / "none", 1) == pytest.approx(2 * (2 + 1) + 2 * (2 + 3.4) * 1.1)
    runs = replace(PLAN, scope=replace(PLAN.scope, arms=("full", "lora"), brackets=False))
    assert planned_runs(runs) == 2 * (7 + 8)
    assert estimated(runs, tmp_path / "none", 1) == pytest.approx(2 * (7 + 8 * 0.1) + 2 * (2 + 1))
    assert estimated(replace(runs, models=(MODEL, "docs-gptneo")), tmp_path, 2) == pytest.approx(21.6)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    assert set(threads) == {1}


def test_a_step_is_timed_once_it_is_warm():
    """Clock before and after each step of three entries: the first two steps are slow."""
    now = iter([0, 50, 50, 60, 60, 61, 61, 62, 62, 63, 63, 64, 64, 65])
    assert estimating._step(iter(range(100)), 3, lambda: next(now)) == 1
    now = iter([0, 50, 50, 60])
    assert estimating._step(iter(range(4)), 3, lambda: next(now)) == 50
