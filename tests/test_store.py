"""RUN folders: round trip, resuming, and faults that must overwrite nothing."""

import errno
import json
import math
from pathlib import Path

import polars as pl
import pytest

from borngap.errors import UserError
from borngap.folder import LOCK_FILE
from borngap.runfolder import RUN, STEP_COLUMNS, Store, clean, read_run

PLAN = {"model": "m", "rate": 0.1, "contexts": [{"gold": "a"}]}
ROWS = [{"step": 0, "born_gap": -0.1, "gold_rank": 3.0}, {"step": 1, "born_gap": math.nan, "gold_rank": math.nan}]


def start(folder, **changes):
    return Store(folder, PLAN | changes, {"python": "3"})


def snapshot(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != LOCK_FILE}


def test_round_trip(tmp_path):
    store = start(tmp_path / "run")
    store.add({1: ROWS}, {1: {"outcome": "lost"}})
    store.add({0: ROWS[:1]}, {0: {"outcome": "resolved"}})
    run = read_run(tmp_path / "run")
    assert run.plan == PLAN
    assert run.verdicts == [{"context": 0, "outcome": "resolved"}, {"context": 1, "outcome": "lost"}]
    assert run.finished == {0, 1}
    assert list(run.steps.columns) == list(STEP_COLUMNS)
    assert run.steps["context"].to_list() == [0, 1, 1]
    assert run.steps["gold_rank"].to_list() == [3, 3, None]
    assert math.isnan(run.steps["born_gap"][2])
    assert run.steps["drag"].to_list() == [None] * 3
    assert run.trajectory(1).steps == (0, 1)
    with pytest.raises(UserError, match="no such context"):
        run.trajectory(7)


def test_resuming_keeps_what_is_finished(tmp_path):
    start(tmp_path).add({0: ROWS}, {0: {"outcome": "lost"}})
    again = start(tmp_path)
    assert again.finished == {0}
    assert again.verdict(0)["outcome"] == "lost"
    again.add({1: ROWS}, {1: {"outcome": "lost"}})
    assert read_run(tmp_path).steps.height == 4


def test_rows_without_a_verdict_are_dropped_on_resume(tmp_path):
    """A kill between both files leaves rows of a context that is not finished."""
    with start(tmp_path) as store:
        store.add({0: ROWS}, {0: {"outcome": "lost"}})
        before = (tmp_path / "verdicts.json").read_bytes()
        store.add({1: ROWS}, {1: {"outcome": "lost"}})
    (tmp_path / "verdicts.json").write_bytes(before)
    again = start(tmp_path)
    assert again.finished == {0}
    again.add({1: ROWS[:1]}, {1: {"outcome": "resolved"}})
    assert read_run(tmp_path).steps.filter(pl.col("context") == 1).height == 1


def test_a_part_left_by_a_kill_is_no_obstacle(tmp_path):
    (tmp_path / "run.json.part").write_text("{")
    start(tmp_path).add({0: ROWS}, {0: {"outcome": "lost"}})
    assert read_run(tmp_path).finished == {0}


def test_another_plan_is_refused_and_named(tmp_path):
    start(tmp_path).add({0: ROWS}, {0: {"outcome": "lost"}})
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"another plan(.|\n)*rate: 0.1 there, 0.2 now"):
        start(tmp_path, rate=0.2)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["run.json", "verdicts.json"])
def test_another_schema_is_refused(tmp_path, name):
    start(tmp_path).add({0: ROWS}, {0: {"outcome": "lost"}})
    data = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(data | {"schema": RUN.schema + 1}))
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=f"another schema version(.|\\n)*found: {RUN.schema + 1}"):
        start(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_full_disk_leaves_the_files_as_they_were(tmp_path, monkeypatch):
    store = start(tmp_path)
    store.add({0: ROWS}, {0: {"outcome": "lost"}})
    before = snapshot(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("borngap.files.os.fsync", full)
    with store, pytest.raises(UserError, match=r"can't write to(.|\n)*No space left(.|\n)*finished before is kept"):
        store.add({1: ROWS}, {1: {"outcome": "lost"}})
    assert snapshot(tmp_path) == before
    monkeypatch.undo()
    assert start(tmp_path).finished == {0}


@pytest.mark.parametrize("name", ["run.json", "verdicts.json", "steps.parquet"])
def test_a_damaged_file_is_named(tmp_path, name):
    start(tmp_path).add({0: ROWS}, {0: {"outcome": "lost"}})
    (tmp_path / name).write_bytes(b"{oh")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        read_run(tmp_path)


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="no RUN there"):
        read_run(tmp_path / "none")


def test_json_has_no_nan():
    assert clean({"a": [math.nan, 1.0, (math.inf, "x")], "b": True}) == {"a": [None, 1.0, [None, "x"]], "b": True}
