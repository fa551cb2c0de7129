"""The folder of a reproduction: what is stored there, under which names, and how it is read.

``reproduce.json`` holds the plan. ``models/<name>/`` holds, for each model, ``base.json``, ``critical/*.json``,
``ends/*.json`` and a SWEEP for each arm under ``sweeps/``. Everything else (``tables/``, ``figures/``, ``claims.json``,
``report.*``) is made from these and can be deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.context import Context
from borngap.errors import UserError
from borngap.experiments.arms import Scope
from borngap.store import checked, environment, json_bytes, refuse_other_plan, refuse_unwritable, write_whole

PLAN_FILE, SCHEMA = "reproduce.json", 1


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


def start(folder: Path, plan: Plan) -> None:
    """Start a reproduction in a folder, or go on with one of the same plan.

    Args:
        folder: made if it is not there.
        plan: the plan.

    Raises:
        UserError: the folder holds something else or another plan, or can't be written; models repeat.
    """
    if len(set(plan.models)) < len(plan.models) or not plan.models:
        raise UserError("models are out of range", rule="at least one, none twice", found=list(plan.models) or "none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        refuse_unwritable(folder, error)
    if PLAN_FILE in others:
        refuse_other_plan(folder, PLAN_FILE, json.loads(json.dumps(plan.to_json())))
        return
    if others:
        rule, fix = "a new or empty folder, or a reproduction", "choose another folder with --out"
        raise UserError("the folder holds other files", rule=rule, found=others[:8], fix=fix)
    head = {"schema": SCHEMA, "plan": plan.to_json(), "environment": environment()}
    write_whole(folder / PLAN_FILE, json_bytes(head))


def read_plan(folder: Path) -> tuple[Plan, dict[str, Any]]:
    """Read the plan of a reproduction and the environment that it was started in.

    Args:
        folder: the reproduction.

    Returns:
        Both.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not (folder / PLAN_FILE).is_file():
        raise UserError("no reproduction there", rule=f"a folder with {PLAN_FILE}", found=str(folder))
    head = checked(folder / PLAN_FILE)
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
        made = json_bytes({"schema": SCHEMA} | dict(make()))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, made)
    return checked(path)


def entries(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the entries of JSON files that hold a list of them."""
    return [entry for path in paths for entry in checked(path)["entries"]]
