"""What Python shows of borngap's objects: a line that tells what one has in hand."""

import json
import re

import polars as pl
import pytest
import torch
from tests.hosts import CONTEXTS, PROSE, TIED, trainer

import borngap
from borngap.sweep.sweepfolder import Sweep
from borngap.track.callback import BornGapCallback


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return borngap.load(TIED)


def test_a_loaded_model(loaded):
    assert repr(loaded) == "<Loaded docs-gpt2-s: GPT2LMHeadModel, 1.87 M parameters, float32 on cpu>"


def test_a_callback_its_tracker_and_its_run(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=2, out=tmp_path / "run")
    assert repr(watcher) == "<BornGapCallback: training has not begun>"
    trainer(tmp_path / "host", [watcher], max_steps=3).train()
    said = "<Tracker of 3 contexts at step 3, ahead by rank in 1; 3 records, every 2 steps; "
    assert re.fullmatch(rf"<BornGapCallback: {said}[\d.]+ % of the training's time>>", repr(watcher))
    run = borngap.read_run(tmp_path / "run")
    assert re.fullmatch(rf"<Run {tmp_path}/run: 3 contexts, (\d [a-z-]+(, )?)+ by rank; steps to 3>", repr(run))


def test_a_scan(loaded, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in PROSE))
    scan = borngap.scan(loaded.model, loaded.tokenizer, str(data))
    counts = scan.summary["counts"]
    said = f"<Scan in memory of {data}: {counts['with_rival']} of {counts['targets']} targets have a rival, ahead in "
    assert repr(scan).startswith(f"{said}{counts['rival_ahead']}; {len(scan.pairs)} pairs, worst ")
    assert len(repr(scan)) < 300


def test_a_sweep(tmp_path):
    plan = {"contexts": [{}, {}], "runs": 6, "rates": [1e-3] * 3, "seeds": [0]}
    sweep = Sweep(tmp_path, plan, {}, pl.DataFrame(), pl.DataFrame(), [{"run": 0}, {"run": 4}])
    assert repr(sweep) == f"<Sweep {tmp_path}: 2 of 6 runs finished, 2 contexts>"
