"""The page: one self-contained file from a summary record. Everything is escaped; nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from borngap.report.anyrecord import Shown
from borngap.report.charts import charts, scancharts
from borngap.report.charts.rows import bulk_rows, context_label, overview_rows, series_rows
from borngap.report.page.pagedata import Column, Item, PageData, Still, still, still_page
from borngap.report.page.palette import DARK, LIGHT
from borngap.report.page.usagepage import change_content, forecast_content, remedies_content, usage_content
from borngap.report.records import ComparisonSummary, ContextRecord, ScanSummary, Summary
from borngap.report.text import number, rate
from borngap.report.usage.wording import in_points, interval_words, percent, probability
from borngap.report.wording import AHEAD, needed_text, used_text

_FOLDER = Path(__file__).parent / "templates"
ICONS = {
    "resolved": "✓", "pre-resolved": "●", "unresolved": "✕", "structural": "✕", "kinematic": "✕", "relapsed": "↩",
    "lost": "↘", "diverged": "∞",
}  # fmt: skip
BULK_NAMES = {
    "crowding": "crowding", "mean": "mean overlap", "std": "std", "anisotropy": "mean / std", "mean_square": "mean G²",
    "fraction_above": "G² > 0.1", "ks_gaussian": "KS normal", "ks_exponential": "KS exponential",
}  # fmt: skip
_SCAN_HEIGHT = 300
_SCAN_TILES = (
    ("supervised targets", "targets", ""), ("whole words", "words", ""), ("with a rival", "with_rival", ""),
    ("rival ahead", "rival_ahead", "bad"), ("ahead by the Born gap", "born_rival_ahead", ""),
)  # fmt: skip


def page(summary: Shown) -> str:
    """Return a summary record as a page.

    Args:
        summary: what ``summary``, ``comparison`` or ``scan_summary`` returned.

    Returns:
        HTML that needs no other file and makes no request; equal for equal records and versions.
    """
    from borngap import __version__

    bundle, code = vega_bundle(), (_FOLDER / "page.js").read_text(encoding="utf-8")
    data, content = _content(summary)
    return templates().get_template(f"{summary['kind']}.html.j2").render(
        s=summary, version=__version__, css=Markup(page_css()), bundle=Markup(bundle), code=Markup(code),  # noqa: S704
        script_hashes=Markup(f"{_hash(bundle)} {_hash(code)}"),  # noqa: S704
        data=Markup(inline_json(data)), ahead=AHEAD, icons=ICONS, bulk_names=BULK_NAMES,  # noqa: S704
        needed=needed_text, used=used_text, sort_rate=_sort_rate, **content,
    )  # fmt: skip


def _content(summary: Shown) -> tuple[PageData, dict[str, object]]:
    if summary["kind"] == "report":
        return _report(summary)
    if summary["kind"] == "compare":
        return _comparison(summary)
    if summary["kind"] == "scan":
        return _scan(summary)
    if summary["kind"] == "forecast":
        return forecast_content(summary)
    if summary["kind"] == "remedies":
        return remedies_content(summary)
    return usage_content(summary) if summary["kind"] == "terms" else change_content(summary)


def inline_json(value: object) -> str:
    """Return JSON that can stand within a script element, whatever the texts in it hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the installed vl-convert; takes seconds, once.

    Returns:
        JavaScript that can stand within a script element.

    Raises:
        RuntimeError: the bundle holds the end of a script element.
    """
    import vl_convert

    # the bundle is a module: in a plain script its names would be global
    bundle = f"(()=>{{{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}}})();"
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise RuntimeError("the chart library can't be inlined: it holds the end of a script element")
    return bundle


def _report(summary: Summary) -> tuple[PageData, dict[str, object]]:
    contexts, several = summary["contexts"], len(summary["runs"]) > 1
    labels = [context_label(c, summary["runs"], several=several) for c in contexts]
    items: list[Item] = [
        {"label": label, "series": c["series"], "marks": c["marks"]} for label, c in zip(labels, contexts, strict=True)
    ]
    stills: dict[str, Still] = {}
    if contexts:
        rows = overview_rows(summary)
        stills["still-overview"] = still(charts.overview_chart(len(rows)), {"overview": rows})
    for terms in summary["terms"]:
        drawn_terms = {"series": series_rows(terms["series"]), "marks": []}
        stills[f"still-terms-{terms['run']}"] = still(charts.terms_chart(terms["series"]), drawn_terms)
    for index, record in enumerate(summary["geometry"]):
        if record["matrices"]:
            stills[f"still-geometry-{index}"] = still(charts.geometry_chart(), {"bulk": bulk_rows(record)})
    for index, phase in enumerate(summary["phase"]):
        drawn = {"points": phase["points"], "boundary": phase["boundary"]}
        stills[f"still-phase-{index}"] = still(charts.phase_chart(), drawn, height=300)
    first = next((i for i, c in enumerate(contexts) if c["outcome"] not in AHEAD), 0)
    panels = [*charts.PANELS, *charts.PHANTOM] if contexts else []
    data: PageData = {
        "items": items,
        "panels": [_panel(p) for p in panels],
        "stills": stills,
        "first": first,
        "columns": _columns(panels),
    }
    tallies = Counter(c["outcome"] for c in contexts)
    return data, {
        "labels": labels,
        "panels": charts.PANELS,
        "phantom": charts.PHANTOM,
        "terms": charts.TERM_PANEL,
        "tallies": sorted(tallies.items(), key=lambda item: (item[0] in AHEAD, -item[1], item[0])),
        "overview_alt": _overview_alt(contexts),
    }


def _comparison(summary: ComparisonSummary) -> tuple[PageData, dict[str, object]]:
    names = [run["label"] for run in summary["runs"]]
    panels = charts.COMPARED if summary["contexts"] else ()
    items: list[Item] = [{"label": c["label"], "series": c["series"], "marks": c["marks"]} for c in summary["contexts"]]
    columns: list[Column] = [
        {"column": line["column"], "name": f"{p.title}: {line['name']}"}
        for p in panels
        for line in charts.run_columns(p, names)
    ]
    first = next((i for i, c in enumerate(summary["contexts"]) if c["differs"]), 0)
    drawn = [_overlaid(p, names) for p in panels]
    data: PageData = {"items": items, "panels": drawn, "stills": {}, "first": first, "columns": columns}
    return data, {"labels": [item["label"] for item in items], "panels": charts.COMPARED}


def _scan(summary: ScanSummary) -> tuple[PageData, dict[str, object]]:
    stills: dict[str, Still] = {}
    if summary["pairs"]:
        points = {"points": scancharts.point_rows(summary["points"])}
        stills["still-pairs"] = still(scancharts.pairs_chart(), points, height=_SCAN_HEIGHT)
    if summary["gaps"]:
        gaps = {"gaps": scancharts.gap_rows(summary["gaps"])}
        stills["still-gaps"] = still(scancharts.gaps_chart(), gaps, height=_SCAN_HEIGHT)
    told = (f"{p['gold']} against {p['rival']} {number(p['share_ahead'])}" for p in summary["pairs"][:40])
    intervals = (f"{number(g['low'])} to {number(g['high'])}: {g['targets']}" for g in summary["gaps"])
    return still_page(stills), {
        "tiles": _SCAN_TILES,
        "pairs_alt": "Share of targets with the rival ahead, worst pairs first: " + "; ".join(told),
        "gaps_alt": "Number of targets by logit gap in nat: " + "; ".join(intervals),
    }


def _overlaid(panel: charts.Panel, names: Sequence[str]) -> dict[str, object]:
    """What the page knows of a panel with a line a run."""
    spec = charts.spec(charts.panel_chart(panel, runs=names), panel.title)
    return {"id": panel.id, "title": panel.title, "spec": spec, "lines": charts.run_columns(panel, names)}


@cache
def _panel(panel: charts.Panel) -> dict[str, object]:
    """What the page knows of a panel; the same for every report, and altair checks it for a tenth of a second."""
    lines = [{"column": line.column, "name": line.name} for line in panel.lines]
    return {
        "id": panel.id,
        "title": panel.title,
        "lines": lines,
        "peak": panel.peak,
        "spec": charts.spec(charts.panel_chart(panel), panel.title),
    }


def _columns(panels: list[charts.Panel]) -> list[Column]:
    """Headings of the table of values: each column once."""
    return [
        {"column": line.column, "name": panel.title if len(panel.lines) == 1 else line.name}
        for panel in panels
        for line in panel.lines
    ]


def _overview_alt(contexts: Sequence[ContextRecord]) -> str:
    told = (f"{c['gold']} over {c['rival']} {' to '.join(map(number, c['ends']['logit_gap']))}" for c in contexts[:40])
    return "Logit gap in nat at the start and at the end: " + "; ".join(told)


def _sort_rate(context: ContextRecord) -> str:
    """Key of the needed rate: bounds sort after rates, unknown ones last."""
    needed = context["needed"]
    if needed["rate"] is not None:
        return repr(needed["rate"])
    if context["outcome"] == "pre-resolved":
        return "0"
    return "" if needed["low"] is None else repr(needed["low"])


def _hash(script: str) -> str:
    """Source expression of a content security policy: this script, and no other, may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def page_css() -> str:
    """The style of all pages, in both themes."""
    return templates().get_template("page.css.j2").render(light=LIGHT, dark=DARK)


@cache
def templates() -> jinja2.Environment:
    """The templates of all pages; whatever enters them is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"num": number, "rate": rate, "percent": percent}
    environment.globals |= {"percent": percent, "points": in_points, "p": probability, "interval": interval_words}
    return environment
