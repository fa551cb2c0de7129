"""Which rows of a model are tokens: by the tokenizer's own ids, since ``len(tokenizer)`` only counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from borngap.errors import UserError


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's ids that a model has rows for.

    Attributes:
        ids: ascending.
        special: ids of special and added tokens.
        rowless: ids of tokens that the model has no row for.
    """

    ids: list[int]
    special: frozenset[int]
    rowless: list[int]

    @property
    def size(self) -> int:
        """Largest id + 1: rows from there on are padding."""
        return self.ids[-1] + 1

    @property
    def holes(self) -> frozenset[int]:
        """Ids below ``size`` that no token has."""
        return frozenset(range(self.size)) - frozenset(self.ids) if len(self.ids) < self.size else frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        if not self.rowless:
            return ()
        ids = f"{self.rowless[:8]}{' ...' if len(self.rowless) > 8 else ''}"
        return (f"{len(self.rowless)} added tokens have no row in the model (ids {ids}) and can't be used",)


def vocabulary_of(tokenizer: Any, rows: int) -> Vocabulary:
    """Return which rows of a model are tokens.

    Args:
        tokenizer: a Hugging Face tokenizer; ids may have gaps, and lie beyond their number.
        rows: rows of the model's embedding.

    Returns:
        Its vocabulary.
    """
    added = tokenizer.get_added_vocab().values()
    ids = sorted({*tokenizer.get_vocab().values(), *added})
    special = frozenset(tokenizer.all_special_ids) | frozenset(added)
    return Vocabulary([i for i in ids if i < rows], special, [i for i in ids if i >= rows])


def tokenizer_of(processing: Any) -> Any:
    """Return the tokenizer of a processor, or what is a tokenizer already.

    Args:
        processing: a Hugging Face tokenizer, or a processor of a model that sees or hears too.

    Returns:
        The tokenizer.

    Raises:
        UserError: it is neither.
    """
    if hasattr(processing, "get_vocab"):
        return processing
    found = getattr(processing, "tokenizer", None)
    if not hasattr(found, "get_vocab"):
        rule = "a tokenizer, or a processor that has one"
        raise UserError("no tokenizer", rule=rule, found=type(processing).__name__, fix="give tokenizer=")
    return found
