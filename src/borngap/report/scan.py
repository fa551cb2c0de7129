"""The summary record of a scan: which words of a data set have a near-synonym in front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from borngap.report.charts.series import rounded
from borngap.report.facts.scansource import ScanSource
from borngap.report.scanwording import SCAN_GLOSSARY, bulk_sentence, rule_sentence, scan_made_sentence, scan_sentence
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


def scan_summary(source: ScanSource) -> dict[str, Any]:
    """Return the record that the report of a scan shows.

    Args:
        source: the scan, as far as it could be read.

    Returns:
        ``verdict``, ``counts`` (None where not known), ``pairs`` (worst first), ``points`` (of more pairs, for the
        chart), ``gaps`` (the distribution of logit gaps), ``bulk``, and how it was made; JSON-ready; equal input
        gives equal bytes.
    """
    told, bulk = source.told, _dict(source.told.get("bulk"))
    counts = {name: _whole(_dict(told.get("counts")).get(name)) for name in _COUNTS}
    model = _dict(told.get("model")).get("name") or source.plan.get("model") or "a model that the scan does not name"
    model = public(str(model))
    data = told.get("data") or source.plan.get("data") or "data that the scan does not name"
    table = source.pairs.head(_DRAWN).to_dicts()
    pairs = [_pair(number, row) for number, row in enumerate(table, 1)]
    return {
        "schema": SCHEMA,
        "kind": "scan",
        "title": f"Scan of {public(str(data))} with {model}",
        "runs": [_made(source)],
        "verdict": scan_sentence(counts),
        "counts": counts,
        "pair_count": len(source.pairs),
        "pairs": pairs[:_SHOWN],
        "points": [_point(pair) for pair in pairs],
        "gaps": [{"low": low, "high": high, "targets": targets} for low, high, targets in source.gaps],
        "malformed": _malformed(told),
        "rule": visible(rule_sentence(told)),
        "bulk": {"sentence": visible(bulk_sentence(told, model)), **_bulk(bulk)},
        "notes": _notes(len(source.pairs)),
        "definitions": definitions(SCAN_GLOSSARY, NUMBERS),
    }


def _pair(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": number,
        "gold": word(row["gold"]),
        "rival": word(row["rival"]),
        "targets": row["targets"],
        "rival_ahead": row["rival_ahead"],
        "share_ahead": rounded(row["rival_ahead"] / row["targets"], 3) if row["targets"] else None,
        "born_rival_ahead": row["born_rival_ahead"],
        "overlap": rounded(row["gold_overlap"], 4),
        "logit_gap": rounded(row["median_logit_gap"], 4),
        "born_gap": rounded(row["median_born_gap"], 4),
        "examples": [_example(example) for example in row["examples"] or ()],
    }


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "before": _before(example["before"] or ""),
        "where": visible(example["where"] or ""),
        "logit_gap": rounded(example["logit_gap"], 3),
        "born_gap": rounded(example["born_gap"], 3),
    }


def _before(text: str) -> str:
    """The text before a target on one line; where the scan cut it, from the next word on."""
    cut = ending(f"{text[:1]}{text}", _BEFORE) if len(text) == _BEFORE else ending(text, _BEFORE)
    return visible(" ".join(cut.split()))


def _point(pair: Mapping[str, Any]) -> dict[str, Any]:
    names = ("gold", "rival", "targets", "rival_ahead", "share_ahead", "overlap", "logit_gap")
    return {name: pair[name] for name in names}


def _made(source: ScanSource) -> dict[str, Any]:
    """How the scan was made, in the form of a run, which the page shows."""
    folder = visible(source.folder.name or str(source.folder))
    return {
        "number": 0,
        "what": "scan",
        "folder": folder,
        "label": folder,
        "missing": [public(text) for text in source.missing],
        "notes": [],
        "made": scan_made_sentence(source.plan, source.told, source.environment),
        "settings": setting_pairs(source.plan, {"stamp"}),
        "environment": setting_pairs(source.environment, set()),
    }


def _malformed(told: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = told.get("malformed")
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [{key: public(str(row.get(key, "")))[:300] for key in ("where", "reason")} for row in named[:20]]


def _bulk(bulk: Mapping[str, Any]) -> dict[str, Any]:
    names = ("crowding", "mean", "std", "mean_square")
    return {name: rounded(bulk.get(name), 4) for name in names} | {"class": bulk.get("class")}


def _notes(pairs: int) -> list[str]:
    if pairs <= _SHOWN:
        return []
    chart = f", the chart the worst {_DRAWN}" if pairs > _DRAWN else ""
    return [f"The table shows the worst {_SHOWN} of {pairs} pairs{chart}; all are in the folder (pairs.parquet)."]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
