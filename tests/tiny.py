"""Tiny causal LMs with random weights, one of each way in which a readout can differ."""

from __future__ import annotations

import torch

from borngap.model.load import new_model

_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
_LLAMA = {**_WIDE, "num_key_value_heads": 2, "max_position_embeddings": 64}
CONFIGS = {
    "gpt2": ("gpt2", _GPT2),
    "llama-tied": ("llama", {**_LLAMA, "tie_word_embeddings": True}),
    "llama-untied": ("llama", {**_LLAMA, "tie_word_embeddings": False}),
    "gpt_neox": ("gpt_neox", {**_WIDE, "max_position_embeddings": 64, "tie_word_embeddings": False}),
    "gemma2": ("gemma2", {**_LLAMA, "head_dim": 16, "final_logit_softcapping": 2.0, "sliding_window": 32}),
    "phi": ("phi", {**_LLAMA, "tie_word_embeddings": False}),
}
# has an autograd function of its own, so that it can't be mapped over rows
UNMAPPED = {"bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2})}
TIED = ("gpt2", "llama-tied", "gemma2")
UNTIED = ("llama-untied", "gpt_neox", "phi")


def tiny(name, vocabulary=97, seed=0):
    """Return a model in eval mode whose every weight, biases included, is random."""
    family, config = (CONFIGS | UNMAPPED)[name]
    torch.manual_seed(seed)
    model = new_model(family, {**config, "vocab_size": vocabulary, "pad_token_id": 0}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
