"""Which layers LoRA adapts: PEFT's own defaults where it has any, names in the model where it has none."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tiny import tiny
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from typer.testing import CliRunner

from borngap.cli import app
from borngap.errors import UserError
from borngap.model.load import new_model
from borngap.train.methods import make_trainable
from borngap.train.targets import targets_of
from borngap.training import Training

# number of blocks under any of its names; every other setting is the type's own
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth")


def shallow(kind, auto=AutoModelForCausalLM, layers=2):
    """A model of a type without numbers (on the meta device), so that any size is built at once."""
    config = AutoConfig.for_model(kind)
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        for name in DEPTHS:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, layers)
    with torch.device("meta"):
        return auto.from_config(config)


def adapted(model, **options):
    """Paths of the layers that PEFT itself adapts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    paths = [path for path, module in wrapped.named_modules() if hasattr(module, "lora_A")]
    return {path.removeprefix("base_model.model.") for path in paths}


def leaves(paths):
    return {re.sub(r".*\.(?=\D)", "", path) for path in paths}


@pytest.mark.parametrize(
    "kind", ["gpt2", "llama", "gpt_neox", "gpt_neo", "gptj", "bloom", "opt", "mpt", "codegen", "qwen3"]
)
def test_attention_is_pefts_default(kind):
    model = shallow(kind)
    assert set(targets_of(model, ["attention"])) == adapted(model)


@pytest.mark.parametrize(("kind", "left_out"), [("phi", {"fc1", "fc2"}), ("nemotron_h", {"k_proj", "o_proj"})])
def test_attention_is_attention_only(kind, left_out):
    model = shallow(kind, layers=4)
    found = targets_of(model, ["attention"])
    usual = adapted(model)
    assert leaves(usual) == leaves(found) | left_out
    assert {path for path in usual if leaves([path]) <= {"q_proj", "v_proj"}} == set(found)


@pytest.mark.parametrize(("kind", "names"), [
    ("phi3", {"qkv_proj"}),
    ("olmo2", {"q_proj", "v_proj"}),
    ("deepseek_v2", {"q_b_proj", "kv_b_proj"}),
    ("ctrl", {"Wq", "Wv"}),
    ("cpmant", {"project_q", "project_v"}),
    ("xlm", {"q_lin", "v_lin"}),
    ("zaya", {"q_proj", "v_proj_current", "v_proj_delayed"}),
    ("phi4_multimodal", {"qkv_proj"}),
    ("modernbert-decoder", {"q_proj", "v_proj"}),
])  # fmt: skip
def test_names_where_pefts_table_is_silent(kind, names):
    model = shallow(kind)
    with pytest.raises(ValueError, match="target_modules"):
        adapted(model)
    assert leaves(targets_of(model, ["attention"])) == names


def test_a_name_on_a_wrapper():
    found = targets_of(shallow("moshi"), ["attention"])
    assert {path.rpartition("self_attn.")[2] for path in found} == {"q_proj.linear", "v_proj.linear"}


def test_rwkv_has_the_same_names_in_its_feed_forward_layers():
    found = targets_of(shallow("rwkv"), ["attention"])
    assert {path.split(".", 3)[3] for path in found} == {"attention.receptance", "attention.value"}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "phi", "bloom"])
def test_all_linear_is_pefts(kind):
    model = shallow(kind)
    found = targets_of(model, ["all-linear"])
    assert set(found) == adapted(model, target_modules="all-linear")


@pytest.mark.parametrize("kind", ["gemma3", "llava", "qwen2_vl", "mistral3"])
def test_only_the_language_model_is_adapted(kind):
    auto = AutoModelForCausalLM if kind == "gemma3" else AutoModelForImageTextToText
    model = shallow(kind, auto)
    attention, everything = (targets_of(model, [name]) for name in ("attention", "all-linear"))
    assert leaves(attention) == {"q_proj", "v_proj"}
    assert leaves(everything) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    text = model.config.get_text_config().num_hidden_layers
    assert (len(attention), len(everything)) == (2 * text, 7 * text)
    assert all(path.startswith("model.language_model.layers.") for path in everything)
    assert targets_of(model, ["readout"]) == ["lm_head"]
    assert len(targets_of(model, ["q_proj"])) == text


def test_ends_of_paths():
    model = tiny("llama-tied")
    assert targets_of(model, ["mlp.up_proj", "layers.1.self_attn.q_proj"]) == [
        "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj",
    ]  # fmt: skip
    assert targets_of(model, ["embed_tokens"]) == ["model.embed_tokens"]


@pytest.mark.parametrize("name", ["self_attn", "proj", "up", "norm"])
def test_a_name_that_is_no_layer(name):
    known = "down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    fix = f"choose among attention, mlp, all-linear, readout, {known}"
    message = rf"no such module to adapt\n  rule: names of the model's layers\n  found: {name}\n  fix: {fix}$"
    with pytest.raises(UserError, match=message):
        targets_of(tiny("llama-tied"), [name])


def test_a_model_without_attention():
    message = (
        r"no attention projections found to adapt\n  rule: linear layers with the names of query .*\n  found: model "
        r"type 'mamba'\n  fix: choose among mlp, all-linear, readout, dt_proj, embeddings, in_proj, lm_head, "
        r"out_proj, x_proj$"
    )
    with pytest.raises(UserError, match=message):
        targets_of(shallow("mamba"), ["attention"])


def test_layers_that_peft_refuses():
    with pytest.raises(UserError, match=r"PEFT can't apply LoRA here\n  found: .*Mamba"):
        make_trainable(shallow("mamba"), Training(method="lora", lora_targets=("out_proj",), dtype="float32"))


def test_attention_alone_is_trained_in_phi():
    model, _ = make_trainable(tiny("phi"), Training(method="lora"))
    trained = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"q_proj", "v_proj"}


@pytest.fixture
def mamba(tokenizer, tmp_path):
    """Return a folder with a model that has no attention, and the arguments of a forecast of it."""
    config = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    new_model("mamba", {**config, "pad_token_id": 0}).save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    words = {"prompt": "The old man felt", "gold": " guilt", "rival": " shame"}
    (tmp_path / "c.jsonl").write_text(json.dumps(words))
    return ["-m", str(tmp_path / "mamba"), "-c", str(tmp_path / "c.jsonl"), "--steps", "4"]


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_a_forecast_of_full_needs_no_layers_for_lora(mamba):
    why = "no attention projections found to adapt (model type 'mamba')"
    (entry,) = json.loads(run("forecast", *mamba, "--method", "full", "--json").stdout)["forecasts"]
    assert entry["lora"] == {"critical_rate": None, "status": "abstained", "why": why, "does": None}
    assert entry["status"] == "pre-resolved" or entry["critical_rate"] > 0
    text = run("forecast", *mamba, "--method", "full").stdout
    assert f"Whether LoRA would do is not known: {why}." in text


def test_a_forecast_of_lora_does(mamba):
    with pytest.raises(UserError, match="no attention projections found to adapt"):
        run("forecast", *mamba, "--method", "lora")
