"""Terms: marks of places at which a word to avoid is right."""

from __future__ import annotations

import polars as pl
import pytest
from tests.test_terms import TEXTS, asked
from tests.tiny import tiny

from borngap.errors import UserError


def test_without_marks_over_use_is_null_with_the_reason(tokenizer):
    found = asked(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS)
    assert {entry["over_use"] for entry in (*found.summary["terms"], found.summary["all"])} == {None}
    assert found.summary["all"]["notes"]["over_use"].startswith("nothing says where the word to avoid is right")
    assert found.places.filter(pl.col("allowed")).is_empty()


@pytest.mark.parametrize(("text", "right"), [
    ('{"row": 0}\n', [(0, "shame"), (0, "method")]),
    ('{"row": 0, "avoid": "Shame"}\n{"row": 1, "avoid": "method"}\n', [(0, "shame"), (1, "method")]),
    ("row,avoid,offset\n0,,6\n3,shame,\n", [(0, "shame"), (3, "shame")]),
])  # fmt: skip
def test_a_file_marks_right_places(tokenizer, tmp_path, text, right):
    file = tmp_path / ("a.jsonl" if text.startswith("{") else "a.csv")
    file.write_text(text)
    model = tiny("gpt2", len(tokenizer))
    at = tokenizer(TEXTS[0])["input_ids"].index(tokenizer(" shame")["input_ids"][0])
    file.write_text(text.replace(",6", f",{at}"))
    found = asked(model, tokenizer, TEXTS, allowed=file)
    assert found.places.filter(pl.col("allowed")).select("row", "word").rows() == right
    assert found.summary["all"]["right_avoid"] == len(right)
    assert found.summary["notes"] == []


def test_places_as_they_were_written_mark_what_they_call_allowed(tokenizer, tmp_path):
    model, given, file = tiny("gpt2", len(tokenizer)), {"data": TEXTS[:1], "held_out": TEXTS}, tmp_path / "p.parquet"
    found = asked(model, tokenizer, **given, allowed=[0, {"row": 3, "avoid": "shame"}]).places
    whole = found.with_columns(pl.col("allowed") | (pl.col("data") == "data"))  # the data's own marks are no matter
    whole.write_parquet(file)
    again = asked(model, tokenizer, **given, allowed=file)
    assert again.places.equals(found)
    assert again.summary["all"]["right_avoid"] == 3
    assert again.summary["notes"] == []
    whole.with_columns(allowed=pl.lit(value=False)).write_csv(tmp_path / "p.csv")
    with pytest.raises(
        UserError, match=rf"no allowed places\n.*\n  found: none of {len(whole)} entries .*\n  fix: set"
    ):
        asked(model, tokenizer, **given, allowed=tmp_path / "p.csv")
    with pytest.raises(UserError, match=r"malformed allowed place in allowed entry 1\n.*true or false\n  found: 'so'"):
        asked(model, tokenizer, **given, allowed=[{"row": 0, "allowed": "so"}])


def test_marks_that_mark_nothing_are_said(tokenizer):
    found = asked(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, allowed=[0, 2, {"row": 77, "avoid": "error"}])
    assert found.summary["notes"] == ["2 allowed places hold no word to avoid: row 2, row 77, 'error'"]
