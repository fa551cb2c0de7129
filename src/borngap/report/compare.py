"""Runs side by side: the same contexts, what differs, trajectories overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from borngap.changes.sameness import refuse_mixed_precision
from borngap.errors import UserError
from borngap.report.charts.charts import COMPARED, STYLES
from borngap.report.charts.rows import context_label
from borngap.report.facts.runfacts import RunFacts
from borngap.report.records import (
    ComparedContext,
    ComparedEntry,
    ComparisonSummary,
    ContextRecord,
    LonelyContext,
    Mark,
    RunRecord,
    Series,
)
from borngap.report.summary import SCHEMA, definitions, summary
from borngap.report.text import count
from borngap.report.wording import AHEAD, precision_words


def comparison(sources: Sequence[RunFacts]) -> ComparisonSummary:
    """Return the record that a comparison shows.

    Contexts are the same where prompt, gold and rival are.

    Args:
        sources: two to six RUNs.

    Returns:
        The contexts of at least two runs side by side, and those of one run only.

    Raises:
        UserError: too few or too many runs, or their numbers come from weights of different dtypes.
    """
    refuse_number(len(sources), "RUN")
    whole = summary(sources)
    told = {source.run.folder.name: precision_words(source.plan.dtype, source.plan.measured_in) for source in sources}
    refuse_mixed_precision(told, "runs")
    runs = _named(whole["runs"])
    groups: dict[tuple[str, ...], dict[int, ContextRecord]] = {}
    for context in whole["contexts"]:
        key = (str(context["prompt_length"]), context["prompt"], context["gold"], context["rival"])
        groups.setdefault(key, {}).setdefault(context["run"], context)
    shared = [_context(number, members, runs) for number, members in enumerate(_in_several(groups))]
    only = [_lonely(context) for members in groups.values() if len(members) == 1 for context in members.values()]
    return {
        "schema": SCHEMA,
        "kind": "compare",
        "title": f"{count(len(runs), 'run')} compared",
        "runs": runs,
        "contexts": shared,
        "only": only,
        "notes": whole["notes"],
        "verdict": _verdict(shared, runs),
        "definitions": definitions(),
    }


def refuse_number(number: int, kind: str) -> None:
    """Refuse to compare too few or too many folders.

    Args:
        number: how many there are.
        kind: of the folders.

    Raises:
        UserError: fewer than two, or more than there are styles of lines.
    """
    if not 2 <= number <= len(STYLES):
        rule = f"2 to {len(STYLES)} {kind} folders: lines of more could not be told apart"
        raise UserError(f"that many {kind} folders can't be compared", rule=rule, found=number)


def _named(runs: Sequence[RunRecord]) -> list[RunRecord]:
    models, folders = [run["model"] for run in runs], [run["folder"] for run in runs]
    labels = distinct([run["label"] for run in runs], models, folders)
    return [{**run, "label": label} for run, label in zip(runs, labels, strict=True)]


def distinct(labels: Sequence[str], *more: Sequence[str]) -> list[str]:
    """Return labels that differ: each with more about it where they don't, and with its number at last.

    Args:
        labels: of each thing.
        *more: what else there is to say of each, in this order.

    Returns:
        As many.
    """
    for extra in more:
        if len(set(labels)) < len(labels) and len(set(extra)) > 1:
            labels = [f"{label}, {own}" for label, own in zip(labels, extra, strict=True)]
    if len(set(labels)) == len(labels):
        return list(labels)
    return [f"{label} ({number})" for number, label in enumerate(labels, 1)]


def _in_several(groups: Mapping[tuple[str, ...], dict[int, ContextRecord]]) -> list[dict[int, ContextRecord]]:
    return [members for members in groups.values() if len(members) > 1]


def _context(number: int, members: dict[int, ContextRecord], runs: Sequence[RunRecord]) -> ComparedContext:
    first = next(iter(members.values()))
    entries = [members.get(index) for index in range(len(runs))]
    kept = [None if entry is None else _kept(entry) for entry in entries]
    marks: list[Mark] = [
        {**mark, "text": f"{mark['text']} ({index + 1})"}
        for index, entry in enumerate(entries)
        for mark in (entry["marks"] if entry else ())
        if mark["kind"] == "flip"
    ]
    return {
        "number": number + 1,
        "prompt": first["prompt"],
        "prompt_end": first["prompt_end"],
        "prompt_length": first["prompt_length"],
        "gold": first["gold"],
        "rival": first["rival"],
        "overlap": first["overlap"],
        "label": context_label({**first, "number": number + 1}, runs, several=False),
        "entries": kept,
        "differs": _differs([entry for entry in kept if entry is not None]),
        "series": _overlaid(entries),
        "marks": marks if len(marks) == 1 else [],
    }


def _kept(entry: ContextRecord) -> ComparedEntry:
    return {
        "outcome": entry["outcome"],
        "character": entry["character"],
        "flip": entry["flip"],
        "steps": entry["steps"],
        "needed": entry["needed"],
        "used_rate": entry["used_rate"],
        "silent": entry["silent"],
        "disagrees": entry["disagrees"],
        "ends": entry["ends"],
        "why": entry["why"],
        "advice": entry["advice"],
    }


def _differs(entries: Sequence[ComparedEntry]) -> list[str]:
    """Name what differs between the runs that have the context."""
    told: dict[str, list[object]] = {
        "outcome": [entry["outcome"] for entry in entries],
        "character": [entry["character"] for entry in entries],
        "flip": [entry["flip"] for entry in entries],
    }
    return [name for name, values in told.items() if len(set(values)) > 1]


def _overlaid(entries: Sequence[ContextRecord | None]) -> Series | None:
    """Columns of all runs over the union of their steps; None where a run has no record of a step."""
    series = [entry["series"] if entry else None for entry in entries]
    steps = sorted({step for columns in series if columns for step in columns["step"] if step is not None})
    if not steps:
        return None
    merged: Series = {"step": [*steps]}
    for index, columns in enumerate(series):
        for name in (panel.lines[0].column for panel in COMPARED):
            if columns and name in columns:
                known = dict(zip(columns["step"], columns[name], strict=True))
                merged[f"{name}_{index}"] = [known.get(step) for step in steps]
    return merged


def _lonely(context: ContextRecord) -> LonelyContext:
    return {
        "run": context["run"],
        "number": context["number"],
        "prompt_end": context["prompt_end"],
        "gold": context["gold"],
        "rival": context["rival"],
        "outcome": context["outcome"],
    }


def _verdict(contexts: Sequence[ComparedContext], runs: Sequence[RunRecord]) -> str:
    if not contexts:
        return "The runs share no context: there is nothing to compare."
    differing = sum("outcome" in context["differs"] for context in contexts)
    ahead = [_ahead(contexts, index) for index in range(len(runs))]
    led = "; ".join(f"{run['label']}: {text}" for run, text in zip(runs, ahead, strict=True))
    told = "the outcome is the same in all" if not differing else f"the outcome differs in {differing}"
    return f"Of {count(len(contexts), 'shared context')}, {told}. Gold ahead at the end: {led}."


def _ahead(contexts: Sequence[ComparedContext], index: int) -> str:
    there = [entry for context in contexts if (entry := context["entries"][index]) is not None]
    return f"{sum(entry['outcome'] in AHEAD for entry in there)} of {len(there)}"
