"""docs/forecast-runs.md, forecast-runs-measured.md: their tables are those of the stored runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
GUIDE, PAGE = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("forecast-runs.md", "forecast-runs-measured.md")
)
RUNS = ROOT / "docs" / "runs"


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("whole_runs_table", None)
    import whole_runs_table

    return whole_runs_table


def test_the_tables_are_those_of_the_stored_runs(made):
    tables = made.markdown([RUNS, RUNS / "other"]).split("\n\n")
    for table, page in zip(tables, (GUIDE, PAGE, PAGE), strict=True):
        assert table in page, "python benchmarks/whole_runs_table.py docs/runs docs/runs/other makes them"
    for name in ("long", "warm", "man", "neox", "smollm2"):
        assert made.further(RUNS / name) in PAGE, f"python benchmarks/whole_runs_table.py --further docs/runs/{name}"
    assert made.by_budget([RUNS, RUNS / "other"]) in GUIDE, "whole_runs_table.py --by-budget docs/runs docs/runs/other"
    for name in ("man", "short"):
        own = f"docs/runs/{name} docs/runs/{name}/other"
        assert made.pooled([RUNS / name, RUNS / name / "other"]) in PAGE, f"whole_runs_table.py --pooled {own}"


def test_a_score_is_that_of_the_record_counted_by_hand(made):
    record = json.loads((RUNS / "docs-gpt2-s-full-1e-4-linear-chat.json").read_text(encoding="utf-8"))
    told = record["forecasts"]["0.1"]["gaps"]
    seen = [i for i, gap in enumerate(told) if gap is not None]
    right = sum((told[i] > 0) == (record["end"][i] > 0) for i in seen)
    flips = sum((record["base"][i] > 0) != (record["end"][i] > 0) for i in seen)
    found = made.figures([made.score_of(record, "0.1")])
    assert (found["n"], found["flips"], found["right"]) == (len(seen), flips, pytest.approx(right / len(seen)))
    error = np.median([abs(told[i] - record["end"][i]) for i in seen]) / 1000
    assert found["error"] == pytest.approx(error)
