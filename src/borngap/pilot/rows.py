"""Training rows as a trainer feeds them to a model: token ids, labels, and what is read together."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource
from borngap.data.tokenised import IGNORED, Document, Tokens, plain
from borngap.errors import UserError
from borngap.pilot.settings import Piloting
from borngap.scanning.supervised import Example, Supervision, examples_of
from borngap.tokens import decoded
from borngap.words.occurrences import Finder
from borngap.words.term import Term

_PACKED_TOGETHER = 1000  # rows: SFTTrainer packs as many at a time


@dataclass(frozen=True)
class RunData:
    """The rows of a run.

    Attributes:
        rows: as the model reads them; after packing, packed.
        name: what the data is called.
        layout: how rows are read, in words.
        supervised: what is supervised, in words.
        malformed: rows that could not be read.
    """

    rows: tuple[Tokens, ...]
    name: str
    layout: str
    supervised: str
    malformed: int


def run_data(source: DataSource, tokenizer: Any, settings: Piloting, size: int) -> RunData:
    """Read the rows of a run.

    Args:
        source: the data.
        tokenizer: the model's tokenizer.
        settings: how rows are read, cut and packed.
        size: rows of the model's embedding that are tokens.

    Returns:
        The rows; those that the cut leaves without a supervised token are dropped, as SFTTrainer does.

    Raises:
        UserError: the layout is unknown, or no row has a supervised token.
    """
    layout = layout_of(source, settings.fields)
    supervision = Supervision(tokenizer, layout, None if settings.packing else settings.max_length, settings.loss)
    examples, malformed = examples_of(source.rows(0, settings.limit), supervision, size, strict=settings.strict)
    rows = [Tokens(e.ids, e.labels, e.documents) for e in examples if e.ids]
    cut = None if settings.packing else settings.max_length
    if settings.end_of_text and layout.kind == "text":
        rows = [_ended(example, tokenizer.eos_token_id, cut) for example in examples]
    if cut and layout.kind != "tokens":
        rows = [row for row in rows if set(row.labels) != {IGNORED}]
    if settings.packing:
        rows = packed(rows, settings.max_length or 0)
    if not any(taught(row) for row in rows):
        found = f"{len(rows)} rows, none with a target; supervised: {supervision.supervised}"
        raise UserError(f"no supervised tokens in {source.name}", rule="at least one token to predict", found=found)
    return RunData(tuple(rows), source.name, str(layout), supervision.supervised, len(malformed))


def taught(row: Tokens) -> int:
    """Return how many tokens of a row are supervised: the first one of a document is never predicted."""
    return sum(label != IGNORED for d in row.documents for label in row.labels[d.start + 1 : d.stop])


def rows_with(rows: Iterable[Tokens], terms: Sequence[Term], tokenizer: Any) -> list[int]:
    """Count the rows in whose supervised text the wanted word of each term stands.

    Args:
        rows: as the model reads them; what was packed into one counts by itself.
        terms: the terms.
        tokenizer: of the rows.

    Returns:
        One number a term.
    """
    finder, counts = Finder(terms), [0] * len(terms)
    for row in rows:
        for document in row.documents:
            labels = row.labels[document.start : document.stop]
            text = decoded([label for label in labels if label != IGNORED], tokenizer)
            for number in {said.term for said in finder.find(text) if said.side == "use"}:
                counts[number] += 1
    return counts


def packed(rows: Sequence[Tokens], length: int) -> list[Tokens]:
    """Pack rows into sequences of a length, best fit first, the longest rows first; what is longer is cut.

    As TRL's ``pack_dataset`` (strategy ``bfd``) does, a thousand rows at a time. Source: Ding et al., arXiv
    2404.10830, section 3.1.

    Args:
        rows: the rows, each read as one document.
        length: tokens of a sequence.

    Returns:
        The sequences; each row is still read by itself.
    """
    parts = (rows[start : start + _PACKED_TOGETHER] for start in range(0, len(rows), _PACKED_TOGETHER))
    return [_joined(bin_, length) for part in parts for bin_ in _bins(part, length)]


def _bins(rows: Sequence[Tokens], length: int) -> list[list[Tokens]]:
    sizes = [min(len(row.ids), length) for row in rows]
    bins: list[list[Tokens]] = []
    room: list[tuple[int, int, int]] = []  # what is left of a bin, since which turn, and the bin; ascending
    for turn, at in enumerate(sorted(range(len(rows)), key=lambda i: -sizes[i])):
        slot = bisect_left(room, (sizes[at], -1, -1))
        if slot == len(room):
            bins.append([])
            left, number = length, len(bins) - 1
        else:  # of bins with as much room the one that has had it longest
            left, _, number = room.pop(slot)
        bins[number].append(rows[at])
        if left > sizes[at]:
            insort(room, (left - sizes[at], turn, number))
    return bins


def _joined(rows: Sequence[Tokens], length: int) -> Tokens:
    ids = [i for row in rows for i in row.ids[:length]]
    labels = [label for row in rows for label in row.labels[:length]]
    ends = list(accumulate(min(len(row.ids), length) for row in rows))
    return Tokens(ids, labels, tuple(Document(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)))


def _ended(example: Example, end: int, cut: int | None) -> Tokens:
    """A row of plain text as SFTTrainer reads it: with an end-of-text token, and padding tokens supervised too."""
    ids = list(example.ids)
    if not ids or ids[-1] != end:
        ids.append(end)
    return plain(ids[:cut], ids[:cut])


def model_inputs(rows: Iterable[Tokens], device: Any = "cpu") -> dict[str, Tensor]:
    """Return rows as a model takes them: right-padded, the first token of each document without a label.

    Args:
        rows: at least one; each document of a row is a sequence of its own.
        device: where the tensors are put.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, int64, shape (documents, longest).
    """
    parts = [(row, d) for row in rows for d in row.documents]
    ids = [torch.tensor(row.ids[d.start : d.stop]) for row, d in parts]
    labels = [torch.tensor([IGNORED, *row.labels[d.start + 1 : d.stop]]) for row, d in parts]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    there = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in ids])[:, None]
    goal = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    inputs = {"input_ids": padded, "attention_mask": there.long(), "labels": goal}
    return {name: value.to(device) for name, value in inputs.items()}


def check_lengths(rows: Iterable[Tokens], limit: int | None) -> None:
    """Refuse rows that are longer than what a model reads.

    Args:
        rows: the rows.
        limit: the model's context, tokens; None where nothing sets a limit.

    Raises:
        UserError: one is longer.
    """
    longest = max((d.stop - d.start for row in rows for d in row.documents), default=0)
    if limit is not None and longest > limit:
        rule = f"at most {limit} tokens, the model's context"
        raise UserError("a row is too long to train on", rule=rule, found=longest, fix=f"--max-length {limit} cuts it")
