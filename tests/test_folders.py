"""All kinds of result folder under one rule: cut off anywhere and gone on with, one writer, one plan, clear errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.faults import every_fault
from tests.runs import PLAN, judged, records
from tests.tiny import tiny

from borngap.context import Context
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.experiments import campaign
from borngap.experiments import folder as reproduction
from borngap.experiments.arms import Scope
from borngap.experiments.run import reproduce
from borngap.files import read_table
from borngap.folder import LOCK_FILE, SUMMARY_FILE, Lock
from borngap.model.load import Loaded
from borngap.runfolder import Store, read_run
from borngap.scanning import scan as scans
from borngap.scanning.parts import PARTS
from borngap.scanning.settings import Scanning
from borngap.sweep.sweepfolder import Result, SweepStore, entry_of, read_sweep

CONTEXTS = [Context(f"Prompt {i} is", f" gold{i}", f" rival{i}") for i in range(3)]
RECORDS = [records(story, 4) for story in ("resolved", "unresolved", "jump")]
VERDICTS = [judged(context, rows) for context, rows in zip(CONTEXTS, RECORDS, strict=True)]
ROWS = [{"text": f"The old man felt shame and guilt. The method returns a list of words {i}"} for i in range(5)]


@dataclass
class Writer:
    """A way to fill a folder, whatever of it is there already.

    Attributes:
        write: fills a folder; ``change`` makes it another plan.
        done: what a folder says is done.
        items: what is done, in order.
        made: what was made, each time.
    """

    items: list[Any]
    made: list[Any]

    def write(self, folder, change=False):
        raise NotImplementedError

    def done(self, folder):
        raise NotImplementedError


class RunWriter(Writer):
    """RUN: three contexts."""

    def write(self, folder, change=False):
        with Store(folder, PLAN | {"rate": 0.1 if change else 0.2}, {}) as store:
            for item in self.items:
                if item not in store.finished:
                    self.made.append(item)
                    store.add({item: RECORDS[item]}, {item: VERDICTS[item]})

    def done(self, folder):
        return read_run(folder).finished


class SweepWriter(Writer):
    """SWEEP: three runs, then merged."""

    def write(self, folder, change=False):
        fill_sweep(folder, {"contexts": [1, 2, 3], "rates": [0.1], "seeds": [int(change)]}, self.made)

    def done(self, folder):
        return read_sweep(folder).finished


class ScanWriter(Writer):
    """Scan: three chunks, then positions, pairs and summary."""

    def __init__(self, tokenizer):
        self.job = scans.job_of(
            Loaded("tiny", tiny("gpt2", len(tokenizer)), tokenizer), source_of(ROWS), Scanning(chunk=2, percentile=90.0)
        )
        self.chunks = dict(scans.in_process(self.job, frozenset()))
        super().__init__(list(self.chunks), [])

    def _engine(self, job, done):
        for index in self.items:
            if index not in done:
                self.made.append(index)
                yield index, self.chunks[index]

    def write(self, folder, change=False):
        scans.run(self.job, folder, export_contexts=2 if change else 1, engine=self._engine)

    def done(self, folder):
        if (folder / SUMMARY_FILE).exists():
            return set(self.items)
        marks = list((folder / PARTS).glob("*.json"))
        assert all(read_table(mark.with_suffix(".parquet")).height for mark in marks)
        return {int(mark.stem) for mark in marks}


class ReproductionWriter(Writer):
    """Reproduction: the base model, two searches, a SWEEP of three runs, a forecast of ends."""

    plan = reproduction.Plan(("tiny",), tuple(CONTEXTS[:1]), Scope(("lora",), 6, (1.7,), False, False))
    files = ("base", "critical/lora-born-collocation", "critical/lora-rank-collocation")

    def __init__(self, monkeypatch):
        super().__init__([*self.files, 0, 1, 2, "ends/lora"], [])

        def base(*_):
            return self._make("base", {"contexts": [{"context": 0, "gold_overlap": 0.5}], "model": {"tied": True}})

        def finder(_name, contexts, training, _device):
            name = f"critical/lora-{training.criterion}-collocation"
            entry = {"context": 0, "critical_rate": 1e-3, "gold_overlap": 0.5}
            return SimpleNamespace(units=lambda _: [[0]], rates=lambda *_: self._make(name, [entry]))

        monkeypatch.setattr(campaign, "base_of", lambda *_: base() | {"lora_targets": ["c_attn"]})
        monkeypatch.setattr(campaign, "RateFinder", finder)
        monkeypatch.setattr(campaign, "ends_of", lambda *_: self._make("ends/lora", []))
        monkeypatch.setattr(campaign, "run_sweep", lambda plan, out, **_: fill_sweep(out, plan.to_json(), self.made))
        monkeypatch.setattr(reproduction, "environment", dict)

    def _make(self, item, value):
        self.made.append(item)
        return value

    def write(self, folder, change=False):
        plan = reproduction.Plan(("other",) if change else ("tiny",), self.plan.contexts, self.plan.scope)
        reproduce(plan, folder)

    def done(self, folder):
        home = reproduction.home(folder, "tiny")
        there = [path.relative_to(home) for path in home.rglob("*.json")]
        # a search is one unit here; its part counts until the whole is written
        found = {str(path).removesuffix(".json").removesuffix(".parts/0000") for path in there}.intersection(self.items)
        sweep = home / "sweeps" / "lora"
        return found | (read_sweep(sweep).finished if (sweep / "sweep.json").exists() else set())


def fill_sweep(folder, plan, made):
    """Fill a SWEEP of three runs: two at once, then one."""
    with SweepStore(folder, PLAN | plan, {}) as store:
        for group in ((0, 1), (2,)):
            missing = [run for run in group if run not in store.finished]
            made += missing
            if missing:
                store.add([result(run) for run in missing])
        store.merge()


def result(run):
    rows, verdict = RECORDS[run], {"context": run} | VERDICTS[run]
    return Result(entry_of(run, 0.1, 0, "sequential", verdict, (rows[0], rows[-1])), rows)


@pytest.fixture(params=["RUN", "SWEEP", "scan", "reproduction"])
def writer(request, tokenizer, monkeypatch):
    makers = {
        "RUN": lambda: RunWriter([0, 1, 2], []),
        "SWEEP": lambda: SweepWriter([0, 1, 2], []),
        "scan": lambda: ScanWriter(tokenizer),
        "reproduction": lambda: ReproductionWriter(monkeypatch),
    }
    if request.param == "scan":
        monkeypatch.setattr(scans, "environment", dict)
    return makers[request.param]()


def snapshot(folder):
    """Every file of a folder, but for what says who writes there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


def marked(writer, folder):
    """What a folder says is done; nothing if it is not begun."""
    return writer.done(folder) if snapshot(folder).keys() & HEADS else set()


HEADS = {"run.json", "sweep.json", "scan.json", "reproduce.json"}


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_a_folder_that_is_cut_off_anywhere_is_gone_on_with(writer, fault, tmp_path, monkeypatch):
    """Nothing that it says is done is lost or done again, and in the end it is the same, byte for byte."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    whole, refused = tmp_path / "whole", 0
    writer.write(whole)
    assert writer.made == writer.items
    for at, error in every_fault(fault, lambda at: writer.write(tmp_path / f"{at}"), monkeypatch):
        folder = tmp_path / f"{at}"
        if fault == "full" and error is not None:  # a lock is taken away on a full disk, too
            refused += 1
            assert isinstance(error, UserError), error
            assert "can't write to" in str(error)
            assert not list(folder.rglob("*.part"))
        done = marked(writer, folder)
        writer.made.clear()
        writer.write(folder)
        assert writer.made == [item for item in writer.items if item not in done], f"after {at}"
        assert snapshot(folder) == snapshot(whole), f"after {at}"
    assert at > 30
    assert refused > 25 or fault == "kill"


# --- one writer, one plan, nothing else


def stopped():
    """What Ctrl-C does, also where a shell has told this process to ignore its signal."""
    raise KeyboardInterrupt


class Meeting(list):
    """What was made; somebody is met each time that something is."""

    def __init__(self, meet):
        super().__init__()
        self._meet = meet

    def append(self, item):
        super().append(item)
        self._meet()

    def __iadd__(self, items):
        for item in items:
            self.append(item)
        return self


def test_a_second_writer_is_refused_and_disturbs_nobody(writer, tmp_path):
    """While the first writes, and by the same call; readers read on."""
    folder, met = tmp_path / "mine", []

    def meet():
        there = snapshot(folder)
        with pytest.raises(UserError, match=rf"mine is being written\n  rule: one writer(.|\n)*process {os.getpid()}"):
            writer.write(folder)
        assert snapshot(folder) == there
        met.append(len(writer.done(folder)))

    writer.made = Meeting(meet)
    writer.write(folder)
    assert len(met) == len(writer.items)
    assert met == sorted(met)
    assert writer.done(folder) == set(writer.items)
    assert not list(folder.rglob(LOCK_FILE)), "nobody writes there any more"


@pytest.mark.parametrize("left", ["", "1", "77 on another"])
def test_the_lock_file_of_a_killed_process_is_no_obstacle(writer, left, tmp_path):
    (tmp_path / LOCK_FILE).write_text(left)
    (tmp_path / "run.json.part").write_text("{")
    writer.write(tmp_path)
    assert writer.done(tmp_path) == set(writer.items)


def test_another_plan_is_refused_and_changes_nothing(writer, tmp_path):
    writer.write(tmp_path)
    before, writer.made[:] = snapshot(tmp_path), []
    with pytest.raises(UserError, match=r"a run of another plan\n  rule: the same plan\n  found: .* there, .* now"):
        writer.write(tmp_path, change=True)
    assert snapshot(tmp_path) == before
    writer.write(tmp_path)
    assert writer.made == [], "what is done is not done again"
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["thesis.tex", "lock.txt", "steps.parquet"])
def test_a_folder_of_something_else_is_refused_and_left_alone(writer, name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds other files\n  rule: a new or empty folder, or a .*\n  found: {name}"):
        writer.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_there(writer, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"can't write to .*file(.|\n)*fix: free space or choose another folder"):
            writer.write(folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_finished_is_read_from_a_disk_that_cannot_be_written(writer, tmp_path, monkeypatch):
    """A finished folder asks for no lock there; one that is not finished says that it can't be written."""
    writer.write(tmp_path / "done")
    with contextlib.suppress(KeyboardInterrupt):
        writer.made = Meeting(lambda: stopped() if len(writer.made) == 2 else None)
        writer.write(tmp_path / "begun")
    read_only(monkeypatch)
    writer.made = []
    writer.write(tmp_path / "done")
    assert writer.made == []
    for name in ("begun", "new"):
        with pytest.raises(UserError, match=r"can't write to(.|\n)*found: Read-only file system"):
            writer.write(tmp_path / name)


def read_only(monkeypatch):
    """Make the disk one that can't be written; a mode would not do, since root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    opened, opened_low = io.open, os.open

    def unless(allowed, function, *args, **more):
        if not allowed:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return function(*args, **more)

    monkeypatch.setattr(io, "open", lambda path, mode="r", *a, **k: unless(mode[0] == "r", opened, path, mode, *a, **k))
    monkeypatch.setattr(os, "open", lambda path, flags, *a: unless(not flags & os.O_CREAT, opened_low, path, flags, *a))
    monkeypatch.setattr(os, "mkdir", lambda path, *_: unless(Path(path).is_dir(), str, path))


# --- the lock itself


def test_a_lock_that_is_dropped_locks_nothing(tmp_path):
    Lock(tmp_path)
    with Lock(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f"{os.getpid()} on ")
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    """A data loader's worker outlives a trainer that is killed."""
    lock = Lock(tmp_path)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        with pytest.raises(UserError, match="is being written"):
            Lock(tmp_path)
        lock.release()
        Lock(tmp_path).release()
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)


def test_a_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="can't write to"):
        Store(tmp_path / "run", PLAN, {})
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["../out.json", "/tmp/out.json", "link/out.json", "a/../../out.json"])
def test_no_path_leaves_its_folder(name, tmp_path):
    with Store(tmp_path / "run", PLAN, {}) as store:
        (tmp_path / "run" / "link").symlink_to(tmp_path)
        with pytest.raises(UserError, match="a path leaves its folder"):
            store.write(name, b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_system_that_knows_no_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    Lock(tmp_path).release()
