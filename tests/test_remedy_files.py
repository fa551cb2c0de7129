"""Files that remedies are made of: what they hold, and that transformers and TRL read them as they are meant."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.test_terms_exports import places
from tests.tiny import tiny
from transformers.generation.logits_process import SequenceBiasLogitsProcessor
from typer.testing import CliRunner

from borngap.cli import app
from borngap.errors import UserError
from borngap.model.readout import geometry_of
from borngap.usage.exports.remedyfiles import RemedyFiles
from borngap.usage.exports.remedywriting import fitted_bias
from borngap.usage.exports.rowfiles import row_files
from borngap.usage.terms import terms

WORDS = [("guilt", "shame"), ("function", "method"), ("old man", "old mind")]
ROWS = [
    {"text": "He felt guilt and shame; the guilt was his.", "allowed": False},
    {"text": "No word of the list stands here.", "allowed": False},
    {"text": "A method of his was no function. The old man felt shame.", "allowed": True},
]


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def looked(tokenizer, **files):
    return terms(
        tiny("gpt2", len(tokenizer)), tokenizer, ROWS, WORDS, leak=False, allowed_field="allowed",
        remedies=RemedyFiles(**files),
    )  # fmt: skip


def test_pairs_are_the_places_of_wanted_words(tokenizer, tmp_path):
    found = looked(tokenizer, export_pairs=tmp_path / "new" / "pairs.jsonl")
    assert lines(tmp_path / "new" / "pairs.jsonl") == [
        {"prompt": "He felt", "chosen": " guilt", "rejected": " shame"},
        {"prompt": "He felt guilt and shame; the", "chosen": " guilt", "rejected": " shame"},
        {"prompt": "A method of his was no", "chosen": " function", "rejected": " method"},
        {"prompt": "A method of his was no function. The", "chosen": " old man", "rejected": " old mind"},
    ]
    assert found.summary["remedies"]["pairs"]["written"] == 4


def test_pairs_go_both_ways_only_where_the_other_word_is_right(tokenizer, tmp_path):
    looked(tokenizer, export_pairs=tmp_path / "p.jsonl", pairs_both_ways=True)
    other = [pair for pair in lines(tmp_path / "p.jsonl") if pair["chosen"] in {" method", " shame"}]
    prompts = {"A", "A method of his was no function. The old man felt"}  # the first row's shame is a mistake
    assert {pair["prompt"] for pair in other} == prompts
    assert {pair["rejected"] for pair in other} == {" function", " guilt"}


def test_pairs_of_the_data_where_a_held_out_text_is_asked(tokenizer, tmp_path):
    model = tiny("gpt2", len(tokenizer))
    chosen = RemedyFiles(export_pairs=tmp_path / "p.jsonl")
    terms(model, tokenizer, ROWS[:1], WORDS, held_out=ROWS[2:], leak=False, remedies=chosen)
    assert [pair["prompt"] for pair in lines(tmp_path / "p.jsonl")] == ["He felt", "He felt guilt and shame; the"]


@pytest.mark.parametrize(("over_use", "bias", "success"), [(0.0, 0.5, 2), (1 / 3, 2.5, 3), (0.5, 2.5, 3)])
def test_the_bias_is_the_largest_that_over_use_allows(over_use, bias, success):
    table = places(
        (0, 1, "due", 1.0), (0, 2, "due", -0.4), (0, 3, "due", -2.0), (0, 4, "due", -9.0),
        (0, 5, "right", -0.5), (0, 6, "right", -2.5), (0, 7, "right", -4.0), (0, 8, "wrong", 5.0),
    )  # fmt: skip
    told = fitted_bias(table, over_use)
    assert (told["bias"], told["success"]) == (bias, success / 4)
    assert told["over_use"] <= over_use
    assert told["success_before"] == 1 / 4


def test_what_the_model_over_uses_by_itself_is_not_the_bias_s():
    table = places((0, 1, "due", -3.0), (0, 2, "right", 1.0), (0, 3, "right", -1.0), (0, 4, "right", -2.0))
    assert fitted_bias(table, 0.3)["bias"] == 1.0  # one of three leads already, none more may
    told = fitted_bias(table, 1 / 3)
    assert (told["bias"], told["over_use_before"], told["over_use"]) == (2.0, 1 / 3, 2 / 3)


def test_no_more_bias_than_every_wanted_word_takes():
    told = fitted_bias(places((0, 1, "due", -2.0), (0, 2, "right", -9.0)), 1.0)
    assert told["success"] == 1
    assert told["bias"] == pytest.approx(2)


def test_a_bias_that_cant_be_fitted():
    with pytest.raises(UserError, match="none is marked"):
        fitted_bias(places((0, 1, "due", 1.0), (0, 2, "wrong", 1.0)), 0.1)


def test_where_one_file_cant_be_made_none_is_written(tokenizer, tmp_path):
    model = tiny("gpt2", len(tokenizer))
    chosen = RemedyFiles(export_pairs=tmp_path / "p.jsonl", export_bias=tmp_path / "b.json")
    with pytest.raises(UserError, match="none is marked"):
        terms(model, tokenizer, ROWS, WORDS, leak=False, remedies=chosen)
    assert not list(tmp_path.iterdir())


def test_generate_adds_the_bias_at_every_place(tokenizer, tmp_path):
    file = tmp_path / "bias.json"
    found = looked(tokenizer, export_bias=file, bias_over_use=1.0)
    chosen = json.loads(file.read_text())["sequence_bias"]
    bias = found.summary["remedies"]["bias"]["bias"]
    assert bias > 0
    # the first token of both is the same: only what follows it is lowered
    assert [*tokenizer(" old mind")["input_ids"]][:2] in [ids for ids, _ in chosen]
    processor = SequenceBiasLogitsProcessor(sequence_bias=chosen)
    size = geometry_of(tiny("gpt2", len(tokenizer)), tokenizer=tokenizer).size
    asked = found.asked.to_dicts()
    assert any(place["offset"] > place["at"] for place in asked)
    for place in asked:
        ids = tokenizer(ROWS[place["row"]]["text"])["input_ids"][: place["offset"]]
        shifted = processor(torch.tensor([ids]), torch.zeros(1, size))[0]
        assert float(shifted[place["use_id"]] - shifted[place["avoid_id"]]) == pytest.approx(bias)
        assert place["logit_gap"] + bias > 0 or place["kind"] != "due"
    model = tiny("gpt2", len(tokenizer))
    model.generate(torch.tensor([[1, 2]]), max_new_tokens=2, do_sample=False, sequence_bias=chosen)


def test_rows_with_a_wanted_word_stand_several_times(tokenizer, tmp_path):
    found = looked(tokenizer, export_rows=tmp_path / "rows.jsonl", rows_times=3)
    assert lines(tmp_path / "rows.jsonl") == [*[ROWS[0]] * 3, ROWS[1], *[ROWS[2]] * 3]
    assert found.summary["remedies"]["rows"] == {"file": str(tmp_path / "rows.jsonl"), "written": 7, "repeated": 2}


def test_plain_texts_become_rows(tokenizer, tmp_path):
    chosen, model = RemedyFiles(export_rows=tmp_path / "rows.jsonl"), tiny("gpt2", len(tokenizer))
    terms(model, tokenizer, ["He felt guilt.", "Nothing.", "no guilt"], WORDS, leak=False, limit=2, remedies=chosen)
    assert lines(tmp_path / "rows.jsonl") == [{"text": "He felt guilt."}] * 2 + [{"text": "Nothing."}]


@pytest.mark.parametrize(("options", "words"), [
    ({"bias_over_use": 1.5}, "bias-over-use"), ({"rows_times": 0}, "rows-times"), ({"bias_over_use": np.nan}, "bias"),
])  # fmt: skip
def test_settings_out_of_range(options, words):
    with pytest.raises(UserError, match=words):
        RemedyFiles(**options)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UserError, match="there already"):
        RemedyFiles(export_bias=tmp_path / "there")


def test_the_command_says_what_it_wrote(tmp_path):
    data, words = tmp_path / "d.jsonl", tmp_path / "t.csv"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    words.write_text("use,avoid\nguilt,shame\n")
    arguments = ["terms", str(data), "-t", str(words), "-m", "docs-gpt2-s", "--no-leak", "--allowed-field", "allowed"]
    done = CliRunner().invoke(app, [
        *arguments, "--export-pairs", str(tmp_path / "p"), "--export-bias", str(tmp_path / "b"), "--bias-over-use", "1",
        "--export-rows", str(tmp_path / "r"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    for said in ("2 preference pairs in", "to avoid (success", "4 rows, 1 of them several times, in"):
        assert said in done.output


def commanded(tmp_path, *more):
    data, words = tmp_path / "d.jsonl", tmp_path / "t.csv"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {"text": 7}]))
    words.write_text("use,avoid\nguilt,shame\n")
    return CliRunner().invoke(app, ["terms", str(data), "-t", str(words), "-m", "docs-gpt2-s", *more])


def test_without_a_model_the_files_are_the_same(tokenizer, tmp_path):
    def files(name):
        (tmp_path / name).mkdir()
        return {
            "export_pairs": tmp_path / name / "p", "export_rows": tmp_path / name / "r", "pairs_both_ways": True,
        }  # fmt: skip

    asked = looked(tokenizer, **files("asked"))
    told = row_files(tokenizer, ROWS, WORDS, RemedyFiles(**files("alone")), allowed_field="allowed")
    for name in "pr":
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "asked" / name).read_bytes()
    assert told["remedies"]["pairs"]["written"] == 6
    known = ("layout", "supervised", "rows", "malformed", "tokens", "places", "hidden")
    assert told["read"] == {name: asked.summary["asked"][name] for name in known}


def test_the_command_asks_no_model_for_files_that_need_none(tmp_path, monkeypatch):
    monkeypatch.setattr("borngap.model.load.load", None)
    done = commanded(tmp_path, "--export-pairs", str(tmp_path / "p"), "--export-rows", str(tmp_path / "r"))
    assert done.exit_code == 0, done.output
    for said in (
        "2 preference pairs in",
        "4 rows, 1 of them several",
        "the model was not asked",
        "malformed rows left",
    ):
        assert said in done.output
    assert commanded(tmp_path, "--export-pairs", str(tmp_path / "q"), "--json").exit_code != 0  # asks it


@pytest.mark.parametrize(("files", "words", "message"), [
    ({}, WORDS, "found: no file"), ({"export_bias": "b"}, WORDS, "found: a bias"),
    ({"export_pairs": "p"}, [("nowhere", "elsewhere")], "no word of the terms"),
    ({"export_pairs": "p", "export_rows": "r"}, [("nowhere", "shame")], "no preference pairs to write"),
])  # fmt: skip
def test_what_cant_be_made_without_a_model(tokenizer, tmp_path, monkeypatch, files, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        row_files(tokenizer, ROWS, words, RemedyFiles(**files))
    assert not list(tmp_path.iterdir())
