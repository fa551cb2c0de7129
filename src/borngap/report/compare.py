"""Runs side by side: the same contexts, what differs, trajectories overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from borngap.errors import UserError
from borngap.report.charts.charts import COMPARED, STYLES
from borngap.report.charts.rows import context_label
from borngap.report.facts.source import Source
from borngap.report.summary import SCHEMA, definitions, summary
from borngap.report.text import count
from borngap.report.wording import precision_words

_KEPT = (
    "outcome", "character", "flip", "steps", "needed", "used_rate", "silent", "disagrees", "ends", "why", "advice",
)  # fmt: skip


def comparison(sources: Sequence[Source]) -> dict[str, Any]:
    """Return the record that a comparison shows.

    Contexts are the same where prompt, gold and rival are.

    Args:
        sources: two to six RUNs.

    Returns:
        ``runs``, ``contexts`` (those in at least two runs, each with one entry a run, None where a run lacks it),
        ``only`` (those in one run), ``verdict``; JSON-ready.

    Raises:
        UserError: too few or too many runs, or their numbers come from weights of different dtypes.
    """
    if not 2 <= len(sources) <= len(STYLES):
        rule = f"2 to {len(STYLES)} RUN folders: lines of more could not be told apart"
        raise UserError("that many runs can't be compared", rule=rule, found=len(sources))
    whole = summary(sources)
    _refuse_mixed_precision(sources)
    runs = _named(whole["runs"])
    groups: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
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


def _refuse_mixed_precision(sources: Sequence[Source]) -> None:
    plans = [(source.run.folder.name, source.plan) for source in sources]
    known = {name: precision_words(plan) for name, plan in plans if precision_words(plan)}
    if len(set(known.values())) > 1:
        found = "; ".join(f"{name}: {words}" for name, words in known.items())
        fix = "repeat one of them with the --dtype of the other"
        raise UserError("the runs are of different precision", rule="one dtype in all", found=found, fix=fix)


def _named(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels that differ: by model, then by folder, then by number."""
    for extra in ("model", "folder"):
        labels = [run["label"] for run in runs]
        if len(set(labels)) < len(labels):
            more = len({run[extra] for run in runs}) > 1
            runs = [run | {"label": f"{run['label']}, {run[extra]}"} if more else run for run in runs]
    labels = [run["label"] for run in runs]
    if len(set(labels)) == len(labels):
        return list(runs)
    return [run | {"label": f"{run['label']} ({number})"} for number, run in enumerate(runs, 1)]


def _in_several(groups: Mapping[Any, dict[int, dict[str, Any]]]) -> list[dict[int, dict[str, Any]]]:
    return [members for members in groups.values() if len(members) > 1]


def _context(number: int, members: dict[int, dict[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = next(iter(members.values()))
    entries = [members.get(index) for index in range(len(runs))]
    kept = [None if entry is None else {name: entry[name] for name in _KEPT} for entry in entries]
    words = {name: first[name] for name in ("prompt", "prompt_end", "prompt_length", "gold", "rival", "overlap")}
    marks = [
        mark | {"text": f"{mark['text']} ({index + 1})"}
        for index, entry in enumerate(entries)
        for mark in (entry["marks"] if entry else ())
        if mark["kind"] == "flip"
    ]
    return {
        "number": number + 1,
        **words,
        "label": context_label(first | {"number": number + 1}, runs, several=False),
        "entries": kept,
        "differs": _differs(kept),
        "series": _overlaid(entries),
        "marks": marks if len(marks) == 1 else [],
    }


def _differs(entries: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Name what differs between the runs that have the context."""
    there = [entry for entry in entries if entry is not None]
    return [name for name in ("outcome", "character", "flip") if len({entry[name] for entry in there}) > 1]


def _overlaid(entries: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Columns of all runs over the union of their steps; None where a run has no record of a step."""
    series = [entry["series"] if entry else None for entry in entries]
    steps = sorted({step for columns in series if columns for step in columns["step"]})
    if not steps:
        return None
    merged: dict[str, Any] = {"step": steps}
    for index, columns in enumerate(series):
        for name in (panel.lines[0].column for panel in COMPARED):
            if columns and name in columns:
                known = dict(zip(columns["step"], columns[name], strict=True))
                merged[f"{name}_{index}"] = [known.get(step) for step in steps]
    return merged


def _lonely(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: context[name] for name in ("run", "number", "prompt_end", "gold", "rival", "outcome")}


def _verdict(contexts: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> str:
    if not contexts:
        return "The runs share no context: there is nothing to compare."
    differing = sum("outcome" in context["differs"] for context in contexts)
    ahead = [_ahead(contexts, index) for index in range(len(runs))]
    led = "; ".join(f"{run['label']}: {text}" for run, text in zip(runs, ahead, strict=True))
    told = "the outcome is the same in all" if not differing else f"the outcome differs in {differing}"
    return f"Of {count(len(contexts), 'shared context')}, {told}. Gold ahead at the end: {led}."


def _ahead(contexts: Sequence[Mapping[str, Any]], index: int) -> str:
    there = [context["entries"][index] for context in contexts if context["entries"][index]]
    return f"{sum(entry['outcome'] in {'resolved', 'pre-resolved'} for entry in there)} of {len(there)}"
