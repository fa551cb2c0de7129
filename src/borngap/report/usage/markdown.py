"""Records on usage as Markdown: a TERMS folder whole, and a comparison before and after as a comment that is short."""

from __future__ import annotations

from collections.abc import Sequence

from borngap.report.markup import escaped, table
from borngap.report.records import Made, Number
from borngap.report.text import MISSING, count, number
from borngap.report.usage.records import ChangeNumbers, ChangeRecord, ChangeSummary, UsageRecord, UsageSummary
from borngap.report.usage.wording import change_ends, in_points, interval_words, percent, probability

_HARMS = (
    "Over-use: of places where the other word is right, those at which the wanted one leads",
    "Leak: of continuations, those with a word to avoid",
)
_OPEN = 5  # worst places that are seen at once; the rest is folded


def change_comment(s: ChangeSummary) -> str:
    """Return a comparison before and after as a comment of a pull request: long parts folded.

    Args:
        s: what ``change_summary`` returned.

    Returns:
        GitHub-flavoured Markdown; no text of the data is read as markup or HTML.
    """
    parts = [
        f"### {escaped(s['title'])}",
        f"**{escaped(s['verdict'])}**",
        *(f"> {escaped(text)}" for text in s["notes"]),
    ]
    if s["all"]["success"]["places"]:
        parts.append(table(list(map(escaped, change_headings(s))), change_lines(s)))
    for title, headings, lines in harm_tables(s):
        parts += [f"#### {title}", table(list(map(escaped, headings)), lines)]
    if s["worst"]:
        parts += ["#### Where the wrong word leads now", *_folded(_moved(s, "worst"))]
    if s["over_used"]:
        parts += ["#### Where the wanted word leads though the other is right", *_folded(_moved(s, "over_used"))]
    made = [f"* **{side}**: {_made(run)}" for side, run in zip(s["sides"], s["runs"], strict=True)]
    words = [f"* **{escaped(e['word'])}**: {escaped(e['meaning'])}" for e in s["definitions"]["words"]]
    parts += _details("How they were made", made) + _details("What the words and numbers mean", words)
    return "\n\n".join(parts) + "\n"


def change_headings(s: ChangeSummary) -> list[str]:
    """Return the headings of the table of changes."""
    relapsed = [] if s["all"]["success"]["relapsed"] is None else ["relapsed"]
    words = [*_words(s), *(["relation"] if s["of"] == "scan" else [])]
    return [*words, "places", *s["sides"], "gained", "lost", *relapsed, "change", "95 %", "p", "McNemar's p"]


def change_lines(s: ChangeSummary, most: int | None = None) -> list[list[str]]:
    """Return the rows of the table of changes: each term or pair, or the first ones, and all together last."""
    return [_line(record, s["of"]) for record in (*s["rows"][:most], s["all"])]


def _words(s: ChangeSummary) -> list[str]:
    return ["wanted", "to avoid"] if s["of"] == "TERMS" else ["gold", "rival"]


def _named(record: ChangeRecord | UsageRecord) -> list[str]:
    return ["all", ""] if record["use"] is None else [record["use"], record["avoid"] or ""]


def _line(record: ChangeRecord, of: str) -> list[str]:
    told = record["success"]
    relapsed = [] if told["relapsed"] is None else [str(told["relapsed"])]
    relation = [record["relation"] or ""] if of == "scan" else []
    return [
        *_named(record), *relation, str(told["places"]), *map(percent, told["shares"]), str(told["gained"]),
        str(told["lost"]), *relapsed, in_points(told["change"]), change_ends(told) or MISSING, probability(told["p"]),
        probability(told["p_mcnemar"]),
    ]  # fmt: skip


def harm_tables(s: ChangeSummary) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables of what a change may cost, over-use and leak: title, headings and rows; none of scans."""
    headings = [*_words(s), "places", *s["sides"], "change", "95 %", "p"]
    records = (*s["rows"], s["all"])
    over_use = [[*_named(r), *_harm(r["over_use"])] for r in records if r["over_use"]]
    leak = [[*_named(r), *_harm(r["leak"])] for r in records if r["leak"]]
    return [(title, headings, lines) for title, lines in zip(_HARMS, (over_use, leak), strict=True) if lines]


def _harm(numbers: ChangeNumbers) -> list[str]:
    ends = change_ends(numbers) or MISSING
    return [
        str(numbers["places"]), *map(percent, numbers["shares"]), in_points(numbers["change"]), ends,
        probability(numbers["p"]),
    ]  # fmt: skip


def _moved(s: ChangeSummary, kind: str) -> list[str]:
    return [
        _place(q["before"], q["word"], q["after"], q["other"], q["gaps"], f"{q['state']}; {q['where']}")
        for q in (s["worst"] if kind == "worst" else s["over_used"])
    ]


def _place(before: str, word: str, after: str, other: str, gaps: Sequence[Number], where: str) -> str:
    told = f"(against {escaped(other)}, {' → '.join(map(number, gaps))} nat; {escaped(where)})"
    return f"* {escaped(before)}**{escaped(word)}**{escaped(after)} {told}"


def _folded(lines: Sequence[str]) -> list[str]:
    more = lines[_OPEN:]
    return ["\n".join(lines[:_OPEN]), *(_details(f"{len(more)} more", more) if more else [])]


def _details(title: str, lines: Sequence[str]) -> list[str]:
    return ["<details><summary>" + escaped(title) + "</summary>", "\n".join(lines), "</details>"]


def _made(run: Made) -> str:
    return f"{escaped(run['label'])}, {run['what']} folder {escaped(run['folder'])}: {escaped(run['made'])}"


def usage_blocks(s: UsageSummary) -> list[str]:
    """Return the blocks of a TERMS folder's report, those that all reports share left out.

    Args:
        s: what ``usage_summary`` returned.

    Returns:
        Markdown; no text of the data is read as markup or HTML.
    """
    headings = ["wanted", "to avoid", "due", "success", "first choice", "other is right", "over-use", "leak", "missing"]
    parts = [f"**{escaped(s['verdict'])}**", *(f"> {escaped(text)}" for text in s["notes"])]
    parts += ["## Term by term", table(headings, [usage_line(record) for record in (*s["terms"], s["all"])])]
    for title, places in (("## Lowest logit gaps where the wanted word is due", s["worst"]),
                          ("## Where the wanted word leads though the other is right", s["over_used"])):  # fmt: skip
        lines = [_place(q["before"], q["word"], q["after"], q["other"], [q["logit_gap"]], q["where"]) for q in places]
        parts += [title, *_folded(lines)] if lines else []
    kept = [
        [c["use"] or "all", c["avoid"] or "", c["use_places"], c["avoid_places"] + c["allowed_places"],
         c["allowed_places"], percent(c["share"])]
        for c in s["compliance"]
    ]  # fmt: skip
    names = ["wanted", "to avoid", "wanted stands", "to avoid stands", "of it right", "compliance"]
    parts += ["## The data's own words", table(names, kept)]
    if s["malformed"]:
        rows = "\n".join(f"* {escaped(row['where'])}: {escaped(row['reason'])}" for row in s["malformed"])
        parts += [f"## Rows left out ({count(len(s['malformed']), 'row')})", rows]
    return parts


def usage_line(record: UsageRecord) -> list[str]:
    """Return the row of a term: words, places, shares with their intervals, and why numbers are missing."""
    why = "; ".join(f"{name.replace('_', '-')}: {reason}" for name, reason in record["why"].items())
    return [
        *_named(record), str(record["due"]), _share(record["success"], record["low"], record["high"]),
        percent(record["first"]), str(record["right_avoid"]),
        _share(record["over_use"], record["over_use_low"], record["over_use_high"]),
        _share(record["leak"], record["leak_low"], record["leak_high"]), why,
    ]  # fmt: skip


def _share(share: Number, low: Number, high: Number) -> str:
    ends = interval_words(low, high)
    return percent(share) + (f" ({ends})" if ends and share is not None else "")
