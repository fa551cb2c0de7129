"""Rows that charts read, picked out of a summary record."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from borngap.report.records import ContextRecord, GeometryRecord, Number, RunRecord, Series, Summary
from borngap.report.text import ending, number

ChartRow = dict[str, object]
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def isolated(text: str) -> str:
    """Return text so that a script written from right to left does not turn its surroundings around."""
    turned = any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text)
    return f"\u2068{text}\u2069" if turned else text


def context_label(context: ContextRecord, runs: Sequence[RunRecord], *, several: bool) -> str:
    """Return a context's name for lists: its number, words, and run where there are several."""
    run = f" ({runs[context['run']]['label']})" if several else ""
    return f"{context['number']}. {_words(context)}{run}"


def _words(context: ContextRecord) -> str:
    return " / ".join(isolated(ending(text, 28)) for text in (context["gold"], context["rival"]))


def series_rows(series: Series) -> list[dict[str, Number]]:
    """Return columns as one row a record."""
    return [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]


def overview_rows(summary: Summary) -> list[ChartRow]:
    """Return where every context began and ended; those without a record are left out."""
    several = len(summary["runs"]) > 1
    rows: list[ChartRow] = []
    for order, context in enumerate(summary["contexts"]):
        start, end = context["ends"]["logit_gap"]
        if start is not None and end is not None:
            label = f"{context['id'] if several else context['number']}. {_words(context)}"
            state = "ahead" if end > 0 else "behind"
            ends: ChartRow = {"order": order, "label": label, "start": start, "end": end}
            rows.append(ends | {"outcome": context["outcome"], "state": state})
    return rows


def bulk_rows(record: GeometryRecord) -> list[ChartRow]:
    """Return the crowding of each matrix of a model."""
    return [
        {"label": kind, "crowding": bulk["crowding"], "words": f"{number(bulk['crowding'])}  {bulk['class']}"}
        for kind, bulk in record["matrices"].items()
    ]
