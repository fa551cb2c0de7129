"""PEFT adapters, as ``AutoPeftModelForCausalLM`` loads them: own tokenizer, own rows, from folders and the hub."""

from __future__ import annotations

import json
import os
import shutil

import peft
import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, TaskType, get_peft_model
from tests.tiny import tiny
from transformers import AutoTokenizer

import borngap
from borngap.context import Context
from borngap.errors import UserError
from borngap.model import sources
from borngap.model.forward import Prompt, last_logits, selected_logits
from borngap.model.load import load, load_tokenizer, model_facts

NEW = ["<user>", "<bot>", "<pad>"]
IDS = (3, 340, 5, 290)
CONTEXTS = [Context("The old man felt", " shame", " guilt")]


@pytest.fixture
def base(tokenizer, tmp_path):
    """Return a folder with a base model and its tokenizer."""
    tiny("llama-untied", vocabulary=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base, folder, *, tokenizer=None, rows=None, **options):
    """Save an adapter with random weights, and the tokenizer that it comes with."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows)
    settings = {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**settings | options))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return adapted.eval()


def larger(base, template=None):
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(NEW)
    tokenizer.chat_template = template
    return tokenizer


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits


def test_a_plain_adapter(base, tmp_path):
    adapted = trained(base, tmp_path / "adapter")
    loaded = load(str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(loaded.model), logits(adapted))
    assert not torch.allclose(logits(loaded.model), logits(load(str(base)).model), atol=1e-3)
    assert not loaded.model.training
    assert (loaded.notes, len(loaded.tokenizer)) == ((), 352)


@pytest.mark.parametrize("options", [
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    {"target_modules": ["embed_tokens"]},
    {"trainable_token_indices": {"embed_tokens": [352, 353, 354], "lm_head": [352, 353, 354]}},
])  # fmt: skip
def test_added_tokens_and_their_rows(base, tmp_path, options):
    """The adapter's tokenizer, template and rows are taken, and the logits are those of PEFT's own loader."""
    tokenizer = larger(base, "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    trained(base, tmp_path / "adapter", tokenizer=tokenizer, rows=len(tokenizer), **options)
    loaded = load(str(tmp_path / "adapter"))
    torch.manual_seed(0)  # rows of the base that the adapter does not hold are drawn
    reference = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert logits(loaded.model).shape[-1] == 355
    torch.testing.assert_close(logits(loaded.model, (*IDS, 353)), logits(reference, (*IDS, 353)))
    assert loaded.tokenizer("<bot>")["input_ids"] == [353]
    assert (
        loaded.tokenizer.chat_template
        == load_tokenizer(str(tmp_path / "adapter")).chat_template
        == (tokenizer.chat_template)
    )
    assert model_facts(loaded)["notes"][0] == "the base model's 352 embedding rows were made the adapter's 355"
    found = borngap.probe(loaded.model, loaded.tokenizer, [Context("<user>The old man felt", " shame", " guilt")])
    assert found["gold_rank"][0] <= 355


def test_rows_padded_to_a_multiple(base, tmp_path):
    """PEFT's own loader refuses these: it makes as many rows as there are tokens, not as many as were saved."""
    tokenizer = larger(base)
    saved = {"modules_to_save": ["embed_tokens", "lm_head"], "rows": 384}
    adapted = trained(base, tmp_path / "adapter", tokenizer=tokenizer, **saved)
    with pytest.raises(RuntimeError, match="size mismatch"):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    loaded = load(str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(loaded.model), logits(adapted))
    assert loaded.notes == ("the base model's 352 embedding rows were made the adapter's 384",)
    assert (model_facts(loaded)["tokens"], model_facts(loaded)["rows"]) == (355, 384)


def test_tokens_without_rows_in_the_adapter(base, tmp_path):
    tokenizer = larger(base)
    trained(base, tmp_path / "adapter", tokenizer=tokenizer)
    first, second = (load(str(tmp_path / "adapter")) for _ in range(2))
    assert logits(first.model).shape == logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")).shape
    assert torch.equal(logits(first.model), logits(second.model))
    assert first.notes == ("3 rows were added for the adapter's tokenizer; those that it does not hold are random",)


def test_an_adapter_of_another_base_model(base, tmp_path, tokenizer):
    trained(base, tmp_path / "adapter")
    config = {**tiny("llama-untied").config.to_dict(), "hidden_size": 48, "vocab_size": len(tokenizer)}
    from borngap.model.load import new_model

    new_model("llama", {k: v for k, v in config.items() if k not in {"head_dim", "model_type"}}).save_pretrained(base)
    message = (
        r"can't load the adapter '.*adapter'\n  rule: weights of the shapes that the model has\n  found: .*\n"
        r"  fix: load the base model that they were saved for"
    )
    with pytest.raises(UserError, match=message):
        load(str(tmp_path / "adapter"))


def rename(folder, base):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))


def test_names_of_base_models(base, tmp_path, monkeypatch):
    """Relative to where the program runs, else to the adapter; bundled, also by the path of another installation."""
    adapter = tmp_path / "adapter"
    adapted = trained(base, adapter)
    for name, where in (("base", tmp_path), ("../base", tmp_path / "base"), (str(base), tmp_path)):
        monkeypatch.chdir(where)
        rename(adapter, name)
        torch.testing.assert_close(logits(load(str(adapter)).model), logits(adapted))
    bundled = load("docs-llama")
    trained(bundled.model.config._name_or_path, adapter)
    for name in ("docs-llama", "/elsewhere/site-packages/borngap/zoo/models/docs-llama"):
        rename(adapter, name)
        assert len(load(str(adapter)).tokenizer) == len(bundled.tokenizer)


def test_a_base_model_that_is_not_there(base, tmp_path):
    trained(base, tmp_path / "adapter")
    shutil.rmtree(base)
    message = (
        rf"the base model of the adapter '.*adapter' can't be loaded: no model there\n  rule: .*\n  found: {base}\n"
        r"  fix: put it there, or correct base_model_name_or_path in adapter_config.json"
    )
    with pytest.raises(UserError, match=message):
        load(str(tmp_path / "adapter"))


@pytest.mark.parametrize(("config", "message"), [
    ({"peft_type": "LORA"}, r"the adapter names no base model\n  rule: .*base_model.*\n  found: .*adapter_config.json"),
    ({"peft_type": "LORA", "base_model_name_or_path": "x", "task_type": "SEQ_CLS"},
     r"made for another task\n  rule: an adapter of a causal .*\n  found: task type SEQ_CLS"),
    ({"peft_type": "NEW", "base_model_name_or_path": "x"}, r"can't load the adapter"),
])  # fmt: skip
def test_configurations_that_are_refused(tmp_path, config, message):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        load(str(tmp_path))


OTHERS = {
    "IA3": lambda: peft.IA3Config(
        task_type=TaskType.CAUSAL_LM, target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LOHA": lambda: peft.LoHaConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules=["q_proj"]),
    "prompt": lambda: peft.PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=5),
    "p-tuning": lambda: peft.PromptEncoderConfig(
        task_type=TaskType.CAUSAL_LM, num_virtual_tokens=5, encoder_hidden_size=8
    ),
    "prefix": lambda: peft.PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=5),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_adapters_of_other_kinds(base, tmp_path, kind):
    """Also those that put virtual tokens in front: positions count from the end."""
    adapted = get_peft_model(load(str(base)).model, OTHERS[kind]())
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    adapted.save_pretrained(tmp_path / "adapter")
    model = load(str(tmp_path / "adapter")).model
    prompts = [IDS, IDS[:2], (7, 8, 9, 10, 11)]
    reference = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    expected = torch.stack([logits(reference, prompt)[0, -1] for prompt in prompts])
    found, _ = last_logits(model, prompts)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    rows, columns = torch.tensor([0, 1, 2]), torch.tensor([3, 1, 4])
    with torch.no_grad():
        torch.testing.assert_close(
            selected_logits(model, list(map(Prompt, prompts)), rows, columns), expected, rtol=1e-4, atol=1e-5
        )


def test_an_adapter_on_the_hub(base, tmp_path, monkeypatch):
    """As the hub's cache holds it: an id instead of a folder."""
    tokenizer = larger(base)
    saved = {"modules_to_save": ["embed_tokens", "lm_head"], "rows": 355}
    adapted = trained(base, tmp_path / "adapter", tokenizer=tokenizer, **saved)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--somebody--adapter"
    shutil.copytree(tmp_path / "adapter", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "refs" / "v2").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.fspath(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", os.fspath(tmp_path / "hub"))
    sources._hub_file.cache_clear()
    for revision in (None, "v2"):
        loaded = load("somebody/adapter", revision=revision)
        torch.testing.assert_close(logits(loaded.model), logits(adapted))
        assert len(loaded.tokenizer) == 355
    with pytest.raises(UserError, match="can't load the model 'somebody/adapter'"):
        load("somebody/adapter", revision="v3")
    sources._hub_file.cache_clear()
