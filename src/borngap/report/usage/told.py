"""The summary record of a TERMS folder: how a model uses the words of terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from borngap.changes.compared import ModelResult
from borngap.changes.ofterms import side_of
from borngap.report.charts.series import rounded
from borngap.report.facts.typed import as_items, as_number, as_table, as_text, as_whole
from borngap.report.records import Number
from borngap.report.scanrecords import Malformed
from borngap.report.summary import SCHEMA, definitions
from borngap.report.text import count, word
from borngap.report.usage.made import made_of, text_around
from borngap.report.usage.records import ComplianceRecord, UsageRecord, UsageSummary, UsedPlace
from borngap.report.usage.wording import USAGE_GLOSSARY, terms_sentence
from borngap.shown import public, visible

Stored = Mapping[str, object]
_MALFORMED = 20  # rows that are named


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
        "runs": [made_of(0, side, "TERMS")], "verdict": terms_sentence(whole), "all": whole,
        "terms": [_record(number, term) for number, term in enumerate(told["terms"], 1)],
        "compliance": _compliance(told["compliance"]), "worst": [_place(place) for place in told["worst"]],
        "over_used": [_place(place) for place in told["worst_over_use"]], "malformed": _malformed(told),
        "notes": _notes(side), "definitions": definitions(USAGE_GLOSSARY, ["logit_gap"]),
    }  # fmt: skip


def _record(number: int, told: Stored) -> UsageRecord:
    return {
        "number": number, "use": _word(told, "use"), "avoid": _word(told, "avoid"), "due": _count(told, "due"),
        "rows": _count(told, "rows"), "success": _share(told, "success"), "low": _share(told, "low"),
        "high": _share(told, "high"), "first": _share(told, "first"), "right_avoid": _count(told, "right_avoid"),
        "over_use": _share(told, "over_use"), "over_use_low": _share(told, "over_use_low"),
        "over_use_high": _share(told, "over_use_high"), "continuations": _count(told, "continuations"),
        "leak": _share(told, "leak"), "leak_low": _share(told, "leak_low"), "leak_high": _share(told, "leak_high"),
        "why": {name: visible(str(why)) for name, why in as_table(told.get("notes")).items()},
    }  # fmt: skip


def _compliance(told: Stored) -> list[ComplianceRecord]:
    whole = {"use_places": told.get("use"), "avoid_places": told.get("avoid"), "allowed_places": told.get("allowed")}
    each = map(as_table, as_items(told.get("terms")))
    return [_kept(whole | {"share": told.get("share")}), *map(_kept, each)]


def _kept(told: Stored) -> ComplianceRecord:
    return {
        "use": _word(told, "use"), "avoid": _word(told, "avoid"), "use_places": _count(told, "use_places"),
        "avoid_places": _count(told, "avoid_places"), "allowed_places": _count(told, "allowed_places"),
        "share": _share(told, "share"),
    }  # fmt: skip


def _place(told: Stored) -> UsedPlace:
    return {
        "use": word(as_text(told.get("use"))), "avoid": word(as_text(told.get("avoid"))),
        "word": word(as_text(told.get("word"))), "other": word(as_text(told.get("other"))),
        "where": visible(as_text(told.get("where")) or ""), "logit_gap": rounded(told.get("logit_gap"), 3),
        "before": text_around(as_text(told.get("before")) or ""),
        "after": text_around(as_text(told.get("after")) or ""),
    }  # fmt: skip


def _malformed(told: Stored) -> list[Malformed]:
    rows = [as_table(row) for row in as_items(told.get("malformed"))[:_MALFORMED]]
    return [
        {"where": public(str(row.get("where", ""))), "reason": public(str(row.get("reason", "")))[:300]} for row in rows
    ]


def _word(told: Stored, name: str) -> str | None:
    text = as_text(told.get(name))
    return None if text is None else word(text)


def _count(told: Stored, name: str) -> int:
    return as_whole(told.get(name)) or 0


def _share(told: Stored, name: str) -> Number:
    return rounded(as_number(told.get(name)))


def _notes(side: ModelResult) -> list[str]:
    left_out = [
        f"Left out: {word(term['use'])} instead of {word(term['avoid'])} ({public(term['reason'])})."
        for term in side.told["left_out"]
    ]
    return [visible(note) for note in (*side.told["notes"], *left_out)]
