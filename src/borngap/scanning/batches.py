"""Windows of rows in batches of similar length: what one forward reads, and at which positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from borngap.model.forward import LOGIT_ELEMENTS, Prompt
from borngap.scanning.supervised import Window

_WINDOW_TOKENS = 4096
Wanted = tuple[Window, Tensor]
"""A window and the positions in its example that need a forward."""


def most_positions(model: Any) -> int:
    """Return how many positions of a model's logits are held at once."""
    return max(1, LOGIT_ELEMENTS // int(model.config.get_text_config().vocab_size))


def prompt_of(wanted: Wanted) -> Prompt:
    """Return what the model reads of a window: up to the last position, whose token itself is not read."""
    window, at = wanted
    return Prompt(window.example.ids[window.start - window.hidden : int(at[-1])], window.hidden, window.position)


def batched(wanted: Sequence[Wanted], most: int) -> Iterator[list[Wanted]]:
    """Split windows, ordered by length, into batches of bounded size: tokens with padding, and logits.

    Args:
        wanted: windows with their positions, each at most ``most``.
        most: positions in a batch.

    Yields:
        Batches.
    """
    batch: list[Wanted] = []
    positions = 0
    for window, at in sorted(wanted, key=_kind_and_length):
        told, length = _kind_and_length((window, at))
        alike = bool(batch) and _kind_and_length(batch[-1])[0] == told
        fits = alike and length * (len(batch) + 1) <= _WINDOW_TOKENS and positions + len(at) <= most
        if batch and not fits:
            yield batch
            batch, positions = [], 0
        batch.append((window, at))
        positions += len(at)
    if batch:
        yield batch


def _kind_and_length(item: Wanted) -> tuple[bool, int]:
    """Whether position ids are told, which a batch shares, and the tokens to read."""
    window, at = item
    return window.position is not None, int(at[-1]) - window.start + window.hidden
