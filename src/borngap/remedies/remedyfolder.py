"""REMEDIES folders: what was tried for a planned run; a FORECAST folder a remedy, done once.

``remedies.json`` holds schema, plan and environment, ``base.json`` what the model says before any training,
``tried/`` a FORECAST folder a remedy, ``summary.json`` what they come to, ``remedies.svg`` the picture. Which remedies
are tried is no part of the plan: more of them go on in the same folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.folder import SUMMARY_FILE, FolderKind, read_summary
from borngap.pilot.pilotfolder import KeptFolder
from borngap.results.figures import Figure

REMEDIES = FolderKind("REMEDIES", "remedies.json")
REMEDY_PICTURE, BASE_FILE = "remedies.svg", "base.json"


@dataclass(frozen=True, eq=False)
class RemedySearch:
    """What remedies come to.

    Attributes:
        folder: where it lies; None if it was not kept.
        summary: all numbers, as the command's ``--json`` prints them (docs/remedies.md#which-remedy).
    """

    folder: Path | None
    summary: dict[str, Any]

    def __repr__(self) -> str:
        """Say it in a line."""
        where, take = self.folder or "in memory", self.summary["take"] or "none"
        return f"<{type(self).__name__} {where} of {len(self.summary['remedies'])} rows: take {take}>"

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, JSON-ready."""
        return self.summary

    @property
    def figure(self) -> Figure:
        """Success against over-use and against held-out loss, as data."""
        return pareto(self.summary)


class RemedyFolder(KeptFolder):
    """Writes what remedies come to."""

    kind = REMEDIES

    def tried(self, name: str) -> Path:
        """Return the folder of a remedy's forecast."""
        return self.path / "tried" / name

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Write what they come to."""
        self.write_json(SUMMARY_FILE, summary)


def read_remedy_search(folder: str | Path) -> RemedySearch:
    """Read a finished REMEDIES folder back.

    Args:
        folder: where it lies.

    Returns:
        What is in it.

    Raises:
        UserError: there is none, it is not finished, or it is damaged.
    """
    summary = read_summary(folder, REMEDIES, what="search", command="borngap remedy")
    return RemedySearch(Path(folder), summary)


def pareto(summary: Mapping[str, Any]) -> Figure:
    """Return success against what it costs, as data of a figure.

    Args:
        summary: of a search.

    Returns:
        Two panels: over-use, and held-out loss above the planned run's; the bias is a line.
    """
    sides = {"over-use, share of places": "over_use", "held-out loss, nat a token": "loss"}
    rows = []
    for panel, name in sides.items():
        for entry in summary["remedies"]:
            price = 0.0 if entry["remedy"] == "none" and name == "loss" else _value(entry[name])
            row = {"panel": panel, "price": price, "success": _value(entry["success"])}
            rows += [row | {"remedy": entry["remedy"]}] if entry["remedy"] != "bias" else []
        for point in summary["bias_curve"]:
            rows.append({"panel": panel, "price": point[name], "success": point["success"], "remedy": "logit bias"})
    known = [row for row in rows if row["price"] is not None and row["success"] is not None]
    return Figure(
        "remedies", "What each remedy gains and what it costs", "Up is better, left is cheaper.", "point",
        ("price", ""), ("success", "wanted word leads, share of places"), known, colour="remedy", facet="panel",
        columns=2, free=("x",), joined=("logit bias",),
    )  # fmt: skip


def _value(measure: Mapping[str, Any] | None) -> float | None:
    return None if measure is None else measure["value"]
