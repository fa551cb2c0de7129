"""Scan folders: results of a scan, written chunk by chunk, atomic and resumable.

``scan.json`` holds schema, plan and environment. While a scan is under way ``parts/`` holds two files a chunk; a chunk
counts as done once its JSON file is there, which is written last. At the end ``positions.parquet``, ``pairs.parquet``
and ``summary.json`` are made of them, in this order, and the parts are removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.errors import UserError
from borngap.pairs import pairs_of, totals_of
from borngap.store import checked, json_bytes, parquet_bytes, refuse_other_plan, refuse_unwritable, write_whole

SCHEMA = 1
SCAN_FILE, SUMMARY_FILE, CONTEXTS_FILE = "scan.json", "summary.json", "contexts.jsonl"
POSITIONS_FILE, PAIRS_FILE, PARTS = "positions.parquet", "pairs.parquet", "parts"
_NAMED = 100  # malformed rows whose names are kept


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

    @property
    def positions(self) -> pl.DataFrame:
        """One row per supervised target that has a rival, in the order of the data; read from the folder."""
        if self.held is not None or self.folder is None:
            return pl.DataFrame() if self.held is None else self.held
        return _table(self.folder / POSITIONS_FILE)


class ScanFolder:
    """Writes one scan."""

    def __init__(self, folder: str | Path, plan: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Start a scan, or go on with one of the same plan.

        Args:
            folder: made if it is not there.
            plan: everything needed to repeat the scan, JSON-ready.
            environment: versions and machine, JSON-ready; kept from the first start.

        Raises:
            UserError: the folder can't be written, holds something else, or a scan of another schema or plan.
        """
        self.path = Path(folder)
        self._parts = self.path / PARTS
        head = {"schema": SCHEMA, "plan": json.loads(json.dumps(plan)), "environment": dict(environment)}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = sorted(item.name for item in self.path.iterdir() if not item.name.endswith(".part"))
            if others and SCAN_FILE not in others:
                rule, fix = "a new or empty folder, or a scan", "choose another folder with --out"
                raise UserError("the folder holds other files", rule=rule, found=", ".join(others[:8]), fix=fix)
            self._parts.mkdir(exist_ok=True)
        except OSError as error:
            refuse_unwritable(self.path, error)
        if SCAN_FILE in others:
            refuse_other_plan(self.path, SCAN_FILE, head["plan"])
        else:
            write_whole(self.path / SCAN_FILE, json_bytes(head))

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
            for name, count in checked(self._parts / f"{index:08}.json", SCHEMA)["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    def malformed(self) -> list[dict[str, str]]:
        """Return place and reason of the first malformed rows."""
        named: list[dict[str, str]] = []
        for index in sorted(self.done()):
            named += checked(self._parts / f"{index:08}.json", SCHEMA)["malformed"]
            if len(named) >= _NAMED:
                break
        return named[:_NAMED]

    def add(self, index: int, positions: pl.DataFrame, counts: Mapping[str, int], malformed: list[Any]) -> None:
        """Write one chunk, all or nothing.

        Args:
            index: its number.
            positions: its positions.
            counts: its counts.
            malformed: place and reason of its malformed rows.
        """
        entry = [{"where": where, "reason": reason} for where, reason in malformed[:_NAMED]]
        write_whole(self._parts / f"{index:08}.parquet", parquet_bytes(positions))
        body = {"schema": SCHEMA, "counts": dict(counts), "malformed": entry}
        write_whole(self._parts / f"{index:08}.json", json_bytes(body))

    def merge(self) -> tuple[pl.DataFrame, dict[str, int]]:
        """Make ``positions.parquet`` and ``pairs.parquet`` of the chunks.

        Returns:
            The pairs, worst first, and the totals of the positions.

        Raises:
            UserError: the disk is full or the folder can't be written.
        """
        target = self.path / POSITIONS_FILE
        files = [self._parts / f"{index:08}.parquet" for index in sorted(self.done())]
        part = target.with_name(f"{target.name}.part")
        try:
            pl.scan_parquet(files, glob=False).sink_parquet(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            refuse_unwritable(self.path, error)
        pairs = pairs_of(target)
        write_whole(self.path / PAIRS_FILE, parquet_bytes(pairs))
        return pairs, totals_of(target)

    def finish(self, summary: Mapping[str, Any], contexts: str) -> None:
        """Write contexts and the summary, and remove the parts.

        Args:
            summary: JSON-ready, without NaN.
            contexts: JSON Lines; if there are none, no file is written.
        """
        if contexts:
            write_whole(self.path / CONTEXTS_FILE, contexts.encode())
        write_whole(self.path / SUMMARY_FILE, json_bytes({"schema": SCHEMA, **summary}))
        shutil.rmtree(self._parts, ignore_errors=True)


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
    if not (path / SCAN_FILE).is_file():
        raise UserError("no scan there", rule=f"a folder with {SCAN_FILE}", found=str(folder))
    if not (path / SUMMARY_FILE).is_file():
        raise UserError(f"the scan in {folder} is not finished", fix="give the same borngap scan command again")
    return Scan(path, checked(path / SUMMARY_FILE, SCHEMA), _table(path / PAIRS_FILE))


def _table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} is damaged", found=str(error).splitlines()[0]) from None
