"""Nearest tokens of words, by overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from borngap.choices import Kind
from borngap.errors import UserError
from borngap.model.readout import geometry_of
from borngap.model.vocabulary import tokenizer_of


def nearest_tokens(
    model: Any, tokenizer: Any, words: Sequence[str], *, k: int = 10, geometry: Kind = "readout"
) -> dict[str, list[dict[str, Any]]]:
    """Return the k tokens that overlap most with each word.

    Args:
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        words: whole words; a word without a leading space is looked up with one first.
        k: neighbours a word.
        geometry: the geometry matrix.

    Returns:
        word -> rows of ``{"token", "id", "overlap"}``, nearest first.

    Raises:
        UserError: a word is not a single token.
    """
    tokenizer = tokenizer_of(tokenizer)
    ids = torch.tensor([_token(word, tokenizer) for word in words])
    found, overlaps = geometry_of(model, geometry, tokenizer).neighbours(ids, k)
    return {
        word: [
            {"token": tokenizer.decode([i]), "id": i, "overlap": g}
            for i, g in zip(row.tolist(), overlap.tolist(), strict=True)
        ]
        for word, row, overlap in zip(words, found, overlaps, strict=True)
    }


def _token(word: str, tokenizer: Any) -> int:
    spellings = (word if word.startswith(" ") else f" {word}", word)
    cuts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in spellings]
    for ids in cuts:
        if len(ids) == 1:
            return ids[0]
    pieces = " ".join(repr(tokenizer.decode([i])) for i in cuts[0])
    raise UserError(f"{word!r} is not a single token of this model", rule="one token a word", found=pieces)
