"""What carries out a sweep: equal results, kills, lost workers, and the choice of an engine."""

import contextlib
import json
import os
import random
import signal
import time
from multiprocessing import active_children
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.sweeping import CONTEXTS, MODEL, another_process, files, planned

import borngap
from borngap.errors import UserError
from borngap.sweep import engines, workers
from borngap.sweep import ray as cluster
from borngap.sweep.points import points
from borngap.sweep.run import run_sweep
from borngap.sweep.sweepfolder import read_sweep
from borngap.training import Training


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
