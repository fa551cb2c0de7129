"""The folder of a reproduction: what is stored there, under which names, and how it is read.

``reproduce.json`` holds the plan. ``models/<name>/`` holds, for each model, ``base.json``, ``critical/*.json``,
``brackets/*.json``, ``ends/*.json`` and a SWEEP for each arm under ``sweeps/``. Everything else (``results.json``,
``claims.json``, ``tables/``, ``figures/``, ``report.*``) is made from these and can be deleted.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.context import Context
from borngap.errors import UserError
from borngap.experiments.arms import Scope
from borngap.files import checked, json_bytes, write_whole
from borngap.folder import Folder, read_head
from borngap.results.stored import REPRODUCTION
from borngap.runfolder import environment

PLAN_FILE = REPRODUCTION.head
_UNITS = ".parts"


@dataclass(frozen=True)
class Plan:
    """A reproduction.

    Attributes:
        models: bundled names, local folders, or hub ids.
        contexts: the near-synonym contexts.
        scope: how much is run.
    """

    models: tuple[str, ...]
    contexts: tuple[Context, ...]
    scope: Scope

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {
            "command": "reproduce", "models": list(self.models), "contexts": [c.to_json() for c in self.contexts],
            **self.scope.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Return the plan that ``to_json`` wrote."""
        rest = {key: v for key, v in value.items() if key not in {"command", "models", "contexts"}}
        contexts = tuple(Context(**context) for context in value["contexts"])
        return cls(tuple(value["models"]), contexts, Scope.from_json(rest))


class Reproduction(Folder):
    """Writes one reproduction."""

    kind = REPRODUCTION


def start(folder: Path, plan: Plan) -> Reproduction:
    """Start a reproduction in a folder, or go on with one of the same plan.

    Args:
        folder: made if it is not there.
        plan: the plan.

    Returns:
        The folder, locked for this process; close it.

    Raises:
        UserError: the folder holds something else or another plan, or can't be written; models repeat.
    """
    if len(set(plan.models)) < len(plan.models) or not plan.models:
        raise UserError("models are out of range", rule="at least one, none twice", found=list(plan.models) or "none")
    return Reproduction(folder, plan.to_json(), environment())


def read_plan(folder: Path) -> tuple[Plan, dict[str, Any]]:
    """Read the plan of a reproduction and the environment that it was started in.

    Args:
        folder: the reproduction.

    Returns:
        Both.
    """
    head = read_head(folder, REPRODUCTION)
    return Plan.from_json(head["plan"]), head["environment"]


def home(folder: Path, model: str) -> Path:
    """Return the folder of one model; names that look alike as file names are told apart by a few hash digits.

    Args:
        folder: the reproduction.
        model: as the user gave it.

    Returns:
        The folder, not made yet.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[-60:]
    same = plain == model
    digest = hashlib.sha256(model.encode()).hexdigest()[:6]
    return folder / "models" / (plain if same else f"{plain}-{digest}")


def kept(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a JSON file holds, making it first where it is not there.

    Args:
        path: the file; written as a whole or not at all.
        make: computes what it is to hold.

    Returns:
        The contents as JSON gives them back, so that a resumed reproduction sees the same numbers.
    """
    if not path.is_file():
        write_whole(path, json_bytes({"schema": REPRODUCTION.schema} | dict(make())))
    return checked(path, REPRODUCTION.schema)


def in_units(
    path: Path,
    units: Sequence[Sequence[int]],
    make: Callable[[Sequence[int], Sequence[Mapping[str, Any]]], list[dict[str, Any]]],
    on_unit: Callable[[int], None] = lambda _: None,
) -> None:
    """Make a file with a list of entries unit by unit; what was made before a stop is not made again.

    Args:
        path: the file; until it is whole its units lie beside it in a folder.
        units: numbers of contexts.
        make: computes the entries of a unit, given the unit and all entries before.
        on_unit: called with the number of contexts done.
    """
    parts, done, seen = path.with_suffix(_UNITS), list[dict[str, Any]](), 0
    for number, unit in enumerate(units):
        before = tuple(done)
        done += kept(parts / f"{number:04}.json", lambda: {"entries": make(unit, before)})["entries"]  # noqa: B023
        seen += len(unit)
        on_unit(seen)
    kept(path, lambda: {"entries": sorted(done, key=lambda entry: entry["context"])})
    is_whole(path)


def is_whole(path: Path) -> bool:
    """Return whether a file that is made unit by unit is there; then what a stop may have left of its units goes."""
    if path.is_file():
        shutil.rmtree(path.with_suffix(_UNITS), ignore_errors=True)
    return path.is_file()


def done(path: Path) -> list[dict[str, Any]]:
    """Return the entries that a file made unit by unit has by now, be it whole or not; none where it was not begun."""
    return entries([path] if path.is_file() else sorted(path.with_suffix(_UNITS).glob("*.json")))


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that are made unit by unit, those included of which there are units only."""
    return sorted({path.with_suffix(".json") for path in folder.glob("*") if path.suffix in {".json", _UNITS}})


def entries(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the entries of JSON files that hold a list of them."""
    return [entry for path in paths for entry in checked(path)["entries"]]
