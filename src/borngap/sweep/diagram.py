"""From the runs of a sweep to its phase diagram."""

from __future__ import annotations

from collections.abc import Sequence

from borngap.phase import Phase, Point, phase
from borngap.sweepstore import Sweep
from borngap.trajectory import Criterion


def diagrams(sweep: Sweep, criteria: Sequence[Criterion]) -> list[Phase]:
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
    names = ("context", "seed", "rate", "steps", "gold_overlap", "jump_ratio")
    return [
        Point(
            outcome=row[f"outcome_{criterion}"],
            flip_time=row[f"flip_time_{criterion}"],
            **{name: row[name] for name in names},
        )
        for row in sweep.runs.iter_rows(named=True)
    ]
