"""Which rows of a model are tokens: by the tokenizer's own ids, since ``len(tokenizer)`` only counts them."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

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
    ids = _all_ids(tokenizer)
    special = frozenset(tokenizer.all_special_ids) | frozenset(tokenizer.get_added_vocab().values())
    known = bisect_left(ids, rows)
    return Vocabulary(ids[:known], special, ids[known:])


_KNOWN_IDS: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()  # a tenth of a second each time for 50,000 tokens


def _all_ids(tokenizer: Any) -> list[int]:
    """All ids, ascending; read again where tokens were added."""
    ids = _KNOWN_IDS.get(tokenizer)
    if ids is None or len(ids) != len(tokenizer):
        ids = sorted({*tokenizer.get_vocab().values(), *tokenizer.get_added_vocab().values()})
        _KNOWN_IDS[tokenizer] = ids
    return ids


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


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a fingerprint of everything by which a tokenizer turns rows into ids, its chat template included.

    Truncation and padding are what its last call wanted, and are saved with it: a trainer leaves its own behind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.dumps(json.loads(backend.to_str()) | dict.fromkeys(("truncation", "padding")))
    else:
        rules = repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{rules} {getattr(tokenizer, 'chat_template', None)}".encode()).hexdigest()[:16]
