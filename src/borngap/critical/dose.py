"""A critical rate from the doses of two short runs, and how far an optimiser's first update goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from borngap.critical.calibration import around, half_width
from borngap.critical.landscape import Landscape
from borngap.critical.record import CriticalRate, extrapolated
from borngap.critical.trials import Trials
from borngap.model.forward import last_logits
from borngap.schedule import share_of
from borngap.training import Training

_FIRST_DOSE = 20.0
_AIM = 0.95


def by_dose(land: Landscape, index: int, start: float, limit: float) -> CriticalRate:
    """Find a context's critical rate from the dose at which one or two runs meet the criterion.

    Args:
        land: the model; what is computed is booked there.
        index: the context.
        start: a usual rate; the first run has 20 times as much.
        limit: largest rate that counts.

    Returns:
        The rate, at most the settings' steps having been taken.
    """
    training, before = land.tuner.training, land.spent.copy()
    trials = Trials(land, training.criterion, training.seed)
    rate = min(limit, _FIRST_DOSE * start)
    time = trials.run(index, rate, training.steps)
    if time is None or math.isnan(time):
        return _unmet(rate, time, limit)
    estimate = rate * dose_share(time, training)
    used = land.spent.since(before).optimizer_steps
    left = training.steps - used
    if time < training.steps / 2 and left > used:
        # a second run, slow enough to use the rest of the budget
        second = min(estimate / dose_share(_AIM * left, training), limit)
        later = trials.run(index, second, left)
        if later is not None and not math.isnan(later):
            estimate = extrapolated((rate, estimate), (second, second * dose_share(later, training)))
    low, high = around(estimate, half_width("dose", training.method))
    return CriticalRate(estimate, low, high, "ok", "dose")


def dose_share(time: float, training: Training) -> float:
    """Return the share of a whole run's dose that is given by a time, unit 1.

    Under SGD with momentum m update n, counted from 1, goes 1 - m^n times as far as those after many would. Of
    schedule-free AdamW the mean of where its updates led is looked at, each weighted by its squared rate: without
    warm-up that has gone (n + 1)/2 of an update's length after n of them.

    Args:
        time: steps, not necessarily whole.
        training: the settings.
    """
    factors: Sequence[float] = training.factors
    if training.optimizer == "sgd":
        factors = [factor * (1 - training.beta1**n) for n, factor in enumerate(factors, 1)]
    if training.optimizer == "schedule_free_adamw":
        factors = _of_means(training)
    return share_of(time, factors)


def _of_means(training: Training) -> list[float]:
    """How far the mean of the weights goes in each update of schedule-free AdamW, in lengths of an update."""
    rates = np.minimum(1.0, np.arange(1, training.steps + 1) / max(1, training.warmup))
    means = np.cumsum(rates**2 * np.cumsum(rates)) / np.cumsum(rates**2)
    return [float(step) for step in np.diff(means, prepend=0.0)]


def first_step(land: Landscape) -> float:
    """Return how much larger than AdamW's an optimiser's rate must be to move the weights as far.

    Args:
        land: the model.

    Returns:
        Ratio of the lengths of both optimisers' first updates on the first context at one rate; 1 for AdamW. SGD's
        momentum lets later updates be longer by up to 1 / (1 - beta1), which is taken off.
    """
    training = land.tuner.training
    if training.optimizer == "adamw":
        return 1.0
    plain = replace(training, optimizer="adamw")
    ratio = _length(land, plain) / _length(land, training)
    return ratio * (1 - training.beta1) if training.optimizer == "sgd" else ratio


def _length(land: Landscape, training: Training) -> float:
    """Length of the first update at the rate 1."""
    land.home()
    updates = land.tuner.updates(1.0, replace(training, schedule="constant", warmup=0))
    logits, _ = last_logits(land.tuner.model, [land.tuner.targets[0].ids])
    updates.take(land.tuner.loss(logits, [0]))
    with torch.no_grad():
        moved = torch.cat([p.flatten() for p in land.parameters]) - land.base
    land.home()
    return float(moved.norm())


def _unmet(rate: float, time: float | None, limit: float) -> CriticalRate:
    if time is not None:
        why = f"values ceased to be finite at the rate {rate:.3g}"
        return CriticalRate(None, None, None, "diverged", "dose", why)
    if rate >= limit:
        return CriticalRate(None, rate, None, "beyond", "dose", f"not met up to the rate {rate:.3g}")
    return CriticalRate(None, rate, None, "abstained", "dose", f"not met by one run at the rate {rate:.3g}")
