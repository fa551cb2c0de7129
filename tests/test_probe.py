"""The probe: a batched forward must equal one without padding, and the table must say what is missing and why."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
import torch
from tests.tiny import CONFIGS, tiny

import borngap
from borngap.context import Context, tokenize
from borngap.errors import UserError
from borngap.model import forward as module
from borngap.model.forward import forward
from borngap.model.probe import LEADING, TRAILING, probe, records
from borngap.model.readout import geometry_of
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES
from borngap.observables.predictions import measure
from borngap.observables.sorting import nucleus
from borngap.words.relation import relation

CONTEXTS = [
    Context("He felt", " shame", " guilt"),
    Context("The old man felt shame and guilt. A", " method", " function"),
    Context("A", " list", " dictionary"),
    Context("Raise an", " error", " exception"),
]


@pytest.fixture
def model(tokenizer):
    return tiny("gpt2", vocabulary=len(tokenizer))


def alone(model, target):
    """Logits and hidden state of one prompt, by the model itself: no padding, no choice of positions."""
    with torch.no_grad():
        out = model(input_ids=torch.tensor([target.ids]), output_hidden_states=True)
    return out.logits[0, -1], out.hidden_states[-1][0, -1]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("limit", [1, 1 << 26])
def test_a_padded_batch_equals_each_prompt_alone(tokenizer, name, limit, monkeypatch):
    monkeypatch.setattr(module, "LOGIT_ELEMENTS", limit)
    model = tiny(name, vocabulary=len(tokenizer))
    targets = [tokenize(context, tokenizer) for context in CONTEXTS]
    assert len({len(t.ids) for t in targets}) > 1
    logits, hidden = forward(model, targets)
    for index, target in enumerate(targets):
        own_logits, own_hidden = alone(model, target)
        torch.testing.assert_close(logits[index], own_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(hidden[index], own_hidden, rtol=1e-4, atol=1e-5)


def test_batches_hold_every_prompt_once_within_their_bound(tokenizer, monkeypatch):
    targets = [tokenize(context, tokenizer) for context in CONTEXTS]
    order = sorted(range(4), key=lambda i: len(targets[i].ids))
    for limit in (1, 200, 500, 10**6):
        monkeypatch.setattr(module, "LOGIT_ELEMENTS", limit)
        batches = list(module._batches(order, targets, 100))
        assert [i for batch in batches for i in batch] == order
        for batch in batches:
            kept = len(batch) * len({len(targets[i].ids) for i in batch}) * 100
            assert kept <= limit or len(batch) == 1
    assert len(batches) == 1
    monkeypatch.setattr(module, "_PROMPT_TOKENS", 1)
    assert [len(batch) for batch in module._batches(order, targets, 100)] == [1] * 4


@pytest.mark.parametrize("geometry", ["readout", "input", "centered"])
def test_the_table_holds_what_measure_gives(model, tokenizer, geometry):
    table = probe(model, tokenizer, CONTEXTS, geometry=geometry, top_p=0.8)
    assert table.columns == [*LEADING, *OBSERVABLES, *TRAILING]
    targets = [tokenize(context, tokenizer) for context in CONTEXTS]
    gold, rival = torch.tensor([t.gold_id for t in targets]), torch.tensor([t.rival_id for t in targets])
    states = [alone(model, target) for target in targets]
    logits, hidden = (torch.stack(side) for side in zip(*states, strict=True))
    values = measure(logits, geometry_of(model, geometry, tokenizer), gold, rival, hidden=hidden, top_p=0.8)
    for name, value in values.items():
        assert table[name].dtype == (pl.Int64 if name in INTEGER_IDS else pl.Float64)
        assert table[name].to_list() == pytest.approx(value.tolist(), rel=1e-3, abs=1e-5), name
    assert table["prompt"].to_list() == [c.prompt for c in CONTEXTS]
    assert table["gold_id"].to_list() == gold.tolist()
    assert table["rival"].to_list() == [c.rival for c in CONTEXTS]
    assert table["notes"].to_list() == ["{}"] * 4
    assert not table["fragment"].any()


def test_only_the_wanted_observables(model, tokenizer):
    table = probe(model, tokenizer, CONTEXTS[:1], only=["purity"])
    assert table.columns == [*LEADING, "purity", *TRAILING]


def test_a_missing_number_is_null_with_its_reason(model, tokenizer):
    gold, rival = (tokenizer(word)["input_ids"][0] for word in (" shame", " guilt"))
    with torch.no_grad():
        model.lm_head.weight[gold] = model.lm_head.weight[rival]
    table = probe(model, tokenizer, CONTEXTS[:2])
    assert table["burial_depth"].null_count() == 1
    first, second = records(table)
    assert first["burial_depth"] is None
    assert first["notes"] == {"burial_depth": OBSERVABLES["burial_depth"].absent}
    assert second["burial_depth"] > 0
    assert second["notes"] == {}
    json.dumps([first, second], allow_nan=False)


def test_a_capped_readout_is_noted(tokenizer):
    model = tiny("gemma2", vocabulary=len(tokenizer))
    (row,) = records(probe(model, tokenizer, CONTEXTS[:1]))
    assert row["notes"]["logits"].startswith("the model's logits are not hidden @ weight.T + bias")


def test_a_synonym_of_the_nucleus_is_chosen_first():
    loaded = borngap.load("docs-gpt2-s")
    contexts = [
        Context("Style to", " apply"),
        Context("Style to", " apply", " use"),
        Context("Style to", " apply", "x"),
    ]
    row, named, other = records(probe(loaded.model, loaded.tokenizer, contexts, only=["gold_overlap"]))
    geometry = geometry_of(loaded.model, "readout", loaded.tokenizer)
    logits, _ = alone(loaded.model, tokenize(contexts[1], loaded.tokenizer))
    inside = nucleus(logits.softmax(0)[None, : geometry.size], 0.9)[0].nonzero().flatten()
    words = [loaded.tokenizer.decode([i]) for i in inside.tolist()]
    overlaps = geometry.overlap(inside, torch.tensor(row["gold_id"])).tolist()
    synonyms = {g: w for w, g in zip(words, overlaps, strict=True) if relation(w, "apply") == "synonym" and w[0] == " "}
    assert row["rival"] == synonyms[max(synonyms)]
    assert max(overlaps[i] for i, w in enumerate(words) if w[0] == " " and w != " apply") > max(synonyms)
    assert (row["relation"], named["relation"], other["relation"]) == ("synonym", "synonym", "not in the thesaurus")
    assert row["notes"]["rival"] == "chosen: the most overlapping synonym of the nucleus"
    assert "rival" not in named["notes"]


def test_a_rival_is_chosen_and_named(model, tokenizer):
    table = probe(model, tokenizer, [Context("He felt", " shame"), CONTEXTS[1]])
    row, given = records(table)
    assert row["notes"]["rival"] == "chosen: the most overlapping other word of the nucleus"
    assert "rival" not in given["notes"]
    assert row["rival"].startswith(" ")
    assert tokenizer(row["rival"])["input_ids"] == [row["rival_id"]]
    again = probe(model, tokenizer, [Context("He felt", " shame", row["rival"])])
    assert again["born_gap"].to_list() == pytest.approx(table["born_gap"].to_list()[:1], rel=1e-5)


def test_fragments_are_marked(model, tokenizer):
    (row,) = records(probe(model, tokenizer, [Context("He felt", " shameless", " guilt")]))
    assert row["fragment"] is True
    assert "measured is the fragment" in row["notes"]["gold"]


@pytest.mark.parametrize("contexts", [[], ()])
def test_no_contexts(model, tokenizer, contexts):
    with pytest.raises(UserError, match=r"no contexts\n  rule: at least one"):
        probe(model, tokenizer, contexts)


def test_a_context_that_does_not_fit_the_tokenizer_is_named(model, tokenizer):
    with pytest.raises(UserError, match=r"a word has no tokens, in the context 'He felt'\n  rule: at least one token"):
        probe(model, tokenizer, [CONTEXTS[1], Context("He felt", "")])


def test_a_prompt_beyond_the_models_context(model, tokenizer):
    long = Context("felt" + " shame" * 70, " shame", " guilt")
    message = r"prompt too long\n  rule: at most 64 tokens, the model's context\n  found: 71 tokens: '\.\.\..* shame'"
    with pytest.raises(UserError, match=message):
        probe(model, tokenizer, [CONTEXTS[0], long])
    assert len(probe(model, tokenizer, [Context("felt" + " shame" * 63, " shame", " guilt")])) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_name_their_contexts(tokenizer, value):
    model = tiny("llama-untied", vocabulary=len(tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer(" old")["input_ids"]] = value
    rule, found = "the model's logits are finite", r"in 1 contexts: 'The old man felt shame and guilt\. A'"
    with pytest.raises(UserError, match=rf"the model's logits are NaN or infinite\n  rule: {rule}\n  found: {found}$"):
        probe(model, tokenizer, CONTEXTS)
