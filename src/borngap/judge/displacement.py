"""The right word falls too: a loss of preferences lowers both words, and the rival more (likelihood displacement).

The gap between both words then grows while the model says the right one less often than before. Source: Pal et al.,
arXiv 2402.13228 (section 3); Razin et al., arXiv 2410.08847 (section 3).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from borngap.judge.termshares import WatchedPlace
from borngap.judge.watch import Values

_LEAST = 0.1  # nat that both must have moved, in the mean: less is no finding
Moment = tuple[int, Mapping[int, Values]]


@dataclass(frozen=True)
class Displacement:
    """What became of the right words at a moment, in the mean over them, against the start.

    Attributes:
        step: optimiser steps done.
        words: how many there are.
        log_probability: change of log p of the right word, unit nat; below 0.
        logit_gap: change of its lead over the rival, unit nat; above 0.
    """

    step: int
    words: int
    log_probability: float
    logit_gap: float

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"at step {self.step} the right word falls too: in the mean over {self.words} places its probability is "
            f"{math.exp(self.log_probability):.2g} times what it was, though its lead over the rival grew by "
            f"{self.logit_gap:.2f} nat"
        )


def right_words(count: int, places: Iterable[WatchedPlace]) -> list[int]:
    """Return which of the watched contexts have a gold that training should raise: all but those of right rivals.

    Args:
        count: contexts that are watched, places among them.
        places: places of terms.

    Returns:
        Their numbers, ascending.
    """
    spared = {place.context for place in places if not place.is_due}
    return [context for context in range(count) if context not in spared]


def displaced(first: Moment, now: Moment, golds: Collection[int]) -> Displacement | None:
    """Tell whether right words fell while their lead grew, each by at least 0.1 nat in the mean.

    Args:
        first: the records of the start: context -> observables.
        now: those of a later moment.
        golds: contexts that count; those without a rival, or with a value that is not finite, are left out.

    Returns:
        By how much; None where it is not so, or nothing can be compared.
    """
    (_, before), (step, after) = first, now
    changes = [_change(before[i], after[i]) for i in golds if i in before and i in after]
    known = [change for change in changes if all(map(math.isfinite, change))]
    if not known:
        return None
    fall, rise = (sum(values) / len(known) for values in zip(*known, strict=True))
    return Displacement(step, len(known), fall, rise) if fall <= -_LEAST and rise >= _LEAST else None


def _change(before: Values, after: Values) -> tuple[float, float]:
    """Change of log p, which is minus the cross-entropy, and of the gap."""
    loss, gap = (_number(after.get(name)) - _number(before.get(name)) for name in ("cross_entropy", "logit_gap"))
    return -loss, gap


def _number(value: float | None) -> float:
    return math.nan if value is None else value
