"""The model's own logits at chosen positions only: the head never sees the others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from borngap.model.length import virtual_tokens
from borngap.model.precision import measuring


@dataclass(frozen=True)
class Prompt:
    """Token ids as a trainer gives them to a model.

    Attributes:
        ids: token ids.
        hidden: how many at the beginning the model does not look at: padding on the left.
        position: position id of the first; None where the model counts by itself.
    """

    ids: Sequence[int]
    hidden: int = 0
    position: int | None = None


def selected_logits(model: Any, prompts: Sequence[Prompt], rows: Tensor, columns: Tensor) -> Tensor:
    """Run the model on right-padded prompts and return its logits at some positions.

    The head's input is cut down to these positions, as one sequence, so whatever the model does to its logits after
    the head (scaling, capping) it still does. A model that calls no head, or not with all positions, computes all
    logits and the wanted ones are picked.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, in eval mode.
        prompts: the prompts; of all or of none the position is told.
        rows: which prompt, int64, shape (n,).
        columns: which position in it, int64, shape (n,).

    Returns:
        Logits, shape (n, rows of the head).
    """
    device = model.get_input_embeddings().weight.device
    inputs = {name: value.to(device) for name, value in _inputs(prompts).items()}
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(inner.forward).parameters
    if "position_ids" not in known:
        inputs.pop("position_ids", None)
    options = {"use_cache": False} if "use_cache" in known else {}
    before = virtual_tokens(model)
    count, length = inputs["input_ids"].shape
    shape = (count, length + before)
    rows, columns = rows.to(device), columns.to(device) + before
    cut: list[bool] = []

    def select(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        cut.append(arguments[0].shape[:-1] == shape)
        return (arguments[0][rows, columns].unsqueeze(0), *arguments[1:]) if cut[-1] else None

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        with measuring(model):
            logits = model(**inputs, **options).logits
    finally:
        hook.remove()
    return logits[0] if cut == [True] else logits[rows, columns]


def _inputs(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Right-padded ids; a mask where a token is not to be looked at; position ids where they are told."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p.ids) for p in prompts], batch_first=True)
    ends, starts = (
        torch.tensor(values)[:, None] for values in ([len(p.ids) for p in prompts], [p.hidden for p in prompts])
    )
    place = torch.arange(ids.shape[1])
    read = (place >= starts) & (place < ends)
    told = [p.position for p in prompts if p.position is not None]
    return (
        {"input_ids": ids}
        | ({} if bool(read.all()) else {"attention_mask": read.long()})
        | ({"position_ids": place + torch.tensor(told)[:, None]} if told else {})
    )
