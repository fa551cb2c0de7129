"""Kinds of result folders: telling them apart, by the file that each of them begins with."""

from __future__ import annotations

import os
from pathlib import Path

from borngap.errors import UserError

_KINDS = {
    "run.json": "RUN",
    "sweep.json": "SWEEP",
    "scan.json": "scan",
    "terms.json": "TERMS",
    "forecast.json": "FORECAST",
    "remedies.json": "REMEDIES",
    "reproduce.json": "reproduction",
}


def kind_of(folder: str | Path) -> str | None:
    """Return what kind of result a folder holds, as the user calls it; None if it holds none."""
    # a Path that is too long for a name is an error where os.path says no
    return next((name for head, name in _KINDS.items() if os.path.isfile(f"{folder}/{head}")), None)  # noqa: PTH113


def refuse_result(folder: str | Path, wanted: str) -> None:
    """Refuse a result folder where something else is wanted.

    Args:
        folder: what was given.
        wanted: what is wanted, with its article.

    Raises:
        UserError: it is a result folder.
    """
    held = kind_of(folder)
    if held is None:
        return
    seen = {"TERMS": f"its places are in {Path(folder) / 'places.parquet'}"}
    fix = f"give {wanted}; " + seen.get(held, f"`borngap report {folder}` shows the {held}")
    if held == "scan" and (Path(folder) / "contexts.jsonl").is_file():
        fix += f"; its contexts are in {Path(folder) / 'contexts.jsonl'}"
    raise UserError(f"{folder} is a {held}, the result of an earlier command", rule=wanted, fix=fix)
