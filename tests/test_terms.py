"""Terms: places, the numbers at them, and what they come to, against probes, transformers and hand calculations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.chats import CHATS, like_llama3
from tests.tiny import CONFIGS, tiny

import borngap
from borngap.context import Context, tokenize
from borngap.errors import UserError
from borngap.model.generate import continuations
from borngap.model.probe import probe
from borngap.model.readout import geometry_of
from borngap.usage.asking import Asking
from borngap.usage.sampled import PlaceSampler
from borngap.usage.terms import terms
from borngap.usage.usagefolder import read_usage
from borngap.words.occurrences import Finder
from borngap.words.term import Term
from borngap.words.termfile import terms_of

PAIRS = [("guilt", "shame"), ("exception", "error"), ("function", "method")]
TEXTS = [
    "The old man felt shame and guilt. He said that the method returns a list of words; she said that a function",
    "Raise an error, throw an exception. The functions raise exceptions (an Error) in a method.",
    "The old man",
    "He felt guilt: GUILT and shame.",
]
SOURCES = os.pathsep.join([str(Path(borngap.__file__).parents[1]), "."])


def asked(model, tokenizer, data, words=PAIRS, **options):
    return terms(model, tokenizer, data, words, **{"leak": False, **options})


def test_an_expression_that_lists_no_string_is_no_rival(tmp_path):
    rule = tmp_path / "a.yml"
    rule.write_text("extends: substitution\nswap:\n  '[fm]\\w+d': function\n")
    loaded = borngap.load("docs-gpt2-s")
    found = asked(loaded.model, loaded.tokenizer, [{"text": "A method is a function."}], rule).to_dict()
    (term,) = found["terms"]
    assert (term["due"], term["success"], term["unmeasured"]) == (0, None, 1)
    assert "lists no string" in term["notes"]["unmeasured"]
    assert (found["compliance"]["use"], found["compliance"]["avoid"]) == (1, 1)


def constant(tokenizer, logits):
    """Return a model with the same logits at every position: those given for single tokens, 0 for others."""
    model = tiny("gpt2", len(tokenizer))
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[:] = torch.tensor([1.0, -1.0] + [0.0] * 30)  # each has a direction
        for text, value in logits.items():
            (token,) = tokenizer(text)["input_ids"]
            model.transformer.wte.weight[token] += value / 32
    return model


def placed(found):
    """Kind, word and counterpart of each place."""
    return found.places.select("row", "kind", "word", "other").rows()


@pytest.mark.parametrize("name", [*CONFIGS, "peft", "chat"])
def test_numbers_are_those_of_a_probe_of_the_same_prefix(tokenizer, name):
    data, window = [*TEXTS, " ".join(TEXTS * 3)], 64
    if name == "chat":
        tokenizer, data = like_llama3(tokenizer), [{"messages": chat} for chat in CHATS]
    model = tiny(name if name in CONFIGS else "llama-untied", len(tokenizer))
    if name == "peft":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    found = asked(model, tokenizer, data).places.filter(pl.col("logit_gap").is_not_null())
    assert len(found) > 5
    assert name == "chat" or len(set(found["start"])) > 1, "no window of a long row has a place"
    rows = [tokenizer(row)["input_ids"] if isinstance(row, str) else chat_ids(tokenizer, row) for row in data]
    for place in found.to_dicts():
        prefix = rows[place["row"]][place["start"] : place["offset"]]
        assert len(prefix) <= window
        context = Context(tokenizer.decode(prefix), *(
            tokenizer.decode([place[key]]) for key in ("use_id", "avoid_id")
        ), tuple(prefix), place["use_id"], place["avoid_id"])  # fmt: skip
        alone = probe(model, tokenizer, [context]).to_dicts()[0]
        for key, other in (("logit_gap", "logit_gap"), ("use_probability", "gold_probability"),
                           ("avoid_probability", "rival_probability")):  # fmt: skip
            assert place[key] == pytest.approx(alone[other], abs=2e-5), key
        assert (place["use_rank"], place["avoid_rank"]) == (alone["gold_rank"], alone["rival_rank"])


def test_a_token_without_direction_is_measured_neither_here_nor_in_training(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    (shame,) = tokenizer(" shame")["input_ids"]
    with torch.no_grad():
        model.transformer.wte.weight[shame] = 0
    found, rows = asked(model, tokenizer, TEXTS, allowed=range(4)).places, [{"text": text} for text in TEXTS]
    lost = found.filter(pl.col("reason").str.starts_with("a token has no direction in the readout geometry"))
    assert set(lost["word"]) == {"shame", "guilt"}
    there = found.filter(pl.col("logit_gap").is_not_null())
    sampler = PlaceSampler(
        model, tokenizer, geometry_of(model, "readout", tokenizer), terms_of(PAIRS), rows, range(4), Asking()
    )
    watched = sampler.draw(99, 0).places
    assert 4 < sum(place.is_due for place in watched) == len(there.filter(pl.col("kind") == "due"))
    assert len(watched) == len(there)


def chat_ids(tokenizer, row):
    return list(tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"])


def test_tokens_are_those_of_a_context_with_the_same_words(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    words = [*PAIRS, ("old man", "old mind"), ("throw", "list")]
    found = asked(model, tokenizer, TEXTS, words).places
    assert len(found) > 12
    for place in found.filter(pl.col("reason").is_null()).to_dicts():
        text = TEXTS[place["row"]]
        before = text[: text.index(place["before"] + place["word"]) + len(place["before"])]
        space = " " * before.endswith(" ")
        target = tokenize(Context(before.removesuffix(" "), space + place["word"], space + place["other"]), tokenizer)
        ids = (place["use_id"], place["avoid_id"])
        assert (target.gold_id, target.rival_id) == (ids if place["kind"] == "due" else ids[::-1])
        assert list(target.ids) == tokenizer(text)["input_ids"][: place["offset"]]


def test_forms_and_case_are_kept_in_the_counterpart(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    found = asked(model, tokenizer, TEXTS)
    assert placed(found) == [
        (0, "avoid", "shame", "guilt"), (0, "due", "guilt", "shame"), (0, "avoid", "method", "function"),
        (0, "due", "function", "method"), (1, "avoid", "error", "exception"), (1, "due", "exception", "error"),
        (1, "due", "functions", "methods"), (1, "due", "exceptions", "errors"), (1, "avoid", "Error", "Exception"),
        (1, "avoid", "method", "function"), (3, "due", "guilt", "shame"), (3, "due", "GUILT", "SHAME"),
        (3, "avoid", "shame", "guilt"),
    ]  # fmt: skip
    assert found.places["where"][0] == "data, record 1"
    cased = asked(model, tokenizer, TEXTS, [Term("guilt", "shame", cased=True)])
    assert [word for *_, word, _ in placed(cased)] == ["shame", "guilt", "guilt", "shame"]


def test_a_word_within_a_longer_one_of_the_other_side_is_no_place(tokenizer):
    text = ["A method and a class method. The old\nman, an old man's list"]
    found = asked(tiny("gpt2", len(tokenizer)), tokenizer, text, [("method", "class method"), ("old man", "old error")])
    assert placed(found) == [
        (0, "due", "method", "class method"), (0, "avoid", "class method", "method"),
        (0, "due", "old\nman", "old\nerror"), (0, "due", "old man", "old error"),
    ]  # fmt: skip


def test_only_what_is_supervised_has_places(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    rows = [{"prompt": "The shame and guilt", "completion": " of a guilt"}]
    assert placed(asked(model, tokenizer, rows)) == [(0, "due", "guilt", "shame")]
    assert asked(model, tokenizer, rows).summary["asked"]["hidden"] == 2
    assert len(placed(asked(model, tokenizer, rows, loss="all"))) == 3
    ids = [*tokenizer("He felt guilt")["input_ids"], *tokenizer(" guilt and shame")["input_ids"]]
    packed = [{"input_ids": ids, "seq_lengths": [len(ids) - 3, 3]}]
    found = asked(model, tokenizer, packed).places
    assert found.filter(pl.col("offset").is_null())["reason"].to_list() == []
    assert found.select("word", "offset", "start").rows() == [
        ("guilt", len(ids) - 4, 0),
        ("shame", len(ids) - 1, len(ids) - 3),
    ], "the first token of a document is not predicted, nor read after the one before"


def test_a_first_token_is_counted_and_not_measured(tokenizer):
    found = asked(tiny("gpt2", len(tokenizer)), tokenizer, [" guilt and guilt"])
    assert [found.summary["all"]["due"], found.summary["compliance"]["use"]] == [1, 2]
    assert found.summary["all"]["notes"]["unmeasured"] == "1: it is the first token of its text, which nothing predicts"


@pytest.mark.parametrize(("given", "text", "found"), [
    ([Term("phone", "mobile", exceptions=("mobile (?:app|web)",))], "a mobile app, a mobile", ["mobile 16"]),
    ([Term("Javadoc", "javadoc", "1", cased=True, pattern="javadoc"),
      Term("API doc", "javadoc", "1", pattern="javadoc")],
     "Javadoc, javadoc, JAVADOC", ["Javadoc 0", "javadoc 9", "javadoc 9", "JAVADOC 18"]),
    ([Term("kernel oops", "oops", pattern="(?<!kernel )oops")], "an oops, a kernel oops, OOPS, oopsy",
     ["oops 3", "kernel oops 11", "OOPS 24"]),
    ([Term("用户", "顾客")], "这位顾客是用户", ["顾客 2", "用户 5"]),
    ([Term("key", "クリック")], "クリックする key_x key. keyboard", ["クリック 0", "key 13"]),
    ([Term("Straße", "Weg")], "STRASSE, straße, Straßen", ["straße 9"]),
    ([Term("ab", "cd", whole=False)], "xaby xcdy", ["ab 1", "cd 6"]),
    ([Term("for example", "e.g.")], "see e.g. this, for example, e.g.", ["e.g. 4", "for example 15", "e.g. 28"]),
    ([Term("leave", "leaf")], "leaves, leaf, left", ["leaf 8", "left 14"]),
    ([Term("C#", "C++")], "C# and C++, c+++", ["C# 0", "C++ 7", "c++ 12"]),
])  # fmt: skip
def test_where_words_stand(given, text, found):
    assert [f"{o.text} {o.start}" for o in Finder(given).find(text)] == found


LOGITS = {" guilt": 2.0, " shame": 1.0, " exception": 1.0, " error": 3.0, " method": 1.5, " function": 1.5}


def test_shares_by_hand(tokenizer):
    """guilt leads shame by 1 and is fourth or so; error leads exception; function is level with method: no lead."""
    model = constant(tokenizer, LOGITS)
    rows = [
        {"text": "He felt guilt and guilt, a function", "right": False},
        {"text": "He felt shame and an exception", "right": True},
        {"text": "He felt an error and a shame", "right": ["shame"]},
        {"text": "He felt guilt; a method", "right": None},
    ]
    found = asked(model, tokenizer, rows, allowed_field="right")
    by = {entry["use"]: entry for entry in found.summary["terms"]}
    keys = ("due", "rows", "success", "first", "right_avoid", "over_use")
    assert [by["guilt"][key] for key in keys] == [3, 2, 1.0, 0.0, 2, 1.0]
    assert [by["exception"][key] for key in keys] == [1, 1, 0.0, 0.0, 0, None]
    assert [by["function"][key] for key in keys] == [1, 1, 0.0, 0.0, 0, None]
    assert [found.summary["all"][key] for key in keys] == [5, 3, 3 / 5, 0.0, 2, 1.0]
    assert (by["guilt"]["low"], by["guilt"]["high"]) == (pytest.approx(0.025 ** (1 / 2)), 1.0)
    assert (by["exception"]["low"], by["exception"]["high"]) == (None, None), "one row"
    low, high = found.summary["all"]["low"], found.summary["all"]["high"]
    assert low < 3 / 5 < high
    assert by["exception"]["notes"]["over_use"] == "no place of the word to avoid is marked as right"
    kept = found.summary["compliance"]
    # wrong: the error and the method; the two shames are right
    assert [kept[key] for key in ("use", "avoid", "allowed", "share", "rows")] == [5, 2, 2, 5 / 7, 4]
    assert [entry["avoid_places"] for entry in kept["terms"]] == [0, 1, 1]
    assert kept["terms"][1]["examples"] == [
        {"where": "data, record 3", "before": "He felt an ", "word": "error", "after": " and a shame"}
    ]
    assert [place["word"] for place in found.summary["worst"]] == ["exception", "function", "guilt", "guilt", "guilt"]
    assert [place["logit_gap"] for place in found.summary["worst"]] == pytest.approx([-2.0, 0.0, 1.0, 1.0, 1.0])
    assert [place["word"] for place in found.summary["worst_over_use"]] == ["shame", "shame"]
    assert found.table["success"].to_list() == [1.0, 0.0, 0.0]
    assert repr(found) == (
        "<Usage in memory of 3 terms: success 60% of 5 due places, over_use 100% of 2, compliance of the data 71%>"
    )


def test_the_first_choice(tokenizer):
    found = asked(constant(tokenizer, {" guilt": 3.0, " exception": 2.0}), tokenizer, ["He felt guilt, an exception"])
    assert [entry["first"] for entry in found.summary["terms"]] == [1.0, 0.0, None]
    assert found.summary["all"]["first"] == 0.5


def test_a_place_with_several_rivals_counts_once(tokenizer):
    model = constant(tokenizer, LOGITS)
    words = [("guilt", "shame"), ("guilt", "error"), ("exception", "dictionary")]
    found = asked(model, tokenizer, ["He felt guilt and an exception", "The dictionary"], words)
    assert [entry["success"] for entry in found.summary["terms"]] == [1.0, 0.0, 1.0]
    assert [found.summary["all"][key] for key in ("due", "success")] == [2, 0.5], "guilt leads one of its two rivals"
    assert [found.summary["compliance"][key] for key in ("use", "avoid", "share")] == [2, 1, 2 / 3]


def test_held_out_text_is_asked_and_the_data_is_judged(tokenizer):
    model = constant(tokenizer, LOGITS)
    found = asked(model, tokenizer, ["He felt shame", "He felt guilt"], held_out=["The guilt", "The exception"])
    assert [found.summary["all"][key] for key in ("due", "success")] == [2, 0.5]
    assert [found.summary["compliance"][key] for key in ("use", "avoid", "share")] == [1, 1, 0.5]
    table = found.places
    assert table["data"].to_list() == ["data", "data", "held-out", "held-out"]
    assert table["logit_gap"].is_null().to_list() == [True, True, False, False]


def test_leak_by_hand_and_by_transformers(tokenizer):
    model = constant(tokenizer, {" error": 3.0, " list": 1.0})
    rows = ["He felt guilt", "The functions raise exceptions"]
    found = terms(model, tokenizer, rows, PAIRS)
    assert [entry["leak"] for entry in found.summary["terms"]] == [0.0, 1.0, 0.0]
    assert [found.summary["all"][key] for key in ("continuations", "leak")] == [2, 1.0]
    assert found.continuations["words"].to_list() == [["error"]] * 2
    assert found.continuations["continuation"].to_list() == [" error" * 32] * 2
    chat = like_llama3(tokenizer)
    other = tiny("llama-tied", len(chat))
    found = terms(other, chat, [{"messages": messages} for messages in CHATS], PAIRS)
    for row, messages in enumerate(CHATS):
        until = next(at for at, message in enumerate(messages) if message["role"] == "assistant")
        prompt = chat.apply_chat_template(messages[:until], add_generation_prompt=True, return_dict=True)["input_ids"]
        prompt = prompt[-32:]  # a context of 64 tokens leaves so many
        own = other.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=32, pad_token_id=0)[0]
        assert found.continuations["continuation"][row] == chat.decode(own[len(prompt) :].tolist())


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "gpt_neox"])
def test_writing_on_in_a_batch_is_writing_on_alone_and_leaves_no_trace(name):
    model = tiny(name).train()
    prompts = [list(range(3, 12)), list(range(40, 43)), [5]]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    written = continuations(model, prompts, 12, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    model.eval()
    for prompt, ids in zip(prompts, written, strict=True):
        own = list(prompt)
        with torch.no_grad():
            for _ in range(12):
                own.append(int(model(input_ids=torch.tensor([own])).logits[0, -1].argmax()))
        ends = own.index(0) if 0 in own and model.config.eos_token_id == 0 else len(own)
        assert ids == own[len(prompt) : ends]
    model.generation_config.repetition_penalty = 5.0
    assert continuations(model, prompts, 12, 0) == written, "greedy, whatever the model's own settings say"


KILLED = """
import os, signal, sys
from tests.test_terms import PAIRS, ROWS, terms, tiny
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
def die(progress):
    if progress.rows >= 12:
        os.kill(os.getpid(), signal.SIGKILL)
terms(tiny("gpt2", len(tokenizer)), tokenizer, sys.argv[2], PAIRS, out=sys.argv[3], chunk=3, on_progress=die)
"""
ROWS = [{"text": TEXTS[i % 4] + f" {i}"} for i in range(8)]


def test_a_killed_look_goes_on(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    data, out = tmp_path / "data.jsonl", tmp_path / "terms"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tokenizer"), str(data), str(out)]
    ended = subprocess.run(command, check=False, timeout=100, env={**os.environ, "PYTHONPATH": SOURCES})
    assert ended.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="is not finished"):
        read_usage(out)
    (out / "parts" / "d00000001.json").unlink()  # as if cut off between both files of a chunk
    model, seen = tiny("gpt2", len(tokenizer)), []
    resumed = terms(model, tokenizer, data, PAIRS, out=out, chunk=3, on_progress=seen.append)
    assert [progress.rows for progress in seen] == [12, 15, 18]
    assert {progress.total for progress in seen} == {18}
    whole = terms(model, tokenizer, data, PAIRS, chunk=3)
    assert resumed.places.equals(whole.places)
    assert resumed.continuations.equals(whole.continuations)
    assert resumed.summary == whole.summary
    assert resumed.summary["malformed"][0]["where"] == "data.jsonl, line 9"
    assert sorted(file.name for file in out.iterdir()) == [
        "continuations.parquet", "places.parquet", "summary.json", "terms.json"
    ]  # fmt: skip
    assert read_usage(out).summary == whole.summary
    with pytest.raises(UserError, match=r"another plan\n.*\n  found: terms: "):
        terms(model, tokenizer, data, PAIRS[:2], out=out, chunk=3)


def test_terms_that_can_not_be_held_apart_are_named(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    long = ("guilt", "guilt trip")
    found = asked(model, tokenizer, ["He felt guilt and an exception"], [long, PAIRS[1]])
    assert found.summary["terms"][0]["success"] is None
    assert found.summary["terms"][0]["unmeasured"] == 1
    assert found.summary["terms"][0]["notes"]["success"] == "none of its places can be measured"
    assert "one word is the beginning of the other" in found.summary["terms"][0]["notes"]["unmeasured"]
    with pytest.raises(
        UserError, match=r"can't hold the words of the terms apart(.|\n)*'guilt' instead of 'guilt trip'"
    ):
        asked(model, tokenizer, ["He felt guilt"], [long])


@pytest.mark.parametrize(("data", "words", "options", "message"), [
    (["He felt GUILT, Guilts and errors"], [Term("guilt", "shame", cased=True)], {},
     r"no word of the terms stands in data\n.*\n  found: 'guilt' not, but 'GUILT' \(1\), 'Guilts' \(1\)"),
    (["The functoin of a list"], [("function", "method")], {}, r"'function' not, but 'functoin' \(1\)"),
    (["initial initial Initialized regular initialize"], [("initialise", "begin")], {},
     r"'initialise' not, but 'initialize' \(1\), 'initial' \(2\)"),
    (["Das Wort"], [("Mann", "Frau")], {}, r"found: nothing like 'Mann', 'Frau'"),
    ([{"prompt": "guilt", "completion": " of"}], PAIRS, {}, r"no place of the terms in data is supervised(.|\n)*all"),
    ([{"text": "guilt"}], PAIRS, {"allowed_field": "txt"}, r"no row of data has the field 'txt'(.|\n)*'text'"),
    ([{"text": "a guilt", "ok": 3}], PAIRS, {"allowed_field": "text"}, None),
    ([{"text": "a shame", "ok": 3}], PAIRS, {"allowed_field": "ok"}, r"malformed row: data, record 1\n.*'ok' is true"),
    (["a guilt"], PAIRS, {"allowed": [{"line": 3}]}, "malformed allowed place in allowed entry 1"),
    (["a guilt"], PAIRS, {"allowed": []}, "no allowed places"),
    (["a guilt"], [], {}, "no terms in terms"),
    (["a guilt"], PAIRS, {"window": 1000}, "the window is too long"),
    ([], PAIRS, {}, "no rows in data"),
])  # fmt: skip
def test_bad_input(tokenizer, data, words, options, message):
    model = tiny("gpt2", len(tokenizer))
    if message is None:
        asked(model, tokenizer, data, words, **options)
        return
    with pytest.raises(UserError, match=message):
        asked(model, tokenizer, data, words, **options)
