"""Critical rates: which learning rate a context takes, and what that means for a plan (docs/threshold.md).

The critical rate of a context is the smallest rate at which a criterion is first met within the budget of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

RateStatus = Literal["ok", "pre-resolved", "beyond", "abstained", "diverged"]
Prospect = Literal["will resolve", "at risk", "will fail", "pre-resolved", "unknown"]
By = Literal["collocation", "path", "ray", "dose", "bisect", "grid", "class-mean"]
WAYS: tuple[By, ...] = get_args(By)
SOLVED: tuple[By, ...] = ("collocation", "path", "ray", "class-mean")  # without a run, for AdamW alone

ROUNDED = 0.01
_CLASS_FIELDS = {"A": 1.70, "B": 10.0}


@dataclass(frozen=True)
class CriticalRate:
    """The critical rate of one context.

    Attributes:
        rate: learning rate, unit 1; None if there is none or it is not known.
        low: lower end of the 90 % interval (of a search: largest rate known not to suffice), or None.
        high: upper end (of a search: smallest rate known to suffice), or None.
        status: ``ok``, ``pre-resolved`` (the base model has it), ``beyond`` the largest rate tried, ``abstained``, or
            ``diverged``.
        by: how it was found.
        why: reason for the status, empty if ok.
        optimizer_steps: updates of a real optimiser that it took.
        forward_passes: forwards of one context that it took, those of gradients and updates included.
        step_kept: what the weights' dtype keeps of a step of this size (``Landscape.step_kept``), by collocation, which
            rounds no step; None by other ways.
    """

    rate: float | None
    low: float | None
    high: float | None
    status: RateStatus
    by: By
    why: str = ""
    optimizer_steps: int = 0
    forward_passes: int = 0
    step_kept: float | None = None

    @property
    def is_rounded(self) -> bool:
        """Whether rounding changes steps of this size by more than a forecast of full fine-tuning is off."""
        return self.step_kept is not None and abs(self.step_kept - 1) > ROUNDED

    @property
    def text(self) -> str:
        """The rate with its interval, or why there is none, in a few words."""
        if self.rate is None:
            return f"{self.status} ({self.why})" if self.why else self.status
        ends = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"takes rate {self.rate:.3g}{ends}"


def rounding_note(criticals: Sequence[CriticalRate], dtype: str) -> str | None:
    """Say at which rates a run would be rounded away from its forecast.

    Args:
        criticals: of contexts, in order.
        dtype: of the trained weights.

    Returns:
        A sentence without its full stop; None where there is no such rate.
    """
    found = [
        f"{n} ({100 * c.step_kept:.1f} %)" if c.step_kept else f"{n} (nothing)"
        for n, c in enumerate(criticals, 1)
        if c.is_rounded
    ]
    if not found:
        return None
    many = f"{', '.join(found[:8])}{' ...' if len(found) > 8 else ''}"
    return (
        f"steps as small as the rates of {len(found)} of {len(criticals)} contexts are rounded by {dtype} weights, "
        f"which keep of them: {many}; a forecast rounds nothing, so that a run needs another rate there"
    )


def prospect(critical: CriticalRate, planned: float) -> Prospect:
    """Return how a run at a planned rate will end.

    Args:
        critical: of the context.
        planned: learning rate.

    Returns:
        ``will fail`` below the interval, ``at risk`` within, ``will resolve`` above; ``pre-resolved``; ``will fail``
        for a rate not larger than the largest one tried in vain; else ``unknown``.
    """
    if critical.status == "pre-resolved":
        return "pre-resolved"
    if critical.status in {"beyond", "diverged"} and critical.low is not None and planned <= critical.low:
        return "will fail"
    if critical.low is None or critical.high is None:
        return "unknown"
    if planned < critical.low:
        return "will fail"
    return "at risk" if planned <= critical.high else "will resolve"


def combined(criticals: Sequence[CriticalRate]) -> CriticalRate:
    """Return one critical rate for several seeds.

    Args:
        criticals: of one context, at least one.

    Returns:
        The geometric mean, its interval from the lowest low to the highest high. If any seed has no rate, neither has
        the context: the first such seed's status, with the lowest low of all and no high. What was spent is added up.
    """
    spent = {key: sum(getattr(c, key) for c in criticals) for key in ("optimizer_steps", "forward_passes")}
    without = next((c for c in criticals if c.rate is None or c.low is None or c.high is None), None)
    if len(criticals) == 1:
        return criticals[0]
    if without is not None:
        lows = [c.low for c in criticals if c.low is not None]
        # a rate below every low fails with every seed; nothing is known to suffice with all of them
        return replace(without, low=min(lows) if len(lows) == len(criticals) else None, high=None, **spent)
    rate = math.exp(sum(math.log(c.rate) for c in criticals if c.rate) / len(criticals))
    low, high = min(c.low for c in criticals if c.low), max(c.high for c in criticals if c.high)
    return replace(criticals[0], rate=rate, low=low, high=high, **spent)


def extrapolated(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the critical rate from the doses of two runs, ``log s*`` taken as a straight line in the log rate.

    ``s*(rate)`` is the share of the budget's dose at the flip, times the rate: the critical rate that one run gives.
    The true one is its fixed point.

    Args:
        first: rate of a run and the critical rate that its dose gives.
        second: the same of a slower run.

    Returns:
        The fixed point; the second run's own figure where the line has none nearby.
    """
    (x1, y1), (x2, y2) = (tuple(map(math.log, point)) for point in (first, second))
    slope = (y2 - y1) / (x2 - x1) if x1 != x2 else 0.0
    guess = (y2 - slope * x2) / (1 - slope) if abs(slope) < 0.5 else y2
    return math.exp(guess if abs(guess - y2) < abs(y2 - y1) else y2)


def class_mean(overlap: float, mean_overlap: float, embedding_class: str, standard: float) -> float | None:
    """Return the paper's blind forecast ``eta_c = eta_standard mean(Gmax) / (H Gmax)``.

    Source: eq 22 of the paper; its reduced field H is 1.70 for dense and 10.0 for sparse embeddings.

    Args:
        overlap: Gmax of the context.
        mean_overlap: mean Gmax of the model's contexts.
        embedding_class: of the model's bulk, ``A`` (dense), ``B`` (sparse) or between.
        standard: the method's standard rate.

    Returns:
        The rate; None for a bulk that is neither, and where the overlap is not positive.
    """
    field = _CLASS_FIELDS.get(embedding_class)
    if field is None or overlap <= 0:
        return None
    return standard * mean_overlap / (field * overlap)
