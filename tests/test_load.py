"""Loading: what works from a folder, and the one message for each way it can fail."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import tiny
from transformers import BertConfig, T5Config

from borngap.errors import UserError
from borngap.model.load import load, load_tokenizer, model_facts
from borngap.model.sources import read


@pytest.fixture
def folder(tokenizer, tmp_path):
    """Return a folder with a small model and its tokenizer."""
    path = tmp_path / "model"
    tiny("llama-tied", vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def expect(message):
    return pytest.raises(UserError, match=message)


def test_a_folder(folder, tokenizer):
    loaded = load(str(folder))
    assert loaded.name == str(folder)
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert len(loaded.tokenizer) == len(tokenizer)
    expected = tiny("llama-tied", vocabulary=len(tokenizer)).lm_head.weight
    torch.testing.assert_close(loaded.model.lm_head.weight, expected, rtol=0, atol=0)


def test_a_dtype(folder):
    assert load(str(folder), dtype="bfloat16").model.dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cud"])
def test_an_unknown_device(folder, device):
    with expect(rf"unknown or missing device\n  found: '{device}' \(.*\)\n  fix: use cpu, or cuda"):
        load(str(folder), device=device)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "~/nowhere-at-all"])
def test_no_folder_there(name):
    rule = r"a folder with config.json and \*.safetensors, or a GGUF file"
    with expect(rf"no model there\n  rule: {rule}\n  found: {re.escape(name)}"):
        load(name)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("")
    with expect(r"no model there\n  rule: .*\n  found: .*x"):
        load(str(tmp_path / "x"))


def test_a_folder_without_a_model(tmp_path):
    with expect(r"no model in .*\n  rule: .*\n  found: an empty folder"):
        load(str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with expect(r"no model in .*\n  rule: .*\n  found: notes.txt"):
        load(str(tmp_path))


@pytest.mark.parametrize("config", ["config.json", "adapter_config.json"])
def test_pickled_weights_are_refused(tmp_path, config):
    (tmp_path / config).write_text("{}")
    with expect(r"no safetensors weights in .*\n  rule: weights are read from safetensors only\n  found: no weights$"):
        load(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    with expect(r"no safetensors .*\n.*\n  found: pickled weights only: pytorch_model.bin\n  fix: convert them: .*"):
        load(str(tmp_path))


def test_a_hub_name_without_a_network():
    message = (
        r"can't load the model 'nobody/nothing'\n  rule: a bundled or fetched name, a local folder, a GGUF file, "
        r"or a hub id that is reachable or cached\n  found: .+\n  fix: check the spelling and the network "
        r"\(HF_HUB_OFFLINE\); here: "
    )
    with expect(message):
        load("nobody/nothing")
    with expect("can't load the tokenizer of 'nobody/nothing'"):
        load_tokenizer("nobody/nothing")


def test_broken_weights_are_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with expect(r"can't load the model '.*model'\n  rule: the weights are whole\n  found: .*\n  fix: the file is cut"):
        load(str(folder))


def test_weights_of_another_shape_are_named(folder):
    change(folder, intermediate_size=47)
    message = (
        r"the weights of '.*model' do not fit its configuration\n  rule: every parameter .*\n  found: weights of "
        r"another shape for model.layers.0.mlp.down_proj.weight, .* and 3 more\n  fix: save it again"
    )
    with expect(message):
        load(str(folder))


def test_missing_weights_would_be_random(folder):
    """transformers fills them in and only says so in its log."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    message = (
        r"the weights of '.*' do not fit .*\n  rule: .*\n  found: no weights for model.layers.1.mlp.up_proj.weight\n"
    )
    with expect(message):
        load(str(folder))


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


AUTO = {"AutoConfig": "x.X", "AutoModelForCausalLM": "x.X"}


@pytest.mark.parametrize(("settings", "rule", "fix"), [
    ({"model_type": "xx", "auto_map": AUTO}, "code from the hub is never run", "take a model whose architecture"),
    ({"model_type": "llama9"}, "an architecture that transformers knows", "update transformers"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "the packages that .* are installed", "install"),
])  # fmt: skip
def test_the_cause_is_named(folder, settings, rule, fix):
    change(folder, **settings)
    with expect(rf"can't load the model '.*model'\n  rule: {rule}\n  found: .*\n  fix: {fix}"):
        load(str(folder))


def test_a_local_folder_has_nothing_to_do_with_the_network(folder):
    (folder / "config.json").write_text("{")
    message = r"can't load the model '.*'\n  rule: the files of the folder belong together\n  found: .*JSON"
    with expect(message):
        load(str(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer*"])
def test_a_folder_without_a_tokenizer(folder, name):
    for path in folder.glob(name):
        path.unlink()
    rule = r"\n  rule: the tokenizer's files beside the model\n  found: .*\n  fix: save it there: tokenizer"
    with expect(rf"can't load the tokenizer of '.*model'{rule}"):
        load(str(folder))


def test_a_broken_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with expect(r"can't load the tokenizer of '.*model'\n  rule: the files of the folder belong together\n"):
        load(str(folder))


@pytest.mark.parametrize(("config", "kind"), [
    (T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=1, vocab_size=32), "an encoder-decoder"),
    (BertConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1), "an encoder"),
])  # fmt: skip
def test_other_kinds_of_models_are_refused(tmp_path, config, kind):
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    rule = r"\n  rule: a causal language model, one that predicts the next token\n  found: model type "
    with expect(rf"^'{tmp_path}' is {kind}{rule}'{config.model_type}'"):
        load(str(tmp_path))


def test_a_model_without_a_head_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with expect(r"is no causal LM\n  rule: .*\n  found: model type 'vit'"):
        load(str(tmp_path))


def test_a_tokenizer_of_another_model(tokenizer, folder):
    count = len(tokenizer)
    tiny("llama-tied", vocabulary=count - 10).save_pretrained(folder)
    message = (
        rf"the tokenizer of '.*' does not fit its model\n  rule: every token has an embedding row\n"
        rf"  found: 10 tokens without one, ids up to {count - 1}, {count - 10} rows\n  fix: load the tokenizer"
    )
    with expect(message):
        load(str(folder))


def test_added_tokens_without_a_row_do_no_harm(tokenizer, folder):
    """As a padding token that was added for batches and never trained."""
    larger = load_tokenizer(str(folder))
    larger.add_tokens(["<new>", "<pad>"])
    larger.save_pretrained(folder)
    found, count = model_facts(load(str(folder))), len(tokenizer)
    assert (found["tokens"], found["rows"]) == (count, count)
    assert found["notes"] == [f"2 added tokens have no row in the model (ids [{count}, {count + 1}]) and can't be used"]


def test_the_summary_says_what_is_left_out(tokenizer, folder):
    model = tiny("llama-tied", vocabulary=len(tokenizer) + 16)
    with torch.no_grad():
        model.lm_head.weight[[2, 5]] = 0
    model.save_pretrained(folder)
    found = model_facts(load(str(folder)))
    assert (found["tokens"], found["rows"]) == (len(tokenizer), len(tokenizer) + 16)
    assert found["notes"] == [
        "2 tokens have embedding rows without a direction (ids [2, 5], readout geometry): left out of bulk, "
        "neighbours, rivals, pools and ranks by Born probability"
    ]


def test_user_errors_pass_through_unchanged():
    error = UserError("mine")

    def reader():
        raise error

    with pytest.raises(UserError, match=r"^mine$") as caught:
        read("name", reader)
    assert caught.value is error


def test_a_user_error_is_composed_of_what_it_is_given():
    assert str(UserError("what")) == "what"
    full = UserError("what", rule="r", found=0, fix="f")
    assert str(full) == "what\n  rule: r\n  found: 0\n  fix: f"
    assert (full.what, full.rule, full.found, full.fix) == ("what", "r", 0, "f")
    assert isinstance(full, ValueError)
