"""The summary record of a TERMS folder: how a model uses the words of terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from borngap.changes.compared import Side
from borngap.changes.ofterms import side_of
from borngap.report.charts.series import rounded
from borngap.report.records import Malformed
from borngap.report.summary import SCHEMA, definitions
from borngap.report.text import count, word
from borngap.report.usage.made import made_of, text_around
from borngap.report.usage.records import ComplianceRecord, UsageRecord, UsageSummary, UsedPlace
from borngap.report.usage.wording import USAGE_GLOSSARY, usage_sentence
from borngap.shown import public, visible

_COUNTS = ("due", "rows", "right_avoid", "continuations")
_PLACES = ("use", "avoid", "allowed")
_SHARES = (
    "success", "low", "high", "first", "over_use", "over_use_low", "over_use_high", "leak", "leak_low", "leak_high",
)  # fmt: skip


def usage_summary(folder: Path) -> UsageSummary:
    """Return the record that the report of a TERMS folder shows.

    Args:
        folder: where it lies; finished.

    Returns:
        JSON-ready; equal input gives equal bytes.
    """
    side = side_of(folder)
    told = side.told
    whole = _record(0, told["all"])
    data = public(str(told["held_out"] or told["data"]))
    terms = count(len(told["terms"]), "term")
    return {
        "schema": SCHEMA, "kind": "terms",
        "title": f"{terms} in {data} with {public(side.model)}",
        "runs": [made_of(0, side, "TERMS")], "verdict": usage_sentence(whole), "all": whole,
        "terms": [_record(number, term) for number, term in enumerate(told["terms"], 1)],
        "compliance": _compliance(told["compliance"]), "worst": [_place(place) for place in told["worst"]],
        "over_used": [_place(place) for place in told["worst_over_use"]], "malformed": _malformed(told),
        "notes": _notes(side), "definitions": definitions(USAGE_GLOSSARY, ["logit_gap"]),
    }  # fmt: skip


def _record(number: int, told: Mapping[str, Any]) -> UsageRecord:
    words = {name: word(told[name]) if name in told else None for name in ("use", "avoid")}
    numbers = {name: told[name] for name in _COUNTS} | {name: rounded(told[name]) for name in _SHARES}
    return {"number": number, **words, **numbers, "why": dict(told["notes"])}  # type: ignore[typeddict-item]


def _compliance(told: Mapping[str, Any]) -> list[ComplianceRecord]:
    whole = (told["use"], told["avoid"], told["allowed"], told["share"])
    each = ((term, *(term[f"{name}_places"] for name in _PLACES), term["share"]) for term in told["terms"])
    return [_kept(None, None, *whole), *(_kept(term["use"], term["avoid"], *numbers) for term, *numbers in each)]


def _kept(
    use: str | None, avoid: str | None, use_places: int, avoid_places: int, allowed: int, share: float | None
) -> ComplianceRecord:
    return {
        "use": None if use is None else word(use), "avoid": None if avoid is None else word(avoid),
        "use_places": use_places, "avoid_places": avoid_places, "allowed_places": allowed, "share": rounded(share),
    }  # fmt: skip


def _place(told: Mapping[str, Any]) -> UsedPlace:
    return {
        "use": word(told["use"]), "avoid": word(told["avoid"]), "word": word(told["word"]),
        "other": word(told["other"]), "where": visible(told["where"]), "logit_gap": rounded(told["logit_gap"], 3),
        "before": text_around(told["before"]), "after": text_around(told["after"]),
    }  # fmt: skip


def _malformed(told: Mapping[str, Any]) -> list[Malformed]:
    return [{name: public(row[name])[:300] for name in ("where", "reason")} for row in told["malformed"][:20]]  # type: ignore[misc]


def _notes(side: Side) -> list[str]:
    left_out = [
        f"Left out: {word(term['use'])} instead of {word(term['avoid'])} ({public(term['reason'])})."
        for term in side.told["left_out"]
    ]
    return [visible(note) for note in (*side.told["notes"], *left_out)]
