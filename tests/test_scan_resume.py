"""Scans that are cut off: killed with -9, or between two files, they go on without losing or repeating a row."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import tiny

import borngap
from borngap.errors import UserError
from borngap.folder import SUMMARY_FILE
from borngap.scanning.parts import PARTS
from borngap.scanning.scan import scan
from borngap.scanning.scanfolder import read_scan

TEXTS = ["The old man felt shame and guilt. He said that the method returns a list of words", "Raise an error"]
EASY = {"percentile": 90.0}
SOURCES = os.pathsep.join([str(Path(borngap.__file__).parents[1]), "."])
KILLED = """
import os, signal, sys
from tests.test_scan_resume import ROWS, scan, tiny
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
def die(progress):
    if progress.rows >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
scan(tiny("gpt2", len(tokenizer)), tokenizer, sys.argv[2], out=sys.argv[3], chunk=3, percentile=90.0, on_progress=die)
"""
ROWS = [{"text": TEXTS[i % 2] + f" {i}"} for i in range(13)]


def test_a_killed_scan_goes_on_without_losing_or_repeating_a_row(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    data, out = tmp_path / "data.jsonl", tmp_path / "scan"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tokenizer"), str(data), str(out)]
    ended = subprocess.run(command, check=False, timeout=100, env={**os.environ, "PYTHONPATH": SOURCES})
    assert ended.returncode == -signal.SIGKILL
    done = sorted(file.name for file in (out / PARTS).iterdir())
    assert [name for name in done if name.endswith(".json")] == ["00000000.json", "00000001.json"]
    with pytest.raises(UserError, match="is not finished"):
        read_scan(out)
    (out / PARTS / "00000000.json").unlink()  # as if cut off between both files of a chunk
    model = tiny("gpt2", len(tokenizer))
    seen = []
    resumed = scan(model, tokenizer, data, out=out, chunk=3, on_progress=seen.append, **EASY)
    assert [progress.rows for progress in seen] == [6, 9, 12, 14]
    assert {progress.total for progress in seen} == {14}
    whole = scan(model, tokenizer, data, chunk=3, **EASY)
    assert resumed.positions.equals(whole.positions)
    assert resumed.pairs.equals(whole.pairs)
    assert resumed.summary == whole.summary
    assert resumed.summary["counts"]["rows"] == 14
    assert resumed.summary["malformed"][0]["where"] == "data.jsonl, line 14"
    assert sorted(file.name for file in out.iterdir()) == [
        "pairs.parquet", "positions.parquet", "scan.json", "summary.json"
    ]  # fmt: skip
    stamp = (out / SUMMARY_FILE).stat().st_mtime_ns
    assert scan(model, tokenizer, data, out=out, chunk=3, **EASY).positions.equals(whole.positions)
    assert (out / SUMMARY_FILE).stat().st_mtime_ns == stamp, "a finished scan is not scanned again"
    with pytest.raises(UserError, match=r"holds a run of another plan\n.*\n  found: percentile: 90.0 there, 95.0 now"):
        scan(model, tokenizer, data, out=out, chunk=3, percentile=95.0)
    data.write_text("{}\n")
    with pytest.raises(UserError, match="unknown layout"):
        scan(model, tokenizer, data, out=out, chunk=3, **EASY)


def test_a_changed_file_is_another_plan(tokenizer, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "scan"
    data.write_text('{"text": "He felt shame and guilt."}\n')
    model = tiny("gpt2", len(tokenizer))
    scan(model, tokenizer, data, out=out, **EASY)
    data.write_text('{"text": "He felt shame and guilt, and that."}\n')
    with pytest.raises(UserError, match=r"another plan\n  rule: the same plan\n  found: stamp"):
        scan(model, tokenizer, data, out=out, **EASY)


def test_what_else_makes_another_plan(tokenizer, tmp_path):
    """Other rows of the same number, another split, another chat template: never the results of the first."""
    model, out = tiny("gpt2", len(tokenizer)), tmp_path / "scan"
    scan(model, tokenizer, ["He felt shame and guilt."], out=out, **EASY)
    with pytest.raises(UserError, match=r"another plan(.|\n)*found: stamp"):
        scan(model, tokenizer, ["A shameful act, a guilty mind."], out=out, **EASY)
    both = tmp_path / "both.json"
    both.write_text('{"train": [{"text": "He felt shame."}], "test": [{"text": "He felt guilt."}]}')
    scan(model, tokenizer, both, out=tmp_path / "both", **EASY)
    with pytest.raises(UserError, match=r"another plan(.|\n)*found: split: \"train\" there, \"test\" now"):
        scan(model, tokenizer, both, out=tmp_path / "both", split="test", **EASY)
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = "{{ messages }}"
    with pytest.raises(UserError, match=r"another plan(.|\n)*found: tokenizer"):
        scan(model, changed, ["He felt shame and guilt."], out=out, **EASY)


@pytest.mark.parametrize("name", ["x" * 300, "He said: " + "y" * 5000])
def test_a_text_in_place_of_a_file_is_told(tokenizer, name):
    with pytest.raises(UserError, match=r"no data at|is no file"):
        scan(tiny("gpt2", len(tokenizer)), tokenizer, name + ".jsonl")


def test_a_damaged_part_is_named(tokenizer, tmp_path):
    model, out = tiny("gpt2", len(tokenizer)), tmp_path / "scan"

    def stop(progress):
        if progress.rows >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(model, tokenizer, [row["text"] for row in ROWS], out=out, chunk=3, on_progress=stop, **EASY)
    part = out / PARTS / "00000000.parquet"
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(UserError, match=r"00000000.parquet is damaged"):
        scan(model, tokenizer, [row["text"] for row in ROWS], out=out, chunk=3, **EASY)
