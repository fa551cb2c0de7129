"""RUN folders: the only module that writes results. Atomic, versioned, resumable; nothing is overwritten.

A RUN holds ``run.json`` (schema, plan, environment), ``steps.parquet`` (one row per context and step) and
``verdicts.json`` (one entry per finished context). A context counts as finished once it stands in ``verdicts.json``,
which is written last.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import polars as pl

from borngap.errors import UserError
from borngap.observables import INTEGER_IDS, OBSERVABLES
from borngap.trajectory import DRIFT_IDS, Trajectory

SCHEMA = 1
RUN_FILE, STEPS_FILE, VERDICTS_FILE = "run.json", "steps.parquet", "verdicts.json"
LOCK_FILE = "lock"
COLUMNS: dict[str, Any] = {"context": pl.Int64, "step": pl.Int64}
COLUMNS |= {name: pl.Int64 if name in INTEGER_IDS else pl.Float64 for name in (*OBSERVABLES, *DRIFT_IDS)}


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

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the contexts that have a verdict."""
        return frozenset(entry["context"] for entry in self.verdicts)

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


class Store:
    """Writes one RUN, a finished context at a time."""

    def __init__(self, folder: str | Path, plan: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Start a RUN, or go on with one of the same plan.

        Args:
            folder: the RUN; made if it is not there.
            plan: everything needed to repeat the run, JSON-ready.
            environment: versions and machine, JSON-ready; kept from the first start.

        Raises:
            UserError: the folder can't be written, holds something else, or a RUN of another schema or plan.
        """
        self._folder = Path(folder)
        self._verdicts: dict[int, dict[str, Any]] = {}
        self._steps = pl.DataFrame(schema=COLUMNS)
        self._prepare()
        head = {"schema": SCHEMA, "plan": json.loads(json.dumps(plan)), "environment": dict(environment)}
        if (self._folder / RUN_FILE).exists():
            self._resume(head["plan"])
        else:
            self._write(RUN_FILE, json_bytes(head))

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

        Raises:
            UserError: the disk is full or the folder can't be written; the files stay as they were.
        """
        kept = self._steps.filter(~pl.col("context").is_in(list(rows)))
        steps = pl.concat([kept, *(table(context, records) for context, records in rows.items())])
        entries = self._verdicts | {context: {"context": context} | dict(entry) for context, entry in verdicts.items()}
        self._write(STEPS_FILE, parquet_bytes(steps.sort("context", "step")))
        self._write(VERDICTS_FILE, json_bytes({"schema": SCHEMA, "verdicts": [entries[i] for i in sorted(entries)]}))
        self._steps, self._verdicts = steps, entries

    def _prepare(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in self._folder.iterdir() if not path.name.endswith(".part"))
        except OSError as error:
            refuse_unwritable(self._folder, error)
        if others and RUN_FILE not in others:
            fix = "choose another folder with --out"
            raise UserError(
                "the RUN folder holds other files", rule="a new or empty folder, or a RUN", found=others[:8], fix=fix
            )

    def _resume(self, plan: dict[str, Any]) -> None:
        refuse_other_plan(self._folder, RUN_FILE, plan)
        run = read_run(self._folder)
        self._verdicts = {entry["context"]: entry for entry in run.verdicts}
        # rows without a verdict are those of a context that a crash cut off between both files
        self._steps = run.steps.filter(pl.col("context").is_in(list(self._verdicts)))

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self._folder / name, content)


def read_run(folder: str | Path) -> Run:
    """Read a RUN back.

    Args:
        folder: the RUN.

    Returns:
        Its plan, environment, steps and verdicts; finished contexts only have a verdict.

    Raises:
        UserError: there is no RUN, it is of another schema version, or a file is damaged.
    """
    path = Path(folder)
    if not (path / RUN_FILE).is_file():
        raise UserError("no RUN there", rule=f"a folder with {RUN_FILE}", found=str(folder))
    head = checked(path / RUN_FILE)
    steps, verdicts = pl.DataFrame(schema=COLUMNS), []
    if (path / VERDICTS_FILE).exists():
        verdicts = checked(path / VERDICTS_FILE)["verdicts"]
    if (path / STEPS_FILE).exists():
        try:
            steps = pl.read_parquet(path / STEPS_FILE)
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{path / STEPS_FILE} is damaged", found=str(error).splitlines()[0]) from None
    return Run(path, head["plan"], head["environment"], steps, verdicts)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, and on the disk before this returns.

    Args:
        path: the file; what stood there is replaced.
        content: its bytes.

    Raises:
        UserError: the disk is full or the folder can't be written; the file stays as it was.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        refuse_unwritable(path.parent, error)


def locked(folder: Path) -> BinaryIO:
    """Lock a folder for this process; the system lets go of it when the process ends, however it ends.

    Args:
        folder: where it lies; must exist.

    Returns:
        An open file: closing it, or leaving a ``with``, ends the lock.

    Raises:
        UserError: another process writes there, or the folder can't be written.
    """
    try:
        file = (folder / LOCK_FILE).open("a+b")
    except OSError as error:
        refuse_unwritable(folder, error)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not on Windows
        return file
    except BlockingIOError:
        file.seek(0)
        owner = file.read().decode(errors="replace") or "unknown"
        file.close()
        fix = "wait for it, or choose another folder with --out"
        raise UserError(f"{folder} is being written", rule="one writer", found=f"process {owner}", fix=fix) from None
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    file.flush()
    return file


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


def table(context: int, records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return the records of one context as rows of the steps table; an observable that a record lacks is null."""
    rows = [{"context": context} | dict(record) for record in records]
    columns = {
        name: pl.Series([_typed(row.get(name), dtype) for row in rows], dtype=dtype) for name, dtype in COLUMNS.items()
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


def checked(path: Path, schema: int = SCHEMA) -> dict[str, Any]:
    """Read a JSON file of a known schema version.

    Args:
        path: the file.
        schema: the version.

    Returns:
        What it holds.

    Raises:
        UserError: it is damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged", rule="JSON", found=str(error)) from None
    version = data.get("schema") if isinstance(data, dict) else None
    if version != schema:
        fix = "read it with the borngap that wrote it, or choose another folder"
        raise UserError(f"{path} is of another schema version", rule=f"schema {schema}", found=version, fix=fix)
    return data


def refuse_other_plan(folder: Path, name: str, plan: Mapping[str, Any]) -> None:
    """Compare a plan with the one that a folder was started with.

    Args:
        folder: a RUN or a scan.
        name: its JSON file with the plan.
        plan: the plan now, as JSON gives it back.

    Raises:
        UserError: they differ; the message names the settings.
    """
    there = checked(folder / name)["plan"]
    differing = sorted(key for key in plan.keys() | there.keys() if plan.get(key) != there.get(key))
    if differing:
        found = "; ".join(f"{k}: {_brief(there.get(k))} there, {_brief(plan.get(k))} now" for k in differing[:6])
        fix = f"choose another folder with --out, or the settings of {name}"
        raise UserError(f"{folder} holds a run of another plan", rule="the same plan", found=found, fix=fix)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return a JSON document; NaN is not JSON and is refused."""
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return a table as Parquet."""
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def refuse_unwritable(folder: Path, error: OSError) -> NoReturn:
    """Turn the error of a folder that can't be written into one for the user.

    Args:
        folder: the folder.
        error: what happened.

    Raises:
        UserError: always.
    """
    fix = "free space or choose another folder with --out; what was finished before is kept"
    raise UserError(f"can't write to {folder}", found=error.strerror or str(error), fix=fix) from error
