"""Messages that name the cause and the cure."""

from __future__ import annotations

import json

import pytest
from tests.runs import make_run, make_sweep

import borngap
from borngap.context import Context, read_contexts, tokenize
from borngap.errors import UserError, did_you_mean
from borngap.runfolder import RUN, read_run
from borngap.scanning.pairs import read_pairs
from borngap.sweep.sweepfolder import read_sweep


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def message(act, *arguments, **options):
    with pytest.raises(UserError) as caught:
        act(*arguments, **options)
    return str(caught.value)


def test_the_nearest_name_is_offered():
    assert did_you_mean("doc10", ["docs10", "docs40", "paper10"]) == "did you mean 'docs10'?"
    assert did_you_mean("nothing like it", ["docs10"]) is None


def test_a_misspelt_list_of_contexts(tmp_path):
    assert "did you mean 'paper10'?" in message(read_contexts, "paper1O")
    assert "one of docs10" in message(read_contexts, tmp_path / "mine.jsonl")


@pytest.mark.parametrize(("field", "meant"), [
    ("rivl", "rival"), ("competitor", "rival"), ("Rival", "rival"), ("promt_ids", "prompt_ids"),
])  # fmt: skip
def test_a_misspelt_field_of_a_context(tmp_path, field, meant):
    told = message(read_contexts, written(tmp_path / "c.jsonl", {"prompt": "a", "gold": " b", field: " c"}))
    assert "the fields are prompt, gold, rival" in told
    assert f"found: {field}\n  fix: did you mean {meant!r}?" in told


@pytest.mark.parametrize("row", [
    {"text": "A list of words."}, {"prompt": "a", "completion": "b"}, {"messages": [], "id": 3},
    {"instruction": "a", "output": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}, {"input_ids": [1, 2]},
])  # fmt: skip
def test_a_data_set_is_no_list_of_contexts(tmp_path, row):
    told = message(read_contexts, written(tmp_path / "d.jsonl", row))
    assert "d.jsonl, line 1 is a data set" in told
    assert "--export-contexts 20` finds the contexts of a data set" in told
    (tmp_path / "d.csv").write_text(",".join(row) + "\n" + "x," * (len(row) - 1) + "x\n")
    assert "is a data set" in message(read_contexts, tmp_path / "d.csv")


def test_a_list_of_contexts_is_no_data_set(tmp_path):
    loaded, path = borngap.load("docs-gpt2-s"), written(tmp_path / "c.jsonl", {"prompt": "a", "gold": " b"})
    told = message(borngap.scan, loaded.model, loaded.tokenizer, path)
    assert "these are contexts, not a data set: `borngap probe --contexts FILE` measures them" in told


@pytest.mark.parametrize(("field", "cure"), [
    ("txt", "there is no field 'txt': did you mean 'text'?"), ("body", "there is no field 'body'; there are id, text"),
])  # fmt: skip
def test_a_wrong_field_of_a_data_set(tmp_path, field, cure):
    loaded, path = borngap.load("docs-gpt2-s"), written(tmp_path / "d.jsonl", {"id": "1", "text": "A list."})
    settings = borngap.Scanning(text_field=field)
    assert cure in message(borngap.scan, loaded.model, loaded.tokenizer, path, settings=settings)


def test_a_word_that_lost_its_space_is_refused_with_the_cure(tokenizer):
    told = message(tokenize, Context("The method returns a ", "list"), tokenizer)
    cure = "give the word its leading space and end the prompt without one"
    assert f"{cure}: ' list' is one token here" in told
    assert told.endswith(cure) is False
    assert message(tokenize, Context("It retur", "ns"), tokenizer).endswith(cure)


@pytest.mark.parametrize("word", ["list", "function"])
def test_a_word_that_is_glued_to_its_prompt_says_so(tokenizer, word):
    assert len(tokenizer(f" {word}")["input_ids"]) == 1
    notes = tokenize(Context("The method returns a", word, " words"), tokenizer).notes
    assert notes["gold's space"] == (
        f"'{word}' has no leading space, so it is read as 'a{word}'; ' {word}', with its space, is one token"
    )
    for fine in (Context("The method returns a", f" {word}", " words"), Context("returns (", word, " words")):
        assert "gold's space" not in tokenize(fine, tokenizer).notes


def test_a_folder_of_another_kind_is_named(tmp_path):
    run, sweep = make_run(tmp_path / "run", ["resolved"]), make_sweep(tmp_path / "sweep")
    told = message(read_run, sweep)
    assert f"found: {sweep}: a SWEEP\n  fix: `borngap report {sweep}` shows this SWEEP" in told
    assert f"a folder with {RUN.head}, which `borngap finetune` or a callback wrote" in told
    assert f"found: {run}: a RUN" in message(borngap.read_scan, run)
    assert "no folder\n  fix: check the path" in message(read_sweep, tmp_path / "absent")
    assert "a folder without a result of borngap" in message(read_sweep, tmp_path)


def test_a_folder_that_holds_another_result_is_not_written_into(tmp_path):
    sweep = make_sweep(tmp_path / "sweep")
    told = message(make_run, sweep, ["resolved"])
    assert f"{sweep} holds a SWEEP\n  rule: a new or empty folder, or a RUN" in told


def test_a_result_folder_is_no_model_no_data_and_no_list_of_contexts(tmp_path):
    loaded, run = borngap.load("docs-gpt2-s"), make_run(tmp_path / "run", ["resolved"])
    said = f"{run} is a RUN, the result of an earlier command"
    for act in (
        lambda: read_contexts(run), lambda: borngap.load(str(run)),
        lambda: borngap.scan(loaded.model, loaded.tokenizer, run), lambda: read_pairs(run),
    ):  # fmt: skip
        told = message(act)
        assert said in told
        assert f"`borngap report {run}` shows the RUN" in told


def test_the_contexts_of_a_scan_are_pointed_at(tmp_path):
    (tmp_path / "scan.json").write_text("{}")
    assert "contexts.jsonl" not in message(read_contexts, tmp_path)
    (tmp_path / "contexts.jsonl").write_text("")
    assert f"its contexts are in {tmp_path / 'contexts.jsonl'}" in message(read_contexts, tmp_path)


def test_a_misspelt_bundled_model():
    assert "did you mean 'docs-gpt2-s'?" in message(borngap.load, "docs-gpt2s")
    assert "here: docs-gpt2-m" in message(borngap.load, "elsewhere/model")
