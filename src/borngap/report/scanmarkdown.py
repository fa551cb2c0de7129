"""The summary record of a scan as Markdown: the same words and numbers as the page."""

from __future__ import annotations

from borngap.report.markup import escaped, table
from borngap.report.records import ScanSummary
from borngap.report.text import MISSING, number


def scan_blocks(s: ScanSummary) -> list[str]:
    """Return the blocks of a scan's report, those that all reports share left out.

    Args:
        s: what ``scan_summary`` returned.

    Returns:
        Markdown; no text of the data is read as markup or HTML.
    """
    told = [f"> {escaped(text)}" for run in s["runs"] for text in run["missing"]]
    parts = [f"**{escaped(s['verdict'])}**", escaped(s["rule"]), *told, *(f"> {escaped(text)}" for text in s["notes"])]
    counts = [[name.replace("_", " "), value] for name, value in s["counts"].items() if value is not None]
    parts += [table(["count", "number"], counts) if counts else ""]
    if s["relations"]:
        kinds = [[row["relation"], row["targets"], row["rival_ahead"]] for row in s["relations"]]
        parts += ["## Relations", escaped(s["nucleus"]), table(["relation", "targets", "rival ahead"], kinds)]
    if s["pairs"]:
        parts += ["## Pairs, worst first", _pairs(s), "## Examples", _examples(s)]
    if s["gaps"]:
        rows = [[number(gap["low"]), number(gap["high"]), gap["targets"]] for gap in s["gaps"]]
        parts += ["## Logit gaps", "0 or below: the rival is first.", table(["above / nat", "up to", "targets"], rows)]
    if s["malformed"]:
        lines = (f"* {escaped(row['where'])}: {escaped(row['reason'])}" for row in s["malformed"])
        parts += ["## Rows left out", "\n".join(lines)]
    if s["bulk"]["sentence"]:
        parts += ["## How crowded the embeddings are", escaped(s["bulk"]["sentence"])]
    return parts


def _pairs(s: ScanSummary) -> str:
    numbers = ["targets", "rival ahead", "overlap", "median logit gap / nat", "median Born gap"]
    headings = ["#", "gold", "rival", "relation", *numbers]
    rows = [
        [
            p["number"],
            p["gold"],
            p["rival"],
            p["relation"],
            p["targets"],
            p["rival_ahead"],
            *map(number, (p["overlap"], p["logit_gap"], p["born_gap"])),
        ]
        for p in s["pairs"]
    ]
    return table(headings, rows)


def _examples(s: ScanSummary) -> str:
    rows = [
        [p["number"], example["before"] or MISSING, p["gold"], p["rival"], number(example["logit_gap"]),
         example["where"]]
        for p in s["pairs"]
        for example in p["examples"]
    ]  # fmt: skip
    return table(["#", "text before", "gold", "rival", "logit gap / nat", "where"], rows)
