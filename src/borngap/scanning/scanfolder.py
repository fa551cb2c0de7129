"""Scan folders: results of a scan, written chunk by chunk, atomic and resumable.

``scan.json`` holds schema, plan and environment. While a scan is under way ``parts/`` holds two files a chunk; a chunk
counts as done once its JSON file is there, which is written last. At the end ``positions.parquet``, ``pairs.parquet``
and ``summary.json`` are made of them, in this order, and the parts are removed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import parquet_bytes, read_table
from borngap.folder import FolderKind, read_summary
from borngap.scanning.pairs import PAIR_COLUMNS, pairs_of, totals_of
from borngap.scanning.parts import PartsFolder
from borngap.scanning.positions import POSITION_COLUMNS
from borngap.words.relation import SYNONYMOUS

SCAN = FolderKind("scan", "scan.json")
SCAN_FILE, CONTEXTS_FILE = SCAN.head, "contexts.jsonl"
POSITIONS_FILE, PAIRS_FILE = "positions.parquet", "pairs.parquet"
_SUMMARY = ("model", "counts", "headline", "relations")


@dataclass(frozen=True, eq=False)
class Scan:
    """A finished scan.

    Attributes:
        folder: where it lies; None if it was not kept.
        summary: counts, thresholds and the worst pairs, as in ``summary.json``.
        pairs: one row a pair, worst first.
        held: positions that are in memory because no folder was kept.
    """

    folder: Path | None
    summary: dict[str, Any]
    pairs: pl.DataFrame
    held: pl.DataFrame | None = None

    def __repr__(self) -> str:
        """Say it in a line."""
        counts = self.summary["counts"]
        found = f"{counts['with_rival']} of {counts['targets']} targets have a rival, ahead in {counts['rival_ahead']}"
        pairs = f"{len(self.pairs)} pairs"
        if len(self.pairs):
            worst = self.pairs.row(0, named=True)
            pairs += f", worst{worst['gold']} <{worst['rival']}"
        return f"<Scan {self.folder or 'in memory'} of {self.summary['data']}: {found}; {pairs}>"

    @property
    def positions(self) -> pl.DataFrame:
        """One row per supervised target that has a rival, in the order of the data; read from the folder."""
        if self.held is not None or self.folder is None:
            return pl.DataFrame() if self.held is None else self.held
        return read_table(self.folder / POSITIONS_FILE, POSITION_COLUMNS)


class ScanFolder(PartsFolder):
    """Writes one scan."""

    kind = SCAN

    def merge(self, counted: Collection[str] = SYNONYMOUS) -> tuple[pl.DataFrame, dict[str, int]]:
        """Make ``positions.parquet`` and ``pairs.parquet`` of the chunks.

        Args:
            counted: the relations whose pairs come first.

        Returns:
            The pairs, worst first, and the totals of the positions.
        """
        target = self.merged(POSITIONS_FILE)
        pairs = pairs_of(target, counted)
        self.write(PAIRS_FILE, parquet_bytes(pairs))
        return pairs, totals_of(target)

    def finish(self, summary: Mapping[str, Any], contexts: str) -> None:
        """Write contexts and the summary, and remove the parts.

        Args:
            summary: JSON-ready, without NaN.
            contexts: JSON Lines; if there are none, no file is written.
        """
        if contexts:
            self.write(CONTEXTS_FILE, contexts.encode())
        self.conclude(summary)


def read_scan(folder: str | Path) -> Scan:
    """Read a finished scan back.

    Args:
        folder: the folder.

    Returns:
        The scan.

    Raises:
        UserError: there is no scan, it is not finished, or it is damaged.
    """
    path = Path(folder)
    summary = read_summary(path, SCAN, what="scan", command="borngap scan", keys=_SUMMARY)
    return Scan(path, summary, read_table(path / PAIRS_FILE, PAIR_COLUMNS))
