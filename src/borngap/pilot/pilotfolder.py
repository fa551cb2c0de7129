"""FORECAST folders: what each pilot of a run came to, a file a pilot; killed, a forecast loses the pilot in work.

``forecast.json`` holds schema, plan and environment, ``base.json`` what the model says before any training,
``pilots/`` one file a pilot, ``places.parquet`` and ``summary.json`` the forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import checked, parquet_bytes, read_table
from borngap.folder import SUMMARY_FILE, Folder, FolderKind, read_summary
from borngap.runfolder import clean

FORECASTS = FolderKind("FORECAST", "forecast.json")
FORECAST_PLACES = "places.parquet"
_ENDED: dict[str, Any] = {
    "rate": pl.Float64, "epochs": pl.Float64, "row": pl.Int64, "where": pl.String, "offset": pl.Int64,
    "kind": pl.String, "gold": pl.String, "rival": pl.String, "gold_id": pl.Int64, "rival_id": pl.Int64,
    "base_gap": pl.Float64, "forecast_gap": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "prospect": pl.String, "before": pl.String,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class RunForecast:
    """What a run on a data set will do to the watched places.

    Attributes:
        folder: where it lies; None if it was not kept.
        summary: all numbers, as the command's ``--json`` prints them.
        held: places that are in memory because no folder was kept.
    """

    folder: Path | None
    summary: dict[str, Any]
    held: pl.DataFrame | None = None

    def __repr__(self) -> str:
        """Say it in a line."""
        entry = self.summary["all"]
        where, count = self.folder or "in memory", entry["places"]
        if entry["ahead_after"] is None:
            return f"<RunForecast {where} of {count} places: none; {entry['why']}>"
        between = f"{entry['low']:.0%} to {entry['high']:.0%}"
        told = f"{entry['ahead_before']:.0%} ahead before, {entry['ahead_after']:.0%} ({between}) after"
        return f"<RunForecast {where} of {count} places: {told}>"

    @property
    def places(self) -> pl.DataFrame:
        """One row a rate and watched place; read from the folder."""
        if self.folder is not None:
            return read_table(self.folder / FORECAST_PLACES, _ENDED)
        return pl.DataFrame(schema=_ENDED) if self.held is None else self.held

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, JSON-ready."""
        return self.summary


class KeptFolder(Folder):
    """A folder whose parts are made once, and read from then on."""

    def kept(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a file holds; what is not there yet is made and written.

        Args:
            name: of the file.
            make: returns what it is to hold, JSON-ready but for NaN.

        Returns:
            The content, read back.
        """
        path = self.path / name
        if not path.exists():
            self.write_json(name, clean(make()))
        return checked(path, self.kind.schema)


class ForecastFolder(KeptFolder):
    """Writes one forecast of a run."""

    kind = FORECASTS

    def held(self, part: str, prefix: str) -> dict[str, dict[str, Any]]:
        """Return what the files of a part hold, by name.

        Args:
            part: folder within this one.
            prefix: how the files' names begin.

        Returns:
            Name, as ``kept`` takes it -> content.
        """
        files = sorted((self.path / part).glob(f"{prefix}*.json"))
        return {f"{part}/{file.name}": checked(file, self.kind.schema) for file in files}

    def conclude(self, summary: Mapping[str, Any], places: pl.DataFrame) -> None:
        """Write the forecast."""
        self.write(FORECAST_PLACES, parquet_bytes(places))
        self.write_json(SUMMARY_FILE, summary)


def place_table(entries: list[dict[str, Any]]) -> pl.DataFrame:
    """Return entries of places as the table of a folder."""
    return pl.DataFrame([{name: entry[name] for name in _ENDED} for entry in entries], schema=_ENDED, orient="row")


def read_ends(folder: str | Path) -> list[dict[str, Any]]:
    """Return what the pilots of a forecast of one rate came to, those whose design was tried last.

    Args:
        folder: of the forecast, finished.

    Returns:
        Of each pilot ``gaps``, ``loss``, ``rows`` and more; none where one of them left the stable range.
    """
    files = sorted((Path(folder) / "pilots").glob("00-*.json"))
    attempt = files[-1].stem.rpartition("-")[0] if files else ""
    ends = [checked(file, FORECASTS.schema) for file in files if file.stem.rpartition("-")[0] == attempt]
    return ends if all(end["is_stable"] for end in ends) else []


def read_forecast(folder: str | Path) -> RunForecast:
    """Read a finished FORECAST folder back.

    Args:
        folder: where it lies.

    Returns:
        The forecast.

    Raises:
        UserError: there is none, it is not finished, or it is damaged.
    """
    summary = read_summary(folder, FORECASTS, what="forecast", command="borngap forecast")
    return RunForecast(Path(folder), summary)
