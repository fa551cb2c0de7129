"""Sweeps: the plan, the store, kills, engines, lost workers, and the command."""

import contextlib
import json
import os
import random
import signal
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import borngap
from borngap.cli import app, main
from borngap.context import Context, write_contexts
from borngap.errors import UserError
from borngap.files import json_bytes
from borngap.sweep import engines, workers
from borngap.sweep import ray as cluster
from borngap.sweep.plan import SweepPlan, plan_sweep
from borngap.sweep.points import points
from borngap.sweep.run import run_sweep
from borngap.sweep.sweepfolder import Result, SweepStore, read_sweep
from borngap.training import Training

MODEL = "docs-gpt2-s"
CONTEXTS = [
    Context("Raise an", " error", " exception"),
    Context("If the key is missing from the", " dictionary", " list"),
]
RATES = (1e-3, 4e-3)


def planned(contexts=CONTEXTS, rates=RATES, seeds=(0,), **settings):
    training = Training(**{"method": "lora", "steps": 3} | settings)
    return plan_sweep(MODEL, contexts, rates, training=training, seeds=seeds)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


# --- the plan


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


# --- the store


def result(number, steps=2):
    names = {"rank": "resolved", "top1": "unresolved", "born": "kinematic"}
    ends = dict.fromkeys(("born_gap", "logit_gap", "drag", "gold_probability", "cross_entropy"), 0.5)
    entry = {
        "run": number, "context": number // 2, "rate": RATES[number % 2], "seed": 0, "engine": "sequential",
        "outcomes": names, "flip_steps": dict.fromkeys(names, 1), "flip_times": dict.fromkeys(names, 0.5),
        "gold_overlap": 0.7, "base": ends, "final": ends, "last_step": steps,
    }  # fmt: skip
    return Result(entry, [{"step": t, "born_gap": number + t / 10} for t in range(steps + 1)])


def store(folder, plan=None):
    return SweepStore(folder, (plan or planned()).to_json(), {"python": "3"})


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "lock"}


def test_parts_and_merged_files_read_alike(tmp_path):
    with store(tmp_path) as writer:
        writer.add([result(3), result(0)])
        writer.add([result(1)])
        before = read_sweep(tmp_path)
        assert before.finished == {0, 1, 3} == writer.finished
        writer.merge()
    after = read_sweep(tmp_path)
    assert sorted(files(tmp_path)) == ["runs.json", "steps.parquet", "sweep.json"]
    assert_frame_equal(before.runs, after.runs)
    assert_frame_equal(before.steps, after.steps)
    assert before.entries == after.entries
    assert after.runs["run"].to_list() == [0, 1, 3]
    assert after.steps["run"].to_list() == [0] * 3 + [1] * 3 + [3] * 3
    assert after.steps["born_gap"].to_list() == [0, 0.1, 0.2, 1, 1.1, 1.2, 3, 3.1, 3.2]
    assert (after.planned, after.trajectory(3).steps) == (4, (0, 1, 2))
    with pytest.raises(UserError, match="no such run"):
        after.trajectory(2)


def test_a_run_is_never_written_twice(tmp_path):
    with store(tmp_path) as writer:
        writer.add([result(1)])
        with pytest.raises(UserError, match=r"written twice(.|\n)*\[1\]"):
            writer.add([result(0), result(1)])
    with store(tmp_path) as again:
        assert again.finished == {1}


HOLD = """
import json, time
from borngap.sweep.sweepfolder import SweepStore
held = SweepStore(folder, json.loads(plan), {})
time.sleep(60)
"""


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    plan = json.dumps(planned().to_json())
    process = another_process(HOLD, plan=plan, folder=str(tmp_path))
    while not (tmp_path / "lock").exists() or not (tmp_path / "lock").read_text():
        time.sleep(0.01)
    with pytest.raises(UserError, match=f"process {process.pid}"):
        store(tmp_path)
    process.kill()
    process.join()
    with store(tmp_path) as writer:
        assert writer.finished == set()


def test_another_plan_is_refused(tmp_path):
    store(tmp_path).close()
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"another plan(.|\n)*steps: 3 there, 4 now"):
        store(tmp_path, planned(steps=4))
    assert files(tmp_path) == before
    store(tmp_path).close()


@pytest.mark.parametrize("name", ["sweep.json", "part-000000.json", "part-000000.parquet"])
def test_a_damaged_file_is_named(tmp_path, name):
    with store(tmp_path) as writer:
        writer.add([result(0)])
    (tmp_path / name).write_bytes(b"{oh")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        read_sweep(tmp_path)
    with pytest.raises(UserError, match="no SWEEP there"):
        read_sweep(tmp_path / "none")


def test_another_schema_is_refused(tmp_path):
    store(tmp_path).close()
    head = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_bytes(json_bytes(head | {"schema": 2}))
    with pytest.raises(UserError, match="another schema version"):
        store(tmp_path)


# --- running


def test_engines_give_equal_tables(tmp_path):
    plan = planned(seeds=(0, 1))
    one = run_sweep(plan, tmp_path / "one", engine="sequential")
    many = run_sweep(plan, tmp_path / "many", engine="stacked")
    assert one.runs.height == many.runs.height == 8
    assert_frame_equal(one.runs.drop("engine"), many.runs.drop("engine"), abs_tol=1e-4, rel_tol=1e-3)
    assert_frame_equal(one.steps, many.steps, abs_tol=1e-4, rel_tol=1e-3)
    assert float((one.steps["born_gap"] - many.steps["born_gap"]).abs().max()) < 1e-5
    separate = borngap.finetune(
        borngap.load(MODEL), CONTEXTS, Training(method="lora", steps=3, rate=4e-3, seed=1), tmp_path / "run"
    )
    # a sweep leaves the angles of all pairs to both ends and flips; all else is what `finetune` writes
    expensive = ("localisation_length", "burial_depth", "born_rank")
    kept = one.steps.filter(pl.col("run") == 5).drop("run", *expensive)
    own = separate.steps.filter(pl.col("context") == 0).drop(expensive)
    assert_frame_equal(kept, own, abs_tol=1e-6, rel_tol=1e-5)  # pairs are summed by another way
    assert kept["born_gap"].equals(own["born_gap"])
    ends = one.steps.filter(pl.col("step").is_in([0, 3]))
    assert ends.select(expensive).null_count().row(0) == (0, 0, 0)
    assert one.steps["localisation_length"].null_count() > 0
    assert one.entries[5]["outcomes"] == separate.verdicts[0]["outcomes"]


def test_a_finished_sweep_is_not_run_again(tmp_path, monkeypatch):
    first = run_sweep(planned(rates=(1e-3,)), tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr(engines.Worker, "stacked", lambda *_: pytest.fail("was run again"))
    again = run_sweep(planned(rates=(1e-3,)), tmp_path)
    assert again.runs.equals(first.runs)
    assert files(tmp_path) == before


@pytest.mark.parametrize("engine", ["sequential", "stacked"])
def test_a_run_that_diverges_is_recorded_and_touches_no_other(tmp_path, engine):
    rates = (1e-3, 1e30)
    sweep = run_sweep(planned(CONTEXTS[:1], rates), tmp_path / "a", engine=engine)
    alone = run_sweep(planned(CONTEXTS[:1], rates[:1]), tmp_path / "b", engine=engine)
    assert sweep.runs["outcome_rank"].to_list()[1] == "diverged"
    assert sweep.runs["last_step"][1] < 3
    difference = sweep.steps.filter(pl.col("run") == 0)["born_gap"] - alone.steps["born_gap"]
    assert float(difference.abs().max()) < 1e-6
    assert [point.outcome for point in points(sweep, "rank")] == sweep.runs["outcome_rank"].to_list()


SLOWLY = """
import json, time, torch
from borngap.sweep import engines
from borngap.sweep.plan import SweepPlan
from borngap.sweep.run import run_sweep
torch.set_num_threads(1)
engines.GROUP = 3
run_sweep(SweepPlan.from_json(json.loads(plan)), folder, engine=engine, on_run=lambda *_: time.sleep(0.05))
"""


def another_process(program, **names):
    """Run a program in a process that inherits no threads and has the libraries loaded."""
    process = workers.start_context().Process(target=exec, args=(program, names))
    process.start()
    return process


def many_runs():
    return planned(rates=(1e-3, 2e-3, 4e-3), seeds=(0, 1), steps=2)


@pytest.mark.parametrize(("engine", "seed"), [("sequential", 1), ("sequential", 2), ("stacked", 3)])
def test_kill_9_at_a_random_moment_loses_and_repeats_no_run(tmp_path, engine, seed, monkeypatch):
    monkeypatch.setattr(engines, "GROUP", 3)
    killed, whole, wait = tmp_path / "killed", tmp_path / "whole", random.Random(seed)
    plan = json.dumps(many_runs().to_json())
    process = another_process(SLOWLY, plan=plan, folder=str(killed), engine=engine)
    deadline = time.monotonic() + 60
    while not list(killed.glob("part-*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(wait.uniform(0, 0.6))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 0 < len(read_sweep(killed).finished) < 12
    for folder in (killed, whole):
        assert run_sweep(many_runs(), folder, engine=engine).runs["run"].to_list() == list(range(12))
    assert (killed / "steps.parquet").read_bytes() == (whole / "steps.parquet").read_bytes()
    assert (killed / "runs.json").read_bytes() == (whole / "runs.json").read_bytes()


def test_a_worker_that_dies_costs_its_run_only(tmp_path):
    plan = planned(rates=(1e-3, 2e-3, 4e-3), steps=2)
    running = workers.in_processes(plan, plan.runs, 2)
    found = [next(running)]
    victim = active_children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    found += list(running)
    assert victim.exitcode == -9
    assert sorted(one.entry["run"] for (one,) in found) == list(range(6))
    assert active_children() == []
    own = engines.Worker(plan)
    for (one,) in found:
        expected = own.sequential(plan.runs[one.entry["run"]])
        assert json.dumps(one.entry) == json.dumps(expected.entry)
        assert json.dumps(one.records) == json.dumps(expected.records)


def test_a_worker_that_always_dies_is_given_up(monkeypatch):
    monkeypatch.setattr(workers, "serve", print)
    plan = planned()
    with pytest.raises(UserError, match=r"a worker died 3 times at the same run(.|\n)*run [01], exit code 0"):
        list(workers.in_processes(plan, plan.runs, 2))
    assert active_children() == []


def test_what_a_worker_refuses_or_fails_at_reaches_the_user():
    with pytest.raises(UserError, match=r"no model there(.|\n)*fix: another"):
        workers.result_of({"refused": {"what": "no model there", "rule": None, "found": None, "fix": "another"}})
    with pytest.raises(RuntimeError, match=r"a worker failed:\nTraceback"):
        workers.result_of({"failed": "Traceback ..."})


def _ray_tasks():
    """Folders in /proc of this user's processes that carry out a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if path.read_bytes().startswith(b"ray::carry") and path.stat().st_uid == os.getuid():
                found.append(path.parent)
    return found


def test_ray_runs_what_a_lost_worker_was_at_again():
    """A real cluster on this machine; the process at work is killed once."""
    pytest.importorskip("ray")
    plan = planned(CONTEXTS[:1], rates=(1e-3, 2e-3, 4e-3), steps=60)  # long enough to be met at work
    running = cluster.on_ray(plan, plan.runs, 1)
    found = next(running)
    until = time.monotonic() + 20  # between two tasks the process has another name
    while not (at_work := _ray_tasks()) and time.monotonic() < until:
        time.sleep(0.01)
    for path in at_work:
        os.kill(int(path.name), signal.SIGKILL)
    assert at_work
    found += [one for results in running for one in results]
    assert sorted(one.entry["run"] for one in found) == [0, 1, 2]
    own = engines.Worker(plan)
    for one in found:
        assert json.dumps(one.records) == json.dumps(own.sequential(plan.runs[one.entry["run"]]).records)


@pytest.mark.parametrize(
    ("settings", "processors", "engine"),
    [
        ({}, 1, "stacked"),
        ({}, 8, "stacked"),
        ({"method": "full"}, 1, "sequential"),
        ({"method": "full"}, 2, "processes"),
        ({"dropout": True}, 2, "processes"),
        ({"forward": "labels"}, 1, "sequential"),
    ],
)
def test_auto_chooses(settings, processors, engine):
    assert engines.choose_engine(engines.Worker(planned(**settings)), "auto", processors) == engine


def test_auto_starts_no_processes_on_an_accelerator(monkeypatch):
    worker = engines.Worker(planned(method="full"))
    monkeypatch.setattr(type(worker.tuner.model), "device", torch.device("xpu"))
    assert engines.choose_engine(worker, "auto", 8) == "stacked"
    monkeypatch.setattr(engines, "pays", lambda _: False)
    assert engines.choose_engine(worker, "auto", 8) == "sequential"


@pytest.mark.parametrize(
    ("settings", "engine", "message"),
    [
        ({}, "magic", "unknown engine"),
        ({"dropout": True}, "stacked", r"can't carry out this plan(.|\n)*dropout(.|\n)*--engine auto"),
        ({"forward": "labels"}, "stacked", r"can't carry out this plan(.|\n)*forward labels"),
    ],
)
def test_engines_that_do_not_fit(settings, engine, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_sweep(planned(**settings), tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


# --- the command


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
