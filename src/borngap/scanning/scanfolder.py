"""Scan folders: results of a scan, written chunk by chunk, atomic and resumable.

``scan.json`` holds schema, plan and environment. While a scan is under way ``parts/`` holds two files a chunk; a chunk
counts as done once its JSON file is there, which is written last. At the end ``positions.parquet``, ``pairs.parquet``
and ``summary.json`` are made of them, in this order, and the parts are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.errors import UserError
from borngap.files import checked, parquet_bytes, read_table
from borngap.folder import Folder, FolderKind, read_head
from borngap.scanning.pairs import pairs_of, totals_of

SCAN = FolderKind("scan", "scan.json")
SCAN_FILE, SUMMARY_FILE, CONTEXTS_FILE = SCAN.head, "summary.json", "contexts.jsonl"
POSITIONS_FILE, PAIRS_FILE, PARTS = "positions.parquet", "pairs.parquet", "parts"
_NAMED_ROWS = 100  # malformed rows whose names are kept


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
        return read_table(self.folder / POSITIONS_FILE)


class ScanFolder(Folder):
    """Writes one scan."""

    kind = SCAN

    @property
    def _parts(self) -> Path:
        return self.path / PARTS

    @property
    def finished(self) -> bool:
        """Whether everything is written."""
        return (self.path / SUMMARY_FILE).exists()

    def done(self) -> frozenset[int]:
        """Return the indices of the chunks that are safely written."""
        return frozenset(int(file.stem) for file in self._parts.glob("*.json"))

    def counts(self) -> dict[str, int]:
        """Return the counts of all chunks that are done, summed."""
        total: dict[str, int] = {}
        for index in self.done():
            for name, count in checked(self._parts / f"{index:08}.json", SCAN.schema)["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    def malformed(self) -> list[dict[str, str]]:
        """Return place and reason of the first malformed rows."""
        named: list[dict[str, str]] = []
        for index in sorted(self.done()):
            named += checked(self._parts / f"{index:08}.json", SCAN.schema)["malformed"]
            if len(named) >= _NAMED_ROWS:
                break
        return named[:_NAMED_ROWS]

    def add(self, index: int, positions: pl.DataFrame, counts: Mapping[str, int], malformed: list[Any]) -> None:
        """Write one chunk, all or nothing.

        Args:
            index: its number.
            positions: its positions.
            counts: its counts.
            malformed: place and reason of its malformed rows.
        """
        entry = [{"where": where, "reason": reason} for where, reason in malformed[:_NAMED_ROWS]]
        self.write(f"{PARTS}/{index:08}.parquet", parquet_bytes(positions))
        self.write_json(f"{PARTS}/{index:08}.json", {"counts": dict(counts), "malformed": entry})

    def merge(self) -> tuple[pl.DataFrame, dict[str, int]]:
        """Make ``positions.parquet`` and ``pairs.parquet`` of the chunks.

        Returns:
            The pairs, worst first, and the totals of the positions.

        Raises:
            OSError: never; the folder turns it into the user's error.
            UserError: a part is damaged.
        """
        target = self.path / POSITIONS_FILE
        files = [self._parts / f"{index:08}.parquet" for index in sorted(self.done())]
        with self.writing(POSITIONS_FILE) as file:
            try:
                pl.scan_parquet(files, glob=False).sink_parquet(file)
            except pl.exceptions.ComputeError as error:  # what the disk says reaches us in words only
                for part in files:
                    read_table(part)  # one that is damaged is named
                raise OSError(str(error)) from None
        pairs = pairs_of(target)
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
        self.write_json(SUMMARY_FILE, summary)
        self._tidy()

    def _take_up(self) -> None:
        if self.finished:
            self._tidy()

    def _tidy(self) -> None:
        """Remove the parts, which a finished scan does not need."""
        self.remove(*self._parts.glob("*"), self._parts)


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
    read_head(path, SCAN)
    if not (path / SUMMARY_FILE).is_file():
        raise UserError(f"the scan in {folder} is not finished", fix="give the same borngap scan command again")
    return Scan(path, checked(path / SUMMARY_FILE, SCAN.schema), read_table(path / PAIRS_FILE))
