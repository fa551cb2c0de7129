"""From the runs of a sweep to the points of its phase diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from borngap.choices import Criterion
from borngap.schedule import factors, share_of
from borngap.sweep.phase import Phase, Point, phase
from borngap.sweep.sweepfolder import Sweep


def phase_diagrams(sweep: Sweep, criteria: Sequence[Criterion]) -> list[Phase]:
    """Return the phase diagram of a sweep by each criterion.

    Args:
        sweep: finished runs, all or some.
        criteria: what counts as resolved.

    Returns:
        One diagram a criterion.
    """
    return [phase(points(sweep, criterion), criterion) for criterion in dict.fromkeys(criteria)]


def points(sweep: Sweep, criterion: Criterion) -> list[Point]:
    """Return the runs of a sweep as one criterion sees them.

    Args:
        sweep: finished runs.
        criterion: what counts as resolved.

    Returns:
        One point a run, in order of the plan. Of a run that diverged, a crossing before that counts.
    """
    found = factors(*(sweep.plan[name] for name in ("schedule", "warmup", "steps")))
    return [point_of(row, criterion, found) for row in sweep.runs.iter_rows(named=True)]


def point_of(row: Mapping[str, Any], criterion: Criterion, factors: Sequence[float]) -> Point:
    """Return a run as one criterion sees it.

    Args:
        row: of a table of runs.
        criterion: what counts as resolved.
        factors: of the run's schedule, one an update.

    Returns:
        The point.
    """
    time = row[f"flip_time_{criterion}"]
    share = None if time is None else share_of(time, factors)
    names = ("context", "seed", "rate", "gold_overlap", "jump_ratio")
    return Point(outcome=row[f"outcome_{criterion}"], flip_share=share, **{name: row[name] for name in names})
