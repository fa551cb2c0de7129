"""A forecast of a run as tables, as Markdown, and as the rows of its charts."""

from __future__ import annotations

from borngap.report.charts.rows import ChartRow
from borngap.report.charts.usagecharts import DRAWN, Drawn, share_row, term_label
from borngap.report.foretold.records import ForetoldPlace, ForetoldShares, ForetoldSummary
from borngap.report.markup import escaped, table
from borngap.report.text import number
from borngap.report.usage.wording import interval_words, percent

TERM_HEADINGS = [
    "wanted", "to avoid", "rows to train on", "places", "lead before", "after", "90 %", "come ahead", "undecided",
    "stay behind", "lost", "other is right", "over-use before", "after",
]  # fmt: skip
CURVE_HEADINGS = ["run", "lead", "90 %", "over-use", "span", ""]
_BEFORE, _AFTER = "before", "forecast"


def term_line(s: ForetoldShares) -> list[str]:
    """Return a term's row of the table."""
    named = ["all", ""] if s["use"] is None else [s["use"], s["avoid"] or ""]
    counts = [str(s["flips"]), str(s["undecided"]), str(s["stays_behind"]), str(s["lost"]), str(s["right_avoid"])]
    named.append("" if s["rows"] is None else str(s["rows"]))
    return [
        *named, str(s["places"]), percent(s["ahead_before"]), percent(s["ahead_after"]),
        interval_words(s["low"], s["high"]), *counts, percent(s["over_use_before"]), percent(s["over_use_after"]),
    ]  # fmt: skip


def curve_lines(s: ForetoldSummary) -> list[list[str]]:
    """Return the rows of the table over rates and epochs."""
    return [
        [p["label"], percent(p["all"]["ahead_after"]), interval_words(p["all"]["low"], p["all"]["high"]),
         percent(p["all"]["over_use_after"]), number(p["span"]), "to use" if p["to_use"] else p["why"]]
        for p in s["curve"]
    ]  # fmt: skip


def drawn_forecast(s: ForetoldSummary) -> dict[str, Drawn]:
    """Return what the charts show: the curve where there is one, and the share ahead of all and of each term."""
    rows: list[ChartRow] = []
    for order, term in enumerate([s["all"], *s["terms"][:DRAWN]]):
        label, places = term_label(term["use"], term["avoid"]), term["places"]
        rows.append(share_row(order, label, _BEFORE, (term["ahead_before"], None, None), places) | {"turn": 0})
        if term["ahead_after"] is not None:
            after = (term["ahead_after"], term["low"], term["high"])
            rows.append(share_row(order, label, _AFTER, after, places) | {"turn": 1})
    found = {"terms": Drawn("Share of places at which the wanted word leads", [_BEFORE, _AFTER], rows)}
    curve = _curve_rows(s)
    return (
        {"curve": Drawn("Lead and over-use by rate and epochs", ["lead", "over-use"], curve)} if curve else {}
    ) | found


def _curve_rows(s: ForetoldSummary) -> list[ChartRow]:
    rows: list[ChartRow] = []
    for order, point in enumerate(s["curve"]):
        own = point["all"]
        lead, over = (own["ahead_after"], own["low"], own["high"]), (
            own["over_use_after"], own["over_use_low"], own["over_use_high"]
        )  # fmt: skip
        for turn, (side, shares, places) in enumerate(
            (("lead", lead, own["places"]), ("over-use", over, own["right_avoid"]))
        ):
            if shares[0] is not None:
                rows.append(share_row(order, point["label"], side, shares, places) | {"turn": turn})
    return rows


def foretold_blocks(s: ForetoldSummary) -> list[str]:
    """Return the blocks of a FORECAST folder's report, those that all reports share left out.

    Args:
        s: what ``foretold_summary`` returned.

    Returns:
        Markdown; no text of the data is read as markup or HTML.
    """
    parts = [f"**{escaped(s['verdict'])}**", *(f"> {escaped(text)}" for text in s["notes"])]
    if s["curve"]:
        parts += ["## By rate and epochs", table(CURVE_HEADINGS, curve_lines(s))]
    parts += ["## Term by term", table(TERM_HEADINGS, [term_line(term) for term in (*s["terms"], s["all"])])]
    over = "## Where the wanted word will lead though the other is right"
    for title, places in (("## Places, worst first", s["worst"]), (over, s["over_used"])):
        parts += [title, "\n".join(map(_line, places))] if places else []
    return parts


def _line(q: ForetoldPlace) -> str:
    gaps = f"{number(q['gaps'][0])} → {number(q['gaps'][1])} ({number(q['low'])} to {number(q['high'])}) nat"
    told = f"({q['prospect']}; against {escaped(q['other'])}, {gaps}; {escaped(q['where'])})"
    return f"* {escaped(q['before'])}**{escaped(q['word'])}** {told}"
