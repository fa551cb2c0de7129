"""SWEEP folders: whole, locked, and refused where they are of another plan or damaged."""

import json
import time

import pytest
import torch
from polars.testing import assert_frame_equal
from tests.sweeping import RATES, another_process, files, planned

from borngap.errors import UserError
from borngap.files import json_bytes
from borngap.sweep.sweepfolder import Result, SweepStore, read_sweep


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
