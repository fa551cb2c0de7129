"""The bundled models: complete, as their cards say, measured rightly, and made by code that can make them again."""

from __future__ import annotations

import ast
import inspect
import json
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.reference import reference
from transformers import AutoModelForCausalLM, AutoTokenizer

from borngap.cli.commands.geometry import bulks_of
from borngap.context import read_contexts
from borngap.errors import UserError
from borngap.model.load import load
from borngap.model.probe import probe
from borngap.observables.catalogue import OBSERVABLES
from borngap.zoo import MODELS, bundled_names, bundled_path, corpus, make
from borngap.zoo.card import held_out_loss, read_card, verify
from borngap.zoo.choose import choose_docs10, choose_docs40
from borngap.zoo.corpus import Corpus, build_corpus, pinned_packages, prose
from borngap.zoo.recipe import CONTEXT, RECIPES
from borngap.zoo.train import _initial_model, encode, learning_rate, loss_of, train, train_tokenizer, training_windows

TINY = replace(RECIPES["docs-gpt2-s"], width=16, layers=2, steps=4, batch=2)
WORDS = "argument error method list array value string returns compute model"
TEXT = tuple(f"The function number {i} returns its value, or raises an error; {WORDS}." for i in range(300))
TINY_CORPUS = Corpus(TEXT[:250], TEXT[250:], {"none": "0"}, "0" * 64)


def test_all_seven_are_bundled_within_40_megabytes():
    assert bundled_names() == sorted(RECIPES)
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= 40_000_000


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_model_is_what_its_card_and_recipe_say(name):
    card, recipe = read_card(bundled_path(name)), RECIPES[name]
    assert all(same for *_, same in verify(bundled_path(name), None))
    assert card["recipe"] == json.loads(json.dumps(recipe.__dict__))
    assert card["model"]["tied"] is recipe.tied
    assert card["model"]["dtype"] == "float32"
    assert set(card["corpus"]["packages"]) == {n for part in pinned_packages().values() for n in part}
    assert 3 < card["held_out_loss"] < 5.5
    assert len(card["neighbours"]) == 10


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_probe_equals_the_reference_on_raw_transformers_logits(name):
    model = AutoModelForCausalLM.from_pretrained(bundled_path(name))
    tokenizer = AutoTokenizer.from_pretrained(bundled_path(name))
    weight = model.get_output_embeddings().weight.detach().double().numpy()
    contexts = read_contexts("docs10")[::5]
    table = probe(model, tokenizer, contexts, top_p=0.3)
    for context, row in zip(contexts, table.to_dicts(), strict=True):
        with torch.no_grad():
            out = model(**tokenizer(context.prompt, return_tensors="pt"), output_hidden_states=True)
        gold, rival = (tokenizer(word)["input_ids"][0] for word in (context.gold, context.rival))
        assert (row["gold_id"], row["rival_id"]) == (gold, rival)
        logits, hidden = out.logits[0, -1].double().numpy(), out.hidden_states[-1][0, -1].double().numpy()
        expected = reference(logits, weight, gold, rival, hidden, top_p=0.3)
        for key in OBSERVABLES:
            assert row[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key


def test_the_untied_twin_has_a_sparser_input_and_a_dense_readout():
    tied, untied = (bulks_of(load(name), 100_000, 0) for name in ("docs-gpt2-s", "docs-gpt2-s-untied"))
    assert tied["readout"] == tied["input"]
    assert (tied["readout"].embedding_class, untied["readout"].embedding_class) == ("A", "A")
    assert untied["input"].crowding < 6 < tied["input"].crowding / 3
    assert tied["centered"].crowding < tied["readout"].crowding / 3


def test_docs10_is_what_its_rule_chooses():
    loaded = load("docs-gpt2-s")
    chosen = choose_docs10(loaded)
    assert chosen == read_contexts("docs10")
    table = probe(loaded.model, loaded.tokenizer, chosen, only=("gold_overlap", "logit_gap"))
    least = read_card(bundled_path("docs-gpt2-s"))["geometry"]["readout"]["overlap_percentiles"]["95"]
    overlaps = table["gold_overlap"].to_list()
    assert overlaps == sorted(overlaps)
    assert overlaps[0] >= least
    assert (table["logit_gap"] < 0).sum() == 8
    assert not table["fragment"].any()


def test_docs40_is_what_its_rule_chooses():
    models = [load(name) for name in bundled_names()]
    chosen = choose_docs40(models)
    assert chosen == read_contexts("docs40")
    assert len({frozenset((c.gold, c.rival)) for c in chosen}) == 40
    tables = [probe(m.model, m.tokenizer, chosen, only=("gold_overlap", "born_gap")) for m in models]
    behind = sum((table["born_gap"] < 0).cast(int) for table in tables)
    assert behind.min() >= len(models) - 1
    means = sum(table["gold_overlap"] for table in tables) / len(models)
    assert means.is_sorted()
    assert min(table["gold_overlap"].min() for table in tables) >= 0.3


def test_paper10_holds_the_papers_pairs():
    pairs = [(c.gold.strip(), c.rival.strip()) for c in read_contexts("paper10")]
    assert pairs == [
        ("skepticism", "scepticism"), ("shame", "guilt"), ("ashes", "rubble"), ("longing", "yearning"),
        ("remorse", "guilt"), ("relief", "joy"), ("awe", "wonder"), ("purpose", "meaning"), ("terror", "fear"),
        ("shock", "horror"),
    ]  # fmt: skip


def test_paper120_holds_a_dozen_prompts_a_pair():
    """Of our own: none twice, none of paper10, 8 to 25 words."""
    ten, contexts = read_contexts("paper10"), read_contexts("paper120")
    assert Counter((c.gold, c.rival) for c in contexts) == {(c.gold, c.rival): 12 for c in ten}
    assert len({c.prompt for c in (*ten, *contexts)}) == 130
    assert all(8 <= len(c.prompt.split()) <= 25 for c in contexts)


# how they are made


def test_prose_keeps_descriptions_and_leaves_code_out():
    docstring = inspect.cleandoc("""
        Compute the mean of an `array` along an :obj:`axis`.

        Parameters
        ----------
        values : array_like
            The values that are to be averaged,
            in any order.
        axis (int): Axis along which the mean is taken.

        >>> mean([1, 2, 3])
        2

        - The first item of a list is a sentence too.
    """)
    assert prose(docstring) == [
        "Compute the mean of an array along an axis.",
        "The values that are to be averaged, in any order.",
        "Axis along which the mean is taken.",
        "The first item of a list is a sentence too.",
    ]


NESTED = '''"""0"""
try:
    def first():
        """1"""
        match first:
            case int():
                def deep():
                    """deep"""
            case _:
                class Deeper:
                    """deeper"""
except ValueError:
    class Second:
        """2"""
        def method(self, key=lambda: "none"):
            """method"""
else:
    async def third():
        """3"""
finally:
    with open("x") as file:
        if file:
            pass
        else:
            def fourth():
                """4"""
'''


def test_docstrings_are_found_wherever_a_definition_stands_in_the_order_of_a_walk():
    defined = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    expected = [ast.get_docstring(node) for node in ast.walk(ast.parse(NESTED)) if isinstance(node, defined)]
    assert list(corpus._docstrings_of_source(NESTED)) == expected
    assert len(expected) == 8
    own = Path(corpus.__file__).read_text()
    expected = [ast.get_docstring(node) for node in ast.walk(ast.parse(own)) if isinstance(node, defined)]
    assert list(corpus._docstrings_of_source(own)) == [text for text in expected if text]


def test_the_corpus_is_split_by_package_without_duplicates(monkeypatch):
    pins = {
        "train": {"safetensors": version("safetensors"), "rich": version("rich")},
        "held_out": {"typer": version("typer")},
    }
    monkeypatch.setattr(corpus, "pinned_packages", lambda: pins)
    built = build_corpus()
    paragraphs = [p.casefold() for d in built.train + built.held_out for p in d.split("\n")]
    assert len(built.train) > 100
    assert len(built.held_out) > 10
    assert len(paragraphs) == len(set(paragraphs))
    assert build_corpus() == built


@pytest.mark.parametrize("pins", [{"safetensors": "0.0.1"}, {"no-such-package": "1.0"}])
def test_a_missing_or_wrong_package_is_named(monkeypatch, pins):
    monkeypatch.setattr(corpus, "pinned_packages", lambda: {"train": pins, "held_out": {}})
    name, wanted = next(iter(pins.items()))
    with pytest.raises(
        UserError, match=f"(?s){name} is not installed at its pinned version.*{name}=={wanted}.*make corpus"
    ):
        build_corpus()


def test_windows_cover_the_tokens_once_in_seeded_order():
    tokens = torch.arange(5 * CONTEXT + 3)
    rows = training_windows(tokens, seed=1)
    assert rows.shape == (5, CONTEXT + 1)
    assert sorted(rows[:, 0].tolist()) == [i * CONTEXT for i in range(5)]
    assert torch.equal(rows - rows[:, :1], torch.arange(CONTEXT + 1).expand(5, -1))
    assert torch.equal(rows, training_windows(tokens, seed=1))
    assert not torch.equal(rows, training_windows(tokens, seed=2))


def test_the_learning_rate_warms_up_and_falls_to_zero():
    recipe = RECIPES["docs-gpt2-s"]
    rates = [learning_rate(recipe, step) for step in range(recipe.steps + 1)]
    assert rates[0] == pytest.approx(recipe.peak_rate / recipe.warmup)
    assert max(rates) == rates[recipe.warmup - 1] == recipe.peak_rate
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.fixture(scope="module")
def tiny_windows():
    return training_windows(encode(train_tokenizer(TINY_CORPUS), TEXT[:250]), TINY.seed)


def test_training_is_deterministic_resumes_exactly_and_learns(tiny_windows, tmp_path, monkeypatch):
    monkeypatch.setattr("borngap.zoo.train.CHECKPOINT_EVERY", 2)
    losses: list[float] = []
    whole, _ = train(replace(TINY, steps=6), tiny_windows, tmp_path / "a", lambda _, loss: losses.append(loss))
    half = replace(TINY, steps=6)

    def stop(step: int, _: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(half, tiny_windows, tmp_path / "b", stop)
    steps: list[int] = []
    resumed, _ = train(half, tiny_windows, tmp_path / "b", lambda step, _: steps.append(step))
    assert steps == [5, 6]
    assert losses[-1] < losses[0]
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_training_loss_and_gradients_are_those_of_transformers(tiny_windows, tmp_path):
    model, _ = train(TINY, tiny_windows, tmp_path)
    batch = tiny_windows[:2]
    ours = loss_of(model, batch)
    ours.backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    logits = model(input_ids=batch[:, :-1]).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    theirs.backward()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    for mine, parameter in zip(grads, model.parameters(), strict=True):
        np.testing.assert_allclose(mine, parameter.grad, rtol=1e-3, atol=1e-6)


def test_an_untied_model_starts_as_its_tied_twin():
    tied, untied = (_initial_model(replace(TINY, tied=t)) for t in (True, False))
    assert untied.lm_head.weight.data_ptr() != untied.transformer.wte.weight.data_ptr()
    assert torch.equal(untied.lm_head.weight, tied.lm_head.weight)
    assert torch.equal(untied.transformer.h[1].mlp.c_fc.weight, tied.transformer.h[1].mlp.c_fc.weight)


def test_a_checkpoint_is_of_one_recipe_and_one_writer(tiny_windows, tmp_path, monkeypatch):
    monkeypatch.setattr("borngap.zoo.train.CHECKPOINT_EVERY", 1)
    met = []

    def meet(*_):
        with pytest.raises(UserError, match="is being written"):
            train(TINY, tiny_windows, tmp_path / "work")
        met.append(True)

    train(TINY, tiny_windows, tmp_path / "work", meet)
    assert len(met) == TINY.steps
    before = {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()}
    assert set(before) == {"training.json", "checkpoint.safetensors"}
    for recipe, data, found in (
        (replace(TINY, steps=TINY.steps + 1), tiny_windows, f"steps: {TINY.steps} there, {TINY.steps + 1} now"),
        (TINY, tiny_windows[1:], "data: "),
    ):
        with pytest.raises(UserError, match=f"another plan(.|\n)*found: {found}"):
            train(recipe, data, tmp_path / "work")
    assert {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()} == before


def test_make_writes_a_folder_that_plain_transformers_loads(tmp_path, monkeypatch):
    card = make.make(TINY, TINY_CORPUS, tmp_path / "tiny", tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert model.dtype == torch.float32
    assert tokenizer.decode(tokenizer(TEXT[0])["input_ids"]) == TEXT[0]
    assert (tmp_path / "tiny" / "README.md").read_text().count("| readout |") == 1
    held_out = encode(tokenizer.backend_tokenizer, TINY_CORPUS.held_out)
    assert card["held_out_loss"] == pytest.approx(held_out_loss(model, held_out))
    assert all(same for *_, same in verify(tmp_path / "tiny", held_out))


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "train", None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"can't write to .*file\n  found: a file where a folder should be"):
        make.make(TINY, TINY_CORPUS, tmp_path / "file", tmp_path / "work")


def test_verify_notices_changed_weights(tmp_path):
    make.make(TINY, TINY_CORPUS, tmp_path / "tiny", tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    model.lm_head.weight.data[5:4000] += 0.3
    model.save_pretrained(tmp_path / "tiny")
    wrong = {what for what, *_, same in verify(tmp_path / "tiny", None) if not same}
    assert {"sha256 model.safetensors", "readout crowding"} <= wrong


def test_the_corpus_is_kept_and_reused(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "build_corpus", lambda _: TINY_CORPUS)
    assert make.cached_corpus(tmp_path, None) == TINY_CORPUS
    monkeypatch.setattr(make, "build_corpus", None)
    assert make.cached_corpus(tmp_path, None) == TINY_CORPUS
