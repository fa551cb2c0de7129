"""Sweeps: the plan, and the command."""

import json
import sys

import pytest
import torch
from tests.sweeping import CONTEXTS, MODEL, RATES, planned
from typer.testing import CliRunner

from borngap.cli import app, main
from borngap.context import write_contexts
from borngap.errors import UserError
from borngap.sweep.plan import SweepPlan
from borngap.sweep.sweepfolder import read_sweep
from borngap.training import Training


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_the_plan_lists_every_run_once():
    plan = planned(seeds=(0, 5))
    cells = [(run.seed, run.context, run.rate) for run in plan.runs]
    assert cells == [(s, c, r) for s in (0, 5) for c in (0, 1) for r in RATES]
    assert [run.number for run in plan.runs] == list(range(8))
    assert {(run.model, run.method, run.steps) for run in plan.runs} == {(MODEL, "lora", 3)}
    assert plan.settings(plan.runs[-1]) == Training(method="lora", rate=4e-3, steps=3, seed=5)


def test_a_plan_survives_json():
    plan = planned(seeds=(3, 1), lora_targets=("attention", "readout"), schedule="cosine")
    again = SweepPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.runs == plan.runs
    assert [again.settings(run) for run in again.runs] == [plan.settings(run) for run in plan.runs]
    assert again.contexts == plan.contexts


def test_full_fine_tuning_has_no_seeds():
    plan = planned(method="full", seeds=(0, 1, 2))
    assert len(plan.runs) == 4
    assert plan.notes == ("nothing in full fine-tuning is random: each run once, seeds are not used",)
    assert planned(method="full").notes == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": ()}, "no learning rates"),
        ({"rates": (0.0, 1e-3)}, "learning rates are out of range"),
        ({"rates": (-1e-3,)}, "learning rates are out of range"),
        ({"rates": (float("nan"),)}, "learning rates are out of range"),
        ({"rates": (1e-3, 1e-4)}, "learning rates do not increase"),
        ({"rates": (1e-3, 1e-3)}, "learning rates do not increase"),
        ({"seeds": (1, 1)}, "seeds are out of range"),
        ({"seeds": ()}, "seeds are out of range"),
        ({"steps": 0}, "a sweep without steps"),
        ({"contexts": []}, "no contexts"),
        ({"joint": True}, "a sweep trains each context alone"),
    ],
)
def test_a_plan_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        planned(**change)


@pytest.fixture
def contexts_file(tmp_path):
    path = tmp_path / "contexts.jsonl"
    path.write_text(write_contexts(CONTEXTS), encoding="utf-8")
    return path


def command(contexts_file, *arguments):
    start = ["sweep", "-m", MODEL, "-c", str(contexts_file), "--lrs", "1e-3,4e-3", "--steps", "3"]
    return CliRunner().invoke(app, [*start, *map(str, arguments)])


def test_the_command_prints_the_diagram_and_leaves_a_sweep(tmp_path, contexts_file):
    done = command(contexts_file, "-o", tmp_path / "out", "--criterion", "rank", "--criterion", "born")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    for part in (
        "By the criterion rank",
        "By the criterion born",
        "Critical rates",
        "theta* unknown",
        "Phase boundary",
    ):
        assert part in text
    assert read_sweep(tmp_path / "out").finished == {0, 1, 2, 3}
    printed = json.loads(command(contexts_file, "-o", tmp_path / "out", "--criterion", "rank", "--json").stdout)
    assert printed["schema"] == 1
    assert len(printed["runs"]) == 4
    (diagram,) = printed["phases"]
    assert [entry["status"] for entry in diagram["critical"]]
    assert diagram["theta"]["value"] is None


def test_plan_runs_nothing(tmp_path, contexts_file):
    out = tmp_path / "out"
    text = command(contexts_file, "-o", out, "--plan").stdout
    assert "4 runs to do, 0 done" in text
    assert "engine stacked: about" in text
    assert not out.exists()
    listed = json.loads(command(contexts_file, "--plan", "--json", "--engine", "sequential").stdout)
    assert [run["number"] for run in listed["runs"]] == [0, 1, 2, 3]
    assert 0 < listed["estimate_seconds"] < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--lrs 1e-3,1e-4", "learning rates do not increase"),
        ("--lrs x", "can't read the rates"),
        ("--seeds a", "can't read the seeds"),
        ("--steps 0", "a sweep without steps"),
        ("--workers 0", "workers is out of range"),
        ("", "no folder for the results"),
    ],
)
def test_bad_input_ends_with_exit_code_2(arguments, message, monkeypatch, capsys, contexts_file):
    start = f"borngap sweep -m {MODEL} -c {contexts_file} --lrs 1e-3"
    monkeypatch.setattr(sys, "argv", [*start.split(), *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
