"""``borngap terms``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import borngap
from borngap.cli import app
from borngap.errors import UserError
from borngap.usage.terms import terms

MODEL = "docs-gpt2-s"


@pytest.fixture
def files(tmp_path):
    """A list of terms and rows; the model is bundled."""
    (tmp_path / "style.csv").write_text("use,avoid\nexception,error\nargument,parameter\nclient,customer\n")
    rows = ["Raise an exception if the argument is None.", "Return the error and its parameters."]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return [str(tmp_path / "data.jsonl"), "-m", MODEL, "-t", str(tmp_path / "style.csv")]


def test_the_command(files, tmp_path):
    loaded = borngap.load(MODEL)
    own = terms(loaded.model, loaded.tokenizer, files[0], files[-1], name=MODEL, allowed=[1])
    assert own.summary["all"]["success"] == 1 / 2
    (tmp_path / "right.csv").write_text("row\n1\n")
    options = [*files, "--allowed", str(tmp_path / "right.csv"), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, ["terms", *options, "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == own.summary
    assert {"use", "avoid", "due", "success", "low", "high", "first", "right_avoid", "over_use", "leak"} <= set(
        own.summary["terms"][0]
    )
    assert borngap.read_usage(tmp_path / "out").places.equals(own.places)
    shown = CliRunner().invoke(app, ["terms", *options]).stdout
    assert re.search(r"exception +error +1 ", shown)
    assert re.search(r"all +2 +0\.50", shown)
    assert "compliance of" in shown
    assert "[exception] if the argument" in shown


@pytest.mark.parametrize(("share", "code"), [("0.5", 0), ("0.51", 1)])
def test_fail_under(files, share, code):
    done = CliRunner().invoke(app, ["terms", *files, "--no-leak", "--fail-under", share])
    assert done.exit_code == code
    assert ("the wanted word leads in 0.5000 of its places, under 0.51" in done.stderr) == (code == 1)


def test_the_command_refuses_what_it_can_not_judge(files, tmp_path):
    other = tmp_path / "other.jsonl"
    for text, message in (('{"text": "An exception"}\n{', "some rows were not read"),
                          ('{"text": "An error occurs"}\n', "there is no success to judge")):  # fmt: skip
        other.write_text(text)
        done = CliRunner().invoke(app, ["terms", str(other), *files[1:], "--no-leak", "--fail-under", "0.5"])
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)
    done = CliRunner().invoke(app, ["terms", *files, "--show", "-1"])
    assert "show is out of range" in str(done.exception)
    done = CliRunner().invoke(app, ["terms", *files, "--fail-under", "2"])
    assert "fail-under is out of range" in str(done.exception)
