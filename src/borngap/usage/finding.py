"""Finding the places of terms in rows: a table of them, by the tokenizer alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from borngap.data.rows import Row
from borngap.scanning.supervised import Example, Supervision, example_of, examples_of
from borngap.usage.allowed import Allowed
from borngap.usage.places import Place, Placer
from borngap.words.term import Term

PLACE_NUMBERS = ("logit_gap", "use_probability", "avoid_probability", "use_rank", "avoid_rank")
PLACE_COLUMNS: dict[str, Any] = {
    "data": pl.String, "row": pl.Int64, "where": pl.String, "term": pl.Int32, "use": pl.String, "avoid": pl.String,
    "kind": pl.String, "allowed": pl.Boolean, "word": pl.String, "other": pl.String, "at": pl.Int64,
    "offset": pl.Int64, "start": pl.Int64, "use_id": pl.Int32, "avoid_id": pl.Int32,
    **{name: pl.Int32 if name.endswith("rank") else pl.Float64 for name in PLACE_NUMBERS}, "reason": pl.String,
    "before": pl.String, "after": pl.String,
}  # fmt: skip
PLACE_COUNTS = ("rows", "malformed", "tokens", "places", "hidden")
Answers = dict[tuple[int, int | None, int | None, int | None], dict[str, Any]]
"""What a model says, by example, position and the two tokens."""


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


class PlaceFinder:
    """Finds places in rows of one data set."""

    def __init__(
        self, supervision: Supervision, placer: Placer, terms: Sequence[Term], allowed: Allowed, size: int
    ) -> None:
        """Prepare.

        Args:
            supervision: turns rows into examples.
            placer: finds places.
            terms: the terms.
            allowed: tells where words to avoid are right.
            size: ids of tokens are below it.
        """
        self._supervision, self._placer = supervision, placer
        self._terms, self._allowed, self._size = terms, allowed, size

    @property
    def supervised(self) -> str:
        """What is supervised, in words."""
        return self._supervision.supervised

    def example(self, row: Row) -> Example:
        """Return a row that could be read as token ids."""
        return example_of(row, self._supervision, self._size)

    def examples(self, rows: Sequence[Row], *, strict: bool) -> tuple[list[Example], list[tuple[str, str]]]:
        """Return rows as token ids, and place and reason of the malformed ones."""
        return examples_of(rows, self._supervision, self._size, strict=strict)

    def find(self, rows: Sequence[Row], name: str, *, strict: bool = False) -> FoundPlaces:
        """Find the places in rows; no model is asked, so their numbers are null.

        Args:
            rows: the rows; held in memory together.
            name: what the data is called in the table.
            strict: whether a malformed row is an error.

        Returns:
            What they hold.
        """
        return self._found(rows, name, strict=strict)

    def _found(
        self, rows: Sequence[Row], name: str, *, strict: bool,
        answers: Callable[[Sequence[Example], Sequence[Sequence[Place]]], Answers] | None = None,
    ) -> FoundPlaces:  # fmt: skip
        examples, malformed = self.examples(rows, strict=strict)
        places, hidden = self._places(examples)
        told = {} if answers is None else answers(examples, places)
        records = [
            self._record(example, place, told.get((id(example), place.measured, place.gold_id, place.rival_id)))
            for example, own in zip(examples, places, strict=True)
            for place in own
        ]
        table = pl.DataFrame(records, schema=PLACE_COLUMNS, orient="row").with_columns(data=pl.lit(name))
        tokens = sum(len(example.ids) for example in examples)
        counts = (len(rows), len(malformed), tokens, len(records), hidden)
        return FoundPlaces(table, dict(zip(PLACE_COUNTS, counts, strict=True)), malformed)

    def _places(self, examples: Sequence[Example]) -> tuple[list[list[Place]], int]:
        """The places of each example, and how many words stand in what is not supervised."""
        return self._placer.places(examples)

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
