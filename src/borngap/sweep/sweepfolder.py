"""SWEEP folders: the results of a sweep, a part for each run or group of runs, merged when it is complete.

A SWEEP holds ``sweep.json`` (schema, plan, environment), and while it grows pairs ``part-N.parquet`` (a row per run and
step) and ``part-N.json`` (an entry per run), written in this order: a run counts as finished once it stands in a JSON
file. ``merge`` turns the parts into ``steps.parquet`` and ``runs.json``; killed at any moment, it loses and repeats
nothing, since a run that stands in ``runs.json`` is not read from a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.choices import CRITERIA
from borngap.errors import UserError
from borngap.files import checked, parquet_bytes, read_table
from borngap.folder import Folder, FolderKind, read_head
from borngap.judge.trajectory import Trajectory
from borngap.runfolder import STEP_COLUMNS, clean, step_table

SWEEP = FolderKind("SWEEP", "sweep.json")
SWEEP_FILE, RUNS_FILE, STEPS_FILE, PARTS = SWEEP.head, "runs.json", "steps.parquet", "part-*"
SWEEP_STEP_COLUMNS: dict[str, Any] = {"run": pl.Int64} | STEP_COLUMNS
_KEPT_ENDS = ("born_gap", "logit_gap", "drag", "gold_probability", "cross_entropy")
SWEEP_COLUMNS: dict[str, Any] = {
    "run": pl.Int64, "context": pl.Int64, "gold": pl.String, "rival": pl.String, "method": pl.String,
    "rate": pl.Float64, "seed": pl.Int64, "steps": pl.Int64, "last_step": pl.Int64, "gold_overlap": pl.Float64,
    **{f"outcome_{name}": pl.String for name in CRITERIA},
    **{f"flip_step_{name}": pl.Int64 for name in CRITERIA},
    **{f"flip_time_{name}": pl.Float64 for name in CRITERIA},
    "character": pl.String, "jump_ratio": pl.Float64, "jump_share": pl.Float64, "jump_step": pl.Int64,
    "phantom": pl.Boolean, "silent": pl.Boolean, "disagrees": pl.Boolean, "drag_worsened": pl.Boolean,
    **{f"{end}_{name}": pl.Float64 for name in _KEPT_ENDS for end in ("base", "final")},
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

    def __repr__(self) -> str:
        """Say it in a line."""
        contexts = len(self.plan.get("contexts", ()))
        return f"<Sweep {self.folder}: {len(self.finished)} of {self.planned} runs finished, {contexts} contexts>"

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


class SweepStore(Folder):
    """Writes one SWEEP."""

    kind = SWEEP
    _finished: set[int]

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
        self.write(f"{name}.parquet", parquet_bytes(_steps(results)))
        self.write_json(f"{name}.json", {"runs": [result.entry for result in results]})
        self._finished.update(numbers)

    def merge(self) -> None:
        """Turn all parts into two files."""
        parts = sorted(self.path.glob(PARTS))
        if not parts:
            return
        sweep = read_sweep(self.path)
        self.write(STEPS_FILE, parquet_bytes(sweep.steps))
        self.write_json(RUNS_FILE, {"runs": sweep.entries})
        self.remove(*parts)

    def _take_up(self) -> None:
        self._finished = set(read_sweep(self.path).finished)


def read_sweep(folder: str | Path) -> Sweep:
    """Read a SWEEP back, complete or not.

    Args:
        folder: the SWEEP.

    Returns:
        Its plan, environment, and finished runs.

    Raises:
        UserError: there is no SWEEP, it is of another schema version, or a file is damaged.
    """
    path, head = Path(folder), read_head(folder, SWEEP)
    parts = sorted(path.glob(f"{PARTS}.json"))  # before the merged files are looked for, so that none is overlooked
    merged = [path / RUNS_FILE] if (path / RUNS_FILE).exists() else []
    try:
        entries, steps = _read_parts([*merged, *parts])
    except UserError:
        if all(part.exists() for part in parts):
            raise
        return read_sweep(folder)  # its writer merged the parts meanwhile
    return Sweep(path, head["plan"], head["environment"], _runs(head["plan"], entries), steps, entries)


def _read_parts(files: Sequence[Path]) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    entries: dict[int, dict[str, Any]] = {}
    frames = [pl.DataFrame(schema=SWEEP_STEP_COLUMNS)]
    for file in files:
        # what was merged before a kill stands in its part as well
        new = {entry["run"]: entry for entry in checked(file, SWEEP.schema)["runs"] if entry["run"] not in entries}
        if new:
            rows = file.with_name(STEPS_FILE) if file.name == RUNS_FILE else file.with_suffix(".parquet")
            frames.append(read_table(rows, SWEEP_STEP_COLUMNS).filter(pl.col("run").is_in(list(new))))
            entries |= new
    return [entries[number] for number in sorted(entries)], pl.concat(frames).sort("run", "step")


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
    base, final = ({name: record.get(name) for name in _KEPT_ENDS} for record in ends)
    head = {"run": run, "rate": rate, "seed": seed, "engine": engine, "gold_overlap": ends[0].get("gold_overlap")}
    return clean(head | dict(verdict) | {"base": base, "final": final})


def _steps(results: Iterable[Result]) -> pl.DataFrame:
    frames = [
        step_table(r.entry["context"], r.records).insert_column(0, pl.Series("run", [r.entry["run"]] * len(r.records)))
        for r in results
    ]
    return pl.concat(frames).sort("run", "step")


def _runs(plan: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    rows = [_row(plan, entry) for entry in entries]
    columns = {n: pl.Series([row.get(n) for row in rows], dtype=dtype) for n, dtype in SWEEP_COLUMNS.items()}
    return pl.DataFrame(columns)


def _row(plan: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: entry[name] for name in SWEEP_COLUMNS if name in entry}
    row |= {"method": plan["method"], "steps": plan["steps"]}
    for name in CRITERIA:
        row[f"outcome_{name}"] = entry["outcomes"][name]
        row[f"flip_step_{name}"] = entry["flip_steps"][name]
        row[f"flip_time_{name}"] = entry["flip_times"][name]
    return row | {f"{end}_{name}": entry[end][name] for name in _KEPT_ENDS for end in ("base", "final")}
