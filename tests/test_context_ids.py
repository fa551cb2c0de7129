"""Contexts that hold token ids: kept as they are, checked against the tokenizer; and no start token twice."""

from __future__ import annotations

import json
import re

import pytest
from tests.chats import BOS, CHATS, like_llama3
from tests.tiny import tiny

from borngap.context import Context, contexts_of, read_contexts, tokenize, write_contexts
from borngap.critical.forecast import forecast
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.model.probe import probe, records
from borngap.runfolder import read_run
from borngap.sweep.plan import SweepPlan, plan_sweep
from borngap.tokens import text_ids
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.train.finetune import finetune
from borngap.training import Training


@pytest.fixture
def llama3(tokenizer):
    """Return a tokenizer with a start token, which its chat template writes too."""
    return like_llama3(tokenizer)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture
def piecewise(tokenizer):
    """Return a context whose tokens its text does not give: a start in the middle of a word."""
    letters = [ids_of(tokenizer, letter)[0] for letter in "The"]
    prompt = (*letters, *ids_of(tokenizer, " old man felt"))
    (gold,), (rival,) = ids_of(tokenizer, " shame"), ids_of(tokenizer, " guilt")
    assert tuple(text_ids("The old man felt", tokenizer)) != prompt
    return Context("The old man felt", " shame", " guilt", prompt, gold, rival, "row 3")


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rendered_prompt_is_tokenised_as_its_template_does(llama3, turns):
    messages = CHATS[0][:turns]
    options = {"add_generation_prompt": messages[-1]["role"] == "user"}
    rendered = llama3.apply_chat_template(messages, tokenize=False, **options)
    own = llama3.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"]
    assert llama3(rendered)["input_ids"] == [llama3.bos_token_id, *own], "the call alone puts a second one in front"
    assert text_ids(rendered, llama3) == own
    target = tokenize(Context(rendered, " shame", " guilt"), llama3)
    assert target.ids == tuple(own)
    assert [target.gold_id, target.rival_id] == [*ids_of(llama3, " shame"), *ids_of(llama3, " guilt")]


def test_a_text_without_a_start_token_gets_one(llama3):
    assert text_ids("He felt", llama3) == llama3("He felt")["input_ids"] == text_ids(f"{BOS}He felt", llama3)
    assert text_ids(f"{BOS}{BOS}He", llama3)[:3] == [*[llama3.bos_token_id] * 2, *ids_of(llama3, "He")], "as written"
    assert text_ids("", llama3) == [llama3.bos_token_id] == text_ids(BOS, llama3)


def test_token_ids_are_kept_as_they_are(tokenizer, piecewise, tmp_path):
    target = tokenize(piecewise, tokenizer)
    assert (target.ids, target.gold_id) == (piecewise.prompt_ids, piecewise.gold_id)
    assert (target.rival_id, target.notes) == (piecewise.rival_id, {"context": "row 3"})
    path = tmp_path / "contexts.jsonl"
    path.write_text(write_contexts([piecewise, Context("a", "b")]), encoding="utf-8")
    assert read_contexts(path) == [piecewise, Context("a", "b")]
    assert json.loads(path.read_text().splitlines()[0])["prompt_ids"] == list(piecewise.prompt_ids)
    table = 'prompt,gold,rival,prompt_ids,gold_id,rival_id\nx, y, z,"[5, 6]",7,8\na, b,,,,\n'
    path.write_text(table, encoding="utf-8")
    assert read_contexts(path) == [Context("x", " y", " z", (5, 6), 7, 8), Context("a", " b")]


def test_every_store_gives_the_ids_back(tokenizer, piecewise, tmp_path):
    loaded = Loaded("tiny", tiny("gpt2", len(tokenizer)), tokenizer)
    run = finetune(loaded, [piecewise], Training(steps=1, rate=1e-3), tmp_path / "run")
    assert [Context(**entry) for entry in read_run(tmp_path / "run").plan["contexts"]] == [piecewise]
    assert run.verdicts[0]["gold_id"] == piecewise.gold_id
    planned = plan_sweep("tiny", [piecewise, Context("He felt", " shame")], [1e-3], training=Training(steps=1))
    assert SweepPlan.from_json(json.loads(json.dumps(planned.to_json()))).contexts == planned.contexts
    assert planned.to_json()["contexts"][1] == {"prompt": "He felt", "gold": " shame"}


def test_a_forecast_is_of_these_ids(tokenizer, piecewise):
    loaded = Loaded("tiny", tiny("gpt2", len(tokenizer)), tokenizer)
    (entry,) = forecast(loaded, [piecewise], Training(steps=2, rate=1e-3))
    target = entry.target
    assert (target.ids, target.gold_id, target.rival_id) == (
        piecewise.prompt_ids,
        piecewise.gold_id,
        piecewise.rival_id,
    )


@pytest.mark.parametrize("given", ["contexts", "mappings", "file"])
def test_a_tracker_and_a_callback_read_them(tokenizer, piecewise, tmp_path, given):
    path = tmp_path / "contexts.jsonl"
    path.write_text(write_contexts([piecewise]), encoding="utf-8")
    contexts = {"contexts": [piecewise], "mappings": [piecewise.to_json()], "file": path}[given]
    model = tiny("gpt2", len(tokenizer))
    alone = probe(model, tokenizer, [piecewise])["logit_gap"][0]
    tracker = Tracker(model, tokenizer, contexts, per_context=True)
    assert tracker.records[0][1][0]["logit_gap"] == pytest.approx(alone)
    state = json.loads(json.dumps(BornGapCallback(contexts).state()["args"]["contexts"]))
    assert BornGapCallback(state).state()["args"]["contexts"] == [piecewise.to_json()]


def test_a_mapping_with_a_wrong_field_is_named():
    with pytest.raises(
        UserError, match=r"unknown field in context 1\n  rule: the fields are prompt, gold, .*\n  found: competitor"
    ):
        contexts_of([{"prompt": "a", "gold": "b"}, {"prompt": "a", "gold": "b", "competitor": "c"}])


def test_a_rival_is_chosen_for_given_ids_and_stands_with_them(tokenizer, piecewise):
    model = tiny("gpt2", len(tokenizer))
    alone = Context(piecewise.prompt, piecewise.gold, None, piecewise.prompt_ids, piecewise.gold_id)
    (row,) = records(probe(model, tokenizer, [alone]))
    named = Context(alone.prompt, alone.gold, row["rival"], alone.prompt_ids, alone.gold_id, row["rival_id"], "again")
    (again,) = records(probe(model, tokenizer, [named]))
    assert again["logit_gap"] == row["logit_gap"]
    assert again["notes"]["context"] == "again"


def test_a_prompt_written_without_its_start_token_may_name_it_by_ids(llama3):
    (gold,) = ids_of(llama3, " shame")
    ids = llama3("He felt")["input_ids"]
    assert tokenize(Context("He felt", " shame", None, ids, gold), llama3).ids == tuple(ids)


OTHERS = {
    "prompt": ({"prompt_ids": [1, 2, 3]}, "the ids of a prompt give its text"),
    "gold": ({"gold_id": 5}, "the ids of a word give its text"),
    "rival": ({"rival_id": 5}, "the ids of a word give its text"),
    "unknown": ({"prompt_ids": [10**6]}, "the ids of a prompt give its text"),
    "huge": ({"gold_id": 2**40}, "the ids of a word give its text"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_ids_of_another_tokenizer_are_one_clear_error(tokenizer, piecewise, name):
    changes, rule = OTHERS[name]
    model = tiny("gpt2", len(tokenizer))
    message = rf"^token ids of another tokenizer, in the context 'The old man felt'\n  rule: {rule}\n  found: .* for '"
    with pytest.raises(UserError, match=message) as raised:
        probe(model, tokenizer, [Context(**piecewise.to_json() | changes)])
    assert "export the contexts again" in str(raised.value)


def test_ids_that_make_no_context(tokenizer, piecewise):
    same = Context(**piecewise.to_json() | {"rival_id": piecewise.gold_id})
    with pytest.raises(UserError, match=r"these token ids make no context\n  rule: a prompt, and two tokens after it"):
        tokenize(same, tokenizer)
    empty = Context(**piecewise.to_json() | {"prompt_ids": []})
    with pytest.raises(UserError, match=r"these token ids make no context\n.*\n  found: 0 tokens of prompt"):
        tokenize(empty, tokenizer)


LINE = {"prompt": "He", "gold": " a", "rival": " b", "prompt_ids": [1, 2], "gold_id": 3, "rival_id": 4}
WHOLE, PART = "'{}' is {}", "rule: prompt_ids and gold_id, and rival_id where a rival is named"
BAD = {
    "no gold id": ({"gold_id": None}, PART),
    "no rival's id": ({"rival_id": None}, PART),
    "a rival's id alone": ({"rival": None}, PART),
    "no prompt": ({"prompt_ids": None}, PART),
    "text": ({"prompt_ids": "1 2"}, WHOLE.format("prompt_ids", "a list of token ids")),
    "empty": ({"prompt_ids": []}, WHOLE.format("prompt_ids", "a list of token ids")),
    "words": ({"prompt_ids": ["a"]}, WHOLE.format("prompt_ids", "a list of token ids")),
    "negative": ({"gold_id": -1}, WHOLE.format("gold_id", "a token id")),
    "fraction": ({"gold_id": 1.5}, WHOLE.format("gold_id", "a token id")),
    "yes": ({"rival_id": True}, WHOLE.format("rival_id", "a token id")),
    "note": ({"note": 3}, WHOLE.format("note", "a text")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_of_ids_is_named(tmp_path, name):
    changes, rule = BAD[name]
    path = tmp_path / "contexts.jsonl"
    path.write_text(json.dumps({**LINE, **changes}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"in {re.escape(str(path))}, line 1\n  (rule: )?{re.escape(rule)}"):
        read_contexts(path)


def test_a_prompt_of_ids_may_be_blank_as_text(tmp_path):
    path = tmp_path / "contexts.jsonl"
    path.write_text(json.dumps({**LINE, "prompt": "\n"}), encoding="utf-8")
    assert read_contexts(path)[0].prompt == "\n"
