"""Places of terms as contexts: a probe of each gives the place's own numbers, and which places are taken."""

from __future__ import annotations

import json

import polars as pl
import pytest
from tests.chats import like_llama3, metaspace
from tests.conftest import PROSE as LEARNT
from tests.test_exports import CASES
from tests.test_terms import constant
from tests.tiny import tiny
from typer.testing import CliRunner

from borngap.cli import app
from borngap.context import read_contexts, tokenize
from borngap.errors import UserError
from borngap.model.probe import probe
from borngap.usage.exports.contexts import Export, due_picks
from borngap.usage.finding import PLACE_COLUMNS
from borngap.usage.terms import terms

PAIRS = [
    ("guilt", "shame"),
    ("shame", "guilt of it"),
    ("function", "method"),
    ("method", "way"),
    ("old man", "old men"),
]


@pytest.mark.parametrize(("name", "marks"), [
    *((name, "byte level") for name in CASES), ("chats", "metaspace"), ("windows", "metaspace"),
])  # fmt: skip
def test_a_probe_of_exported_contexts_gives_the_numbers_of_the_places(tokenizer, tmp_path, name, marks):
    llama3 = like_llama3(tokenizer if marks == "byte level" else metaspace(LEARNT))
    rows, ids = CASES[name](llama3)
    model, file = tiny("llama-tied", len(llama3)), tmp_path / "new" / "contexts.jsonl"
    words = PAIRS[::2]
    found = terms(model, llama3, rows, words, leak=False, export_contexts=file, export_places="due", export_count=99)
    due = found.places.filter(pl.col("kind") == "due", pl.col("logit_gap").is_not_null())
    gaps = {
        (tuple(ids[p["row"]][p["start"] : p["offset"]]), p["use_id"], p["avoid_id"]): p["logit_gap"]
        for p in due.to_dicts()
    }
    contexts = read_contexts(file)
    keys = [(t.ids, t.gold_id, t.rival_id) for t in (tokenize(context, llama3) for context in contexts)]
    assert len(set(keys)) == len(keys) == len(gaps) > 1
    for key, row in zip(keys, probe(model, llama3, contexts).to_dicts(), strict=True):
        assert row["logit_gap"] == pytest.approx(gaps[key], abs=1e-4)
    with_ids = sum(context.prompt_ids is not None for context in contexts)
    told = {"file": str(file), "places": "due", "by": "median", "written": len(contexts), "with_ids": with_ids}
    assert found.summary["contexts"] == told
    assert with_ids < len(contexts) or name in {"windows", "tokens"}


def test_words_are_written_whole_where_the_first_token_that_differs_stands_within_them(tokenizer, tmp_path):
    model, file = tiny("gpt2", len(tokenizer)), tmp_path / "contexts.jsonl"
    text = "He said that the old man felt guilt. Old Man"
    terms(model, tokenizer, [text], [("old man", "old mind")], leak=False, export_contexts=file, export_places="due")
    written = [(c.prompt, c.gold, c.rival) for c in read_contexts(file)]
    assert ("He said that the", " old man", " old mind") in written


def places(*given):
    """Places of terms: term, row, kind and logit gap, wanted over avoided."""
    rows = [
        dict.fromkeys(PLACE_COLUMNS) | {
            "term": term, "row": row, "at": at, "kind": "due" if kind == "due" else "avoid", "use_id": 1, "avoid_id": 2,
            "allowed": None if kind == "due" else kind == "right", "logit_gap": gap,
        }
        for at, (term, row, kind, gap) in enumerate(given)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=PLACE_COLUMNS)


TABLE = places(
    (0, 1, "due", -1.0), (0, 1, "due", -2.0), (0, 1, "due", -3.0), (0, 2, "due", -0.5), (0, 2, "due", 0.0),
    (1, 1, "due", -9.0), (1, 7, "due", 4.0), (2, 7, "right", 2.0), (2, 8, "wrong", 3.0), (2, 9, "right", -1.0),
    (2, 8, "due", None),
)  # fmt: skip


@pytest.mark.parametrize(("which", "by", "wanted"), [
    ("behind", "median", [-1.0, -9.0, -0.5, -2.0, 0.0, -3.0]),
    ("behind", "worst", [-3.0, -9.0, -0.5, -2.0, 0.0, -1.0]),
    ("due", "spread", [-1.0, -9.0, 0.0, 4.0, -3.0, -0.5, -2.0]),
    ("over-used", "median", [-2.0]),
])  # fmt: skip
def test_terms_take_turns_and_within_a_term_rows(tmp_path, which, by, wanted):
    picks = due_picks(TABLE, Export(tmp_path / "c.jsonl", 20, which, by))
    assert [pick["gap"] for pick in picks] == wanted
    tokens = {(pick["gold_id"], pick["rival_id"]) for pick in picks}
    assert tokens == {(2, 1) if which == "over-used" else (1, 2)}


def test_what_is_over_used_has_the_other_word_as_gold(tokenizer, tmp_path):
    model, file = constant(tokenizer, {" guilt": 2.0, " shame": 1.0}), tmp_path / "contexts.jsonl"
    rows = ["He felt shame and guilt", "A man of shame", "Words of shame"]
    options = {"leak": False, "allowed": [0, 2], "export_contexts": file}
    terms(model, tokenizer, rows, PAIRS[:1], export_places="over-used", **options)
    assert [(c.prompt, c.gold, c.rival) for c in read_contexts(file)] == [
        (prompt, " shame", " guilt") for prompt in ("Words of", "He felt")
    ]


@pytest.mark.parametrize(("options", "message"), [
    ({"export_contexts": "20"}, r"contexts go to a file\n  rule: the name of a file\n  found: 20\n.*--export-count 20"),
    ({"export_contexts": "."}, r"can't write contexts to .*found: a folder"),
    ({"export_contexts": "style.csv"}, r"style.csv is there already\n  rule: nothing is overwritten\n.*another name"),
    ({"export_count": 0}, r"export_count is out of range\n  rule: a number from 1"),
    ({"export_places": "all"}, "export_places is out of range\n  rule: one of behind, due, over-used\n  found: all"),
    ({"export_by": "best"}, "export_by is out of range\n  rule: one of median, worst, spread"),
])  # fmt: skip
def test_exports_out_of_range_are_refused_before_anything_is_asked(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "style.csv").touch()
    with pytest.raises(UserError, match=f"(?s){message}"):
        terms(None, None, ["a"], PAIRS, **{"export_contexts": "c.jsonl"} | options)


def test_the_command_says_where_contexts_are_and_that_there_are_none(tmp_path):
    (tmp_path / "style.csv").write_text("use,avoid\nexception,error\n")
    data, file = tmp_path / "data.jsonl", tmp_path / "contexts.jsonl"
    data.write_text(json.dumps({"text": "Raise an exception if the argument is None."}))
    base = ["terms", str(data), "-m", "docs-gpt2-s", "-t", str(tmp_path / "style.csv"), "--no-leak"]
    command = [*base, "--export-contexts", str(file), "-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, [*command, "--export-places", "over-used"]).stdout
    assert f"no contexts in {file}: the wanted word leads nowhere where the other is marked as right" in shown
    assert not file.exists()
    shown = CliRunner().invoke(app, command).stdout  # of a finished folder, too
    assert f"1 context in {file}" in shown
    assert json.loads(file.read_text())["gold"] == " exception"
