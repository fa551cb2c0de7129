"""Records on usage on the terminal: the verdict in a line, a table, and the worst places."""

from __future__ import annotations

from collections.abc import Sequence

from borngap.cli.show import fitted_table, print_table, say
from borngap.report.foretold.records import ForetoldSummary
from borngap.report.foretold.shown import CURVE_HEADINGS, TERM_HEADINGS, curve_lines, term_line
from borngap.report.text import number
from borngap.report.tried.records import TriedRemedy, TriedSummary
from borngap.report.tried.shown import ABOVE, COSTS, GAINS, cost_lines, gain_lines, without_empty
from borngap.report.usage.markdown import change_headings, change_lines, harm_tables, usage_line
from borngap.report.usage.records import ChangeSummary, UsageSummary

_ROWS, _PLACES = 20, 5


def print_change(s: ChangeSummary) -> None:
    """Print what changed."""
    say(s["verdict"])
    if len(s["sides"]) == 2:
        say(f"before: {s['runs'][0]['label']}; after: {s['runs'][1]['label']}")
    for text in s["notes"]:
        say(f"note: {text}")
    if s["all"]["success"]["places"]:
        shown = f" (the first {_ROWS} pairs)" if len(s["rows"]) > _ROWS and s["of"] == "scan" else ""
        lines = change_lines(s, _ROWS if shown else None)
        print_table(fitted_table(f"\nChanges{shown}", change_headings(s), lines, 3 - (s["of"] == "TERMS"), keys=2))
    for title, headings, lines in harm_tables(s):
        print_table(fitted_table(f"\n{title}", headings, lines, 2, keys=2))
    for title, places in (("Lost and behind", s["worst"]), ("Over-used", s["over_used"])):
        say(f"\n{title}, worst first ({min(len(places), _PLACES)} of {len(places)})" if places else "")
        for q in places[:_PLACES]:
            gaps = " → ".join(map(number, q["gaps"]))
            place = f"{q['before']}[{q['word']}]{q['after']}  against {q['other']}"
            say(f"    {place}, {gaps} nat; {q['state']}; {q['where']}")


def print_usage(s: UsageSummary) -> None:
    """Print how a model uses the words of terms."""
    say(s["verdict"])
    for text in s["notes"]:
        say(f"note: {text}")
    headings = ["wanted", "to avoid", "due", "success", "first", "other is right", "over-use", "leak", "missing"]
    print_table(fitted_table("\nTerms", headings, [usage_line(r) for r in (*s["terms"], s["all"])], 2, keys=2))


def print_forecast(s: ForetoldSummary) -> None:
    """Print what a run will come to."""
    say(s["verdict"])
    for text in s["notes"]:
        say(f"note: {text}")
    if s["curve"]:
        print_table(fitted_table("\nBy rate and epochs", CURVE_HEADINGS, curve_lines(s), 1, keys=1))
    lines = [term_line(r) for r in (*s["terms"], s["all"])]
    print_table(fitted_table("\nTerms, worst first", TERM_HEADINGS, lines, 2, keys=2))


def print_remedies(s: TriedSummary) -> None:
    """Print what each remedy of a planned run gains and costs."""
    say(s["verdict"])
    for text in s["notes"]:
        say(f"note: {text}")
    print_tried(s["remedies"])


def print_tried(remedies: Sequence[TriedRemedy]) -> None:
    """Print what remedies gain, then what they cost: beside each other both would be wider than 80 columns."""
    gains, costs = without_empty(GAINS, gain_lines(remedies)), without_empty(COSTS, cost_lines(remedies))
    print_table(fitted_table(f"\nWhat each gains, {ABOVE['gains']}", *gains))
    print_table(fitted_table(f"\nWhat each costs, {ABOVE['costs']}", *costs))
