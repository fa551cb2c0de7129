"""TERMS folders: what came of asking a model for terms, written chunk by chunk, atomic and resumable.

``terms.json`` holds schema, plan and environment. At the end ``places.parquet``, ``continuations.parquet`` (where the
model wrote on) and ``summary.json`` are made of the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import read_table
from borngap.folder import FolderKind, read_summary
from borngap.scanning.parts import PartsFolder
from borngap.usage.asking import DATA, HELD_OUT
from borngap.usage.finding import PLACE_COLUMNS
from borngap.usage.leak import LEAK_COLUMNS

TERMS = FolderKind("TERMS", "terms.json")
PLACES_FILE, LEAK_FILE = "places.parquet", "continuations.parquet"
SERIES_OF = {DATA: "d", HELD_OUT: "h"}
LEAK_SERIES = "l"
_SUMMARY = (
    "data", "held_out", "model", "asked", "terms_file", "left_out", "seed", "terms", "all", "compliance", "worst",
    "worst_over_use", "malformed", "notes",
)  # fmt: skip
_SHOWN = {
    "success": "{:.0%} of {due} due places",
    "over_use": "{:.0%} of {right_avoid}",
    "leak": "{:.0%} of {continuations}",
}


@dataclass(frozen=True, eq=False)
class Usage:
    """How a model uses the words of terms.

    Attributes:
        folder: where it lies; None if it was not kept.
        summary: all numbers, as in ``summary.json`` and as the command's ``--json`` prints them.
        held: places that are in memory because no folder was kept.
        written: continuations, the same.
    """

    folder: Path | None
    summary: dict[str, Any]
    held: pl.DataFrame | None = None
    written: pl.DataFrame | None = None

    def __repr__(self) -> str:
        """Say it in a line."""
        numbers = self.summary["all"]
        told = [
            f"{name} {t.format(numbers[name], **numbers)}" for name, t in _SHOWN.items() if numbers[name] is not None
        ]
        kept = self.summary["compliance"]["share"]
        told += [] if kept is None else [f"compliance of the data {kept:.0%}"]
        where, count = self.folder or "in memory", len(self.summary["terms"])
        return f"<Usage {where} of {count} terms: {', '.join(told) or 'nothing'}>"

    @property
    def table(self) -> pl.DataFrame:
        """One row a term, in the order of the terms."""
        rows = [{k: v for k, v in entry.items() if k != "notes"} for entry in self.summary["terms"]]
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def places(self) -> pl.DataFrame:
        """One row a place and term, in the order of the data; read from the folder."""
        if self.folder is None:
            return pl.DataFrame(schema=PLACE_COLUMNS) if self.held is None else self.held
        return read_table(self.folder / PLACES_FILE, PLACE_COLUMNS)

    @property
    def asked(self) -> pl.DataFrame:
        """The places at which the model was asked: those of the held-out text, if there is one."""
        return self.places.filter(pl.col("data") == (DATA if self.summary["held_out"] is None else HELD_OUT))

    @property
    def continuations(self) -> pl.DataFrame | None:
        """One row a row that the model wrote on from; None where it did not."""
        if self.folder is None or not self.summary["asked"]["leak"]:
            return self.written
        return read_table(self.folder / LEAK_FILE, LEAK_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, JSON-ready."""
        return self.summary


class UsageFolder(PartsFolder):
    """Writes one look at a model's use of terms."""

    kind = TERMS


def read_usage(folder: str | Path) -> Usage:
    """Read a finished TERMS folder back.

    Args:
        folder: where it lies.

    Returns:
        What it holds.

    Raises:
        UserError: there is none, it is not finished, or it is damaged.
    """
    summary = read_summary(folder, TERMS, what="result", command="borngap terms", keys=_SUMMARY)
    return Usage(Path(folder), summary)
