"""Asking a model at the places of terms: who leads, by how much, at which rank; one forward a row, no further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import torch
from torch import Tensor

from borngap.data.rows import Row
from borngap.errors import UserError
from borngap.model.readout import geometry_of, observing
from borngap.scanning.batches import Wanted, batched, logits_at, most_positions, span_of, split_at
from borngap.scanning.supervised import Example, Supervision, example_of, examples_of
from borngap.usage.allowed import Allowed
from borngap.usage.places import Place, Placer, directed
from borngap.words.term import Term

PLACE_NUMBERS = ("logit_gap", "use_probability", "avoid_probability", "use_rank", "avoid_rank")
PLACE_COLUMNS: dict[str, Any] = {
    "data": pl.String, "row": pl.Int64, "where": pl.String, "term": pl.Int32, "use": pl.String, "avoid": pl.String,
    "kind": pl.String, "allowed": pl.Boolean, "word": pl.String, "other": pl.String, "at": pl.Int64,
    "offset": pl.Int64, "start": pl.Int64, "use_id": pl.Int32, "avoid_id": pl.Int32,
    **{name: pl.Int32 if name.endswith("rank") else pl.Float64 for name in PLACE_NUMBERS}, "reason": pl.String,
    "before": pl.String, "after": pl.String,
}  # fmt: skip
_BLOCK_ELEMENTS = 1 << 22  # logits that are worked on at once
PLACE_COUNTS = ("rows", "malformed", "tokens", "places", "hidden")


@dataclass
class FoundPlaces:
    """What some rows hold.

    Attributes:
        places: one row a place and term, in the order of the data.
        counts: ``rows``, ``malformed``, ``tokens``, ``places``, ``hidden`` (words in what is not supervised).
        malformed: place and reason of malformed rows.
    """

    places: pl.DataFrame
    counts: dict[str, int]
    malformed: list[tuple[str, str]] = field(default_factory=list)


class Asker:
    """Finds places in rows of one data set, and asks a model there."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        supervision: Supervision,
        placer: Placer,
        terms: Sequence[Term],
        allowed: Allowed,
        window: int,
    ) -> None:
        """Prepare.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer.
            supervision: turns rows into examples.
            placer: finds places.
            terms: the terms.
            allowed: tells where words to avoid are right.
            window: tokens that the model reads at once.
        """
        self._model, self._supervision, self._placer = model, supervision, placer
        self._terms, self._allowed, self._window = terms, allowed, window
        self._geometry = geometry_of(model, tokenizer=tokenizer)
        self._holes = torch.tensor(sorted(self._geometry.holes), dtype=torch.int64)
        self._most = most_positions(model)

    @property
    def supervised(self) -> str:
        """What is supervised, in words."""
        return self._supervision.supervised

    def example(self, row: Row) -> Example:
        """Return a row that could be read as token ids."""
        return example_of(row, self._supervision, self._geometry.size)

    def examples(self, rows: Sequence[Row], *, strict: bool) -> tuple[list[Example], list[tuple[str, str]]]:
        """Return rows as token ids, and place and reason of the malformed ones."""
        return examples_of(rows, self._supervision, self._geometry.size, strict=strict)

    def ask(self, rows: Sequence[Row], name: str, *, strict: bool = False, measure: bool = True) -> FoundPlaces:
        """Find the places in rows, and ask the model there.

        Args:
            rows: the rows; held in memory together.
            name: what the data is called in the table.
            strict: whether a malformed row is an error.
            measure: whether the model is asked; else the places are only found.

        Returns:
            What they hold.
        """
        examples, malformed = self.examples(rows, strict=strict)
        found, hidden = self._placer.places(examples)
        places = [[directed(place, self._geometry) for place in own] for own in found]
        answers = self._answers(examples, places) if measure else {}
        records = [
            self._record(example, place, answers.get((id(example), place.measured, place.gold_id, place.rival_id)))
            for example, own in zip(examples, places, strict=True)
            for place in own
        ]
        table = pl.DataFrame(records, schema=PLACE_COLUMNS, orient="row").with_columns(data=pl.lit(name))
        tokens = sum(len(example.ids) for example in examples)
        counts = (len(rows), len(malformed), tokens, len(records), hidden)
        return FoundPlaces(table, dict(zip(PLACE_COUNTS, counts, strict=True)), malformed)

    def _record(self, example: Example, place: Place, answer: dict[str, Any] | None) -> dict[str, Any]:
        term, found = self._terms[place.occurrence.term], place.occurrence
        due = found.side == "use"
        ids = (place.gold_id, place.rival_id) if due else (place.rival_id, place.gold_id)
        right = not due and self._allowed.right(example.row, term, found.text, place.measured)
        record = {
            "data": "", "row": example.row.number, "where": example.row.where, "term": found.term, "use": term.use,
            "avoid": term.avoid, "kind": "due" if due else "avoid", "allowed": None if due else right,
            "word": found.text, "other": found.other, "at": place.at, "offset": place.measured,
            "start": None if place.measured is None else place.document.start,
            "use_id": ids[0], "avoid_id": ids[1], "reason": place.reason, "before": place.before, "after": place.after,
        }  # fmt: skip
        return dict.fromkeys(PLACE_COLUMNS) | record | _of_sides(answer, due=due)

    def _answers(
        self, examples: Sequence[Example], places: Sequence[Sequence[Place]]
    ) -> dict[tuple[int, int | None, int | None, int | None], dict[str, Any]]:
        """What the model says at each position, of each pair of tokens."""
        wanted: dict[tuple[int, int], list[Place]] = {}
        items: list[Wanted] = []
        for example, own in zip(examples, places, strict=True):
            for place in own:
                if place.measured is not None:
                    wanted.setdefault((id(example), place.measured), []).append(place)
            for document in example.documents:
                at = sorted({p.measured for p in own if p.measured is not None and p.document == document})
                items += split_at(example, document, torch.tensor(at, dtype=torch.int64), self._window, self._most)
        return {
            (key[0], place.measured, place.gold_id, place.rival_id): answer
            for batch in batched(items, self._most)
            for key, place, answer in self._batch(batch, wanted)
        }

    def _batch(
        self, batch: Sequence[Wanted], wanted: dict[tuple[int, int], list[Place]]
    ) -> Iterator[tuple[tuple[int, int], Place, dict[str, Any]]]:
        keys = [((id(w.example), i), w.start) for w, at in batch for i in at.tolist()]
        asked = [(at, key, start, place) for at, (key, start) in enumerate(keys) for place in wanted[key]]
        index = torch.tensor([at for at, *_ in asked])
        pairs = torch.tensor([[place.gold_id, place.rival_id] for *_, place in asked])
        with observing(self._model):
            logits = logits_at(self._model, batch).float()
            if not bool(logits.amax(1).isfinite().all()):
                rule = "the model's logits are finite"
                raise UserError(f"the model's logits are NaN or infinite, {span_of(batch)}", rule=rule)
            numbers = self._numbers(logits, index, pairs)
        for row, (_, key, start, place) in zip(zip(*numbers, strict=True), asked, strict=True):
            yield key, place, {"gap": row[0], "probabilities": row[1], "ranks": row[2], "start": start}

    def _numbers(self, logits: Tensor, index: Tensor, pairs: Tensor) -> tuple[list[Any], list[Any], list[Any]]:
        """Logit gap of gold over rival, and probability and rank of both, in blocks of bounded size."""
        step = max(1, _BLOCK_ELEMENTS // logits.shape[1])
        parts = (part.to(logits.device).split(step) for part in (index, pairs))
        blocks = [self._block(logits[rows], ids) for rows, ids in zip(*parts, strict=True)]
        gaps, chances, ranks = (torch.cat(held).tolist() for held in zip(*blocks, strict=True))
        return gaps, chances, ranks

    def _block(self, logits: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = logits[:, : self._geometry.size]
        if len(self._holes):
            tokens = tokens.index_fill(1, self._holes.to(logits.device), -torch.inf)
        own = logits.gather(1, pairs)
        ranks = torch.stack([1 + (tokens > own[:, side, None]).sum(1) for side in (0, 1)], 1)
        chances = (own.double() - logits.double().logsumexp(1, keepdim=True)).exp()
        return (own[:, 0] - own[:, 1]).double(), chances, ranks


def _of_sides(answer: dict[str, Any] | None, *, due: bool) -> dict[str, Any]:
    """Numbers of gold and rival as numbers of the wanted word and the other."""
    if answer is None:
        return {}
    first, second = (0, 1) if due else (1, 0)
    return {
        "start": answer["start"],
        "logit_gap": answer["gap"] if due else -answer["gap"],
        "use_probability": answer["probabilities"][first],
        "avoid_probability": answer["probabilities"][second],
        "use_rank": answer["ranks"][first],
        "avoid_rank": answer["ranks"][second],
    }
