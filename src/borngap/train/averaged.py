"""Optimisers that keep two sets of weights: what is observed are those that an evaluation takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def evaluated(*optimizers: Any) -> Iterator[None]:
    """Put the weights of evaluation in place, as hosts do by ``optimizer.eval()``, and back bit for bit.

    Schedule-free optimisers train one point and evaluate the mean of many. ``train()`` undoes ``eval()`` only up to
    rounding, so the weights of training are kept beside.

    Args:
        *optimizers: optimisers, wrapped or not; others than these, and None, are left alone.

    Yields:
        Nothing.
    """
    with ExitStack() as stack:
        for optimizer in map(_unwrapped, optimizers):
            if all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval")):
                stack.enter_context(_swapped(optimizer))
        yield


@contextmanager
def _swapped(optimizer: Any) -> Iterator[None]:
    training = _training(optimizer)
    if training is False:
        yield
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [p.detach().clone() for p in parameters]
    optimizer.eval()
    try:
        yield
    finally:
        if training or any(not torch.equal(p, before) for p, before in zip(parameters, kept, strict=True)):
            optimizer.train()
            with torch.no_grad():
                for parameter, before in zip(parameters, kept, strict=True):
                    parameter.copy_(before)


def _unwrapped(optimizer: Any) -> Any:
    """The optimiser within accelerate's wrapper, which has both modes whatever it wraps."""
    return getattr(optimizer, "optimizer", optimizer)


def _training(optimizer: Any) -> bool | None:
    """Whether the weights of training are in place; None where the optimiser does not say."""
    marks = [getattr(optimizer, "train_mode", None), *(group.get("train_mode") for group in optimizer.param_groups)]
    known = [mark for mark in marks if mark is not None]
    return any(known) if known else None
