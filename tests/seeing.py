"""Tiny models that see as well as read: wrappers whose inner model is a causal LM."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

_TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_EYE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
_QWEN_EYE = {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 48}
_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}}
_PLACES = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
# type -> settings of the text model, of the other tower, and of the whole
_PARTS = {
    "gemma3": ({"model_type": "gemma3_text", "sliding_window": 32}, {**_EYE, "model_type": "siglip_vision_model"},
               {"mm_tokens_per_image": 4, "image_token_index": 3, "boi_token_index": 1, "eoi_token_index": 2}),
    "llava": ({"model_type": "llama"}, {**_EYE, "model_type": "clip_vision_model", "projection_dim": 32},
              {"image_token_index": 3}),
    "mistral3": ({"model_type": "mistral"}, {**_EYE, "model_type": "pixtral", "head_dim": 16},
                 {"image_token_index": 3}),
    "qwen2_vl": (_ROPE, {**_QWEN_EYE, "embed_dim": 32}, _PLACES),
    "qwen3_vl": (_ROPE, {**_QWEN_EYE, "deepstack_visual_indexes": [0]}, _PLACES),
    "paligemma": ({"model_type": "gemma"}, {**_EYE, "model_type": "siglip_vision_model"},
                  {"image_token_index": 3, "projection_dim": 32, "hidden_size": 32}),
    "idefics": (None, {**_EYE, "embed_dim": 32}, {**_TEXT, "use_resampler": False}),
}  # fmt: skip
LEFT_TO_RIGHT = ("gemma3", "llava", "mistral3", "qwen2_vl", "qwen3_vl")


def seeing(kind, vocabulary=97, seed=0):
    """Return a wrapper in eval mode whose every weight is random."""
    text, eye, whole = _PARTS[kind]
    size = {"vocab_size": vocabulary}
    inner = size if text is None else {"text_config": {**_TEXT, **size, **text}}  # or flat
    config = AutoConfig.for_model(kind, vision_config=eye, **inner, **whole)
    torch.manual_seed(seed)
    host = AutoModelForCausalLM if kind == "gemma3" else AutoModelForImageTextToText
    model = host.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
