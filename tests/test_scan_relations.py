"""Scans: rivals that a thesaurus names, what of them counts, and their relations; right ones of tiny vocabularies."""

from __future__ import annotations

import json
import pathlib
from collections import defaultdict
from itertools import product
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.test_scan import EASY, TEXTS
from tests.tiny import tiny

from borngap.context import read_contexts
from borngap.errors import UserError
from borngap.model.tokenrelations import TokenRelations
from borngap.model.words import Words
from borngap.observables.geometry import Geometry
from borngap.report.scanwording import rule_sentence, scan_sentence
from borngap.scanning.candidates import Candidates, Rule
from borngap.scanning.pairs import headline_of, notes_of, pairs_of
from borngap.scanning.rivals import Rivals
from borngap.scanning.scan import scan
from borngap.words.packed import packed_data
from borngap.words.relation import RELATIONS, SYNONYMOUS, relation
from borngap.words.relatives import OwnRelatives, Relatives
from borngap.words.spelling import may_begin_alike, spelling_of
from borngap.words.thesaurus import english, read_thesaurus

# overlaps with the first: 0.95, 0.9, 0.6, 0, -1
VOCABULARY = (" color", " colors", " number", " vividness", " colour", " shade")
ROWS = torch.tensor([[1.0, 0.0], [0.95, 0.3122], [0.9, 0.4359], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])


def candidates(relations=None, least=0.5, given=()):
    whole = torch.ones(len(VOCABULARY), dtype=torch.bool)
    words = Words(whole, ~whole, torch.arange(len(VOCABULARY)), VOCABULARY)
    return Candidates(Geometry(ROWS), Rule(whole, words.key, least, TokenRelations(words, given=given), relations))


@pytest.mark.parametrize(("relations", "least", "expected"), [
    (None, 0.5, [" vividness", " colour", " colors", " number"]),  # meaning first, then what is near; shade is neither
    (None, 1.0, [" vividness", " colour"]),
    ({"synonym"}, 0.5, [" vividness"]),
    ({"spelling"}, 0.5, [" colour"]),
    ({"inflection"}, 0.5, [" colors"]),
    ({"synonym", "not in the thesaurus"}, 0.5, [" vividness", " number"]),
    ({"antonym"}, 0.5, []),
])  # fmt: skip
def test_synonyms_and_other_spellings_come_first_however_far_they_are(relations, least, expected):
    found = [VOCABULARY[token] for token, _ in candidates(relations and frozenset(relations), least).of(0)]
    assert found == expected


def test_given_pairs_come_before_synonyms():
    """Shades is no token here; a shade lies opposite of a color."""
    found = [VOCABULARY[token] for token, _ in candidates(given=[("Shade", "color")]).of(0)]
    assert found == [" shade", " vividness", " colour", " colors", " number"]


def test_of_the_nucleus_the_synonym_is_the_rival():
    near = candidates()
    near.possible(torch.tensor([0]))
    probs = torch.tensor([[0.3, 0.3, 0.2, 0.15, 0.03, 0.02], [0.3, 0.3, 0.3, 0.04, 0.03, 0.03]])
    found = Rivals(Geometry(ROWS), near, 0.9).find(probs.log(), torch.tensor([0, 0]))
    assert [VOCABULARY[token] for token in found.rival] == [" vividness", " colors"]


def test_relatives_are_all_that_a_look_at_every_pair_finds(tmp_path):
    book = english()
    words = ["colour", "color", "Colors", "hue", "tokeniser", "tokenizer", "tokenizers", "e-mail", "email", "naïve",
             "naive", "cheque", "check", "through", "thru", "argument", "Parameters", "parameter", "regarding",
             "involving", "True", "false", "went", "goes", "leave", "left", "depart", "", "###", "method", "functions",
             "buy", "bought", "purchased", "IV", "four"]  # fmt: skip
    groups = tmp_path / "own.csv"
    groups.write_text("# ours\nmethod;function;routine\nHaus, Heim\n", encoding="utf-8")
    for thesaurus in (book, read_thesaurus(groups)):
        found = OwnRelatives(words, thesaurus)
        for word in words:
            every = [i for i, other in enumerate(words) if relation(word, other, thesaurus=thesaurus) in SYNONYMOUS]
            assert found.of(word) == every, word
    assert [words[i] for i in found.of("method")] == ["method", "functions"]
    assert [words[i] for i in Relatives(words).of("method")] == ["method"]


def test_a_quick_look_at_first_letters_leaves_nothing_out():
    """Of a sample of WordNet: words of equal spelling keys."""
    words = [word for word in map(bytes.decode, packed_data("wordnet")["words"][::7]) if word.isalpha()]
    by_loose = defaultdict(list)
    for word in [*words, "gaol", "jail"]:
        by_loose[spelling_of(word).loose[:1]].append(word[0])
    assert all(may_begin_alike(*pair) for key, own in by_loose.items() if key for pair in product(set(own), repeat=2))
    assert len(words) > 7000


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "groups.txt"
    file.write_text("guilt, man, word, list\nshame; function; error; exception\n", encoding="utf-8")
    return str(file)


def test_counts_and_headline_add_up(tokenizer, own, tmp_path):
    model = tiny("llama-tied", len(tokenizer))
    found = scan(model, tokenizer, TEXTS, thesaurus=own, out=tmp_path / "scan", export_contexts=30, **EASY)
    positions, summary, book = found.positions, found.summary, read_thesaurus(Path(own))
    for gold, rival, told in positions.select("gold", "rival", "relation").iter_rows():
        assert told == relation(gold, rival, thesaurus=book)
    rows = summary["relations"]
    assert [row["relation"] for row in rows] == [name for name in RELATIONS if name in set(positions["relation"])]
    assert len(rows) > 1
    for row in rows:
        own_gaps = positions.filter(pl.col("relation") == row["relation"])["logit_gap"]
        assert (row["targets"], row["rival_ahead"]) == (len(own_gaps), (own_gaps <= 0).sum())
    meant = positions.filter(pl.col("relation").is_in(list(SYNONYMOUS)))["logit_gap"]
    ahead = int((meant <= 0).sum())
    assert summary["headline"] == {
        "relations": list(SYNONYMOUS), "with_rival": len(meant), "rival_ahead": ahead, "share_ahead": ahead / len(meant)
    }  # fmt: skip
    contexts = read_contexts(tmp_path / "scan" / "contexts.jsonl")
    related = [context.note.split(": ")[1].split(",")[0] for context in contexts]
    assert {relation(c.gold, c.rival, thesaurus=book) for c in contexts} == set(related)
    first = related.index(next(name for name in related if name not in SYNONYMOUS))
    assert first == sum(1 for pair in found.pairs.to_dicts() if pair["relation"] in SYNONYMOUS and pair["rival_ahead"])


def test_only_the_relations_that_are_named_are_looked_for(tokenizer, own):
    model = tiny("gpt2", len(tokenizer))
    chosen = scan(model, tokenizer, TEXTS, thesaurus=own, relations=("synonym", "function word"), **EASY)
    alone = scan(model, tokenizer, TEXTS, thesaurus=own, relations=("synonym",), **EASY)
    assert set(chosen.positions["relation"]) == {"synonym", "function word"}
    assert set(alone.positions["relation"]) == {"synonym"}
    assert chosen.summary["headline"]["relations"] == ["synonym", "function word"]
    assert chosen.summary["share_rival_ahead"] == chosen.summary["headline"]["share_ahead"]
    assert (alone.summary["least_overlap"], alone.summary["find_by"], alone.summary["percentile"]) == (None,) * 3
    assert rule_sentence(alone.summary) == "Looked for rivals of the kind synonym, whatever their overlap."
    told = rule_sentence(chosen.summary)
    assert told.startswith("Looked for rivals of the kind synonym or function word that overlap with gold by at least ")
    assert told.endswith("; synonyms and other spellings, whatever their overlap.")
    assert " of the kind synonym or function word in front" in scan_sentence(chosen.summary)
    assert alone.summary["counts"]["with_neighbours"] < chosen.summary["counts"]["with_neighbours"]


def test_given_pairs_are_given(tokenizer):
    found = scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, pairs=(("shame", "guilt"),), top_p=1.0)
    assert set(found.positions["relation"]) == {"given"}
    assert found.summary["headline"]["with_rival"] == len(found.positions) > 0


def test_terms_are_given_in_any_form_and_go_before_synonyms(tokenizer):
    terms = (("function", "method"), ("List", "word"), ("old man", "shame"))
    found = scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, terms=terms, top_p=1.0, **EASY)
    given = found.positions.filter(pl.col("relation") == "given")
    pairs = {(gold.strip(), rival.strip()) for gold, rival in given.select("gold", "rival").iter_rows()}
    assert {("method", "function"), ("function", "method"), ("words", "list"), ("list", "words")} & pairs
    named = {"function", "functions", "method", "methods", "list", "word", "words"}
    golds = found.positions.filter(pl.col("gold").str.strip_chars().is_in(named - {"functions", "methods"}))
    assert set(golds["relation"]) == {"given"}, "in the whole vocabulary a given rival goes first"
    assert (found.summary["terms"], found.summary["terms_left_out"]) == (2, [{"use": "old man", "avoid": "shame"}])
    assert rule_sentence(found.summary).endswith(
        "2 given pairs of words, in any form, went before all others. Left out: 1 that are no single tokens, as "
        "'old man' instead of 'shame'."
    )
    assert found.summary["headline"]["with_rival"] >= len(given) > 0
    alone = scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, terms=terms, relations=("antonym",), top_p=1.0, **EASY)
    assert "given" in set(alone.positions["relation"]) <= {"given", "antonym"}
    assert alone.summary["headline"]["relations"] == ["given", "antonym"]


@pytest.mark.parametrize(("kind", "rival"), [("readout", " guilt"), ("centered", " error")])
def test_what_is_near_is_found_in_the_rows_that_are_asked_for(tokenizer, kind, rival):
    """Seen from the origin guilt is in shame's direction; seen from the mean row error is."""
    model = tiny("gpt2", len(tokenizer))
    shame, guilt, error = (tokenizer(f" {word}")["input_ids"][0] for word in ("shame", "guilt", "error"))
    with torch.no_grad():
        rows = model.transformer.wte.weight
        rows.mul_(0.1)
        rows[:, 0] += 4
        rows[[shame, guilt, error]] = 0
        for token, row in ((shame, (12.0, 0.0)), (guilt, (9.0, 0.0)), (error, (12.0, 4.5))):
            rows[token, :2] = torch.tensor(row)
        rows[guilt, 0] = 1.0  # towards shame, but on the other side of the mean
    found = scan(model, tokenizer, ["He felt shame"], find_by=kind, top_p=1.0, percentile=99.0)
    assert found.positions.filter(pl.col("gold") == " shame")["rival"].to_list() == [rival]


def test_a_pair_of_the_headline_comes_before_worse_ones(tmp_path):
    rows = [(1, 2, "antonym", -5.0)] * 5 + [(3, 4, "synonym", 1.0)] + [(5, 6, "spelling", -1.0)]
    frame = pl.DataFrame(rows, schema=("gold_id", "rival_id", "relation", "logit_gap"), orient="row").with_columns(
        gold=pl.lit("a"), rival=pl.lit("b"), born_gap=pl.lit(0.1), gold_overlap=pl.lit(0.5), row=pl.lit(0),
        offset=pl.lit(1), start=pl.lit(0), where=pl.lit("x"), before=pl.lit("y"),
    )  # fmt: skip
    frame.write_parquet(tmp_path / "p.parquet")
    assert pairs_of(tmp_path / "p.parquet")["gold_id"].to_list() == [5, 3, 1]
    assert pairs_of(tmp_path / "p.parquet", ("antonym",))["gold_id"].to_list() == [1, 5, 3]
    assert headline_of([], SYNONYMOUS)["share_ahead"] is None


def test_the_note_on_senses_is_there_where_synonyms_count():
    rows = [{"relation": "synonym"}, {"relation": "inflection"}]
    assert len(notes_of(rows, SYNONYMOUS)) == 1
    assert notes_of(rows, ("inflection",)) == notes_of(rows[1:], SYNONYMOUS) == notes_of([], SYNONYMOUS) == []


@pytest.mark.parametrize(("options", "message"), [
    ({"relations": ("synonyms",)}, r"relations is out of range\n  rule: one or more of .*\n  found: synonyms$"),
    ({"relations": ("given",)}, "relations is out of range"),
    ({"find_by": "odd"}, r"find_by is out of range\n  rule: one of readout, input, centered"),
    ({"relations": ("synonym",), "pairs": (("a", "b"),)}, "relations is out of range\n  rule: none beside pairs"),
    ({"thesaurus": "x", "pairs": (("a", "b"),)}, "thesaurus is out of range\n  rule: none beside pairs"),
    ({"terms": (("a", "b"),), "pairs": (("a", "b"),)}, "terms is out of range\n  rule: none beside pairs"),
    ({"thesaurus": "no/such/file"}, "no/such/file"),
])  # fmt: skip
def test_settings_out_of_range(tokenizer, options, message):
    with pytest.raises(UserError, match=message):
        scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, **options)


def test_a_scan_is_not_resumed_with_another_thesaurus(tokenizer, own, tmp_path):
    model, out = tiny("gpt2", len(tokenizer)), tmp_path / "scan"
    scan(model, tokenizer, TEXTS, thesaurus=own, out=out, **EASY)
    with pathlib.Path(own).open("a", encoding="utf-8") as file:
        file.write("old, young\n")
    with pytest.raises(UserError, match="thesaurus_digest"):
        scan(model, tokenizer, TEXTS, thesaurus=own, out=out, **EASY)
    assert json.loads((out / "scan.json").read_text())["plan"]["find_by"] == "centered"
