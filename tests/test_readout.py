"""The effective readout of real architectures and PEFT wrappers: it must give the model's own logits."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, OFTConfig, VeraConfig, get_peft_model
from tests.tiny import CONFIGS, TIED, UNTIED, tiny
from torch import nn

from borngap.context import Context, Target
from borngap.errors import UserError
from borngap.model.forward import forward
from borngap.model.readout import geometry_of, observing, readout_of, transform_note

PROMPTS = [Target(Context("x", "y"), ids, 1, 2, {}, fragment=False) for ids in ((5, 9, 11), (3, 4, 90, 7, 8), (42,))]
CAP = CONFIGS["gemma2"][1]["final_logit_softcapping"]
RANDOM = {"r": 3, "lora_alpha": 6, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
EMBEDDING = {"gpt2": "wte", "llama-tied": "embed_tokens", "llama-untied": "embed_tokens", "gpt_neox": "embed_in"}
ATTENTION = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}


def adapted(name, **options):
    """Return a tiny model with a LoRA of random weights; what it targets is up to the test."""
    torch.manual_seed(1)
    conv1d = {"fan_in_fan_out": True} if name == "gpt2" and options.get("target_modules") == ["c_attn"] else {}
    return get_peft_model(tiny(name), LoraConfig(**RANDOM, **conv1d, **options)).eval()


def predicted(model):
    """Logits that the effective readout predicts from the hidden states, and the model's own."""
    logits, hidden = forward(model, PROMPTS)
    output = readout_of(model).output
    expected = hidden @ output.weight.T
    return (expected if output.bias is None else expected + output.bias).detach(), logits


def assert_explained(model):
    expected, logits = predicted(model)
    assert float(logits.std()) > 0.1
    torch.testing.assert_close(expected, logits, rtol=1e-5, atol=1e-5)


def entered(model, ids):
    """Rows that the input embedding, adapters included, really gives for tokens."""
    with torch.no_grad():
        return model.get_input_embeddings()(ids)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gemma2"])
def test_the_readout_gives_the_models_own_logits(name):
    model = tiny(name)
    assert_explained(model)
    readout = readout_of(model)
    assert readout.tied == (name in TIED)
    assert readout.output.parts == readout.input.parts == ("weight",)
    assert (readout.output.bias is not None) == (name == "phi")
    assert readout.output.trained
    assert readout.notes == readout.output.unseen == readout.input.unseen == ()


def test_the_list_of_architectures_is_complete():
    assert {*TIED, *UNTIED} == set(CONFIGS)


def test_a_bias_takes_effect():
    model = tiny("phi")
    _, hidden = forward(model, PROMPTS)
    _, logits = predicted(model)
    readout = readout_of(model)
    assert not torch.allclose(hidden @ readout.output.weight.T, logits, atol=1e-2)
    assert transform_note(readout, hidden, logits) is None


def test_soft_capped_logits_are_the_models_own():
    expected, logits = predicted(tiny("gemma2"))
    torch.testing.assert_close(CAP * torch.tanh(expected / CAP), logits, rtol=1e-5, atol=1e-5)
    assert float((expected - logits).abs().max()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_soft_cap_is_noted(dtype):
    model = tiny("gemma2").to(dtype)
    logits, hidden = forward(model, PROMPTS)
    note = transform_note(readout_of(model), hidden, logits)
    assert note.startswith("the model's logits are not hidden @ weight.T + bias (they differ by up to ")
    assert "it scales or caps them" in " ".join(note.split())


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gemma2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_transform_there_is_no_note(name, dtype):
    model = tiny(name).to(dtype)
    logits, hidden = forward(model, PROMPTS)
    readout = readout_of(model)
    assert readout.output.weight.requires_grad
    assert transform_note(readout, hidden, logits) is None
    assert transform_note(readout, hidden, logits * 1.1) is not None


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gemma2"])
def test_lora_on_the_head(name):
    model = adapted(name, target_modules=["lm_head"])
    assert_explained(model)
    readout = readout_of(model)
    assert readout.output.parts == ("weight", "LoRA 'default'")
    assert readout.input.parts == ("weight",)
    assert readout.output.trained
    assert not readout.input.trained
    assert not readout.tied
    assert bool(readout.notes) == (name in TIED)


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"lora_alpha": 30}, {"lora_bias": True}])
def test_variants_of_lora_that_are_matrices_all_the_same(options):
    torch.manual_seed(1)
    config = LoraConfig(**{**RANDOM, **options}, target_modules=["lm_head"])
    assert_explained(get_peft_model(tiny("phi"), config).eval())


def test_two_adapters_at_once():
    model = adapted("llama-untied", target_modules=["lm_head"])
    model.add_adapter("second", LoraConfig(**{**RANDOM, "r": 5}, target_modules=["lm_head"]))
    model.base_model.set_adapter(["default", "second"])
    assert_explained(model.eval())
    assert readout_of(model).output.parts == ("weight", "LoRA 'default'", "LoRA 'second'")
    model.base_model.set_adapter("second")
    assert readout_of(model).output.parts == ("weight", "LoRA 'second'")
    assert_explained(model)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied"])
def test_a_saved_head_unties_a_tied_model(name):
    target = ATTENTION.get(name, "q_proj")
    model = adapted(name, target_modules=[target], modules_to_save=["lm_head"])
    with torch.no_grad():
        model.get_output_embeddings().modules_to_save["default"].weight.add_(0.3)
    assert_explained(model)
    readout = readout_of(model)
    assert readout.output.parts == ("weight", "modules_to_save")
    assert readout.output.trained
    assert not readout.tied
    assert readout.notes == ()
    torch.testing.assert_close(readout.output.weight - 0.3, readout.input.weight)
    with model.disable_adapter():
        assert readout_of(model).tied
        assert readout_of(model).output.parts == ("weight",)
        assert_explained(model)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "llama-untied"])
def test_trainable_token_rows(name):
    rows = {EMBEDDING[name]: [3, 90]}
    model = adapted(name, target_modules=[ATTENTION.get(name, "q_proj")], trainable_token_indices=rows)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "trainable_tokens_delta" in parameter_name:
                parameter.add_(0.5)
    assert_explained(model)
    readout = readout_of(model)
    assert readout.input.parts == ("weight", "2 trainable token rows")
    torch.testing.assert_close(readout.input.weight[:97].detach(), entered(model, torch.arange(97)))
    assert readout.tied == (name in TIED)
    assert readout.notes == ()
    with model.disable_adapter():
        assert readout_of(model).input.parts == ("weight",)
        assert_explained(model)
        torch.testing.assert_close(readout_of(model).input.weight.detach(), entered(model, torch.arange(97)))


@pytest.mark.parametrize("name", EMBEDDING)
def test_lora_on_the_embedding_moves_the_input_alone(name):
    model = adapted(name, target_modules=[EMBEDDING[name]])
    assert_explained(model)
    readout = readout_of(model)
    assert readout.output.parts == ("weight",)
    assert readout.input.parts == ("weight", "LoRA 'default'")
    torch.testing.assert_close(readout.input.weight.detach(), entered(model, torch.arange(97)), rtol=1e-5, atol=1e-6)
    assert not readout.tied
    sides = ("the base matrix is tied, but an adapter on one side sets output and input apart",)
    assert readout.notes == (sides if name in TIED else ())
    assert not torch.allclose(geometry_of(model, "input").matrix, geometry_of(model).matrix)


@pytest.mark.parametrize("config", [
    LoraConfig(**RANDOM, target_modules=["lm_head"], use_dora=True),
    VeraConfig(r=4, target_modules=["lm_head"], init_weights=False),
    IA3Config(target_modules=["lm_head"], feedforward_modules=[], init_ia3_weights=False),
    IA3Config(target_modules=["lm_head"], feedforward_modules=["lm_head"], init_ia3_weights=False),
    OFTConfig(r=0, oft_block_size=4, target_modules=["lm_head"], init_weights=False),
], ids=["dora", "vera", "ia3", "ia3-input", "oft"])  # fmt: skip
@pytest.mark.parametrize("name", ["llama-untied", "phi"])
def test_heads_of_other_adapters_are_read_by_what_they_do(config, name):
    torch.manual_seed(1)
    model = get_peft_model(tiny(name), copy.deepcopy(config)).eval()
    readout = readout_of(model)
    assert readout.output.unseen == ()
    assert readout.output.parts[1].startswith("adapter 'default' of ")
    assert not torch.allclose(readout.output.weight, tiny(name).lm_head.weight, atol=1e-3)
    assert_explained(model)


def test_dora_on_the_embedding_moves_the_input():
    model = adapted("llama-untied", target_modules=["embed_tokens"], use_dora=True)
    rows = readout_of(model).input.weight
    torch.testing.assert_close(rows, entered(model, torch.arange(97)), rtol=1e-5, atol=1e-6)


def test_an_adapter_that_is_not_linear_is_said_not_to_be_seen():
    model = get_peft_model(tiny("llama-untied"), VeraConfig(r=4, target_modules=["lm_head"], init_weights=False))
    head = model.get_output_embeddings()
    plain = type(head).forward
    head.forward = lambda x: plain(head, x).relu()
    readout = readout_of(model)
    assert readout.output.unseen == ("adapter 'default' of Linear",)
    assert readout.notes == ("not seen in the output matrix: adapter 'default' of Linear",)
    logits, hidden = forward(model, PROMPTS)
    assert transform_note(readout, hidden, logits) is not None


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_disabled_adapters_do_not_count(target):
    model = adapted("llama-tied", target_modules=[target])
    base = tiny("llama-tied").lm_head.weight
    assert not readout_of(model).tied
    with model.disable_adapter():
        readout = readout_of(model)
        assert readout.tied
        assert readout.output.parts == readout.input.parts == ("weight",)
        torch.testing.assert_close(readout.output.weight, base, rtol=0, atol=0)
        assert_explained(model)


def test_merged_adapters_are_part_of_the_weight():
    model = adapted("llama-untied", target_modules=["lm_head"])
    apart = readout_of(model).output.weight.detach().clone()
    model.merge_adapter()
    readout = readout_of(model)
    assert readout.output.parts == ("weight",)
    torch.testing.assert_close(readout.output.weight, apart, rtol=1e-5, atol=1e-6)
    assert_explained(model)
    torch.testing.assert_close(readout_of(model.merge_and_unload()).output.weight, apart, rtol=1e-5, atol=1e-6)


def test_an_adapter_elsewhere_leaves_the_readout_alone():
    model = adapted("gpt2", target_modules=["c_attn"])
    readout = readout_of(model)
    assert readout.tied
    assert not readout.output.trained
    assert readout.output.parts == ("weight",)
    assert_explained(model)


class NoHead(nn.Module):
    """A model that has a body only."""

    def get_output_embeddings(self):
        return None

    def get_input_embeddings(self):
        return nn.Embedding(3, 2)


class VectorHead(NoHead):
    """A model whose head holds a vector."""

    def get_output_embeddings(self):
        head = nn.Module()
        head.weight = nn.Parameter(torch.ones(3))
        return head


def test_a_model_without_a_head_is_refused():
    message = r"the model has no output embedding\n  rule: get_output_embeddings\(\) gives the LM head"
    with pytest.raises(UserError, match=message):
        readout_of(NoHead())


def test_a_head_that_is_no_matrix_is_refused():
    with pytest.raises(UserError, match=r"the embedding weight is no matrix\n  rule: \(tokens, d\)\n  found: \(3,\)"):
        readout_of(VectorHead())


def test_an_unknown_geometry_is_refused():
    with pytest.raises(UserError, match=r"unknown geometry\n  rule: one of readout, input, centered\n  found: output"):
        geometry_of(tiny("gpt2"), "output")


def test_the_geometry_knows_padding_and_special_tokens(tokenizer):
    model = tiny("llama-untied", vocabulary=len(tokenizer) + 5)
    with torch.no_grad():
        model.lm_head.weight[len(tokenizer) :] = 0
    geometry = geometry_of(model, "readout", tokenizer)
    assert geometry.size == len(tokenizer)
    assert geometry.special == {tokenizer.eos_token_id}
    assert geometry.matrix.shape == (len(tokenizer) + 5, 32)
    assert geometry.matrix.data_ptr() == model.lm_head.weight.data_ptr()
    assert not geometry.matrix.requires_grad
    entered_rows = geometry_of(model, "input", tokenizer).matrix
    assert entered_rows.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    centered = geometry_of(model, "centered", tokenizer)
    torch.testing.assert_close(centered.mean, model.lm_head.weight[: len(tokenizer)].detach().mean(0))


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def mixed(model):
    """Put every second module into training mode."""
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    return modes(model)


def random_state():
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()


def test_observing_restores_modes_and_random_state():
    model = tiny("gpt2")
    before = mixed(model)
    assert set(before.values()) == {True, False}
    state = random_state()
    with observing(model):
        assert not any(modes(model).values())
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert modes(model) == before
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state[0])


def fail_while_observing(model):
    with observing(model):
        torch.rand(1)
        raise RuntimeError("inside")


def test_observing_restores_after_an_error():
    model = tiny("gpt2")
    before, state = mixed(model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"):
        fail_while_observing(model)
    assert modes(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [hook for module in model.modules() for kind in kinds for hook in getattr(module, kind).values()]


@pytest.mark.parametrize("wrap", [lambda: tiny("gpt2"), lambda: adapted("llama-tied", target_modules=["lm_head"])])
def test_a_forward_leaves_no_trace(wrap):
    model = wrap()
    before, state, installed = mixed(model), random_state(), hooks(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    forward(model, PROMPTS)
    assert modes(model) == before
    assert hooks(model) == installed
    after = random_state()
    assert torch.equal(after[0], state[0])
    assert after[1:] == state[1:]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_forward_that_fails_leaves_no_hook():
    model, broken = tiny("gpt2"), [PROMPTS[0], Target(Context("x", "y"), (10**6,), 1, 2, {}, fragment=False)]
    before = mixed(model)
    with pytest.raises(IndexError):
        forward(model, broken)
    assert hooks(model) == []
    assert modes(model) == before
