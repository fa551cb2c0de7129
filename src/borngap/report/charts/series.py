"""Series of one context for the charts: columns over steps, rounded, and thinned where a run is large."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from borngap.judge.termshares import TERM_SHARES
from borngap.judge.trajectory import Trajectory
from borngap.report.records import Number, Series

SERIES = (
    "born_gap", "signal", "drag", "gold_probability", "rival_probability", "logit_gap", "cross_entropy",
    "participation_ratio", "embedding_rotation", "overlap_drift",
)  # fmt: skip
CHANGES = {"born_change": "born_gap", "frozen_change": "frozen_born_gap", "logit_change": "logit_gap"}
DIGITS = 5


def series(path: Trajectory, limit: int, keep: Collection[int] = ()) -> Series:
    """Return the columns that the charts draw.

    Changes are those from the record before, also where records are left out.

    Args:
        path: the context's records.
        limit: how many records at most; both ends and those at ``keep`` stay.
        keep: steps that must stay.

    Returns:
        ``step`` and one column an id, None where a number is missing or not finite; ids that the trajectory lacks are
        left out.
    """
    chosen = thinned(path.steps, limit, keep)
    columns = {name: path.values[name] for name in SERIES if name in path.values}
    columns |= {name: _changes(path.values[of]) for name, of in CHANGES.items() if of in path.values}
    known: Series = {"step": [path.steps[i] for i in chosen]}
    return known | {name: [rounded(column[i]) for i in chosen] for name, column in columns.items()}


def term_series(usage: Sequence[Mapping[str, Number]], limit: int) -> Series:
    """Return how terms went over the steps of a run, for its chart.

    Args:
        usage: one row a step: ``step`` and shares.
        limit: how many steps at most; both ends stay.

    Returns:
        ``step`` and one column a share; those that have no number anywhere are left out.
    """
    rows = [usage[at] for at in thinned([int(row["step"] or 0) for row in usage], limit, ())]
    columns = {name: [rounded(row[name]) for row in rows] for name in TERM_SHARES}
    known = {name: column for name, column in columns.items() if any(value is not None for value in column)}
    return {"step": [row["step"] for row in rows]} | known


def thinned(steps: Sequence[int], limit: int, keep: Collection[int]) -> list[int]:
    """Return the indices of records to show: evenly spread, both ends, and those at the steps to keep."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    even = {round(i * (len(steps) - 1) / (limit - 1)) for i in range(limit)}
    return sorted(even | {index for index, step in enumerate(steps) if step in keep})


def rounded(value: object, digits: int = DIGITS) -> float | None:
    """Return a number with so many significant digits; None for what is missing, not finite or no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _changes(column: Sequence[float]) -> list[float]:
    return [math.nan, *(after - before for before, after in pairwise(column))]
