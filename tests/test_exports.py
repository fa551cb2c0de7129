"""Exported contexts: a probe of each gives the scan's own numbers, whatever its tokens; and which targets are taken."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
from tests.chats import BOS, CHATS, like_llama3, metaspace
from tests.conftest import PROSE as LEARNT
from tests.tiny import tiny

from borngap.context import read_contexts, tokenize
from borngap.errors import UserError
from borngap.model.probe import probe
from borngap.scanning.pairs import ORDERS, picks_of
from borngap.scanning.scan import scan

PROSE = "The old man felt shame and guilt. He said that the method returns a list of words; she said that a function"
EASY = {"percentile": 90.0}


def rendered(tokenizer, chat):
    return tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]


def spelt(tokenizer, text):
    """Token ids of a text, its first word letter by letter: decoded and tokenised they come out otherwise."""
    first, rest = text.split(" ", 1)
    return [i for piece in (*first, f" {rest}") for i in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def as_chats(tokenizer):
    return [{"messages": chat} for chat in CHATS], [rendered(tokenizer, chat) for chat in CHATS]


def as_text(tokenizer):
    texts = [PROSE, f"{BOS}{PROSE}"]  # the trainer puts a start token before the second one too, and so does the scan
    return [{"text": text} for text in texts], [tokenizer(text)["input_ids"] for text in texts]


def as_windows(tokenizer):
    texts = [" ".join([PROSE] * 4), " ".join([PROSE] * 2)]
    return [{"text": text} for text in texts], [tokenizer(text)["input_ids"] for text in texts]


def as_tokens(tokenizer):
    rows = [spelt(tokenizer, PROSE), [tokenizer.bos_token_id, *spelt(tokenizer, CHATS[0][2]["content"])]]
    return [{"input_ids": ids} for ids in rows], rows


CASES = {"chats": as_chats, "text": as_text, "windows": as_windows, "tokens": as_tokens}


@pytest.mark.parametrize(("name", "by", "marks"), [
    *((name, "median", "byte level") for name in CASES),
    *((name, "spread", "metaspace") for name in CASES),
    ("chats", "worst", "byte level"),
])  # fmt: skip
def test_a_probe_of_exported_contexts_gives_the_scanned_numbers(tokenizer, tmp_path, name, by, marks):
    llama3 = like_llama3(tokenizer if marks == "byte level" else metaspace(LEARNT))
    model = tiny("llama-tied", len(llama3))
    rows, ids = CASES[name](llama3)
    out = tmp_path / "scan"
    found = scan(model, llama3, rows, out=out, export_contexts=40, export_by=by, **EASY)
    scanned = {
        (tuple(ids[row["row"]][row["start"] : row["offset"]]), row["gold_id"], row["rival_id"]): row["logit_gap"]
        for row in found.positions.filter(pl.col("logit_gap") <= 0).to_dicts()
    }
    contexts = read_contexts(out / "contexts.jsonl")
    targets = [tokenize(context, llama3) for context in contexts]
    keys = [(target.ids, target.gold_id, target.rival_id) for target in targets]
    assert len(set(keys)) == len(keys) == min(40, len(scanned)) > 5
    for key, row in zip(keys, probe(model, llama3, contexts).to_dicts(), strict=True):
        assert row["logit_gap"] == pytest.approx(scanned[key], abs=1e-4)
    with_ids = sum(context.prompt_ids is not None for context in contexts)
    assert found.summary["contexts"] == {
        "file": "contexts.jsonl", "by": by, "written": len(contexts), "with_ids": with_ids
    }  # fmt: skip
    # a window within a row has no start token, which the text would be given
    inside = [target.ids[0] != llama3.bos_token_id for target in targets]
    assert with_ids == sum(inside) or name == "tokens"
    assert (with_ids > 0) == (name != "text")
    assert any(inside) == (name != "text")


def test_a_row_with_a_start_token_of_its_own_keeps_both(tokenizer, tmp_path):
    llama3 = like_llama3(tokenizer)
    rows, ids = as_text(llama3)
    scan(tiny("llama-tied", len(llama3)), llama3, rows[1:], out=tmp_path / "scan", export_contexts=3, **EASY)
    for context in read_contexts(tmp_path / "scan" / "contexts.jsonl"):
        assert tokenize(context, llama3).ids[:3] == tuple(ids[1][:3]) == (*[llama3.bos_token_id] * 2, ids[1][2])


def positions(tmp_path, gaps):
    """A table of positions: pair (1, 2) with these gaps in shuffled order, and a pair that is never behind."""
    order = sorted(range(len(gaps)), key=lambda i: (7 * i) % 11)
    rows = [(1, 2, i, gaps[i]) for i in order] + [(3, 4, 99, 1.0), (3, 4, 98, -1.0)]
    fields = ("gold_id", "rival_id", "row", "logit_gap")
    frame = pl.DataFrame(rows, schema=fields, orient="row").with_columns(start=pl.lit(0), offset=pl.col("row"))
    frame.write_parquet(tmp_path / "positions.parquet")
    pairs = pl.DataFrame({"gold_id": [1, 3], "rival_id": [2, 4], "gold": ["a", "c"], "rival": ["b", "d"]})
    pairs = pairs.with_columns(relation=pl.lit("synonym"))
    return tmp_path / "positions.parquet", pairs


WANTED = {
    "median": [-1.4, -1.3, -1.5, 0.0, -14.8],
    "worst": [-14.8, -1.5, -1.4, -1.3, 0.0],
    "spread": [-1.4, -14.8, 0.0, -1.5, -1.3],
}


@pytest.mark.parametrize("by", ORDERS)
def test_which_targets_of_a_pair_come_first(tmp_path, by, monkeypatch):
    path, pairs = positions(tmp_path, [-1.4, 2.0, -14.8, -1.3, 0.0, -1.5])
    for at_once in (10**6, 1):
        monkeypatch.setattr("borngap.scanning.pairs._AT_ONCE", at_once)
        picks = picks_of(path, pairs, by, 5)
        first, second, *rest = picks
        assert (first["gold_id"], second["gold_id"], second["logit_gap"]) == (1, 3, -1.0), "each pair in a round"
        assert [pick["logit_gap"] for pick in (first, *rest)] == WANTED[by][:4]
        assert (first["place"], first["ahead"]) == ({"median": 3, "worst": 1, "spread": 3}[by], 5)


@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
def test_each_order_takes_every_place_once(by, size):
    assert sorted(ORDERS[by](size, size)) == list(range(size))
    assert ORDERS[by](size, 3) == ORDERS[by](size, size)[:3]


def test_the_middle_is_the_median_of_targets_whose_rival_is_ahead(tokenizer, tmp_path):
    rows = [
        {"text": text} for text in (PROSE, f"Raise an error. {PROSE}", f"A guilty mind. {PROSE}", f"A list. {PROSE}")
    ]
    model = tiny("gpt2", len(tokenizer))
    found = scan(model, tokenizer, rows, out=tmp_path / "scan", export_contexts=4, **EASY)
    first = read_contexts(tmp_path / "scan" / "contexts.jsonl")[0]
    worst = found.pairs.row(0, named=True)
    assert (first.gold, first.rival) == (worst["gold"], worst["rival"])
    behind = found.positions.filter(
        pl.col("gold_id") == worst["gold_id"],
        pl.col("rival_id") == worst["rival_id"],
        pl.col("logit_gap") <= 0,
    )["logit_gap"].sort()
    assert len(behind) > 2
    middle = len(behind) // 2
    place = re.fullmatch(
        r"data, record \d: (.*), logit gap (-\d+\.\d\d) nat in the scan, number (\d) of (\d) from the worst", first.note
    )
    assert place.groups() == (worst["relation"], f"{behind[middle]:+.2f}", str(middle + 1), str(len(behind)))
    assert probe(model, tokenizer, [first])["notes"].to_list() == [json.dumps({"context": first.note})]


def test_rows_that_repeat_give_one_context(tokenizer, tmp_path):
    model = tiny("gpt2", len(tokenizer))
    found = scan(model, tokenizer, [PROSE] * 3, out=tmp_path / "scan", export_contexts=100, **EASY)
    alone = found.positions.filter(pl.col("row") == 0, pl.col("logit_gap") <= 0)
    contexts = read_contexts(tmp_path / "scan" / "contexts.jsonl")
    assert len({context.prompt + context.gold for context in contexts}) == len(contexts) == len(alone)


@pytest.mark.parametrize(("options", "message"), [
    ({"export_contexts": 3}, r"contexts have no place to go\n  rule: exported contexts need a folder"),
    ({"export_contexts": -1, "out": "x"}, "export_contexts is out of range\n  rule: a number from 0\n  found: -1"),
    ({"export_by": "best"}, "export_by is out of range\n  rule: one of median, worst, spread\n  found: best"),
])  # fmt: skip
def test_exports_out_of_range(tokenizer, options, message):
    with pytest.raises(UserError, match=message):
        scan(tiny("gpt2", len(tokenizer)), tokenizer, [PROSE], **options, **EASY)
