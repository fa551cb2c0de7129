"""The demo: a house style in real prose, training on rows, and the command that shows both."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from borngap.model.load import load
from borngap.training import Training
from borngap.zoo import bundled_path
from borngap.zoo.housestyle import PLAIN, STYLE, house_style, restyled
from borngap.zoo.rowtraining import LENGTH, train_on_rows

MODEL = "docs-gpt2-s"
TEXTS = ["Raises an exception if the folder is missing.", "The method takes a text.", "A sequence of " + "words " * 200]


@pytest.mark.parametrize(("text", "expected"), [
    ("An error is raised.", "An exception is raised."),
    ("The parameter lists errors.", "The argument sequences exceptions."),
    ("Pass a string, or Lists of strings", "Pass a text, or Sequences of texts"),
    ("It created a parameter in a directory.", "It built an argument in a folder."),
    ("An enlisted terror", "An enlisted terror"),
    ("DIRECTORIES", "FOLDERS"),
])  # fmt: skip
def test_words_are_replaced_in_the_same_form_and_case(text, expected):
    assert restyled(text, STYLE) == expected


def test_rows_keep_to_the_style_but_where_the_other_words_are_right():
    style = house_style(("typer",), ("rich",))
    rows = [*style.train, *style.held_out]
    assert len(style.held_out) == len(rows) - round(0.75 * len(rows)) > 50
    assert {row["package"] for row in rows if row["allowed"]} == set(PLAIN) & {"rich"}
    for row in rows:
        assert (restyled(row["text"], STYLE) == row["text"]) or row["allowed"]
    assert any("error" in row["text"] for row in rows)
    assert {row["text"] for row in style.train}.isdisjoint(row["text"] for row in style.held_out)
    assert house_style(("typer",), ("rich",)) == style != house_style(("typer",), ("rich",), seed=1)


def token_loss(model, tokenizer, texts):
    """Mean over the batch's tokens, as the Trainer has it for one batch."""
    total = count = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :LENGTH]
        total += float(model(input_ids=ids, labels=ids).loss.detach()) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_on_rows_gives_the_losses_before_and_after(tmp_path, method):
    loaded, seen = load(MODEL), []
    training = Training(method=method, rate=1e-3, steps=2, schedule="linear", batch_size=3)
    run = train_on_rows(loaded, TEXTS, TEXTS, training, tmp_path, seen.append)
    base = AutoModelForCausalLM.from_pretrained(bundled_path(MODEL))
    tokenizer = AutoTokenizer.from_pretrained(bundled_path(MODEL))
    assert run.loss_before == pytest.approx(token_loss(base, tokenizer, TEXTS), abs=1e-4)
    with torch.no_grad():
        assert run.loss_after == pytest.approx(token_loss(run.loaded.model, tokenizer, TEXTS), abs=1e-4)
    assert run.loss_after < run.loss_before - 1e-4
    assert seen == [1, 2]
    assert hasattr(run.loaded.model, "peft_config") == (method == "lora")
    assert not run.loaded.model.training
