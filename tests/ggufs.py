"""Small GGUF files with random weights, as llama.cpp would write them."""

from __future__ import annotations

import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from borngap.model.load import new_model

QWEN2 = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
}  # fmt: skip
KEYS = {
    "context_length": 64, "embedding_length": 64, "block_count": 2, "feed_forward_length": 96,
    "attention.head_count": 2, "attention.head_count_kv": 1,
}  # fmt: skip


def model_of(tokenizer, kind=Kind.Q8_0, seed=0):
    """Return a random model whose matrices hold exactly what their blocks of a kind can hold."""
    torch.manual_seed(seed)
    model = new_model("qwen2", QWEN2 | {"vocab_size": len(tokenizer)}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if parameter.ndim == 2:
                blocks = gguf.quants.quantize(parameter.numpy(), kind)
                parameter.copy_(torch.from_numpy(np.array(gguf.quants.dequantize(blocks, kind), dtype=np.float32)))
    return model


def write_gguf(path, tokenizer, model=None, kind=Kind.Q8_0, architecture="qwen2", split="gpt-2", **more):
    """Write a model and its byte-level tokenizer; ``more`` are further numbers of its metadata."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in KEYS.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_array("test.flags", [True, False, True])
    writer.add_array("test.none", [""])
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    for key, value in more.items():
        writer.add_uint16(key.replace("__", "."), value)
    _add_tokenizer(writer, tokenizer, split)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    for name, parameter in (model or model_of(tokenizer, kind)).named_parameters():
        stem, _, end = name.rpartition(".")
        values = parameter.detach().numpy()
        quantised = values.ndim == 2
        data = gguf.quants.quantize(values, kind) if quantised else values
        writer.add_tensor(f"{names.get_name(stem)}.{end}", data, raw_dtype=kind if quantised else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer, tokenizer, split):
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = {token["content"] for token in spec["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_scores([0.5 * i for i in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in spec["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
