"""Pretrained models, where they were fetched: they are what their cards say, and what was measured of them holds."""

from __future__ import annotations

import pytest

from borngap.context import read_contexts
from borngap.model.load import load
from borngap.model.probe import probe
from borngap.zoo import FETCHABLE
from borngap.zoo.fetch import verify_fetched

ALL = [pytest.param(name, marks=pytest.mark.real(name)) for name in FETCHABLE]


@pytest.mark.parametrize("name", ALL)
def test_a_model_is_what_its_card_says(name):
    assert all(same for *_, same in verify_fetched(name))


@pytest.mark.real("smollm2-135m")
def test_numbers_stand_alone_as_the_model_was_trained():
    tokenizer = load("smollm2-135m").tokenizer
    assert tokenizer.tokenize("in  2024") == ["in", "ĠĠ", "2", "0", "2", "4"]


@pytest.mark.parametrize("name", ALL)
def test_probe_sees_words_and_their_rivals(name):
    loaded = load(name)
    contexts = [c for c in read_contexts("paper10") if c.gold.strip() in {"shame", "terror", "shock"}]
    table = probe(loaded.model, loaded.tokenizer, contexts, only=("gold_probability", "rival_probability"))
    assert not table["fragment"].any()
    assert (table["gold_probability"] + table["rival_probability"]).is_between(1e-4, 1).all()
