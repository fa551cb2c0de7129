"""What the places of terms come to: one record of numbers, reasons and examples, JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import read_table
from borngap.model.load import model_facts
from borngap.usage.absent import refuse_unmeasured
from borngap.usage.allowed import Allowed
from borngap.usage.asking import DATA
from borngap.usage.leak import BUDGET, PROMPT
from borngap.usage.shares import DUE, LEADS, RIGHT, compliance, of_all, of_term
from borngap.usage.usagefolder import LEAK_FILE, PLACES_FILE

_WORST, _EXAMPLES = 20, 3
_PLACE = ("row", "at", "word")
_SHOWN = ("use", "avoid", "word", "other", "where", "row", "offset", "logit_gap", "use_rank", "before", "after")
_UNTOLD = "nothing says where the word to avoid is right: give --allowed, or --allowed-field"


def summary_of(
    job: Any, folder: Path, counts: Mapping[str, Mapping[str, int]], malformed: list[dict[str, str]]
) -> dict[str, Any]:
    """Return the summary of a finished look.

    Args:
        job: the job.
        folder: where its tables lie.
        counts: counts of each text.
        malformed: place and reason of the first malformed rows.

    Returns:
        JSON-ready but for NaN.
    """
    places = read_table(folder / PLACES_FILE)
    leak = read_table(folder / LEAK_FILE) if job.settings.leak else None
    asked = places.filter(pl.col("data") == job.asked.name)
    _check_measured(asked, job.asked.source.name)
    due, right = (_distinct(asked.filter(kind), by) for kind, by in ((DUE, "logit_gap"), (RIGHT, "-logit_gap")))
    return {
        "data": job.texts[0].source.name,
        "held_out": None if len(job.texts) == 1 else job.asked.source.name,
        "model": model_facts(job.loaded),
        "asked": _asked(job, counts[job.asked.name]),
        "terms_file": job.terms.name,
        "left_out": [asdict(entry) for entry in job.terms.left_out],
        "seed": job.settings.seed,
        "terms": [_term(job, asked, leak, index) for index in range(len(job.terms))],
        "all": of_all(asked, leak, job.settings.seed) | {"notes": _notes(job, asked, right=len(right))},
        "compliance": _compliance(job, places.filter(pl.col("data") == DATA), counts[DATA]),
        "worst": due.head(_WORST).select(_SHOWN).to_dicts(),
        "worst_over_use": right.filter(LEADS).head(_WORST).select(_SHOWN).to_dicts(),
        "malformed": malformed,
        "notes": unfitting_marks(job.allowed, asked),
        "places_file": PLACES_FILE,
        "continuations_file": LEAK_FILE if job.settings.leak else None,
    }


def _asked(job: Any, counts: Mapping[str, int]) -> dict[str, Any]:
    text = job.asked
    return {
        "layout": text.layout, "supervised": text.asker.supervised, **counts, "window": job.window,
        "files": len(text.source.parts), "files_left_out": list(text.source.left_out), "leak": job.settings.leak,
        "prompt_tokens": PROMPT, "continuation_tokens": BUDGET,
    }  # fmt: skip


def _term(job: Any, asked: pl.DataFrame, leak: pl.DataFrame | None, index: int) -> dict[str, Any]:
    term, own = job.terms.terms[index], asked.filter(pl.col("term") == index)
    head = {"use": term.use, "avoid": term.avoid, "where": term.where}
    right = len(own.filter(RIGHT))
    unmeasured = own.filter(pl.col("reason").is_not_null())
    return (
        head | of_term(asked, leak, index, job.settings.seed)
        | {"unmeasured": len(unmeasured), "notes": _notes(job, own, right=right)}
    )  # fmt: skip


def _notes(job: Any, own: pl.DataFrame, *, right: int) -> dict[str, str]:
    """Why numbers are missing, by field."""
    notes = {}
    if not len(own.filter(DUE)):
        standing = len(own.filter(pl.col("kind") == "due"))
        notes["success"] = "none of its places can be measured" if standing else "the wanted word does not stand there"
    if not job.allowed.told:
        notes["over_use"] = _UNTOLD
    elif not right:
        notes["over_use"] = "no place of the word to avoid is marked as right"
    if not job.settings.leak:
        notes["leak"] = "not asked for"
    reasons = own.filter(pl.col("reason").is_not_null()).group_by("reason", maintain_order=True).len()
    if len(reasons):
        notes["unmeasured"] = "; ".join(f"{count}: {reason}" for reason, count in reasons.iter_rows())
    return notes


def _compliance(job: Any, places: pl.DataFrame, counts: Mapping[str, int]) -> dict[str, Any]:
    told = compliance(places, len(job.terms), job.settings.seed)
    terms = [
        {"use": term.use, "avoid": term.avoid} | dict(numbers) | {"examples": _examples(places, index)}
        for index, (term, numbers) in enumerate(zip(job.terms, told["terms"], strict=True))
    ]
    return told | {"rows": counts["rows"], "terms": terms}


def _examples(places: pl.DataFrame, term: int) -> list[dict[str, Any]]:
    wrong = places.filter(pl.col("term") == term, pl.col("kind") == "avoid", ~pl.col("allowed"))
    return wrong.head(_EXAMPLES).select("where", "before", "word", "after").to_dicts()


def _distinct(places: pl.DataFrame, by: str) -> pl.DataFrame:
    """Each place once, with the term that does worst there; the worst first."""
    ordered = places.sort([by.removeprefix("-"), "row", "at"], descending=[by.startswith("-"), False, False])
    return ordered.unique(_PLACE, keep="first", maintain_order=True)


def unfitting_marks(allowed: Allowed, asked: pl.DataFrame) -> list[str]:
    """Say which marks mark nothing.

    Args:
        allowed: the marks.
        asked: places of the text that they are of.

    Returns:
        One note, or none.
    """
    right = asked.filter(pl.col("kind") == "avoid").select("row", "avoid", "word", "offset").to_dicts()
    there: dict[int, list[dict[str, Any]]] = {}
    for place in right:
        there.setdefault(place["row"], []).append(place)
    lost = [
        mark
        for mark in allowed.marks or ()
        if not any(mark.fits(p["avoid"], p["offset"]) for p in there.get(mark.row, ()))
    ]
    if not lost:
        return []
    first = ", ".join(f"row {mark.row}" + (f", {mark.avoid!r}" if mark.avoid else "") for mark in lost[:3])
    return [f"{len(lost)} allowed places hold no word to avoid: {first}{', ...' if len(lost) > 3 else ''}"]


def _check_measured(asked: pl.DataFrame, name: str) -> None:
    """Refuse terms none of which can be measured."""
    if asked["logit_gap"].is_not_null().any():
        return
    reasons = asked.group_by("use", "avoid", "reason", maintain_order=True).len()
    refuse_unmeasured(name, [(f"{use!r} instead of {avoid!r}", why, n) for use, avoid, why, n in reasons.iter_rows()])
