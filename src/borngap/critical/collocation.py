"""The critical rate of a course: sweeps and crossings, repeated until the rate stays, on a grid that is fine enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from borngap.critical.course import TRUSTED, Course
from borngap.critical.record import RateStatus

_ROUNDS = 12
_RATE_TOLERANCE = 2e-3
_GRID_ERROR = 1e-2
_WORST = 5e-2  # the largest error that a rate is given with
_NEAR_CROSSING = 2e-2
_SETTLED_END = 0.1
_AT_THE_END = 0.95  # of the dose: a criterion met before it was met by a smaller rate


@dataclass(frozen=True)
class Solution:
    """A critical rate from collocation.

    Attributes:
        rate: the rate; None if there is none.
        error: estimate of |log(rate / true rate)| from the grid and from the iteration; inf if it did not converge.
        status: ``ok``, ``beyond``, ``abstained`` or ``diverged``.
        why: reason for the status, empty if ok.
    """

    rate: float | None
    error: float
    status: RateStatus
    why: str = ""


def solve(course: Course, start: float, limit: float) -> Solution:
    """Find the critical rate of a course.

    Args:
        course: a context's run; holds the solution's gradients afterwards.
        start: rate to begin at.
        limit: largest rate that counts.

    Returns:
        The solution, with the estimated error of the grid taken off.
    """
    begun, before = _approach(course, start, limit), None
    while True:
        if isinstance(begun, Solution):
            return begun
        last = course.finest
        found, change, shift = _iterate(course, *begun, last=last)
        if math.isinf(shift) and before is not None:
            shift = math.log(before / found) / 3
        before = found if abs(change) <= _RATE_TOLERANCE else None
        if last or (abs(shift) <= _GRID_ERROR and abs(change) <= _RATE_TOLERANCE):
            break
        course.refine()
        begun = _approach(course, found, limit) if math.isinf(change) else (found, [])
    if found > limit:
        return Solution(None, 0.0, "beyond", f"not met up to the rate {limit:.3g}")
    error = max(abs(change), abs(shift) / 2)
    if not error < _WORST:
        return Solution(None, error, "abstained", f"sweeps at rates near {found:.3g} do not settle")
    if max(course.margins[:-1]) > 0 and (course.share or 1.0) < _AT_THE_END:
        why = f"at the rate {found:.3g} gold comes ahead on the way and falls back: a smaller rate may do"
        return Solution(None, error, "abstained", why)
    return Solution(found * math.exp(-shift), error, "ok")


def _approach(course: Course, start: float, limit: float) -> tuple[float, list[tuple[float, float]]] | Solution:
    """Sweep until the end of the run lies near the crossing; return a rate near it, and what a sweep said of it."""
    rate, cold = min(start, limit), True
    for _ in range(4 * _ROUNDS):
        if cold and rate > 2 * start and not course.finest:
            course.refine()  # a piece must not lead too far
        course.sweep(rate, cold=cold)
        if any(math.isnan(margin) for margin in course.margins):
            return Solution(None, math.inf, "diverged", f"logits are not finite at the rate {rate:.3g}")
        share = course.share
        if share is None or max(course.margins) <= 0:
            found = course.crossing(rate)
            if found is not None:
                return found, [(math.log(rate), math.log(found / rate))]
            if rate >= limit:
                return _unmet(course, limit)
            rate, cold = min(2 * rate, limit), True
            continue
        if share > 0.6:
            found = None if course.margins[-1] <= 0 else course.crossing(rate * share)
            if found is None or _is_far(found, rate * share):
                return rate * share, []
            return found, [(math.log(rate), math.log(found / rate))]
        course.shrink(share)
        rate, cold = rate * share, False
    return Solution(None, math.inf, "abstained", "no rate near the crossing was found")


def _unmet(course: Course, limit: float) -> Solution:
    """Say that the largest rate does not meet the criterion, if sweeps at it agree."""
    before = course.margins[-1]
    course.sweep(limit)
    after = course.margins[-1]
    if max(course.margins) <= 0 and abs(after - before) <= _SETTLED_END * abs(after):
        return Solution(None, 0.0, "beyond", f"not met up to the rate {limit:.3g}")
    return Solution(None, math.inf, "abstained", f"not met up to the rate {limit:.3g}, where sweeps do not settle")


def _iterate(course: Course, rate: float, seen: list[tuple[float, float]], *, last: bool) -> tuple[float, float, float]:
    """Repeat sweep and crossing on one grid, speeded up by secants, until the rate stays or a finer grid is due.

    Args:
        course: a context's run.
        rate: near the crossing.
        seen: (logarithm of a rate, change of it) of sweeps on this grid so far.
        last: whether there is no finer grid to go to.

    Returns:
        The rate, the last change of its logarithm, and the estimated error of the grid, inf where not known.
    """
    x, seen, shift = math.log(rate), list(seen), math.inf
    for _ in range(_ROUNDS):
        course.sweep(math.exp(x))
        found = course.crossing(math.exp(x))
        if (found is None or _is_far(found, math.exp(x))) and course.share is not None:
            found = math.exp(x) * course.share  # as if a rate acted by its dose
        if found is None:
            return math.exp(x), math.inf, shift
        change = math.log(found) - x
        seen.append((x, change))
        if abs(change) < _NEAR_CROSSING and math.isinf(shift):
            shift = _grid_shift(course, found)
        step, rest = _secant(seen)
        if rest < _RATE_TOLERANCE or (not last and (_stalled(seen) or _GRID_ERROR < abs(shift) < math.inf)):
            return math.exp(x + step), rest, shift
        x += step
    return math.exp(x), rest, shift


def _stalled(seen: list[tuple[float, float]]) -> bool:
    """Whether the changes of three rounds did not shrink to a half."""
    return len(seen) > 3 and min(abs(change) for _, change in seen[-2:]) > abs(seen[-4][1]) / 2


def _secant(seen: list[tuple[float, float]]) -> tuple[float, float]:
    """Take the last change, or go where a line through the last two (position, change) is zero.

    Returns:
        The step, and about what is left after it: the change, or for a line twice of what it corrects the change by.
    """
    x, change = seen[-1]
    if len(seen) < 2 or seen[-2][0] == x:
        return change, abs(change)
    slope = (change - seen[-2][1]) / (x - seen[-2][0])
    if not slope < -0.2:
        return change, abs(change)
    step = math.copysign(min(abs(change / slope), 3 * abs(change)), change)
    return step, min(abs(change), 2 * abs(step - change)) if abs(change) < _NEAR_CROSSING else abs(change)


def _grid_shift(course: Course, rate: float) -> float:
    """Estimate the grid's error of log rate by what leaving out every second node changes (order 2)."""
    left = course.coarser()
    if left is None:
        return 0.0
    displacement, share = left
    found = course.crossing(rate, displacement)
    return math.inf if found is None or _is_far(found, rate) else math.log(found / rate) * share


def _is_far(found: float, rate: float) -> bool:
    """Whether a crossing is too far to be believed: scaled that much, the end of a run is not that of another rate."""
    return abs(math.log(found / rate)) > TRUSTED
