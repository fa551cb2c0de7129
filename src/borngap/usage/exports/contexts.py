"""Contexts out of a look at terms: its places, spread over the terms, for every command that reads contexts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import polars as pl

from borngap.context import write_contexts
from borngap.data.rows import DataSource
from borngap.errors import UserError
from borngap.files import check_new_file, write_whole
from borngap.scanning.exports import SPARE, Written, contexts_of_picks, written
from borngap.scanning.pairs import ORDERS
from borngap.scanning.settings import Order
from borngap.usage.asking import Which
from borngap.usage.finding import PlaceFinder
from borngap.usage.shares import DUE, LEADS, RIGHT

_WHICH: dict[str, pl.Expr] = {"behind": DUE & ~LEADS, "due": DUE, "over-used": RIGHT & LEADS}


@dataclass(frozen=True)
class Export:
    """Which places become contexts.

    Attributes:
        file: where they go.
        count: how many at most.
        places: ``behind``: due ones at which the word to avoid leads; ``due``: all due ones; ``over-used``: those at
            which the word to avoid is right, and gold, and the wanted word leads.
        by: which places of a term come first, by the logit gap of gold over rival: one of ``pairs.ORDERS``.

    Raises:
        UserError: a setting is out of range, or the file is there already or can't be written.
    """

    file: Path
    count: int = 20
    places: Which = "behind"
    by: Order = "median"

    def __post_init__(self) -> None:
        """Check the settings before anything is asked.

        Raises:
            UserError: one is out of range, or the file is there already or can't be written.
        """
        object.__setattr__(self, "file", Path(self.file))
        ranges = {"count": (self.count >= 1, "a number from 1")}
        ranges |= {
            name: (getattr(self, name) in choices, f"one of {', '.join(choices)}")
            for name, choices in (("places", get_args(Which)), ("by", tuple(ORDERS)))
        }
        for name, (holds, rule) in ranges.items():
            if not holds:
                raise UserError(f"export_{name} is out of range", rule=rule, found=getattr(self, name))
        if self.file.name.isdigit():
            fix = f"--export-contexts contexts.jsonl --export-count {self.file.name}"
            raise UserError("contexts go to a file", rule="the name of a file", found=self.file.name, fix=fix)
        check_new_file(self.file, "contexts")


def write_exports(
    asked: pl.DataFrame, wanted: Export, source: DataSource, finder: PlaceFinder, tokenizer: Any
) -> dict[str, Any]:
    """Write places as contexts: a term after the other, then a second round, no prompt twice.

    Of a term, rows with a place come once each before one comes again.

    Args:
        asked: places at which the model was asked.
        wanted: which of them.
        source: the data in which they stand.
        finder: turns its rows into token ids.
        tokenizer: the tokenizer.

    Returns:
        What is told: ``file``, ``places``, ``by``, ``written``, ``with_ids``. Without contexts no file is written.
    """
    picks = due_picks(asked, wanted)
    made = contexts_of_picks(picks, source, finder.example, _forms, _note, tokenizer)[: wanted.count]
    if made:
        write_whole(wanted.file, write_contexts(made).encode())
    return {"file": str(wanted.file), "places": wanted.places, "by": wanted.by, **written(made)}


def due_picks(asked: pl.DataFrame, wanted: Export) -> list[dict[str, Any]]:
    """Return the places that are candidates, in their order; more than are wanted, since data repeats itself."""
    due = pl.col("kind") == "due"
    gold, rival = (pl.when(due).then(pl.col(one)).otherwise(pl.col(other)) for one, other in (_IDS, _IDS[::-1]))
    gap = pl.when(due).then(pl.col("logit_gap")).otherwise(-pl.col("logit_gap"))
    kept = asked.filter(_WHICH[wanted.places]).with_columns(gold_id=gold, rival_id=rival, gap=gap)
    turns = [turn for own in kept.partition_by("term") for turn in _turns(own, wanted.by)]
    return [pick for _, pick in sorted(turns, key=lambda turn: (turn[0], turn[1]["term"]))][: SPARE * wanted.count]


_IDS = ("use_id", "avoid_id")


def _turns(own: pl.DataFrame, by: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The places of a term, each with its turn: in an order of the gap, but rows in turn."""
    ordered = own.sort("gap", "row", "at")[ORDERS[by](len(own), len(own))]
    again = ordered.with_columns(again=pl.int_range(pl.len()).over("row")).sort("again", maintain_order=True)
    yield from enumerate(again.to_dicts())


def _forms(pick: dict[str, Any], ids: list[int], tokenizer: Any) -> Iterator[Written]:  # noqa: ARG001  # as scans are told
    """Write the words whole, with a space before them and without."""
    before = ids[pick["start"] : pick["at"]]
    yield before, f" {pick['word']}", f" {pick['other']}"
    yield before, pick["word"], pick["other"]


def _note(pick: dict[str, Any], where: str) -> str:
    right = "" if pick["kind"] == "due" else ", right here"
    return f"{where}: {pick['word']}, not {pick['other']}{right}, logit gap {pick['gap']:+.2f} nat in the look at terms"
