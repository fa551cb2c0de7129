"""RUN folders: how contexts that were trained ended.

A RUN holds ``run.json`` (schema, plan, environment), ``steps.parquet`` (one row per context and step) and
``verdicts.json`` (one entry per finished context). A context counts as finished once it stands in ``verdicts.json``,
which is written last.
"""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from borngap.errors import UserError
from borngap.files import checked, parquet_bytes, read_table
from borngap.folder import Folder, FolderKind, read_head
from borngap.judge.displacement import Displacement, Moment, displaced, right_words
from borngap.judge.termshares import TERM_SHARES, WatchedPlace, shares_of_terms
from borngap.judge.trajectory import DRIFT_IDS, Trajectory
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES

RUN = FolderKind("RUN", "run.json")
RUN_FILE, STEPS_FILE, VERDICTS_FILE = RUN.head, "steps.parquet", "verdicts.json"
FORETOLD_FILE = "forecasts.parquet"
_FORETOLD: dict[str, Any] = dict.fromkeys(("context", "step", "steps"), pl.Int64)
_FORETOLD |= dict.fromkeys(("share", "gap", "low", "high"), pl.Float64)
STEP_COLUMNS: dict[str, Any] = {"context": pl.Int64, "step": pl.Int64}
STEP_COLUMNS |= {name: pl.Int64 if name in INTEGER_IDS else pl.Float64 for name in (*OBSERVABLES, *DRIFT_IDS)}


@dataclass(frozen=True)
class Run:
    """A RUN as read back.

    Attributes:
        folder: where it lies.
        plan: everything needed to repeat it.
        environment: versions and machine that it was started on.
        steps: one row per context and step: ``context``, ``step``, the observables, ``overlap_drift``,
            ``embedding_rotation``, ``frozen_born_gap``; null where not measured, NaN where a value was not finite.
        verdicts: one entry per finished context, by ``context``.
    """

    folder: Path
    plan: dict[str, Any]
    environment: dict[str, Any]
    steps: pl.DataFrame
    verdicts: list[dict[str, Any]]

    def __repr__(self) -> str:
        """Say it in a line."""
        outcomes = Counter(str(entry.get("outcome")) for entry in self.verdicts)
        made = ", ".join(f"{count} {name}" for name, count in outcomes.most_common()) or "none finished"
        planned = len(self.plan.get("contexts", self.verdicts))
        last = max(self.steps["step"].to_list(), default="none")
        criterion = self.plan.get("criterion", "rank")
        return f"<Run {self.folder}: {planned} contexts, {made} by {criterion}; steps to {last}>"

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the contexts that have a verdict."""
        return frozenset(entry["context"] for entry in self.verdicts)

    @property
    def usage(self) -> pl.DataFrame:
        """Success, first and over-use of the terms that were watched, one row a step; no rows without terms."""
        places = self._places
        rows = [
            {"step": step} | shares_of_terms(places, records) for step, records in (self._moments if places else ())
        ]
        schema = {"step": pl.Int64, **dict.fromkeys(TERM_SHARES, pl.Float64)}
        return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)

    @property
    def displacement(self) -> Displacement | None:
        """The first moment at which right words had fallen though their lead over the rivals had grown."""
        moments, golds = self._moments, right_words(len(self.plan.get("contexts", ())), self._places)
        found = (displaced(moments[0], now, golds) for now in moments[1:])
        return next((one for one in found if one is not None), None)

    @property
    def _places(self) -> list[WatchedPlace]:
        return [WatchedPlace(**place) for place in self.plan.get("places", ())]

    @property
    def _moments(self) -> list[Moment]:
        """The records of each step, ascending: context -> observables."""
        rows = self.steps.sort("step").group_by("step", maintain_order=True)
        return [(step, {row["context"]: row for row in own.to_dicts()}) for (step,), own in rows]

    @property
    def forecasts(self) -> pl.DataFrame:
        """Live forecasts of the end, one row a step and context; empty without any.

        ``steps`` of the whole run, ``share`` of its dose that was done, and the logit gap at the end: ``gap`` with the
        ends ``low`` and ``high`` of its 90 % interval, unit nat.
        """
        path = self.folder / FORETOLD_FILE
        return read_table(path, _FORETOLD) if path.exists() else pl.DataFrame(schema=_FORETOLD)

    def trajectory(self, context: int) -> Trajectory:
        """Return the trajectory of one context.

        Args:
            context: its index.

        Returns:
            The trajectory.

        Raises:
            UserError: the RUN holds no rows of it.
        """
        rows = self.steps.filter(pl.col("context") == context)
        if rows.is_empty():
            raise UserError("no such context in the RUN", rule=f"one of {sorted(self.finished)}", found=context)
        return Trajectory.of(rows)


class Store(Folder):
    """Writes one RUN, a finished context at a time."""

    kind = RUN
    _verdicts: dict[int, dict[str, Any]]
    _steps: pl.DataFrame

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the contexts that are safely written."""
        return frozenset(self._verdicts)

    def verdict(self, context: int) -> dict[str, Any]:
        """Return the entry of a finished context."""
        return self._verdicts[context]

    def add(self, rows: Mapping[int, Iterable[Mapping[str, Any]]], verdicts: Mapping[int, Mapping[str, Any]]) -> None:
        """Write contexts that are finished, all or none of them; those written before under the same index give way.

        Args:
            rows: context -> its records, each with ``step`` and observables.
            verdicts: context -> its entry, JSON-ready.
        """
        kept = self._steps.filter(~pl.col("context").is_in(list(rows)))
        steps = pl.concat([kept, *(step_table(context, records) for context, records in rows.items())])
        entries = self._verdicts | {context: {"context": context} | dict(entry) for context, entry in verdicts.items()}
        self.write(STEPS_FILE, parquet_bytes(steps.sort("context", "step")))
        self.write_json(VERDICTS_FILE, {"verdicts": [entries[i] for i in sorted(entries)]})
        self._steps, self._verdicts = steps, entries

    def foretell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write live forecasts; those written before give way, and without any no file is written."""
        if rows:
            self.write(FORETOLD_FILE, parquet_bytes(pl.DataFrame(list(rows), schema=_FORETOLD)))

    def _take_up(self) -> None:
        run = read_run(self.path)
        self._verdicts = {entry["context"]: entry for entry in run.verdicts}
        # rows without a verdict are those of a context that a crash cut off between both files
        self._steps = run.steps.filter(pl.col("context").is_in(list(self._verdicts)))


def read_run(folder: str | Path) -> Run:
    """Read a RUN back.

    Args:
        folder: the RUN.

    Returns:
        Its plan, environment, steps and verdicts; finished contexts only have a verdict.
    """
    path, head = Path(folder), read_head(folder, RUN)
    steps, verdicts = pl.DataFrame(schema=STEP_COLUMNS), []
    if (path / VERDICTS_FILE).exists():
        verdicts = checked(path / VERDICTS_FILE, RUN.schema)["verdicts"]
    if (path / STEPS_FILE).exists():
        steps = read_table(path / STEPS_FILE, STEP_COLUMNS)
    return Run(path, head["plan"], head["environment"], steps, verdicts)


def environment() -> dict[str, Any]:
    """Return versions and machine, JSON-ready; what is not installed is None."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in ("borngap", "torch", "transformers", "peft", "polars")},
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
    }


def step_table(context: int, records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return the records of one context as rows of the steps table; an observable that a record lacks is null."""
    rows = [{"context": context} | dict(record) for record in records]
    columns = {
        name: pl.Series([_typed(row.get(name), dtype) for row in rows], dtype=dtype)
        for name, dtype in STEP_COLUMNS.items()
    }
    return pl.DataFrame(columns)


def clean(value: Any) -> Any:
    """Return a JSON-ready copy: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _typed(value: Any, dtype: Any) -> Any:
    if value is None or dtype == pl.Float64:
        return value
    return int(value) if math.isfinite(value) else None
