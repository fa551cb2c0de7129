"""Result folders that are written chunk by chunk and merged at the end.

While the work is under way ``parts/`` holds two files a chunk; a chunk counts as done once its JSON file is there,
which is written last. At the end the tables are made of them, then the summary is written, and the parts are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import checked, parquet_bytes, read_table
from borngap.folder import SUMMARY_FILE, Folder

PARTS = "parts"
_NAMED_ROWS = 100  # malformed rows whose names are kept


class PartsFolder(Folder):
    """Writes a result chunk by chunk; there may be several series of chunks, each with a name."""

    @property
    def finished(self) -> bool:
        """Whether everything is written."""
        return (self.path / SUMMARY_FILE).exists()

    def done(self, series: str = "") -> frozenset[int]:
        """Return the indices of the chunks that are safely written."""
        return frozenset(int(file.stem.removeprefix(series)) for file in self._files(series))

    def counts(self, series: str = "") -> dict[str, int]:
        """Return the counts of all chunks that are done, summed."""
        total: dict[str, int] = {}
        for file in self._files(series):
            for name, count in checked(file, self.kind.schema)["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    def malformed(self, series: str = "") -> list[dict[str, str]]:
        """Return place and reason of the first malformed rows."""
        named: list[dict[str, str]] = []
        for file in self._files(series):
            named += checked(file, self.kind.schema)["malformed"]
            if len(named) >= _NAMED_ROWS:
                break
        return named[:_NAMED_ROWS]

    def add(
        self, index: int, table: pl.DataFrame, counts: Mapping[str, int], malformed: list[Any], series: str = ""
    ) -> None:
        """Write one chunk, all or nothing.

        Args:
            index: its number.
            table: what was found in it.
            counts: its counts.
            malformed: place and reason of its malformed rows.
            series: which chunks it is one of; letters.
        """
        name = f"{PARTS}/{series}{index:08}"
        entry = [{"where": where, "reason": reason} for where, reason in malformed[:_NAMED_ROWS]]
        self.write(f"{name}.parquet", parquet_bytes(table))
        self.write_json(f"{name}.json", {"counts": dict(counts), "malformed": entry})

    def merged(self, name: str, *series: str) -> Path:
        """Make one table of the chunks.

        Args:
            name: of the Parquet file.
            *series: whose chunks, in this order; by default the one without a name.

        Returns:
            The file.

        Raises:
            OSError: never; the folder turns it into the user's error.
            UserError: a part is damaged.
        """
        parts = [file.with_suffix(".parquet") for one in series or ("",) for file in self._files(one)]
        with self.writing(name) as file:
            try:
                pl.scan_parquet(parts, glob=False).sink_parquet(file)
            except pl.exceptions.ComputeError as error:  # what the disk says reaches us in words only
                for part in parts:
                    read_table(part)  # one that is damaged is named
                raise OSError(str(error)) from None
        return self.path / name

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, and remove the parts.

        Args:
            summary: JSON-ready, without NaN.
        """
        self.write_json(SUMMARY_FILE, summary)
        self._tidy()

    @property
    def _parts(self) -> Path:
        return self.path / PARTS

    def _files(self, series: str) -> list[Path]:
        """The chunks of a series that are done, in their order."""
        return sorted(self._parts.glob(f"{series}[0-9]*.json"))

    def _take_up(self) -> None:
        if self.finished:
            self._tidy()

    def _tidy(self) -> None:
        """Remove the parts, which a finished result does not need."""
        self.remove(*self._parts.glob("*"), self._parts)
