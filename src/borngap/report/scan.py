"""The summary record of a scan: which words of a data set have a near-synonym in front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from borngap.report.charts.series import rounded
from borngap.report.facts.scanfacts import ScanFacts
from borngap.report.facts.typed import as_items, as_table, as_text, as_texts, as_whole
from borngap.report.records import Made, ScanSummary
from borngap.report.scanrecords import ExampleRecord, Malformed, PairPoint, PairRecord, ScanBulk
from borngap.report.scanwording import (
    SCAN_GLOSSARY,
    bulk_sentence,
    nucleus_sentence,
    relation_records,
    rule_sentence,
    scan_made_sentence,
    scan_sentence,
)
from borngap.report.summary import SCHEMA, definitions, setting_pairs
from borngap.report.text import ending, word
from borngap.scanning.rivals import NUMBERS
from borngap.shown import public, visible

_SHOWN = 100  # pairs in the table: more are no reading
_DRAWN = 1000  # pairs in the chart
_BEFORE = 80  # characters of the text before a target that a scan keeps
_COUNTS = (
    "rows", "malformed", "unsupervised", "split", "tokens", "targets", "words", "with_neighbours", "with_rival",
    "rival_ahead", "born_rival_ahead", "disagree",
)  # fmt: skip


def scan_summary(source: ScanFacts) -> ScanSummary:
    """Return the record that the report of a scan shows.

    Args:
        source: the scan, as far as it could be read.

    Returns:
        The record: the worst pairs first, of more pairs the points of the chart, the distribution of logit gaps, the
        bulk, and how it was made; JSON-ready; equal input gives equal bytes.
    """
    told = source.told
    known = as_table(told.get("counts"))
    counts = {name: as_whole(known.get(name)) for name in _COUNTS}
    model = as_table(told.get("model")).get("name") or source.plan.get("model") or "a model that the scan does not name"
    model = public(str(model))
    data = told.get("data") or source.plan.get("data") or "data that the scan does not name"
    pairs = [_pair(number, row) for number, row in enumerate(source.pairs.head(_DRAWN).to_dicts(), 1)]
    return {
        "schema": SCHEMA,
        "kind": "scan",
        "title": f"Scan of {public(str(data))} with {model}",
        "runs": [_made(source)],
        "verdict": visible(scan_sentence(told)),
        "nucleus": nucleus_sentence(told),
        "counts": counts,
        "relations": relation_records(told),
        "pair_count": len(source.pairs),
        "pairs": pairs[:_SHOWN],
        "points": [_point(pair) for pair in pairs],
        "gaps": [{"low": low, "high": high, "targets": targets} for low, high, targets in source.gaps],
        "malformed": _malformed(told),
        "rule": visible(rule_sentence(told)),
        "bulk": _bulk(told, model),
        "notes": [*map(visible, as_texts(told.get("notes"))), *_notes(len(source.pairs))],
        "definitions": definitions(SCAN_GLOSSARY, NUMBERS),
    }


def _pair(number: int, row: Mapping[str, Any]) -> PairRecord:
    return {
        "number": number,
        "gold": word(row["gold"]),
        "rival": word(row["rival"]),
        "relation": visible(row["relation"]),
        "targets": row["targets"],
        "rival_ahead": row["rival_ahead"],
        "share_ahead": rounded(row["rival_ahead"] / row["targets"], 3) if row["targets"] else None,
        "born_rival_ahead": row["born_rival_ahead"],
        "overlap": rounded(row["gold_overlap"], 4),
        "logit_gap": rounded(row["median_logit_gap"], 4),
        "born_gap": rounded(row["median_born_gap"], 4),
        "examples": [_example(example) for example in row["examples"] or ()],
    }


def _example(example: Mapping[str, Any]) -> ExampleRecord:
    return {
        "before": _before(example["before"] or ""),
        "where": visible(example["where"] or ""),
        "logit_gap": rounded(example["logit_gap"], 3),
        "born_gap": rounded(example["born_gap"], 3),
    }


def _before(before: str) -> str:
    """What stands before a target on one line; where the scan cut it, from the next word on."""
    cut = ending(f"{before[:1]}{before}", _BEFORE) if len(before) == _BEFORE else ending(before, _BEFORE)
    return visible(" ".join(cut.split()))


def _point(pair: PairRecord) -> PairPoint:
    return {
        "gold": pair["gold"],
        "rival": pair["rival"],
        "targets": pair["targets"],
        "rival_ahead": pair["rival_ahead"],
        "share_ahead": pair["share_ahead"],
        "overlap": pair["overlap"],
        "logit_gap": pair["logit_gap"],
    }


def _made(source: ScanFacts) -> Made:
    """How the scan was made, in the form of a run, which the page shows."""
    folder = visible(source.folder.name or str(source.folder))
    return {
        "number": 0,
        "what": "scan",
        "folder": folder,
        "label": folder,
        "missing": [public(part) for part in source.missing],
        "notes": [],
        "made": scan_made_sentence(source.plan, source.told, source.environment),
        "settings": setting_pairs(source.plan, {"stamp"}),
        "environment": setting_pairs(source.environment, set()),
    }


def _malformed(told: Mapping[str, object]) -> list[Malformed]:
    rows = [row for row in map(as_table, as_items(told.get("malformed"))) if row][:20]
    return [{"where": _told(row, "where"), "reason": _told(row, "reason")} for row in rows]


def _told(row: Mapping[str, object], key: str) -> str:
    return public(str(row.get(key, "")))[:300]


def _bulk(told: Mapping[str, object], model: str) -> ScanBulk:
    bulk = as_table(told.get("bulk"))
    return {
        "sentence": visible(bulk_sentence(told, model)),
        "crowding": rounded(bulk.get("crowding"), 4),
        "mean": rounded(bulk.get("mean"), 4),
        "std": rounded(bulk.get("std"), 4),
        "mean_square": rounded(bulk.get("mean_square"), 4),
        "class": as_text(bulk.get("class")),
    }


def _notes(pairs: int) -> list[str]:
    if pairs <= _SHOWN:
        return []
    chart = f", the chart the worst {_DRAWN}" if pairs > _DRAWN else ""
    return [f"The table shows the worst {_SHOWN} of {pairs} pairs{chart}; all are in the folder (pairs.parquet)."]
