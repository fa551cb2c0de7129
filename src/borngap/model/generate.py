"""What a model writes by itself: greedy continuations, by the model's own ``generate``, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from borngap.model.readout import observing


def continuations(model: Any, prompts: Sequence[Sequence[int]], budget: int, padding: int) -> list[list[int]]:
    """Let a model write on, greedily and whatever its own generation settings say, without a trace in it.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.
        prompts: token ids, none empty; of one batch.
        budget: tokens at most.
        padding: a token id to fill up with, on the left; the model does not look at it.

    Returns:
        The token ids of each continuation, without the end of text.
    """
    device = model.get_input_embeddings().weight.device
    longest = max(map(len, prompts))
    ids = torch.tensor([[padding] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    ends = _ends(model)
    settings = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=budget, min_new_tokens=0, repetition_penalty=1.0,
        no_repeat_ngram_size=0, use_cache=True, pad_token_id=padding, eos_token_id=ends or None,
    )  # fmt: skip
    with observing(model):
        whole = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [_until(written, ends) for written in whole[:, longest:].tolist()]


def _ends(model: Any) -> list[int]:
    """Token ids that end a text: those that the model's generation settings name, else its configuration."""
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    told = model.config.get_text_config().eos_token_id if told is None else told
    return list(told) if isinstance(told, list | tuple) else [] if told is None else [int(told)]


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    return ids[: next((at for at, token in enumerate(ids) if token in ends), len(ids))]
