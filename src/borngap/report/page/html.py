"""The page: one self-contained file from a summary record. Everything is escaped; nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from borngap.report.charts import charts, scancharts
from borngap.report.charts.rows import bulk_rows, context_label, overview_rows
from borngap.report.page.palette import DARK, LIGHT
from borngap.report.text import number, rate
from borngap.report.wording import AHEAD, needed_text, used_text

_FOLDER = Path(__file__).parent
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


def page(summary: Mapping[str, Any]) -> str:
    """Return a summary record as a page.

    Args:
        summary: what ``summary``, ``comparison`` or ``scan_summary`` returned.

    Returns:
        HTML that needs no other file and makes no request; equal for equal records and versions.
    """
    from borngap import __version__

    bundle, code = vega_bundle(), (_FOLDER / "page.js").read_text(encoding="utf-8")
    ways = {"report": _report, "compare": _comparison, "scan": _scan}
    content = ways[summary["kind"]](summary)
    return _environment().get_template(f"{summary['kind']}.html.j2").render(
        s=summary, version=__version__, css=Markup(_css()), bundle=Markup(bundle), code=Markup(code),  # noqa: S704
        script_hashes=Markup(f"{_hash(bundle)} {_hash(code)}"),  # noqa: S704
        data=Markup(inline_json(content.pop("page"))), ahead=AHEAD, icons=ICONS, bulk_names=BULK_NAMES,  # noqa: S704
        needed=needed_text, used=used_text, sort_rate=_sort_rate, **content,
    )  # fmt: skip


def inline_json(value: Any) -> str:
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


def _report(summary: Mapping[str, Any]) -> dict[str, Any]:
    contexts, several = summary["contexts"], len(summary["runs"]) > 1
    labels = [context_label(c, summary["runs"], several=several) for c in contexts]
    items = [
        {"label": label, "series": c["series"], "marks": c["marks"]} for label, c in zip(labels, contexts, strict=True)
    ]
    stills = {}
    if contexts:
        rows = overview_rows(summary)
        stills["still-overview"] = _still(charts.overview_chart(len(rows)), {"overview": rows})
    for index, record in enumerate(summary["geometry"]):
        if record["matrices"]:
            stills[f"still-geometry-{index}"] = _still(charts.geometry_chart(), {"bulk": bulk_rows(record)})
    for index, phase in enumerate(summary["phase"]):
        data = {name: phase[name] for name in ("points", "boundary")}
        stills[f"still-phase-{index}"] = _still(charts.phase_chart(), data, height=300)
    first = next((i for i, c in enumerate(contexts) if c["outcome"] not in AHEAD), 0)
    panels = [*charts.PANELS, *charts.PHANTOM] if contexts else []
    content: dict[str, Any] = {"items": items, "panels": [_panel(p) for p in panels], "stills": stills, "first": first}
    tallies = Counter(c["outcome"] for c in contexts)
    return {
        "page": content | {"columns": _columns(panels)},
        "labels": labels,
        "panels": charts.PANELS,
        "phantom": charts.PHANTOM,
        "tallies": sorted(tallies.items(), key=lambda item: (item[0] in AHEAD, -item[1], item[0])),
        "overview_alt": _overview_alt(contexts),
    }


def _comparison(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = [run["label"] for run in summary["runs"]]
    panels = [(p, charts.panel_chart(p, runs=names)) for p in charts.COMPARED] if summary["contexts"] else []
    items = [{"label": c["label"], "series": c["series"], "marks": c["marks"]} for c in summary["contexts"]]
    drawn: list[dict[str, Any]] = [
        {"id": p.id, "title": p.title, "spec": charts.spec(chart, p.title), "lines": charts.run_columns(p, names)}
        for p, chart in panels
    ]
    columns = [
        {"column": line["column"], "name": f"{panel['title']}: {line['name']}"}
        for panel in drawn
        for line in panel["lines"]
    ]
    first = next((i for i, c in enumerate(summary["contexts"]) if c["differs"]), 0)
    data = {"items": items, "panels": drawn, "stills": {}, "first": first, "columns": columns}
    return {"page": data, "labels": [item["label"] for item in items], "panels": charts.COMPARED}


def _scan(summary: Mapping[str, Any]) -> dict[str, Any]:
    stills = {}
    if summary["pairs"]:
        points = {"points": scancharts.point_rows(summary["points"])}
        stills["still-pairs"] = _still(scancharts.pairs_chart(), points, height=_SCAN_HEIGHT)
    if summary["gaps"]:
        gaps = {"gaps": scancharts.gap_rows(summary["gaps"])}
        stills["still-gaps"] = _still(scancharts.gaps_chart(), gaps, height=_SCAN_HEIGHT)
    told = (f"{p['gold']} against {p['rival']} {number(p['share_ahead'])}" for p in summary["pairs"][:40])
    intervals = (f"{number(g['low'])} to {number(g['high'])}: {g['targets']}" for g in summary["gaps"])
    return {
        "page": {"items": [], "panels": [], "stills": stills, "first": 0, "columns": []},
        "tiles": _SCAN_TILES,
        "pairs_alt": "Share of targets with the rival ahead, worst pairs first: " + "; ".join(told),
        "gaps_alt": "Number of targets by logit gap in nat: " + "; ".join(intervals),
    }


@cache
def _panel(panel: charts.Panel) -> dict[str, Any]:
    """What the page knows of a panel; the same for every report, and altair checks it for a tenth of a second."""
    lines = [{"column": line.column, "name": line.name} for line in panel.lines]
    return {
        "id": panel.id,
        "title": panel.title,
        "lines": lines,
        "peak": panel.peak,
        "spec": charts.spec(charts.panel_chart(panel), panel.title),
    }


def _columns(panels: list[charts.Panel]) -> list[dict[str, str]]:
    """Headings of the table of values: each column once."""
    return [
        {"column": line.column, "name": panel.title if len(panel.lines) == 1 else line.name}
        for panel in panels
        for line in panel.lines
    ]


def _still(chart: Any, data: Mapping[str, Any], **size: int) -> dict[str, Any]:
    return {"spec": charts.spec(chart, "") | size, "data": data}


def _overview_alt(contexts: list[dict[str, Any]]) -> str:
    told = (f"{c['gold']} over {c['rival']} {' to '.join(map(number, c['ends']['logit_gap']))}" for c in contexts[:40])
    return "Logit gap in nat at the start and at the end: " + "; ".join(told)


def _sort_rate(context: Mapping[str, Any]) -> str:
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


def _css() -> str:
    return _environment().get_template("page.css.j2").render(light=LIGHT, dark=DARK)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"num": number, "rate": rate}
    return environment
