"""`borngap report` and `compare`: every format, the summary on the terminal, bad output."""

from __future__ import annotations

import json

import pytest
from tests.runs import make_run, make_sweep

from borngap.report.report import report_of

ALONE = "each context trained alone, 50 steps on its one prompt; a run on a data set moves it far less"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def of(*inputs):
    return report_of(*inputs, with_geometry=False)


def test_a_comparison_has_charts_with_a_line_a_run(run, tmp_path, folder):
    other = make_run(tmp_path / "other", ["resolved"], method="lora", rate=2e-3)
    code, out, told = run("compare", folder, other, "--charts", tmp_path / "charts", "--format", "json")
    assert code == 0
    assert json.loads(out)["kind"] == "compare", "standard output is the comparison alone"
    assert told == f"2 files written to {tmp_path / 'charts'}\n"
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["context-001.png", "context-001.svg"]
    svg = (tmp_path / "charts" / "context-001.svg").read_text()
    assert "full, rate 2e−4" in svg
    assert "lora, rate 2e−3" in svg
    assert "var(" not in svg
    code, out, _ = run("compare", folder, other, "--charts", tmp_path / "again")
    assert (code, out) == (0, "")


def test_the_command_writes_each_format(run, folder, tmp_path):
    code, out, _ = run("report", folder, "-o", tmp_path / "r.md", "--no-geometry")
    assert (code, out.startswith("written to")) == (0, True)
    assert (tmp_path / "r.md").read_text() == of(folder).markdown
    code, out, _ = run("report", folder, "--format", "json", "--no-geometry")
    assert json.loads(out)["kind"] == "report"
    code, out, _ = run("compare", folder, folder)
    assert code == 0
    assert "Of 6 shared contexts, the outcome is the same in all." in " ".join(out.split())
    assert "Add -o report.html for the page" in out
    code, _, _ = run("compare", folder, folder, "-o", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == "compare"


def test_without_a_file_the_summary_is_printed(run, folder, tmp_path):
    entry = {"context": 0, "gold": " gold0", "rival": " rival0", "critical_rate": 5e-5, "low": 4e-5, "high": 6e-5}
    (tmp_path / "f.json").write_text(json.dumps({"schema": 1, "scope": ALONE, "forecasts": [entry]}))
    code, out, _ = run("report", folder, tmp_path / "f.json", make_sweep(tmp_path / "sweep"), "--no-geometry")
    summary = of(folder, tmp_path / "f.json", tmp_path / "sweep").summary
    told = " ".join(out.split())
    assert code == 0
    for text in (*(run["verdict"] for run in summary["runs"]), summary["phantom"], summary["forecast"]["sentence"]):
        assert " ".join(text.split()) in told
    words = set(out.split())
    for context in summary["contexts"]:
        assert {context["gold"], context["rival"], context["outcome"]} <= words
    assert told.endswith("Add -o report.html for the page, with charts and what the words mean.")
    assert "<" not in out


@pytest.mark.parametrize(("arguments", "message"), [
    (["--format", "html"], "no file for the report"),
    (["-o", "report.pdf"], "the format of the report can't be told"),
    (["-o", "/dev/null/report.md"], "can't write"),
])  # fmt: skip
def test_the_command_refuses_bad_output(run, folder, arguments, message):
    code, out, err = run("report", folder, "--no-geometry", *arguments)
    assert (code, out) == (2, "")
    assert message in err
