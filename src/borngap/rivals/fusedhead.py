"""TRL's chunked head: the term from the hidden states at rivals alone, so that no batch of logits is ever made.

SFTTrainer never calls the output embedding: it multiplies hidden states and weight piece by piece, and its model gives
a log-probability a token. The term is subtracted from these, so that SFTTrainer itself adds it up, divides it, and
scales it over processes. The logits at rivals come from the model's own forward with hidden states in the place of its
backbone, so that whatever it does to its logits (scaling, capping) is done to them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.rivals.tally import SpotsSeen


def join_fused_head(model: Any, loss: Any) -> None:
    """Let a model's chunked head add a loss on rivals, in training only.

    Args:
        model: of an SFTTrainer, possibly wrapped by PEFT.
        loss: the RivalLoss.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = inner.forward

    @wraps(before)
    def forward(*args: Any, fused_lm_head: bool = False, **inputs: Any) -> Any:
        if not fused_lm_head:
            return before(*args, **inputs)
        if not torch.is_grad_enabled():
            return before(*args, fused_lm_head=True, **inputs)
        if inputs.get("labels") is None:
            rule = "labels in the batch, on one device"
            raise UserError("a loss on rivals can't join sequence parallelism", rule=rule, found="no labels")
        with _listening(inner.base_model) as seen:
            out = before(*args, fused_lm_head=True, **inputs)
        head = partial(_own_logits, inner, before, seen[0])
        _add(out, seen[0].last_hidden_state, inputs["labels"], loss, head)
        return out

    forward.rival_loss = loss  # type: ignore[attr-defined]
    inner.forward = forward


def joined_loss(model: Any) -> Any:
    """Return the RivalLoss that a model's chunked head adds; None where none has joined it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner.forward, "rival_loss", None)


def _add(out: Any, states: Tensor, labels: Tensor, loss: Any, head: Callable[[Tensor], Tensor]) -> None:
    """Take the term off the log-probabilities."""
    spots, values, gaps = loss.at_spots(states, labels, head)
    if len(values):
        at = (spots.rows, spots.columns - 1)
        out.log_probs = out.log_probs.index_put(at, -values.to(out.log_probs.dtype), accumulate=True)
    loss.tell(SpotsSeen(gaps, loss.gaps_of_others(states, spots, head), values.sum(), -out.log_probs.sum()))


@contextmanager
def _listening(module: Any) -> Iterator[list[Any]]:
    """Keep what a module returns."""
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def _own_logits(inner: Any, forward: Callable[..., Any], backbone: Any, states: Tensor) -> Tensor:
    """Logits of hidden states by all that a model does after its backbone, shape (n, V)."""
    given = type(backbone)(**{**backbone, "last_hidden_state": states[None]})
    ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
    with _replaced(inner.base_model, lambda *_, **__: given):
        return forward(input_ids=ids).logits[0]


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module do something else."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
