"""The model's own logits at chosen positions only: the head never sees the others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def selected_logits(model: Any, prompts: Sequence[Sequence[int]], rows: Tensor, columns: Tensor) -> Tensor:
    """Run the model on right-padded prompts and return its logits at some positions.

    The head's input is cut down to these positions, as one sequence, so whatever the model does to its logits after
    the head (scaling, capping) it still does. A model that calls no head, or not with all positions, computes all
    logits and the wanted ones are picked.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, in eval mode.
        prompts: token ids.
        rows: which prompt, int64, shape (n,).
        columns: which position in it, int64, shape (n,).

    Returns:
        Logits, shape (n, rows of the head).
    """
    device = model.get_input_embeddings().weight.device
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p) for p in prompts], batch_first=True)
    lengths = torch.tensor([len(p) for p in prompts])
    inputs = {"input_ids": ids.to(device)}
    if bool((lengths != lengths[0]).any()):
        inputs["attention_mask"] = (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(device)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    options = {"use_cache": False} if "use_cache" in inspect.signature(inner.forward).parameters else {}
    rows, columns = rows.to(device), columns.to(device)
    cut: list[bool] = []

    def select(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        cut.append(arguments[0].shape[:-1] == ids.shape)
        return (arguments[0][rows, columns].unsqueeze(0), *arguments[1:]) if cut[-1] else None

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits = model(**inputs, **options).logits
    finally:
        hook.remove()
    return logits[0] if cut == [True] else logits[rows, columns]
