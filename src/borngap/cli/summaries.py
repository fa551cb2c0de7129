"""A report's record on the terminal: its verdict, its tables, its sentences; no charts and no definitions."""

from __future__ import annotations

from borngap.cli.show import fitted_table, print_table, say
from borngap.cli.usagesummaries import print_change, print_forecast, print_remedies, print_usage
from borngap.report.anyrecord import Shown
from borngap.report.records import ComparisonSummary, ForecastRecord, ScanSummary, Summary
from borngap.report.text import MISSING, number, rate
from borngap.report.wording import needed_text

_PAIRS = 20  # worst pairs of a scan


def print_summary(summary: Shown) -> None:
    """Print what a report says.

    Args:
        summary: the record that page, Markdown and JSON show.
    """
    say(summary["title"])
    if summary["kind"] == "report":
        _report(summary)
    elif summary["kind"] == "compare":
        _compared(summary)
    elif summary["kind"] == "scan":
        _scan(summary)
    elif summary["kind"] == "terms":
        print_usage(summary)
    elif summary["kind"] == "forecast":
        print_forecast(summary)
    elif summary["kind"] == "remedies":
        print_remedies(summary)
    else:
        print_change(summary)


def _report(s: Summary) -> None:
    several = len(s["runs"]) > 1
    for run in s["runs"]:
        say(f"{run['label']}: {run['verdict']}" if several else run["verdict"])
    _notes(s, labelled=several)
    if s["contexts"]:
        headings = ["", "gold", "rival", "relation", "overlap", "outcome", "character", "flip", "needed rate", "used"]
        rows = [
            [c["id"] if several else c["number"], c["gold"], c["rival"], c["relation"] or MISSING, number(c["overlap"]),
             c["outcome"], c["character"] or MISSING, number(c["flip"]), needed_text(c["needed"]), rate(c["used_rate"])]
            for c in s["contexts"]
        ]  # fmt: skip
        print_table(fitted_table("\nContexts", headings, rows, 4, keys=2))
        say(f"\n{s['phantom']}")
    for record in s["geometry"]:
        say(record["sentence"])
    if s["forecast"]:
        _forecast(s["forecast"])


def _forecast(forecast: ForecastRecord) -> None:
    from borngap.report.markdown import bounds_of

    say(f"\n{forecast['sentence']}")
    rows = [
        [r["id"], r["gold"], *(rate(end, 3) for end in bounds_of(r)), rate(r["used_rate"]),
         r["told"], r["outcome"]]
        for r in forecast["rows"]
    ]  # fmt: skip
    headings = ["", "gold", "forecast rate", "low", "high", "used rate", "forecast", "outcome"]
    if rows:
        print_table(fitted_table("\nForecast against outcome", headings, rows, 2, keys=2))


def _compared(s: ComparisonSummary) -> None:
    from borngap.report.markdown import compared_cell

    names = [f"{number_}: {run['label']}" for number_, run in enumerate(s["runs"], 1)]
    say(s["verdict"])
    _notes(s, labelled=True)
    rows = [
        [c["number"], c["gold"], c["rival"], *map(compared_cell, c["entries"]), ", ".join(c["differs"]) or "nothing"]
        for c in s["contexts"]
    ]
    if rows:
        headings = ["", "gold", "rival", *names, "differs in"]
        print_table(fitted_table("\nSide by side", headings, rows, len(headings), keys=2))
    for c in s["only"]:
        say(f"only in {s['runs'][c['run']]['label']}: {c['gold']} against {c['rival']} ({c['outcome']})")


def _scan(s: ScanSummary) -> None:
    say(s["verdict"])
    say(s["rule"])
    _notes(s, labelled=False)
    headings = ["", "gold", "rival", "relation", "targets", "rival ahead", "overlap", "median logit gap / nat"]
    rows = [
        [p["number"], p["gold"], p["rival"], p["relation"], p["targets"], p["rival_ahead"], number(p["overlap"]),
         number(p["logit_gap"])]
        for p in s["pairs"][:_PAIRS]
    ]  # fmt: skip
    if rows:
        title = f"\nPairs, worst first ({len(rows)} of {s['pair_count']})"
        print_table(fitted_table(title, headings, rows, 3, keys=3))
    say(f"\n{s['bulk']['sentence']}" if s["bulk"]["sentence"] else "")


def _notes(s: Summary | ComparisonSummary | ScanSummary, *, labelled: bool) -> None:
    for run in s["runs"]:
        for text in run["missing"] + run["notes"]:
            say(f"note: {run['label']}: {text}" if labelled else f"note: {text}")
    for text in s["notes"]:
        say(f"note: {text}")
