"""The phase diagram of a sweep, as a report tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from borngap.choices import CRITERIA
from borngap.report.charts.series import rounded
from borngap.report.records import BoundaryPoint, CriticalRow, PhasePoint, PhaseRecord
from borngap.report.text import count, number, rate, word
from borngap.runfolder import clean
from borngap.shown import visible
from borngap.sweep.phase import Phase, SweptRate
from borngap.sweep.points import phase_diagrams
from borngap.sweep.sweepfolder import Sweep

_MOST = 5000
_CURVE = 24  # points of the boundary line
_STATUS = {
    "ok": "", "pre-resolved": "none: ahead from the start", "beyond": "more than the largest rate",
    "below": "less than the smallest rate", "diverged": "not known: runs diverged",
}  # fmt: skip


def phase_record(sweep: Sweep) -> PhaseRecord:
    """Return a sweep's phase diagram by its own criterion.

    Args:
        sweep: finished runs, all or some.

    Returns:
        The diagram: its boundary is the line kappa = rate x overlap = its cut; empty without one.
    """
    criterion = sweep.plan.get("criterion")
    diagram = phase_diagrams(sweep, [criterion if criterion in CRITERIA else "rank"])[0]
    rows = list(sweep.runs.head(_MOST).iter_rows(named=True))
    points = [_point(row, diagram.criterion) for row in rows]
    words = {row["context"]: (row["gold"], row["rival"]) for row in sweep.runs.iter_rows(named=True)}
    return {
        "folder": visible(sweep.folder.name),
        "criterion": diagram.criterion,
        "points": points,
        "boundary": _boundary(diagram, points),
        "critical": [_critical(entry, words) for entry in diagram.critical],
        "comparisons": [clean(asdict(entry)) for entry in diagram.comparisons],
        "sentence": _sentence(diagram),
        "alt": _alt(points),
        "notes": _notes(sweep, diagram),
    }


def _point(row: Mapping[str, Any], criterion: str) -> PhasePoint:
    outcome = row[f"outcome_{criterion}"]
    character = "pre-resolved" if outcome == "pre-resolved" else row["character"] or "unknown"
    return {
        "gold": word(row["gold"]),
        "rival": word(row["rival"]),
        "rate": rounded(row["rate"]),
        "overlap": rounded(row["gold_overlap"]),
        "character": character,
        "outcome": outcome,
        "seed": row["seed"],
    }


def _critical(entry: SweptRate, words: Mapping[int, tuple[str, str]]) -> CriticalRow:
    gold, rival = words[entry.context]
    return {
        "number": entry.context + 1,
        "gold": word(gold),
        "rival": word(rival),
        "status": entry.status,
        "overlap": rounded(entry.gold_overlap),
        "rate": rounded(entry.rate, 4),
        "low": rounded(entry.low, 4),
        "high": rounded(entry.high, 4),
        "theta": rounded(entry.theta, 4),
        "why": _STATUS.get(entry.status, entry.status),
    }


def _boundary(diagram: Phase, points: Sequence[PhasePoint]) -> list[BoundaryPoint]:
    """Points of the line on which kappa equals its cut, over the overlaps that occur."""
    cut = next((b.cut for b in diagram.boundaries if b.by == "kappa"), None)
    overlaps = [p["overlap"] for p in points if p["overlap"] is not None and p["overlap"] > 0]
    rates = [p["rate"] for p in points if p["rate"] is not None]
    if cut is None or not overlaps:
        return []
    low, high = min(overlaps), max(overlaps)
    line = (low + (high - low) * i / (_CURVE - 1) for i in range(_CURVE))
    curve = [(rounded(cut / overlap), rounded(overlap)) for overlap in line]
    return [
        {"rate": rate, "overlap": overlap}
        for rate, overlap in curve
        if rate is not None and overlap is not None and min(rates) / 2 <= rate <= 2 * max(rates)
    ]


def _sentence(diagram: Phase) -> str:
    theta, kappa = diagram.theta, next((b for b in diagram.boundaries if b.by == "kappa"), None)
    known = [entry.rate for entry in diagram.critical if entry.rate is not None]
    ends = list(dict.fromkeys(map(rate, (min(known), max(known))))) if known else []
    rates = f" Contexts take a rate of {' to '.join(ends)}." if ends else ""
    field = f" theta* (rate × overlap at which contexts resolve) is {number(theta.value)}." if theta.value else ""
    if kappa is None or kappa.cut is None:
        why = kappa.reason if kappa is not None else ""
        cut = f" No phase boundary: {why}." if why else ""
    else:
        right = "" if kappa.accuracy is None else f", right for {100 * kappa.accuracy:.0f} % of them"
        cut = f" Catapults and drifts part at rate × overlap = {number(kappa.cut)}{right}."
    return f"{count(diagram.runs, 'run')} by the criterion {diagram.criterion}.{rates}{field}{cut}"


def _alt(points: Sequence[PhasePoint]) -> str:
    kinds = sorted({p["character"] for p in points})
    told = ", ".join(f"{sum(p['character'] == kind for p in points)} {kind}" for kind in kinds)
    return f"Learning rate against overlap, one mark a run: {told or 'no runs'}"


def _notes(sweep: Sweep, diagram: Phase) -> list[str]:
    notes = []
    if len(sweep.finished) < sweep.planned:
        notes.append(f"{len(sweep.finished)} of {sweep.planned} runs are finished: the diagram is of these.")
    if sweep.runs.height > _MOST:
        notes.append(f"The chart shows the first {_MOST} of {sweep.runs.height} runs; the numbers are of all.")
    if diagram.left_out:
        left = ", ".join(f"{number_} {name}" for name, number_ in sorted(diagram.left_out.items()))
        notes.append(visible(f"Left out of the boundary: {left}."))
    return notes
