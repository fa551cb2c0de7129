"""Stored results: what is written is what is read; what is not there or damaged is one message."""

import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from borngap.errors import UserError
from borngap.results.figures import Figure
from borngap.results.stored import Results, read_results, write_results
from borngap.results.tables import Table, table_markdown

ROWS = pl.DataFrame(
    {"model": ["m", "n"], "runs": [3, None], "rate": [1e-4, None], "silent": [True, None], "none": [None, None]},
    schema={"model": pl.String, "runs": pl.UInt32, "rate": pl.Float64, "silent": pl.Boolean, "none": pl.Float64},
)
WHOLE = Table("t1", "A table", "How to read it.", ROWS, pl.DataFrame({"a": [1.0, 2.0]}), "Theirs", ("model",), "H=10")
EMPTY = Table("t2", "Nothing", "No runs.", ROWS.clear())
LINES = Figure("f1", "F", "n", "line", ("x", "x axis"), ("y", ""), [{"x": 1.0, "y": None, "c": "one"}], "c", zero=True)
CLAIM = {
    "id": "a", "claim": "A.", "source": "paper", "paper": "0.7", "ours": 0.1 + 0.2, "low": None, "high": None, "n": 3,
    "unit": "contexts", "verdict": "not testable here", "why": "Rule.",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    write_results(tmp_path, Results([CLAIM], [WHOLE, EMPTY], [LINES], 7, 3, ["m2: everything"]))
    return tmp_path


def test_what_is_written_is_what_is_read(folder):
    found = read_results(folder)
    assert (found.claims, found.runs, found.contexts, found.undone) == ([CLAIM], 7, 3, ["m2: everything"])
    assert found.figures == [LINES]
    for table, original in zip(found.tables, (WHOLE, EMPTY), strict=True):
        assert_frame_equal(table.rows, original.rows)
        assert table_markdown(table) == table_markdown(original) == (folder / "tables" / f"{table.id}.md").read_text()
        assert (table.split, table.main) == (original.split, original.main)
    assert_frame_equal(found.tables[0].paper, WHOLE.paper)
    assert found.tables[1].paper is None


def test_without_results_the_message_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"holds no results\n.*results\.json(.|\n)*same `borngap reproduce` command"):
        read_results(tmp_path)


@pytest.mark.parametrize(("file", "content", "message"), [
    ("results.json", "{", "is damaged"),
    ("results.json", '{"schema": 1, "runs": 1}', "damaged\n  found: KeyError"),
    ("results.json", '{"schema": 2}', "another schema version"),
    ("tables/t1.json", '{"schema": 1, "rows": []}', "damaged\n  found: KeyError"),
    ("tables/t1.json", None, "can't read"),
    ("figures/f1.json", '{"schema": 1, "id": "f1"}', "damaged\n  found: TypeError"),
    ("claims.json", "", "is damaged"),
])  # fmt: skip
def test_damaged_results_are_one_message(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(folder)


def test_a_type_of_a_column_that_there_is_not_is_damage(folder):
    head = json.loads((folder / "results.json").read_text())
    head["tables"][0]["columns"]["runs"] = "Int7"
    (folder / "results.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match="damaged"):
        read_results(folder)
