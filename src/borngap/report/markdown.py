"""A summary record as Markdown: the same words and numbers as the page, charts as tables of both ends."""

from __future__ import annotations

from collections.abc import Sequence

from borngap.report.anyrecord import Shown
from borngap.report.charts.charts import TERM_PANEL
from borngap.report.charts.series import thinned
from borngap.report.foretold.records import ForetoldSummary
from borngap.report.foretold.shown import foretold_blocks
from borngap.report.markup import escaped, table
from borngap.report.records import (
    ComparedEntry,
    ComparisonSummary,
    ContextRecord,
    ForecastRecord,
    ForecastRow,
    GeometryRecord,
    LiveRecord,
    Made,
    MatrixRecord,
    Number,
    PhaseRecord,
    ScanSummary,
    Summary,
    WatchedTerms,
)
from borngap.report.scanmarkdown import scan_blocks
from borngap.report.text import MISSING, number, rate
from borngap.report.tried.records import TriedSummary
from borngap.report.tried.shown import tried_blocks
from borngap.report.usage.markdown import change_comment, usage_blocks
from borngap.report.usage.records import UsageSummary
from borngap.report.usage.wording import percent
from borngap.report.wording import needed_text, used_text

_TERM_STEPS = 12
_ENDS = {
    "logit_gap": "logit gap / nat", "born_gap": "Born gap", "signal": "signal", "drag": "drag",
    "gold_probability": "p gold", "rival_probability": "p rival", "cross_entropy": "cross-entropy / nat",
    "participation_ratio": "participation ratio",
}  # fmt: skip


def markdown(summary: Shown) -> str:
    """Return a summary record as Markdown.

    Args:
        summary: what ``summary``, ``comparison`` or ``scan_summary`` returned.

    Returns:
        GitHub-flavoured Markdown; no text of a prompt is read as markup or HTML.
    """
    if summary["kind"] == "change":
        return change_comment(summary)
    parts = _blocks(summary)
    made = [
        f"**{escaped(run['label'])}**, {run['what']} folder {escaped(run['folder'])}: {escaped(run['made'])}"
        for run in summary["runs"]
    ]
    settings = [line for run in summary["runs"] for line in _settings(run)]
    blocks = [f"# {escaped(summary['title'])}", *parts, "## How it was made", *made, *settings, *_definitions(summary)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _blocks(
    summary: Summary | ComparisonSummary | ScanSummary | UsageSummary | ForetoldSummary | TriedSummary,
) -> list[str]:
    if summary["kind"] == "report":
        return _report(summary)
    if summary["kind"] == "compare":
        return _compared(summary)
    if summary["kind"] == "forecast":
        return foretold_blocks(summary)
    if summary["kind"] == "remedies":
        return tried_blocks(summary)
    return scan_blocks(summary) if summary["kind"] == "scan" else usage_blocks(summary)


def _report(s: Summary) -> list[str]:
    several = len(s["runs"]) > 1
    parts = [f"**{escaped(run['verdict'])}**" + (f" ({escaped(run['label'])})" if several else "") for run in s["runs"]]
    parts += _missing(s)
    for terms in s["terms"]:
        parts += [f"## {TERM_PANEL.title}" + (f" ({escaped(terms['label'])})" if several else ""), _terms(terms)]
    for live in s["live"]:
        several_live = f" ({escaped(live['label'])})" if several else ""
        parts += [f"## Forecast while it ran, and what happened{several_live}", escaped(live["sentence"]), _live(live)]
    if s["contexts"]:
        parts += ["## Contexts", _contexts(s, several=several)]
        parts += [
            "## From start to end",
            _movement(s),
            *_told(s),
            "## The phantom test",
            escaped(s["phantom"]),
            _jumps(s),
        ]
    for record in s["geometry"]:
        parts += ["## How crowded the embeddings are", escaped(record["sentence"]), _bulk(record)]
    for phase in s["phase"] or ():
        parts += [
            f"## Phase diagram ({escaped(phase['folder'])})",
            escaped(phase["sentence"]),
            *map(escaped, phase["notes"]),
            _critical(phase),
        ]
    return parts + _forecast(s["forecast"])


def _terms(terms: WatchedTerms) -> str:
    columns = terms["series"]
    lines = [line for line in TERM_PANEL.lines if line.column in columns]
    shown = thinned([int(step or 0) for step in columns["step"]], _TERM_STEPS, ())
    rows = [[number(columns[name][at]) for name in ("step", *(line.column for line in lines))] for at in shown]
    return table(["step", *(line.name for line in lines)], rows)


def _live(live: LiveRecord) -> str:
    sides = [text for told in ("will lead", "undecided", "will not") for text in (told, "lead")]
    rows = [
        [number(r["step"]), percent(r["share"]), number(r["lead"]), number(r["lead_came"]), number(r["undecided"]),
         number(r["undecided_came"]), number(r["behind"]), number(r["behind_came"]), number(r["error"]),
         percent(r["inside"])]
        for r in live["rows"]
    ]  # fmt: skip
    return table(["step", "dose done", *sides, "error, nat", "within 90 %"], rows)


def _missing(s: Summary | ComparisonSummary) -> list[str]:
    told = [
        f"> {escaped(run['label'])}: {escaped(text)}" for run in s["runs"] for text in run["missing"] + run["notes"]
    ]
    return [*told, *(f"> {escaped(text)}" for text in s["notes"])]


def _contexts(s: Summary, *, several: bool) -> str:
    headings = ["#", "prompt", "gold", "rival", "relation", "overlap", "outcome"]
    headings += ["character", "flip", "needed rate", "advice"]
    rows = [
        [c["id"] if several else c["number"], c["prompt_end"], c["gold"], c["rival"], c["relation"] or MISSING,
         number(c["overlap"]), _outcome(c), c["character"] or MISSING, number(c["flip"]), _rates(c), c["advice"]]
        for c in s["contexts"]
    ]  # fmt: skip
    return table(headings, rows)


def _rates(context: ContextRecord) -> str:
    return "; ".join(filter(None, (needed_text(context["needed"]), used_text(context))))


def _outcome(context: ContextRecord) -> str:
    more = [
        name
        for name, true in (("silent", context["silent"]), ("rank and Born gap differ", context["disagrees"]))
        if true
    ]
    return ", ".join([context["outcome"], *more])


def _movement(s: Summary) -> str:
    rows = [[c["id"], c["gold"], *(_ends(c["ends"][name]) for name in _ENDS)] for c in s["contexts"]]
    return table(["#", "gold", *_ENDS.values()], rows)


def _ends(ends: Sequence[float | None]) -> str:
    return f"{number(ends[0])} → {number(ends[1])}"


def _told(s: Summary) -> list[str]:
    lines = []
    for c in s["contexts"]:
        by = ", ".join(f"{name} {told or MISSING}" for name, told in c["outcomes"].items())
        stop = f"; saturated at step {c['stop']['saturation']}" if c["stop"]["saturation"] is not None else ""
        notes = "".join(f" Note: {note}." for note in c["notes"])
        lines.append(
            f"* {escaped(c['id'])} {escaped(c['gold'])}: {escaped(c['why'])} "
            f"(by criterion: {by}{stop}).{escaped(notes)}"
        )
    return ["\n".join(lines)]


def _jumps(s: Summary) -> str:
    flag = {True: "yes", False: "no", None: MISSING}
    rows = [[c["id"], c["gold"], *map(number, _jump(c)), flag[c["phantom"]]] for c in s["contexts"]]
    return table(
        ["#", "gold", "jump step", "jump ratio", "jump share", "amplification", "readout share", "phantom"], rows
    )


def _jump(c: ContextRecord) -> tuple[Number, ...]:
    return c["jump_step"], c["jump_ratio"], c["jump_share"], c["amplification"], c["readout_share"]


def _bulk(record: GeometryRecord) -> str:
    if not record["matrices"]:
        return ""
    rows = [[kind, *map(number, _statistics(m)), m["class"]] for kind, m in record["matrices"].items()]
    names = ("crowding", "mean", "std", "anisotropy", "mean square", "fraction above", "ks gaussian", "ks exponential")
    return table(["matrix", *names, "class"], rows)


def _statistics(m: MatrixRecord) -> tuple[Number, ...]:
    spread = m["crowding"], m["mean"], m["std"], m["anisotropy"], m["mean_square"], m["fraction_above"]
    return *spread, m["ks_gaussian"], m["ks_exponential"]


def _critical(phase: PhaseRecord) -> str:
    rows = [
        [c["number"], c["gold"], c["rival"], number(c["overlap"]),
         rate(c["rate"]) if c["rate"] is not None else c["why"],
         rate(c["low"]), rate(c["high"])]
        for c in phase["critical"]
    ]  # fmt: skip
    return table(["#", "gold", "rival", "overlap", "needed rate", "above", "up to"], rows)


def _forecast(forecast: ForecastRecord | None) -> list[str]:
    if forecast is None:
        return []
    headings = [
        "#",
        "gold",
        "forecast rate",
        "low",
        "high",
        "used rate",
        "rate by the flip",
        "forecast",
        "outcome",
        "by",
    ]
    rows = [
        [r["id"], r["gold"], *(rate(end, 3) for end in bounds_of(r)), rate(r["used_rate"]),
         needed_text(r["measured"]), r["told"], r["outcome"], r["by"]]
        for r in forecast["rows"]
    ]  # fmt: skip
    return ["## Forecast against outcome", escaped(forecast["sentence"]), table(headings, rows) if rows else ""]


def bounds_of(row: ForecastRow) -> tuple[Number, Number, Number]:
    """Return a forecast rate and the ends of its interval."""
    return row["forecast"]["rate"], row["forecast"]["low"], row["forecast"]["high"]


def _compared(s: ComparisonSummary) -> list[str]:
    headings = ["#", "prompt", "gold", "rival", *(escaped(run["label"]) for run in s["runs"]), "differs in"]
    rows = [
        [c["number"], c["prompt_end"], c["gold"], c["rival"], *map(compared_cell, c["entries"]),
         ", ".join(c["differs"]) or "nothing"]
        for c in s["contexts"]
    ]  # fmt: skip
    only = [
        f"* {escaped(s['runs'][c['run']]['label'])}: {escaped(c['prompt_end'])} **{escaped(c['gold'])}** against "
        f"{escaped(c['rival'])} ({escaped(c['outcome'])})"
        for c in s["only"]
    ]
    side = ["## Side by side", table(headings, rows)] if rows else []
    lonely = ["## In one run only", "\n".join(only)] if only else []
    return [f"**{escaped(s['verdict'])}**", *_missing(s), *side, *lonely]


def compared_cell(entry: ComparedEntry | None) -> str:
    """Return what a comparison says of one context under one run."""
    if entry is None:
        return "not in this run"
    if entry["outcome"] == "pre-resolved":
        return "pre-resolved"
    flip = f"flip {entry['flip']}" if entry["flip"] is not None else ""
    return "; ".join(
        filter(None, (entry["outcome"], flip, entry["character"], f"needs {needed_text(entry['needed'])}"))
    )


def _settings(run: Made) -> list[str]:
    pairs = [*run["settings"], *run["environment"]]
    return [table(["setting", escaped(run["label"])], pairs)] if pairs else []


def _definitions(s: Shown) -> list[str]:
    words = "\n".join(f"* **{escaped(e['word'])}**: {escaped(e['meaning'])}" for e in s["definitions"]["words"])
    rows = [
        [o["id"], o["symbol"], o["equation"], o["unit"], o["range"], o["source"]]
        for o in s["definitions"]["observables"]
    ]
    headings = ["observable", "symbol", "equation", "unit", "range", "source"]
    return ["## What the words and numbers mean", words, *([table(headings, rows)] if rows else [])]
