"""Rows that are token ids already: which tokens are text, where documents start, and which tokens are supervised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

IGNORED = -100
TOKEN_COLUMNS = (
    "input_ids", "labels", "attention_mask", "completion_mask", "assistant_masks", "position_ids", "seq_lengths",
)  # fmt: skip
_MASKS = ("attention_mask", "completion_mask", "assistant_masks")
_OF_TRL = ("completion_mask", "assistant_masks", "seq_lengths")
TokenColumns = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Document:
    """A stretch of a row that a trainer lets the model read by itself.

    Attributes:
        start: its first token.
        stop: the token after its last.
        hidden: tokens before it that the model is given but does not look at: padding on the left.
        position: position id of its first token; None where the model counts by itself.
    """

    start: int
    stop: int
    hidden: int = 0
    position: int | None = None

    def cut(self, stop: int | None) -> Document:
        """Return what lies before a token of the row."""
        return self if stop is None else replace(self, stop=max(self.start, min(self.stop, stop)))


@dataclass(frozen=True)
class Tokens:
    """One row as a trainer sees it.

    Attributes:
        ids: token ids.
        labels: the same where the token is supervised, -100 elsewhere.
        documents: what is read together, in order; tokens of none are padding.
    """

    ids: list[int]
    labels: list[int]
    documents: tuple[Document, ...]


def plain(ids: list[int], labels: list[int]) -> Tokens:
    """Return a row that is one document."""
    return Tokens(ids, labels, (Document(0, len(ids)),) if ids else ())


def supervised_by(names: Collection[str], *, completion_only: bool = True) -> str:
    """Return which tokens of rows with these columns are supervised, in words."""
    if "labels" in names:
        return "tokens whose label is not -100"
    masks = [name for name in _supervising(completion_only) if name in names]
    return f"tokens marked by {' and '.join(masks)}" if masks else "all tokens, padding left out"


def tokenised(columns: TokenColumns, padding: int | None, *, completion_only: bool = True) -> Tokens:
    """Read a row of token ids as the trainer does that takes it.

    Labels are the row's own; else SFTTrainer's where a column of its own is there (``completion_mask``,
    ``assistant_masks``, ``seq_lengths``): all ids that the masks mark; else those of
    ``DataCollatorForLanguageModeling``: all ids but padding. No document is predicted from the one before it, as with
    ``padding_free`` and ``DataCollatorWithFlattening``.

    Args:
        columns: ``input_ids`` and any other of ``TOKEN_COLUMNS``.
        padding: the tokenizer's padding token.
        completion_only: whether ``completion_mask`` counts, as SFTTrainer's ``completion_only_loss``.

    Returns:
        The row.

    Raises:
        ValueError: columns contradict each other; the message says which and where.
    """
    _check_lengths(columns)
    documents = _documents(columns, padding)
    row = _Row(columns, documents)
    labels = row.own_labels() if "labels" in columns else row.made_labels(padding, completion_only)
    return Tokens(list(columns["input_ids"]), labels, tuple(documents))


def _supervising(completion_only: bool = True) -> tuple[str, ...]:
    return ("completion_mask", "assistant_masks") if completion_only else ("assistant_masks",)


def _check_lengths(columns: TokenColumns) -> None:
    size = len(columns["input_ids"])
    for name, values in columns.items():
        if name == "seq_lengths":
            if sum(values) != size or any(length < 1 for length in values):
                raise ValueError(f"{size} ids, but seq_lengths of {sum(values)} in all, or not positive")
        elif len(values) != size:
            raise ValueError(f"{size} ids, but {len(values)} {name}")
        if name in _MASKS and not set(values) <= {0, 1}:
            raise ValueError(f"{name} holds 0 and 1, found {sorted(set(values) - {0, 1})[:4]}")


def _documents(columns: TokenColumns, padding: int | None) -> list[Document]:
    first, last = _stretch(columns, padding)
    starts = sorted({first} | {start for start in _starts(columns, first, last) if first < start < last})
    stops = [*starts[1:], last]
    positions = columns.get("position_ids")
    if positions is None:
        return [Document(a, b, hidden=a if a == first else 0) for a, b in zip(starts, stops, strict=True) if a < b]
    return [Document(a, b, position=positions[a] or None) for a, b in zip(starts, stops, strict=True) if a < b]


def _stretch(columns: TokenColumns, padding: int | None) -> tuple[int, int]:
    """First token that is text, and the one after the last."""
    ids, mask = columns["input_ids"], columns.get("attention_mask")
    if mask is None:
        if padding is not None and "position_ids" not in columns and list(ids[:2]) == [padding, padding]:
            raise ValueError("it starts with padding, and no attention_mask says that this is no text: add one")
        return 0, len(ids)
    if 1 not in mask:
        return 0, 0
    first, last = list(mask).index(1), len(mask) - list(mask)[::-1].index(1)
    if 0 in mask[first:last]:
        raise ValueError(f"attention_mask hides token {list(mask).index(0, first)} between tokens that it shows")
    return first, last


def _starts(columns: TokenColumns, first: int, last: int) -> set[int]:
    """Where documents start, by the columns that tell it."""
    positions, lengths = columns.get("position_ids"), columns.get("seq_lengths")
    if positions is None:
        return set(accumulate(lengths or ()))
    jumps = {i for i in range(first + 1, last) if positions[i] != positions[i - 1] + 1}
    told = {end for end in accumulate(lengths or ()) if first < end < last}
    if lengths is not None and jumps != told:
        at = min(jumps ^ told)
        raise ValueError(f"position_ids and seq_lengths disagree on whether a document starts at token {at}")
    return jumps


class _Row:
    """Which tokens of a row may be supervised."""

    def __init__(self, columns: TokenColumns, documents: Sequence[Document]) -> None:
        first, last = (documents[0].start, documents[-1].stop) if documents else (0, 0)
        self._columns, self._ids = columns, columns["input_ids"]
        self._read = [first <= i < last for i in range(len(self._ids))]
        self._starts = {document.start for document in documents} - {0}

    def own_labels(self) -> list[int]:
        """The labels of the row."""
        masks = self._marked(_supervising())
        for at, (i, label) in enumerate(zip(self._ids, self._columns["labels"], strict=True)):
            supervised = label != IGNORED
            if supervised and label != i:
                rule = "labels are the ids or -100, and the trainer shifts them"
                raise ValueError(f"labels have token {label} where input_ids have {i}, at token {at}: {rule}")
            if supervised and not self._read[at]:
                raise ValueError(
                    f"labels supervise token {at}, which attention_mask hides: padding would be learnt; set it to -100"
                )
            if masks is not None and at and at not in self._starts and supervised != masks[at]:
                raise ValueError(f"labels and masks disagree on token {at}: leave the masks out, or the labels")
        return self._with(lambda at: self._columns["labels"][at] != IGNORED)

    def made_labels(self, padding: int | None, completion_only: bool) -> list[int]:
        """The labels that a trainer makes."""
        marked = self._marked(_supervising(completion_only))
        hidden = next((i for i, mark in enumerate(marked or ()) if mark and not self._read[i]), None)
        if hidden is not None:
            raise ValueError(f"a mask marks token {hidden} as supervised, which attention_mask hides")
        if marked is not None:
            return self._with(lambda at: marked[at])
        skipped = None if set(_OF_TRL) & self._columns.keys() else padding
        return self._with(lambda at: self._read[at] and self._ids[at] != skipped)

    def _marked(self, names: Sequence[str]) -> list[bool] | None:
        """The tokens that all of these masks mark; None if there are none of them."""
        masks = [self._columns[name] for name in names if name in self._columns]
        return [all(bits) for bits in zip(*masks, strict=True)] if masks else None

    def _with(self, supervised: Callable[[int], bool]) -> list[int]:
        """Labels; no document is predicted from what stands before it."""
        return [i if at not in self._starts and supervised(at) else IGNORED for at, i in enumerate(self._ids)]
