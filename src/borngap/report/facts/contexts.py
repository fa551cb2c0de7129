"""The record of one context of one run, as a report tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from borngap.choices import CRITERIA
from borngap.judge.trajectory import MARGINS, Trajectory
from borngap.judge.verdicts import NEVER
from borngap.report.charts.series import rounded, series
from borngap.report.facts.source import trajectory_of
from borngap.report.text import ending, word
from borngap.runfolder import Run
from borngap.schedule import factors, share_of
from borngap.shown import visible

PROMPT_END = 90
_ENDS = (
    "logit_gap", "born_gap", "signal", "drag", "gold_probability", "rival_probability", "cross_entropy",
    "participation_ratio", "gold_rank", "gold_overlap",
)  # fmt: skip
_NUMBERS = ("jump_ratio", "jump_share", "amplification", "readout_share")


def context_record(run: Run, number: int, entry: Mapping[str, Any], limits: tuple[int, int]) -> dict[str, Any]:
    """Return everything a report says of one context.

    Args:
        run: the RUN.
        number: its number in the report, from 0.
        entry: the context's entry in the RUN's verdicts.
        limits: records for the charts, and characters of the prompt, at most.

    Returns:
        Words, verdict, needed rate, ends, marks and series; JSON-ready; None where something is not known.
    """
    path = trajectory_of(run, entry["context"])
    criterion = criterion_of(run)
    marks = _marks(entry, criterion)
    ends = _ends(path)
    return {
        "id": f"{number + 1}.{entry['context'] + 1}",  # unique over all runs
        "run": number,
        "number": entry["context"] + 1,
        **_words(entry, limits[1]),
        "overlap": ends["gold_overlap"][0],
        "outcome": _text(entry.get("outcome")) or "unknown",
        "outcomes": {name: _text(_dict(entry.get("outcomes")).get(name)) for name in CRITERIA},
        "character": _text(entry.get("character")),
        "flip": _whole(_dict(entry.get("flip_steps")).get(criterion)),
        "steps": _whole(entry.get("last_step")),
        "used_rate": rounded(run.plan.get("rate")),
        "needed": needed_by_dose(run, entry),
        "why": visible(_text(entry.get("why")) or ""),
        "advice": "" if watched(run, entry) else visible(_text(entry.get("advice")) or ""),
        **{name: _flag(entry.get(name)) for name in ("disagrees", "silent", "phantom", "drag_worsened")},
        **{name: rounded(entry.get(name)) for name in _NUMBERS},
        "jump_step": _whole(entry.get("jump_step")),
        "ablation": _ablation(entry.get("ablation")),
        "stop": _stop(_dict(entry.get("saving"))),
        "marks": marks,
        "ends": ends,
        "series": None if path is None else series(path, limits[0], _kept(entry, marks)),
        "records": 0 if path is None else len(path.steps),
    }


def criterion_of(run: Run) -> str:
    """Return what counts as resolved in a RUN; rank where that is not known."""
    criterion = run.plan.get("criterion")
    return criterion if criterion in MARGINS else "rank"


def needed_by_dose(run: Run, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Estimate the rate that a context needs from the step of its flip.

    The dose at the flip, the sum of the rates so far, is nearly independent of the rate, so that the rate times the
    share of the run's dose is about the smallest rate at which gold is ahead at the end (docs/threshold.md: within 18 %
    under full fine-tuning and 42 % under LoRA at ten times that rate, a few percent near it).

    Args:
        run: the RUN.
        entry: the context's entry in its verdicts.

    Returns:
        ``rate``, ``low``, ``high`` (None each where not known), ``how``, and ``why`` where there is no rate.
    """
    plan, used = run.plan, rounded(run.plan.get("rate"))
    nothing = {"rate": None, "low": None, "high": None, "how": None, "ratio": None}
    flip = rounded(_dict(entry.get("flip_times")).get(criterion_of(run)), 12)
    if entry.get("outcome") == "pre-resolved":
        return nothing | {"why": "none: ahead from the start"}
    if plan.get("command") == "track":
        return nothing | {"why": ""}  # said once for the whole run: ``remedy_sentence``
    if used is None or not plan.get("steps"):
        return nothing | {"why": "not known: the run does not say its rate"}
    if plan.get("joint"):
        return nothing | {"why": "not known: contexts were trained together"}
    if flip is None:
        above = entry.get("outcome") in {"unresolved", "structural", "kinematic"}
        return nothing | {"low": used if above else None, "why": "more than that" if above else "not known"}
    needed = used * share_of(flip, factors(plan["schedule"], plan["warmup"], plan["steps"]))
    return nothing | {"rate": rounded(needed, 3), "how": "dose", "ratio": rounded(used / needed, 2), "why": ""}


def watched(run: Run, entry: Mapping[str, Any]) -> bool:
    """Return whether a context stayed behind in a run on other rows, so that no rate of its own would help."""
    return run.plan.get("command") == "track" and entry.get("outcome") in NEVER


def _words(entry: Mapping[str, Any], limit: int) -> dict[str, Any]:
    prompt = _text(entry.get("prompt")) or ""
    notes = _dict(entry.get("notes"))
    return {
        "prompt": visible(prompt[-limit:]),
        "prompt_end": visible(ending(prompt, PROMPT_END)),
        "prompt_length": len(prompt),
        "prompt_cut": max(0, len(prompt) - limit),
        "gold": word(_text(entry.get("gold"))),
        "rival": word(_text(entry.get("rival"))),
        "notes": [visible(f"{key}: {note}") for key, note in sorted(notes.items())],
    }


def _marks(entry: Mapping[str, Any], criterion: str) -> list[dict[str, Any]]:
    flip = _whole(_dict(entry.get("flip_steps")).get(criterion))
    stop = _whole(_dict(entry.get("saving")).get("saturation_step"))
    return [
        {"kind": kind, "step": step, "text": f"{kind} {step}"}
        for kind, step in (("flip", flip), ("stop", stop))
        if step is not None
    ]


def _kept(entry: Mapping[str, Any], marks: list[dict[str, Any]]) -> set[int]:
    """Steps whose records stay: the marks and the jump, each with the record before."""
    steps = {mark["step"] for mark in marks} | {_whole(entry.get("jump_step"))}
    return {step - back for step in steps if step is not None for back in (0, 1)}


def _stop(saving: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "saturation": _whole(saving.get("saturation_step")),
        "patience": _whole(saving.get("patience_step")),
        "patience_fired": _flag(saving.get("patience_fired")),
        "saved_steps": _whole(saving.get("saved_steps")),
    }


def _ends(path: Trajectory | None) -> dict[str, list[float | None]]:
    """First and last value of what the charts show."""
    columns = {} if path is None else path.values
    ends = {name: columns.get(name) or (math.nan,) for name in _ENDS}
    return {name: [rounded(column[0]), rounded(column[-1])] for name, column in ends.items()}


def _ablation(value: Any) -> list[float | None] | None:
    return [rounded(item) for item in value] if isinstance(value, list) and len(value) == 2 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
