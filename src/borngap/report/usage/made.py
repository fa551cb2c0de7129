"""How results on usage were made, and the text around their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from borngap.changes.compared import ModelResult
from borngap.report.facts.typed import as_flag, as_table, as_whole
from borngap.report.records import Made
from borngap.report.scanwording import scan_made_sentence
from borngap.report.summary import setting_pairs
from borngap.report.text import count
from borngap.shown import visible


def made_of(number: int, side: ModelResult, what: Literal["scan", "TERMS"]) -> Made:
    """Return how a result was made.

    Args:
        number: of the result, from 0.
        side: the result.
        what: its kind.

    Returns:
        The record that every report shows of a folder.
    """
    folder = visible(side.folder.resolve().name)
    asked = side.told.get("asked", {})
    told = {**side.told, **{key: asked[key] for key in ("layout", "supervised") if key in asked}}
    told["data"] = side.told.get("held_out") or side.told.get("data")
    texts = {name: {k: v for k, v in text.items() if k != "stamp"} for name, text in side.plan.get("texts", {}).items()}
    settings = {**side.plan, "texts": texts} if texts else side.plan
    return {
        "number": number, "what": what, "folder": folder, "label": folder, "missing": [], "notes": [],
        "made": scan_made_sentence(side.plan, told, side.environment),
        "settings": setting_pairs(settings, {"stamp", "terms", "allowed"}),
        "environment": setting_pairs(side.environment, set()),
    }  # fmt: skip


def planned_of(what: Literal["FORECAST", "REMEDIES"], folder: Path, told: Mapping[str, object], made: str) -> Made:
    """Return how a look ahead at a planned run was made.

    Args:
        what: kind of the folder.
        folder: the folder.
        told: its summary.
        made: how, in words.

    Returns:
        The record that every report shows of a folder.
    """
    run, name = as_table(told["run"]), visible(folder.resolve().name)
    settings = {"training": as_table(run["training"]), "settings": as_table(run["settings"])}
    return {
        "number": 0, "what": what, "folder": name, "label": name, "missing": [], "notes": [], "made": made,
        "settings": setting_pairs(settings, set()), "environment": setting_pairs(as_table(told["environment"]), set()),
    }  # fmt: skip


def rows_words(run: Mapping[str, object]) -> str:
    """Return what a planned run trains on: how many rows, or how many sequences that are packed from them.

    Args:
        run: ``run`` of a FORECAST's or REMEDIES' summary.

    Example:
        >>> rows_words({"rows": 122, "settings": {"packing": True}}), rows_words({"rows": 1, "settings": {}})
        ('122 packed sequences', '1 row')
    """
    packed = as_flag(as_table(run.get("settings")).get("packing"))
    return count(as_whole(run.get("rows")) or 0, "packed sequence" if packed else "row")


def text_around(text: str) -> str:
    """Return text beside a word on one line; a space next to the word stays."""
    return visible(re.sub(r"\s+", " ", text))
