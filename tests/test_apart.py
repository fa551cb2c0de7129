"""Experiments stand apart: without their folder everything works but `borngap reproduce`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runs import make_run, make_sweep

import borngap

SOURCE = Path(borngap.__file__).parent
ROWS = [{"text": "The method returns a list, and the function raises an error."}] * 2
MODEL = ("--model", "docs-gpt2-s")
PROGRAM = """
import json, sys
import borngap
from typer.main import get_command
from typer.testing import CliRunner
from borngap.cli import app

assert borngap.__file__.startswith(sys.argv[1]), borngap.__file__
for name in borngap.__all__:
    getattr(borngap, name)
ended = {f"{name} --help": ["--help", name] for name in get_command(app).commands}
ended |= json.loads(sys.argv[2])
for name, arguments in ended.items():
    result = CliRunner().invoke(app, arguments if arguments[0] != "--help" else arguments[::-1])
    ended[name] = "fine" if result.exit_code == 0 else repr(result.exception)
print(json.dumps(ended))
"""


@pytest.fixture
def without(tmp_path):
    """Return where a copy of the package lies that lacks the experiments; the models are those of the original."""
    there = tmp_path / "without"
    shutil.copytree(SOURCE, there / "borngap", ignore=shutil.ignore_patterns("__pycache__", "experiments", "models"))
    (there / "borngap" / "zoo" / "models").symlink_to(SOURCE / "zoo" / "models")
    return there


def test_without_the_experiments_all_else_works(without, tmp_path):
    run, sweep, data = make_run(tmp_path / "run", ["resolved"]), make_sweep(tmp_path / "sweep"), tmp_path / "d.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"prompt": "It raises an", "gold": " exception", "rival": " error"}))
    commands = {
        "probe": ["probe", *MODEL, "--contexts", few],
        "finetune": ["finetune", *MODEL, "--contexts", few, "--steps", "1", "--out", tmp_path / "tuned"],
        "scan": ["scan", data, *MODEL, "--out", tmp_path / "scan"],
        "sweep": ["sweep", *MODEL, "--contexts", few, "--lrs", "1e-4", "--steps", "1", "--out", tmp_path / "swept"],
        "report of a RUN": ["report", run, "-o", tmp_path / "run.md", "--no-geometry"],
        "report of a SWEEP": ["report", sweep, "-o", tmp_path / "sweep.md", "--no-geometry"],
        "report of a SCAN": ["report", tmp_path / "scan", "-o", tmp_path / "scan.md"],
        "compare": ["compare", run, run],
        "reproduce": ["reproduce", "--out", tmp_path / "reproduction", "--plan"],
    }
    told = json.dumps({name: [*map(str, arguments)] for name, arguments in commands.items()})
    command = [sys.executable, "-c", PROGRAM, str(without), told]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(without)}, timeout=300
    )
    ended = json.loads(done.stdout.splitlines()[-1])
    assert ended.pop("reproduce") == """ModuleNotFoundError("No module named 'borngap.experiments'")"""
    assert {"scan --help", "reproduce --help", "zoo --help"} <= set(ended)
    assert {name: how for name, how in ended.items() if how != "fine"} == {}
