"""What writes result folders, from outside: one at a time, one clear error, and killed it goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests import killed
from tests.hosts import CONTEXTS, TIED
from tests.runs import make_run, make_sweep
from tests.test_report_scan import make_scan

import borngap
from borngap.errors import UserError
from borngap.folder import LOCK_FILE, Lock
from borngap.report.report import report_of
from borngap.runfolder import read_run
from borngap.scanning.scan import scan
from borngap.sweep.plan import plan_sweep
from borngap.sweep.run import run_sweep
from borngap.track.tracker import Tracker
from borngap.train.finetune import finetune
from borngap.training import Training

BUSY = r"is being written\n  rule: one writer\n  found: process \d+ on .*(this one)"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tracker(out, state=None, **options):
    loaded = borngap.load(TIED)
    return Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], out=out, every=1, state=state, **options)


def tuned(out, on_step=lambda _: None):
    finetune(borngap.load(TIED), CONTEXTS[:1], Training(method="full", steps=2), out, on_step)


def swept(out, on_run=lambda *_: None):
    training = Training(method="full", steps=1)
    run_sweep(plan_sweep(TIED, CONTEXTS[:1], [1e-5], training=training), out, engine="sequential", on_run=on_run)


def scanned(out, on_progress=lambda _: None):
    loaded = borngap.load(TIED)
    scan(
        loaded.model, loaded.tokenizer, ["The function returns a list."] * 3, out=out, chunk=1, on_progress=on_progress
    )


@pytest.mark.parametrize("write", [tuned, swept, scanned])
def test_who_writes_is_alone(write, tmp_path):
    met = []

    def meet(*_):
        with pytest.raises(UserError, match=BUSY):
            Lock(tmp_path / "mine")
        met.append(True)

    write(tmp_path / "mine", meet)
    assert met
    with Lock(tmp_path / "mine"), pytest.raises(UserError, match=BUSY):
        write(tmp_path / "mine")


def test_a_tracker_is_alone_until_it_ends(tmp_path):
    first = tracker(tmp_path / "mine")
    with pytest.raises(UserError, match=BUSY):
        tracker(tmp_path / "mine")
    first.step(1)
    first.finish()
    assert not (tmp_path / "mine" / LOCK_FILE).exists()
    with pytest.raises(UserError, match="holds a run already"):
        tracker(tmp_path / "mine")
    Lock(tmp_path / "mine").release()


def test_a_tracker_that_is_closed_or_dropped_or_fails_lets_others_write(tmp_path, monkeypatch):
    tracker(tmp_path / "mine")
    first = tracker(tmp_path / "mine")
    first.close()
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "_probe", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError) as failed:
            tracker(tmp_path / "mine")
    assert failed.tb is not None, "the traceback keeps what failed alive"
    assert len(tracker(tmp_path / "mine").finish()) == 1


def test_reports_read_on_while_somebody_writes(tmp_path):
    for folder in (make_run(tmp_path / "run"), make_sweep(tmp_path / "sweep"), make_scan(tmp_path / "scan")):
        with Lock(folder):
            assert report_of(folder, with_geometry=False).markdown


def test_a_tracked_run_that_is_killed_goes_on_and_is_complete(tmp_path):
    command = [sys.executable, killed.__file__, str(tmp_path / "killed")]
    ended = subprocess.run(command, check=False, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / LOCK_FILE).exists(), "the dead process left it behind"
    assert read_run(tmp_path / "killed").steps["step"].max() == killed.ROUNDS // 2
    killed.train(tmp_path / "killed", kept=json.loads((tmp_path / "killed.json").read_text()))
    killed.train(tmp_path / "whole")
    for name in ("steps.parquet", "verdicts.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_run(tmp_path / "killed").plan == read_run(tmp_path / "whole").plan


@pytest.mark.parametrize("command", [
    "finetune -m docs-gpt2-s -c docs10 --steps 1 --out", "scan {data} -m docs-gpt2-s --out",
    "sweep -m docs-gpt2-s -c docs10 --lrs 1e-5 --steps 1 --engine sequential --out",
    "reproduce --quick --models docs-gpt2-s --out", "report {run} --no-geometry --out",
    "report {run} --no-geometry --charts",
])  # fmt: skip
def test_a_place_that_cannot_be_written_is_one_clear_error(command, run, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "The function returns a list."}\n')
    words = command.format(data=data, run=make_run(tmp_path / "run", ("resolved",))).split()
    code, _, told = run(*words, str(data / "out.html"))
    assert code == 2
    assert re.fullmatch(
        r"error: can't write to .*data.jsonl.*\n  found: a file where a folder should be\n  fix: .*\n", told
    ), told


PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from borngap.experiments.processes import end_quietly
pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_quietly)
print(pool.submit(os.getpid).result(), flush=True)
pool.submit(time.sleep, 100)
time.sleep(100)
"""


def test_a_worker_does_not_outlive_the_process_that_holds_the_lock():
    """It would write on into a folder that somebody else may lock."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert alive(worker)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(worker)


def alive(process):
    """Whether it runs; a process that has ended but was not asked for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
