"""SWEEP folders: the results of a sweep, a part for each run or group of runs, merged when it is complete.

A SWEEP holds ``sweep.json`` (schema, plan, environment), and while it grows pairs ``part-N.parquet`` (a row per run and
step) and ``part-N.json`` (an entry per run), written in this order: a run counts as finished once it stands in a JSON
file. ``merge`` turns the parts into ``steps.parquet`` and ``runs.json``; killed at any moment, it loses and repeats
nothing, since a run that stands in ``runs.json`` is not read from a part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import polars as pl

from borngap.errors import UserError
from borngap.store import (
    COLUMNS,
    LOCK_FILE,
    SCHEMA,
    checked,
    clean,
    json_bytes,
    locked,
    parquet_bytes,
    refuse_other_plan,
    refuse_unwritable,
    table,
    write_whole,
)
from borngap.trajectory import CRITERIA, Trajectory

SWEEP_FILE, RUNS_FILE, STEPS_FILE = "sweep.json", "runs.json", "steps.parquet"
STEP_COLUMNS: dict[str, Any] = {"run": pl.Int64} | COLUMNS
_ENDS = ("born_gap", "logit_gap", "drag", "gold_probability", "cross_entropy")
RUN_COLUMNS: dict[str, Any] = {
    "run": pl.Int64, "context": pl.Int64, "gold": pl.String, "competitor": pl.String, "method": pl.String,
    "rate": pl.Float64, "seed": pl.Int64, "steps": pl.Int64, "last_step": pl.Int64, "gold_overlap": pl.Float64,
    **{f"outcome_{name}": pl.String for name in CRITERIA},
    **{f"flip_step_{name}": pl.Int64 for name in CRITERIA},
    **{f"flip_time_{name}": pl.Float64 for name in CRITERIA},
    "character": pl.String, "jump_ratio": pl.Float64, "jump_share": pl.Float64, "jump_step": pl.Int64,
    "phantom": pl.Boolean, "silent": pl.Boolean, "disagrees": pl.Boolean, "drag_worsened": pl.Boolean,
    **{f"{end}_{name}": pl.Float64 for name in _ENDS for end in ("base", "final")},
    "engine": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        entry: ``run`` (its number), settings and verdict, JSON-ready.
        records: its observables, each with ``step``.
    """

    entry: dict[str, Any]
    records: list[dict[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """A SWEEP as read back.

    Attributes:
        folder: where it lies.
        plan: everything needed to repeat it.
        environment: versions and machine that it was started on.
        runs: a row per finished run, in order of the plan: settings, outcome by each criterion, movement, both ends.
        steps: a row per finished run and step: ``run``, ``context``, ``step`` and the observables.
        entries: the verdicts in full, one per finished run.
    """

    folder: Path
    plan: dict[str, Any]
    environment: dict[str, Any]
    runs: pl.DataFrame
    steps: pl.DataFrame
    entries: list[dict[str, Any]]

    @property
    def finished(self) -> frozenset[int]:
        """Numbers of the runs that are finished."""
        return frozenset(entry["run"] for entry in self.entries)

    @property
    def planned(self) -> int:
        """Number of runs in the plan."""
        return math.prod(len(self.plan[name]) for name in ("contexts", "rates", "seeds"))

    def trajectory(self, run: int) -> Trajectory:
        """Return the trajectory of one run.

        Args:
            run: its number.

        Returns:
            The trajectory.

        Raises:
            UserError: the run is not finished.
        """
        rows = self.steps.filter(pl.col("run") == run).drop("run")
        if rows.is_empty():
            raise UserError("no such run in the SWEEP", rule="a finished run", found=run)
        return Trajectory.of(rows)


class SweepStore:
    """Writes one SWEEP; only one process at a time may. Use it in a ``with``."""

    def __init__(self, folder: str | Path, plan: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Start a SWEEP, or go on with one of the same plan.

        Args:
            folder: the SWEEP; made if it is not there.
            plan: everything needed to repeat it, JSON-ready.
            environment: versions and machine, JSON-ready; kept from the first start.

        Raises:
            UserError: the folder can't be written, is being written by another process, holds something else, or a
                SWEEP of another schema or plan.
        """
        self._folder = Path(folder)
        self._lock = self._prepare()
        try:
            if (self._folder / SWEEP_FILE).exists():
                refuse_other_plan(self._folder, SWEEP_FILE, json.loads(json.dumps(plan)))
            else:
                head = {"schema": SCHEMA, "plan": dict(plan), "environment": dict(environment)}
                write_whole(self._folder / SWEEP_FILE, json_bytes(head))
            self._finished = set(read_sweep(self._folder).finished)
        except BaseException:
            self.close()
            raise

    @property
    def finished(self) -> frozenset[int]:
        """Numbers of the runs that are safely written."""
        return frozenset(self._finished)

    def add(self, results: Sequence[Result]) -> None:
        """Write finished runs, all or none of them.

        Args:
            results: the runs; none may be written already.

        Raises:
            UserError: a run is written already, or the disk is full; the files stay as they were.
        """
        numbers = [result.entry["run"] for result in results]
        again = sorted(self._finished.intersection(numbers))
        if again:
            raise UserError("a run would be written twice", rule="each run once", found=again)
        name = f"part-{min(numbers):06d}"
        write_whole(self._folder / f"{name}.parquet", parquet_bytes(_steps(results)))
        write_whole(self._folder / f"{name}.json", json_bytes({"schema": SCHEMA, "runs": [r.entry for r in results]}))
        self._finished.update(numbers)

    def merge(self) -> None:
        """Turn all parts into two files."""
        parts = sorted(self._folder.glob("part-*"))
        if not parts:
            return
        sweep = read_sweep(self._folder)
        write_whole(self._folder / STEPS_FILE, parquet_bytes(sweep.steps))
        write_whole(self._folder / RUNS_FILE, json_bytes({"schema": SCHEMA, "runs": sweep.entries}))
        for part in parts:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write."""
        self._lock.close()

    def __enter__(self) -> SweepStore:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _prepare(self) -> BinaryIO:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in self._folder.iterdir() if not path.name.endswith(".part"))
            if others and SWEEP_FILE not in others and others != [LOCK_FILE]:
                rule, fix = "a new or empty folder, or a SWEEP", "choose another folder with --out"
                raise UserError("the SWEEP folder holds other files", rule=rule, found=others[:8], fix=fix)
            return locked(self._folder)
        except OSError as error:
            refuse_unwritable(self._folder, error)


def read_sweep(folder: str | Path) -> Sweep:
    """Read a SWEEP back, complete or not.

    Args:
        folder: the SWEEP.

    Returns:
        Its plan, environment, and finished runs.

    Raises:
        UserError: there is no SWEEP, it is of another schema version, or a file is damaged.
    """
    path = Path(folder)
    if not (path / SWEEP_FILE).is_file():
        raise UserError("no SWEEP there", rule=f"a folder with {SWEEP_FILE}", found=str(folder))
    head = checked(path / SWEEP_FILE)
    entries: dict[int, dict[str, Any]] = {}
    frames = [pl.DataFrame(schema=STEP_COLUMNS)]
    merged = [path / RUNS_FILE] if (path / RUNS_FILE).exists() else []
    for file in [*merged, *sorted(path.glob("part-*.json"))]:
        # what was merged before a kill stands in its part as well
        new = {entry["run"]: entry for entry in checked(file)["runs"] if entry["run"] not in entries}
        if new:
            rows = path / STEPS_FILE if file.name == RUNS_FILE else file.with_suffix(".parquet")
            frames.append(_read_steps(rows).filter(pl.col("run").is_in(list(new))))
            entries |= new
    ordered = [entries[number] for number in sorted(entries)]
    steps = pl.concat(frames).sort("run", "step")
    return Sweep(path, head["plan"], head["environment"], _runs(head["plan"], ordered), steps, ordered)


def entry_of(run: int, rate: float, seed: int, engine: str, verdict: Mapping[str, Any], ends: Sequence[Any]) -> Any:
    """Return the entry of a finished run.

    Args:
        run: its number in the plan.
        rate: learning rate.
        seed: seed of LoRA's initial matrices.
        engine: what carried it out.
        verdict: words, verdict and saving, as ``judge`` gives them, with ``context``.
        ends: records of the base model and of the end.

    Returns:
        JSON-ready values; numbers that are not finite are None.
    """
    base, final = ({name: record.get(name) for name in _ENDS} for record in ends)
    head = {"run": run, "rate": rate, "seed": seed, "engine": engine, "gold_overlap": ends[0].get("gold_overlap")}
    return clean(head | dict(verdict) | {"base": base, "final": final})


def _steps(results: Iterable[Result]) -> pl.DataFrame:
    frames = [
        table(r.entry["context"], r.records).insert_column(0, pl.Series("run", [r.entry["run"]] * len(r.records)))
        for r in results
    ]
    return pl.concat(frames).sort("run", "step")


def _read_steps(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} is damaged", found=str(error).splitlines()[0]) from None


def _runs(plan: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    rows = [_row(plan, entry) for entry in entries]
    columns = {n: pl.Series([row.get(n) for row in rows], dtype=dtype) for n, dtype in RUN_COLUMNS.items()}
    return pl.DataFrame(columns)


def _row(plan: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: entry[name] for name in RUN_COLUMNS if name in entry}
    row |= {"method": plan["method"], "steps": plan["steps"]}
    for name in CRITERIA:
        row[f"outcome_{name}"] = entry["outcomes"][name]
        row[f"flip_step_{name}"] = entry["flip_steps"][name]
        row[f"flip_time_{name}"] = entry["flip_times"][name]
    return row | {f"{end}_{name}": entry[end][name] for name in _ENDS for end in ("base", "final")}
