"""The summary record of a comparison before and after: scans, or TERMS folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from borngap.changes.change import BEHIND, GAINED, KEPT, LOST, RELAPSED, Change, gap_columns
from borngap.changes.compared import Compared, Group, ModelResult
from borngap.report.charts.series import rounded
from borngap.report.compare import distinct
from borngap.report.records import Made
from borngap.report.summary import SCHEMA, definitions
from borngap.report.text import word
from borngap.report.usage.made import made_of, text_around
from borngap.report.usage.records import ChangeNumbers, ChangeRecord, ChangeSummary, MovedPlace
from borngap.report.usage.wording import CHANGE_GLOSSARY, change_sentence, headline_sentence, unmatched_sentences
from borngap.shown import public, visible

_WORST = 20  # places that are shown, of each kind
_STATES = {
    LOST: "lost", RELAPSED: "relapsed", BEHIND: "still behind", GAINED: "newly over-used",
    KEPT: "over-used before, too",
}  # fmt: skip
_WORDS = {"scan": ("gold", "rival"), "TERMS": ("use", "avoid")}


def change_summary(found: Compared) -> ChangeSummary:
    """Return the record that a comparison before and after shows.

    Args:
        found: what was compared.

    Returns:
        JSON-ready; equal input gives equal bytes.
    """
    of: Literal["scan", "TERMS"] = "scan" if found.kind == "scan" else "TERMS"
    runs = _runs(found.sides, of)
    sides = ["before", "after"] if len(runs) == 2 else [run["label"] for run in runs]
    summary: ChangeSummary = {
        "schema": SCHEMA, "kind": "change", "of": of,
        "title": f"{' and '.join(_models(found.sides))} on {public(_data(found.sides[0]))}",
        "runs": runs, "sides": sides, "verdict": "", "all": _record(0, found.whole),
        "headline": None if found.headline is None else _numbers(found.headline),
        "rows": [_record(number, group) for number, group in enumerate(found.groups, 1)],
        "worst": _worst(found.places, of, len(runs)), "over_used": _over_used(found.over_used, len(runs)),
        "unmatched": [
            {"run": run, "places": lost.places, "rival_ahead": lost.rival_ahead, "without_rival": lost.without_rival}
            for run, lost in enumerate(found.unmatched)
        ],
        "notes": [], "definitions": definitions(CHANGE_GLOSSARY[of], ["logit_gap"]),
    }  # fmt: skip
    summary["notes"] = [
        *headline_sentence(summary),
        *_left_out(found),
        *unmatched_sentences(summary["unmatched"], sides),
        *_thresholds(found.sides, sides),
    ]
    summary["verdict"] = change_sentence(summary)
    return summary


def _runs(sides: Sequence[ModelResult], of: Literal["scan", "TERMS"]) -> list[Made]:
    made = [made_of(number, side, of) for number, side in enumerate(sides)]
    models = [public(side.model) for side in sides]
    labels = distinct(models, [run["folder"] for run in made])
    return [{**run, "label": label} for run, label in zip(made, labels, strict=True)]


def _models(sides: Sequence[ModelResult]) -> list[str]:
    return list(dict.fromkeys(public(side.model) for side in sides))


def _data(side: ModelResult) -> str:
    return str(side.told.get("held_out") or side.told.get("data"))


def _record(number: int, group: Group) -> ChangeRecord:
    return {
        "number": number, "use": None if group.use is None else word(group.use),
        "avoid": None if group.avoid is None else word(group.avoid), "relation": group.relation,
        "success": _numbers(group.success),
        "over_use": None if group.over_use is None else _numbers(group.over_use),
        "leak": None if group.leak is None else _numbers(group.leak), "why": dict(group.why),
    }  # fmt: skip


def _numbers(change: Change) -> ChangeNumbers:
    return {
        "places": change.places, "rows": change.rows, "shares": list(map(rounded, change.shares)),
        "lows": list(map(rounded, change.lows)), "highs": list(map(rounded, change.highs)),
        "change": rounded(change.change), "low": rounded(change.low), "high": rounded(change.high),
        "p": rounded(change.p), "p_mcnemar": rounded(change.p_mcnemar), "gained": change.gained, "lost": change.lost,
        "kept": change.kept, "behind": change.behind, "relapsed": change.relapsed,
    }  # fmt: skip


def _worst(places: pl.DataFrame, of: str, models: int) -> list[MovedPlace]:
    """Places at which the rival leads last: lost ones first, then relapsed ones; the lowest logit gap first."""
    last, order = gap_columns(models)[-1], {LOST: 0, RELAPSED: 1, BEHIND: 2}
    wrong = places.filter(pl.col("state").is_in(list(order)))
    turn = pl.col("state").replace_strict(order, return_dtype=pl.Int8).alias("turn")
    return _places(wrong.with_columns(turn).sort("turn", last, maintain_order=True), of, models)


def _over_used(places: pl.DataFrame | None, models: int) -> list[MovedPlace]:
    """Places at which the wanted word leads last though the other is right: new ones first, then by the gap."""
    if places is None:
        return []
    last = gap_columns(models)[-1]
    wrong = places.filter(pl.col(last) > 0).with_columns(turn=pl.col("state") != GAINED)
    return _places(wrong.sort("turn", last, descending=[False, True], maintain_order=True), "TERMS", models)


def _places(ordered: pl.DataFrame, of: str, models: int) -> list[MovedPlace]:
    keys = ["row", "at", "word"] if of == "TERMS" else ["row", "offset"]
    shown = ordered.unique(keys, keep="first", maintain_order=True).head(_WORST)
    return [_place(row, of, models) for row in shown.to_dicts()]


def _place(row: Mapping[str, object], of: str, models: int) -> MovedPlace:
    use, avoid = (str(row[name]) for name in _WORDS[of])
    space = use[:1] if of == "scan" and use[:1].isspace() else ""
    return {
        "state": _STATES[str(row["state"])], "use": word(use), "avoid": word(avoid),
        "word": word(str(row.get("word", use))), "other": word(str(row.get("other", avoid))),
        "where": visible(str(row["where"])), "gaps": [rounded(row[name], 3) for name in gap_columns(models)],
        "before": text_around(f"{row['before']}{space}"), "after": text_around(str(row.get("after", ""))),
    }  # fmt: skip


def _left_out(found: Compared) -> list[str]:
    """Say how many pairs the table leaves out."""
    if found.kind != "scan":
        return []
    pairs = found.places.select("gold_id", "rival_id").n_unique()
    if pairs <= len(found.groups):
        return []
    return [f"The table has {len(found.groups)} of {pairs} pairs: synonyms and the like first, then what changed most."]


def _thresholds(sides: Sequence[ModelResult], names: Sequence[str]) -> list[str]:
    """Say it where models have other thresholds."""
    least = [rounded(side.told.get("least_overlap"), 3) for side in sides]
    if None in least or len(set(least)) == 1:
        return []
    each = ", ".join(f"{value} {name}" for value, name in zip(least, names, strict=True))
    return [
        f"A near-synonym overlaps with gold by at least a percentile of each model's own random pairs: {each}. "
        "--min-overlap sets it for all."
    ]
