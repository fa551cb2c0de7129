"""Windows of rows in batches of similar length: what one forward reads, and at which positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from borngap.data.tokenised import Document
from borngap.model.forward import LOGIT_ELEMENTS, Prompt, selected_logits
from borngap.scanning.supervised import Example, Window, windows_of

_WINDOW_TOKENS = 4096
Wanted = tuple[Window, Tensor]
"""A window and the positions in its example that need a forward."""


def most_positions(model: Any) -> int:
    """Return how many positions of a model's logits are held at once."""
    return max(1, LOGIT_ELEMENTS // int(model.config.get_text_config().vocab_size))


def split_at(example: Example, document: Document, positions: Tensor, length: int, most: int) -> Iterator[Wanted]:
    """Split a document with positions into windows, in parts whose logits stay within a bounded memory.

    Args:
        example: the example.
        document: one of its documents.
        positions: tokens of the example that are measured, ascending.
        length: tokens a window.
        most: positions a part.

    Yields:
        Windows that have a position, with these.
    """
    for window in windows_of(example, document, length) if len(positions) else ():
        own = positions[(positions >= window.first) & (positions < window.stop)]
        yield from ((window, part) for part in own.split(most) if len(part))


def logits_at(model: Any, batch: Sequence[Wanted]) -> Tensor:
    """Return a model's logits at the positions of a batch.

    Args:
        model: a Hugging Face causal LM, in eval mode.
        batch: windows with their positions; each is read up to its last position, whose token itself is not read.

    Returns:
        Logits, shape (positions, rows of the head), position after position of window after window.
    """
    prompts = [Prompt(w.example.ids[w.start - w.hidden : int(at[-1])], w.hidden, w.position) for w, at in batch]
    rows = torch.repeat_interleave(torch.tensor([len(at) for _, at in batch]))
    columns = torch.cat([at - w.start + w.hidden - 1 for w, at in batch])
    return selected_logits(model, prompts, rows, columns)


def span_of(batch: Sequence[Wanted]) -> str:
    """Return where the rows of a batch stand, in words."""
    return f"somewhere in {batch[0][0].example.row.where} to {batch[-1][0].example.row.where}"


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
