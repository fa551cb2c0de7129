"""Runs side by side: what differs, and what can't be compared."""

from __future__ import annotations

import re

import pytest
from tests.runs import make_run

from borngap.errors import UserError
from borngap.report.report import comparison_of

CONTEXT = ("The resolved story of context 0 is", " gold0", " rival0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def test_a_comparison_names_what_differs(tmp_path):
    other = ("Alone", " gold1", " rival1")
    make_run(tmp_path / "a", ["resolved", "unresolved"])
    make_run(tmp_path / "b", ["unresolved", "lost"], words=[CONTEXT, other], method="lora", rate=2e-3)
    record = comparison_of(tmp_path / "a", tmp_path / "b").summary
    assert record["verdict"] == (
        "Of 1 shared context, the outcome differs in 1. Gold ahead at the end: full, rate 2e−4: 1 of 1; "
        "lora, rate 2e−3: 0 of 1."
    )
    shared = record["contexts"][0]
    assert shared["differs"] == ["outcome", "flip"]
    assert [entry["flip"] for entry in shared["entries"]] == [11, None]
    assert shared["series"]["logit_gap_0"][-1] == pytest.approx(3, abs=1e-3)
    assert shared["series"]["logit_gap_1"][-1] == pytest.approx(-1, abs=0.02)
    assert [(c["run"], c["prompt_end"]) for c in record["only"]] == [
        (0, "The unresolved story of context 1 is"),
        (1, "Alone"),
    ]


def test_runs_of_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name, ["resolved"])
    make_run(tmp_path / "deep" / "a", ["resolved"])
    record = comparison_of(tmp_path / "a", tmp_path / "b", tmp_path / "deep" / "a").summary
    assert len({run["label"] for run in record["runs"]}) == 3


@pytest.mark.parametrize(("file", "message"), [
    ("summary.json", "no RUN there\n  rule: a folder with run.json\n  found: {}\n  fix: give RUN folders, as"),
    ("scan.json", "results of different kinds can't be compared\n  rule: RUN folders, as"),
    ("positions.parquet", "results of different kinds can't be compared\n  rule: RUN folders, as"),
    ("terms.json", "results of different kinds can't be compared\n  rule: RUN folders, as"),
    ("sweep.json", "results of different kinds can't be compared\n  rule: RUN folders, as"),
])  # fmt: skip
def test_what_is_no_run_is_not_compared_with_one(folder, tmp_path, file, message):
    other = tmp_path / "other"
    other.mkdir()
    (other / file).write_text("{}")
    with pytest.raises(UserError, match=f"^{re.escape(message.format(other))}") as refused:
        comparison_of(folder, other)
    kind = {"scan.json": "scan", "positions.parquet": "scan", "terms.json": "TERMS", "sweep.json": "SWEEP"}.get(file)
    assert kind is None or f"found: {folder}: RUN; {other}: {kind}" in str(refused.value)


def test_sweeps_are_not_compared(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="a sweep can't be compared"):
        comparison_of(tmp_path, tmp_path)


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_and_too_many_runs_are_refused(folder, count):
    with pytest.raises(UserError, match="that many RUN folders can't be compared"):
        comparison_of(*[folder] * count)


def test_a_name_that_holds_nothing_is_no_run_of_another_kind(tmp_path):
    scan, empty = tmp_path / "scan", tmp_path / "empty"
    for path in (scan, empty):
        path.mkdir()
    (scan / "scan.json").write_text("{}")
    for nothing, found in ((tmp_path / "nosuch", "no such folder"), (empty, "a folder without a result")):
        with pytest.raises(UserError, match=f"^no result at {re.escape(str(nothing))}\n.*\n  found: {found}"):
            comparison_of(scan, nothing)
