"""What a report is made from: RUN folders, read as far as they can be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from borngap.choices import Criterion
from borngap.errors import UserError
from borngap.judge.trajectory import Trajectory
from borngap.judge.verdicts import verdict
from borngap.report.facts.entries import Entry, RunPlan, parsed_entry, parsed_plan
from borngap.report.facts.hosts import stand_ins
from borngap.report.facts.typed import as_items, as_table
from borngap.report.records import Number
from borngap.runfolder import RUN, RUN_FILE, STEP_COLUMNS, STEPS_FILE, VERDICTS_FILE, Run, clean

FIX = "give a folder that `borngap finetune`, `sweep`, `scan` or a callback wrote"
_NEEDED = {"logit_gap", "top1_margin", "born_gap", "drag", "cross_entropy"}


@dataclass(frozen=True)
class RunFacts:
    """A RUN as far as it can be read.

    Attributes:
        run: what there is; empty where a part is missing.
        missing: what is missing, in words; nothing for a whole RUN.
    """

    run: Run
    missing: list[str] = field(default_factory=list)

    @cached_property
    def plan(self) -> RunPlan:
        """The plan, and beside it what the host of a tracked run told."""
        return parsed_plan(stand_ins(self.run) | self.run.plan)

    @cached_property
    def own_plan(self) -> RunPlan:
        """The plan alone."""
        return parsed_plan(self.run.plan)

    @cached_property
    def entries(self) -> list[Entry]:
        """What became of each context."""
        return [parsed_entry(entry["context"], entry) for entry in self.run.verdicts]

    @property
    def usage(self) -> list[dict[str, Number]]:
        """Success, first and over-use at each step; none without terms, or where the plan is damaged."""
        try:
            return self.run.usage.to_dicts()
        except (KeyError, TypeError):
            return []

    @property
    def displaced(self) -> str:
        """That right words of a watched run fell though their lead grew; empty where they did not."""
        try:
            found = self.run.displacement if self.plan.tracked else None
        except (KeyError, TypeError):
            return ""
        return "" if found is None else f"{str(found).capitalize()}."

    @property
    def criterion(self) -> Criterion:
        """What counts as resolved; rank where that is not known."""
        return self.plan.criterion or "rank"


def read_facts(folder: str | Path, fix: str = FIX) -> RunFacts:
    """Read a RUN, whatever is left of it.

    Args:
        folder: the RUN.
        fix: what to give instead, where it is none.

    Returns:
        Its readable parts, and what is missing. Verdicts that are missing are judged again from the steps.

    Raises:
        UserError: there is no such folder, no file of a RUN in it, or it is of another schema version.
    """
    path = Path(folder)
    files = (RUN_FILE, STEPS_FILE, VERDICTS_FILE)
    if not path.is_dir():
        raise UserError("no RUN there", rule="a folder", found=str(folder), fix=fix)
    if not any((path / name).is_file() for name in files):
        raise UserError("no RUN there", rule=f"a folder with {RUN_FILE}", found=str(folder), fix=fix)
    missing: list[str] = []
    head, verdicts = read_json(path / RUN_FILE, missing), read_json(path / VERDICTS_FILE, missing)
    steps = _steps(path / STEPS_FILE, missing)
    entries = [
        entry for entry in map(as_table, as_items(verdicts.get("verdicts"))) if isinstance(entry.get("context"), int)
    ]
    run = Run(path, as_table(head.get("plan")), as_table(head.get("environment")), steps, entries)
    return RunFacts(_judged(run, missing), _unfinished(run, missing))


def read_json(path: Path, missing: list[str], schema: int = RUN.schema) -> dict[str, object]:
    """Read one JSON file of a folder, if it is there and whole.

    Args:
        path: the file.
        missing: where to note what is wrong with it.
        schema: the version it must be of.

    Returns:
        What it holds; empty where it can't be read.

    Raises:
        UserError: it is of another schema version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        missing.append(f"{path.name} is not there")
        return {}
    except (OSError, ValueError) as error:
        missing.append(f"{path.name} can't be read: {error}")
        return {}
    if isinstance(data, dict) and data.get("schema") not in {None, schema}:
        fix = "read it with the borngap that wrote it"
        raise UserError(f"{path} is of another schema version", rule=f"schema {schema}", found=data["schema"], fix=fix)
    return as_table(data)


def _steps(path: Path, missing: list[str]) -> pl.DataFrame:
    empty = pl.DataFrame(schema=STEP_COLUMNS)
    if not path.is_file():
        missing.append(f"{path.name} is not there: no charts")
        return empty
    try:
        found = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        missing.append(f"{path.name} can't be read, so there are no charts: {str(error).splitlines()[0]}")
        return empty
    absent = [name for name in STEP_COLUMNS if name not in found.columns]
    if {"context", "step"} & set(absent):
        missing.append(f"{path.name} lacks the columns context and step: no charts")
        return empty
    if absent:
        missing.append(f"{path.name} lacks the columns {', '.join(absent)}")
    return found


def _judged(run: Run, missing: list[str]) -> Run:
    """Judge contexts that have steps but no verdict: a crash or a damaged file cut them off."""
    plan = parsed_plan(run.plan)
    without = [
        i for i in sorted(set(run.steps["context"].to_list()) - run.finished) if set(run.steps.columns) >= _NEEDED
    ]
    again: list[dict[str, object]] = []
    for index in without:
        words = plan.contexts[index] if 0 <= index < len(plan.contexts) else {}
        try:
            told = verdict(run.trajectory(index), plan.criterion or "rank").to_json()
        except UserError:
            continue
        again.append({"context": index, "prompt": "", "gold": "", "rival": None} | words | clean(told))
    if again:
        missing.append(f"no verdict was kept of {len(again)} of the contexts: judged again from the steps")
    entries = sorted([*run.verdicts, *again], key=lambda entry: entry["context"])
    return Run(run.folder, run.plan, run.environment, run.steps, entries)


def _unfinished(run: Run, missing: list[str]) -> list[str]:
    planned = len(as_items(run.plan.get("contexts")))
    known = run.finished | set(run.steps["context"].to_list())
    left = [str(index + 1) for index in range(planned) if index not in known]
    if left:
        shown = ", ".join(left[:12]) + (", …" if len(left) > 12 else "")
        missing.append(f"{len(left)} of {planned} contexts are not finished: {shown}")
    return missing


def trajectory_of(run: Run, context: int) -> Trajectory | None:
    """Return a context's trajectory, or None if the RUN holds no readable one."""
    try:
        return run.trajectory(context)
    except (UserError, TypeError):
        return None
