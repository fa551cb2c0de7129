"""The record of one context of one run, as a report tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from borngap.choices import Criterion
from borngap.judge.trajectory import Trajectory
from borngap.report.charts.series import rounded, series
from borngap.report.facts.entries import Entry
from borngap.report.facts.runfacts import RunFacts, trajectory_of
from borngap.report.records import ContextRecord, ContextWords, Ends, Mark, Needed, Number
from borngap.report.text import ending, word
from borngap.schedule import SCHEDULES, factors, share_of
from borngap.shown import visible

PROMPT_END = 90
_ENDS = (
    "logit_gap", "born_gap", "signal", "drag", "gold_probability", "rival_probability", "cross_entropy",
    "participation_ratio", "gold_rank", "gold_overlap",
)  # fmt: skip


def context_record(facts: RunFacts, number: int, entry: Entry, limits: tuple[int, int]) -> ContextRecord:
    """Return everything a report says of one context.

    Args:
        facts: the RUN.
        number: its number in the report, from 0.
        entry: what became of the context.
        limits: records for the charts, and characters of the prompt, at most.

    Returns:
        Words, verdict, needed rate, ends, marks and series; None where something is not known.
    """
    path = trajectory_of(facts.run, entry.context)
    criterion = facts.criterion
    marks = _marks(entry, criterion)
    ends = _ends(path)
    return {
        "id": f"{number + 1}.{entry.context + 1}",  # unique over all runs
        "run": number,
        "number": entry.context + 1,
        **_words(entry, limits[1]),
        "overlap": ends["gold_overlap"][0],
        "outcome": entry.outcome or "unknown",
        "outcomes": {str(name): outcome for name, outcome in entry.outcomes.items()},
        "character": entry.character,
        "flip": entry.flip_steps[criterion],
        "steps": entry.last_step,
        "used_rate": rounded(facts.plan.rate),
        "needed": needed_by_dose(facts, entry),
        "why": entry.why,
        "advice": "" if watched(facts, entry) else entry.advice,
        "disagrees": entry.disagrees,
        "silent": entry.silent,
        "phantom": entry.phantom,
        "drag_worsened": entry.drag_worsened,
        "jump_ratio": rounded(entry.jump_ratio),
        "jump_share": rounded(entry.jump_share),
        "amplification": rounded(entry.amplification),
        "readout_share": rounded(entry.readout_share),
        "jump_step": entry.jump_step,
        "ablation": None if entry.ablation is None else [rounded(value) for value in entry.ablation],
        "stop": entry.stop,
        "marks": marks,
        "ends": ends,
        "series": None if path is None else series(path, limits[0], _kept(entry, marks)),
        "records": 0 if path is None else len(path.steps),
    }


def needed_by_dose(facts: RunFacts, entry: Entry) -> Needed:
    """Estimate the rate that a context needs from the step of its flip.

    The dose at the flip, the sum of the rates so far, is nearly independent of the rate, so that the rate times the
    share of the run's dose is about the smallest rate at which gold is ahead at the end (docs/threshold.md: within 18 %
    under full fine-tuning and 42 % under LoRA at ten times that rate, a few percent near it).

    Args:
        facts: the RUN.
        entry: what became of the context.

    Returns:
        The rate, or a bound, or why there is none.
    """
    plan, used = facts.plan, rounded(facts.plan.rate)
    flip = rounded(entry.flip_times[facts.criterion], 12)
    schedule = next((name for name in SCHEDULES if name == plan.schedule), None)
    if entry.outcome == "pre-resolved":
        return _no_rate("none: ahead from the start")
    if plan.tracked:
        return _no_rate("")  # said once for the whole run: ``remedy_sentence``
    if used is None or not plan.steps:
        return _no_rate("not known: the run does not say its rate")
    if plan.joint:
        return _no_rate("not known: contexts were trained together")
    if flip is None:
        return _no_rate("more than that", used) if entry.failed else _no_rate("not known")
    if schedule is None:
        return _no_rate("not known: the run does not say its schedule")
    needed = used * share_of(flip, factors(schedule, plan.warmup, plan.steps))
    ratio = rounded(used / needed, 2)
    return {"rate": rounded(needed, 3), "low": None, "high": None, "how": "dose", "ratio": ratio, "why": ""}


def watched(facts: RunFacts, entry: Entry) -> bool:
    """Return whether a context stayed behind in a run on other rows, so that no rate of its own would help."""
    return facts.plan.tracked and entry.failed


def _no_rate(why: str, low: Number = None) -> Needed:
    return {"rate": None, "low": low, "high": None, "how": None, "ratio": None, "why": why}


def _words(entry: Entry, limit: int) -> ContextWords:
    return {
        "prompt": visible(entry.prompt[-limit:]),
        "prompt_end": visible(ending(entry.prompt, PROMPT_END)),
        "prompt_length": len(entry.prompt),
        "prompt_cut": max(0, len(entry.prompt) - limit),
        "gold": word(entry.gold),
        "rival": word(entry.rival),
        "relation": None if entry.relation is None else visible(entry.relation),
        "notes": entry.notes,
    }


def _marks(entry: Entry, criterion: Criterion) -> list[Mark]:
    flip, stop = entry.flip_steps[criterion], entry.stop["saturation"]
    marks: list[Mark] = [] if flip is None else [{"kind": "flip", "step": flip, "text": f"flip {flip}"}]
    if stop is not None:
        marks.append({"kind": "stop", "step": stop, "text": f"stop {stop}"})
    return marks


def _kept(entry: Entry, marks: Sequence[Mark]) -> set[int]:
    """Steps whose records stay: the marks and the jump, each with the record before."""
    steps = {mark["step"] for mark in marks} | {entry.jump_step}
    return {step - back for step in steps if step is not None for back in (0, 1)}


def _ends(path: Trajectory | None) -> Ends:
    """First and last value of what the charts show."""
    columns = {} if path is None else path.values
    ends = {name: columns.get(name) or (math.nan,) for name in _ENDS}
    return {name: [rounded(column[0]), rounded(column[-1])] for name, column in ends.items()}
