"""Logits in float32 whatever a model's weights are: against transformers in float32 on the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from tests.tiny import CONFIGS, UNMAPPED, tiny
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils._python_dispatch import TorchDispatchMode

from borngap.context import Context, Target
from borngap.model import precision
from borngap.model.forward import Prompt, forward, last_logits, selected_logits
from borngap.model.load import new_model
from borngap.model.precision import LOW, full_float32, measuring, precision_of
from borngap.train.rowwise import Rowwise

IDS = [(3, 4, 5, 60, 7), (9, 11)]
TARGETS = [Target(Context("a", " b", " c"), ids, 1, 2, {}, False) for ids in IDS]
LAYERS = {
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "bloom": "transformer.h",
    "opt": "model.decoder.layers",
}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0, "vocab_size": 97}
SCALED = {
    "granite": ("granite", {**_SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "logits_scaling": 3.0}),
    "cohere": ("cohere", {**_SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "logit_scale": 0.5}),
    "olmo": ("olmo", {**_SMALL, "intermediate_size": 48, "num_key_value_heads": 2}),  # its norm has no parameters
    "opt": ("opt", {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16, "max_position_embeddings": 64}),
}  # fmt: skip
HEADS = {
    "lora": {"target_modules": ["lm_head"]},
    "dora": {"target_modules": ["lm_head"], "use_dora": True},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [3, 60]}},
}


def model_of(name):
    if name not in SCALED:
        return tiny(name)
    torch.manual_seed(0)
    family, config = SCALED[name]
    model = new_model(family, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def last_layer(model, name):
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_submodule(LAYERS.get(name, "model.layers"))[-1]


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def leaving(model, name, kept):
    """Keep what leaves the last layer."""
    return last_layer(model, name).register_forward_hook(lambda _, __, output: kept.append(first(output)))


def ended(whole, name, ids, hidden):
    """Logits of a model in float32 that goes on from what left another's last layer."""

    def replaced(_, __, output):
        return hidden.float() if isinstance(output, torch.Tensor) else (hidden.float(), *output[1:])

    with torch.no_grad(), last_layer(whole, name).register_forward_hook(replaced):
        return whole(input_ids=torch.tensor([ids])).logits[0]


def ended_in_float32(model, name, ids):
    """transformers' own end of the forward in float32, after the layers in the model's dtype; and plain logits."""
    kept = []
    with torch.no_grad(), leaving(model, name, kept):
        plain = model(input_ids=torch.tensor([ids])).logits[0]
    return ended(copy.deepcopy(model).float(), name, ids, kept[0]), plain


@pytest.mark.parametrize("dtype", sorted(LOW, key=str))
@pytest.mark.parametrize("name", [*CONFIGS, *UNMAPPED, *SCALED])
def test_norm_and_head_are_done_in_float32_and_what_follows_is_kept(name, dtype):
    model = model_of(name).to(dtype)
    expected, plain = ended_in_float32(model, name, IDS[0])
    assert float((expected - plain.float()).abs().max()) > 1e-4
    with torch.no_grad():
        found, hidden = last_logits(model, IDS[:1])
        scanned = selected_logits(model, [Prompt(IDS[0])], torch.tensor([0, 0]), torch.tensor([1, 4]))
    assert found.dtype == scanned.dtype == hidden.dtype == torch.float32
    torch.testing.assert_close(found[0], expected[4], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scanned, expected[[1, 4]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_adapters_on_the_head(kind):
    torch.manual_seed(1)
    name = "llama-tied" if kind == "tokens" else "llama-untied"
    config = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **HEADS[kind])
    if kind == "tokens":
        config.trainable_token_indices = {"embed_tokens": [3, 60]}
    model = get_peft_model(tiny(name), config).eval().to(torch.bfloat16)
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if "trainable_tokens" in part or "modules_to_save" in part or "magnitude" in part:
                parameter.add_(0.3)
    expected, plain = ended_in_float32(model, name, IDS[0])
    assert float((expected - plain.float()).abs().max()) > 1e-4
    torch.testing.assert_close(forward(model, TARGETS[:1])[0][0], expected[-1], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "gemma2"])
def test_nothing_is_left_in_the_model(name):
    model = tiny(name).to(torch.bfloat16)
    before = {part: (id(p), p.dtype) for part, p in model.named_parameters()}
    with pytest.raises(RuntimeError, match="on the way"), measuring(model):
        raise RuntimeError("on the way")
    forward(model, TARGETS)
    assert {part: (id(p), p.dtype) for part, p in model.named_parameters()} == before
    for module in model.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


class Largest(TorchDispatchMode):
    """Notes the size of the largest float32 tensor that is made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float32:
            self.elements = max(self.elements, made.numel())
        return made


def test_no_matrix_of_a_host_is_copied_into_float32(monkeypatch):
    model = tiny("llama-untied", vocabulary=5000).to(torch.bfloat16)
    expected, _ = ended_in_float32(model, "llama-untied", IDS[0])
    monkeypatch.setattr(precision, "_FLOAT32_ELEMENTS", 300 * 32)
    with Largest() as seen:
        found, _ = forward(model, TARGETS[:1])
    assert seen.elements == 300 * 32
    torch.testing.assert_close(found[0], expected[-1], rtol=1e-6, atol=1e-6)


def test_rows_with_weights_of_their_own_end_in_float32():
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(tiny("llama-untied"), config).eval().to(torch.bfloat16)
    full = tiny("llama-untied").to(torch.bfloat16)
    for model in (adapted, full):
        rowwise = Rowwise(model)
        rows = {name: p.detach().unsqueeze(0) for name, p in rowwise.parameters.items()}
        with torch.no_grad():
            logits, hidden = rowwise.forward(rows, IDS[:1])
            expected, _ = last_logits(model, IDS[:1])
        assert logits.dtype == hidden.dtype == torch.float32
        torch.testing.assert_close(logits, expected, rtol=0, atol=3e-2)  # the layers round as they please
        torch.testing.assert_close(logits, hidden @ weight_of(model.get_output_embeddings()).T, rtol=1e-5, atol=1e-5)


def weight_of(head):
    """The head's weight in float32, LoRA's part included."""
    if not hasattr(head, "lora_A"):
        return head.weight.detach().float()
    down, up = (part["default"].weight.detach().float() for part in (head.lora_A, head.lora_B))
    return head.base_layer.weight.detach().float() + head.scaling["default"] * up @ down


def test_gradients_go_through_the_end_in_float32():
    model = tiny("gpt2").to(torch.bfloat16)
    logits, _ = last_logits(model, IDS[:1])
    logits.logsumexp(1).sum().backward()
    whole = tiny("gpt2").to(torch.bfloat16).float()
    whole(input_ids=torch.tensor(IDS[:1])).logits[:, -1].logsumexp(1).sum().backward()
    for (name, p), q in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert p.grad.dtype == torch.bfloat16
        scale = float(q.grad.norm())
        assert float((p.grad.float() - q.grad).norm()) < 0.03 * scale + 1e-3, name


def test_arithmetic_is_in_full_float32_and_settings_come_back():
    backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    before = [part.fp32_precision for part in backends]
    x = torch.full((2, 2), 1 + 2**-12)
    try:
        torch.set_float32_matmul_precision("medium")
        lowered = [part.fp32_precision for part in backends]
        with torch.autocast("cpu", torch.bfloat16), full_float32():
            assert {part.fp32_precision for part in backends} == {"ieee"}
            assert torch.equal(x @ torch.eye(2), x)
        assert [part.fp32_precision for part in backends] == lowered == ["tf32", "bf16"]
        with torch.autocast("cpu", torch.bfloat16):
            assert (x @ torch.eye(2)).dtype == torch.bfloat16
    finally:
        for part, value in zip(backends, before, strict=True):
            part.fp32_precision = value


@pytest.mark.parametrize("lora", [False, True])
def test_mixed_precision_of_fsdp2(lora):
    name = "llama-untied"
    model, kept = tiny(name), []
    whole = copy.deepcopy(model).to(torch.bfloat16).float()
    if lora:  # adds nothing at first
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).eval()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
        mesh = init_device_mesh("cpu", (1,))
        for part in (*model.get_decoder().layers, model.get_output_embeddings(), model):
            fully_shard(part, mesh=mesh, mp_policy=policy)
        assert precision_of(model) == {"dtype": "bfloat16", "measured_in": "float32"}
        with leaving(model, name, kept):
            found, _ = forward(model, TARGETS[:1])
        assert kept[0].dtype == torch.bfloat16
        torch.testing.assert_close(found[0], ended(whole, name, IDS[0], kept[0])[-1], rtol=1e-6, atol=1e-6)
        with torch.no_grad():
            assert model(input_ids=torch.tensor(IDS[:1])).logits.dtype == torch.bfloat16  # the host's own, as before
    finally:
        dist.destroy_process_group()
