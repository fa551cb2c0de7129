"""How much of a run's dose, the sum of its learning rates, is done after each step: read off the host's schedule."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Any

import torch


class Doses:
    """The dose of a run after each of its steps.

    Attributes:
        steps: of the run.
    """

    def __init__(self, rates: Sequence[float], first: int = 0, before: Mapping[int, float] | None = None) -> None:
        """Add up rates.

        Args:
            rates: of each step from ``first`` on, to the end of the run.
            first: steps that were done before, in a run that was interrupted.
            before: dose after steps up to ``first``, as ``at`` told it then.
        """
        self.steps = first + len(rates)
        self._first, self._before = first, dict(before or {})
        self._sums = list(accumulate(rates, initial=self._before.get(first, 0.0)))

    @property
    def is_known(self) -> bool:
        """Whether the run moves anything."""
        return math.isfinite(self._sums[-1]) and self._sums[-1] > 0

    def at(self, step: int) -> float:
        """Return the dose after a step, the unit that of the rates."""
        if step < self._first:
            return self._before[step]
        return self._sums[min(step, self.steps) - self._first]

    def share(self, step: int) -> float:
        """Return the share of the run's dose that is done after a step."""
        return self.at(step) / self._sums[-1]


def planned_rates(optimizer: Any, scheduler: Any, steps: int, *, every: int = 1) -> list[float]:
    """Return the learning rates of steps to come, by stepping a copy of the host's scheduler.

    Args:
        optimizer: the host's; of several groups the mean counts.
        scheduler: its scheduler of torch's kind; None for a constant rate. One that waits for a loss is taken for
            constant.
        steps: how many.
        every: optimiser steps from one of the scheduler's to the next.

    Returns:
        One rate a step.
    """
    own, plan = getattr(optimizer, "optimizer", optimizer), getattr(scheduler, "scheduler", scheduler)
    twin = _twin(own)
    # the copy refers to the twin wherever the scheduler refers to the optimiser, so no weights are copied
    copied = copy.deepcopy(plan, {id(own): twin, id(optimizer): twin})
    rates, waits = list[float](), not hasattr(plan, "get_last_lr") or hasattr(plan, "num_bad_epochs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(steps):
            rates.append(fmean(float(group["lr"]) for group in twin.param_groups))
            if not waits and (step + 1) % every == 0:
                copied.step()
    return rates


def _twin(optimizer: Any) -> torch.optim.Optimizer:
    """An optimiser with the groups of another and no weights."""
    groups = [{k: copy.copy(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return torch.optim.SGD([{"params": [torch.zeros(1)], **group} for group in groups], lr=0.0)
