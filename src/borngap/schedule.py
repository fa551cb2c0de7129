"""Learning-rate schedules: the factor on the rate of every update, and the dose that they add up to.

The *dose* of a run is the sum of its rates. What a run does to a context depends on the dose far more than on the
number of steps, so times are turned into doses here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from borngap.errors import UserError

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
_FALLS: dict[Schedule, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


def factors(schedule: Schedule, warmup: int, steps: int) -> tuple[float, ...]:
    """Return the factor on the learning rate of every update, as transformers' schedulers of these names have it.

    A warm-up rises in a straight line from 0, which the first update gets, to 1; then ``constant``, or a fall that
    would reach 0 with the update after the last: ``linear`` ``1 - x`` or ``cosine`` ``(1 + cos(pi x)) / 2``, x the
    share of the steps after the warm-up that are done.

    Args:
        schedule: its name.
        warmup: steps of warm-up, at least 0.
        steps: updates of the run, at least 0.

    Returns:
        Unit 1, in [0, 1], one an update.
    """
    fall, rest = _FALLS[schedule], max(1, steps - warmup)
    return tuple(n / warmup if n < warmup else max(0.0, fall((n - warmup) / rest)) for n in range(steps))


def dose_of(time: float, factors: Sequence[float]) -> float:
    """Return the sum of a schedule's factors up to a time.

    Args:
        time: steps, not necessarily whole, in [0, len(factors)].
        factors: of every update.

    Returns:
        The dose over the rate, unit steps at the full rate.
    """
    whole = int(time)
    return sum(factors[:whole]) + (time - whole) * (factors[whole] if whole < len(factors) else 0.0)


def share_of(time: float, factors: Sequence[float]) -> float:
    """Return the share of a whole run's dose that is given by a time.

    Args:
        time: steps, not necessarily whole, in [0, len(factors)].
        factors: of every update of the run, with a sum above 0.

    Returns:
        Unit 1, in [0, 1].

    Example:
        >>> round(share_of(25, factors("linear", 0, 50)), 3)  # not one half: the first half has the larger rates
        0.755
    """
    return dose_of(time, factors) / sum(factors)


def check_dose(factors: Sequence[float]) -> None:
    """Check that a run moves anything.

    Args:
        factors: of every update.

    Raises:
        UserError: there is no update, or all of them have the rate 0.
    """
    if not factors:
        raise UserError("no steps", rule="a critical rate is one for a budget of at least 1 step", found=0)
    if not sum(factors) > 0:
        found = f"{len(factors)} steps, all with the rate 0"
        raise UserError("the warm-up never ends", rule="at least one update has a rate above 0", found=found)
