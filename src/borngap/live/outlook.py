"""From the first part of a run to its end: where each watched word will stand, from what a host's run has shown so far.

With x the share of the run's dose (the sum of its learning rates) that is done, d_i the change of the logit gap of
place i and M the mean change of all places of its kind (the wanted word due, or the other one right), mean changes grow
as a power of the dose until they use up the room there is, R: R the root of 1 nat^2 and the mean square of the gaps
before training (1.2 of what a mean has come to, if that is more)::

    M  =  R (1 - exp(-u)),  u ~ x^p, one p for the whole run

p is fitted to the kinds' means at all looks so far, and drawn to a prior, since few looks tell little. With M' the mean
at the end, only what it still grows is sure of what is to come to a place::

    forecast gap  =  g_i + (M' - M) + 0.1 (x^-p - 1) (d_i - M) - 0.1 |M' - M| (g_i - mean of g over the kind)

with g_i the gap now: what is further behind is pushed more. A straight line through each place's own change would let
it go on as it began, which it does not. What a place does beside its kind is a random walk over the dose, and a
fluctuation from look to look that is there to the end where the rate stays high. With S the scatter of d_i - M so far,
the variance of its end is::

    0.3 S^2 (1 - x) / x  +  2 f^2,  f^2 half of what changes of d_i - M between looks, squared, exceed the walk by

f^2 is the mean over the looks since half of the dose that is done now. Places stray further than a normal distribution
has it, so their draws are Student's t of 4 degrees of freedom, of the same 90 % interval. A stored forecast of the same
run (its pilot) tells the end too; both are averaged by their precisions. Where these constants come from:
docs/track.md#where-the-words-will-stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from borngap.pilot.estimates import Floats, PlaceForecasts

Numbers = NDArray[np.int64]
FIRST_DOSE = 0.2  # share of the dose from which on the end is forecast
# docs-gpt2-s and docs-llama, full and LoRA, 160 steps, 2026-11-30: docs/track.md
POWER, POWER_SPREAD = 0.6, 0.15  # mean and standard deviation of p over runs
POWER_NOISE = 0.4  # standard deviation of what the looks tell of p
MORE = 1.2  # at least so far over what a mean has come to by now the room goes
OWN = 0.1  # of a place's own change, beside its kind's mean, that goes on
_FAR = 5.0  # nat; what is further off is pushed no more and no less
PUSH = 0.1  # by how much more a place moves that is a nat further behind, as a share
WALK = 0.3  # variance of a place's end, over that of a random walk which goes on as it went so far
_RECENT = 0.5  # of the dose done: looks since then tell the fluctuation
_FREEDOM, _T_90 = 4, 2.1318  # of Student's t, and the half-width of its 90 % interval
NORMAL_90 = 1.6449  # half-width of the 90 % interval of a normal distribution over its standard deviation
_DRAWS = 1000


@dataclass(frozen=True)
class Looks:
    """What a run has shown so far.

    Attributes:
        shares: of the dose that is done at each look, ascending from 0, shape (looks,).
        gaps: logit gaps, unit nat, shape (looks, n).
        kinds: number of the kind of each place, shape (n,): what a run drives up at one kind it may drive down at
            another.
    """

    shares: Floats
    gaps: Floats
    kinds: Numbers


@dataclass(frozen=True)
class Told:
    """What a stored forecast tells of the end of the same run.

    Attributes:
        changes: forecast changes of the logit gaps, unit nat, NaN where it tells nothing, shape (n,).
        deviations: their standard deviations, shape (n,).
    """

    changes: Floats
    deviations: Floats


def outlook(looks: Looks, told: Told | None = None, seed: int = 0) -> PlaceForecasts:
    """Forecast the end of a run.

    Args:
        looks: two at least, the last one before the end.
        told: a stored forecast of the same places.
        seed: seeds the draws.

    Returns:
        The forecasts, from the gaps at the first look.
    """
    base, now, x, kinds = looks.gaps[0], looks.gaps[-1], float(looks.shares[-1]), looks.kinds
    change = now - base
    means = np.stack([_means(gaps - base, kinds) for gaps in looks.gaps[1:]])
    room = max(float(np.sqrt(np.mean(base**2) + 1)), MORE * float(np.abs(means).max()))
    power, spread = growth(looks.shares[1:], _straight(means, room))
    mean = means[-1]
    still = _grown(mean, x**-power, room) - mean
    lead = np.clip(now - _means(now, kinds), -_FAR, _FAR)
    ends = change + still + (x**-power - 1) * OWN * (change - mean) - PUSH * np.abs(still) * lead
    common = np.abs(_grown(mean, x ** -(power + spread), room) - _grown(mean, x ** -(power - spread), room)) / 2
    walk = WALK * _scatter(change, mean, kinds) ** 2 / x
    own = np.full(len(base), np.sqrt(walk * (1 - x) + 2 * _fluctuation(looks, walk)))
    if told is not None:
        ends, common, own = _with(told, ends, common, own)
    random = np.random.default_rng(seed)
    draws = base + ends + random.standard_normal((_DRAWS, 1)) * common
    draws += random.standard_t(_FREEDOM, (_DRAWS, len(base))) * (NORMAL_90 / _T_90) * own
    return PlaceForecasts(base, base + ends, NORMAL_90 * np.hypot(common, own), draws)


def growth(shares: Floats, means: Floats) -> tuple[float, float]:
    """Return the power by which changes grow with the dose, and how sure it is.

    Args:
        shares: of the dose at the looks, in (0, 1], shape (looks,).
        means: mean changes, shape (looks, n).

    Returns:
        Mean and standard deviation of p given the looks, under a normal prior: the slope of log |means| over log dose
        by least squares through the last look, which tells the more the wider the looks lie apart.
    """
    size = np.sqrt(np.mean(means**2, axis=1))
    known = (size > 0) & (shares < shares[-1])
    far, risen = np.log(shares[-1] / shares[known]), np.log(size[-1] / size[known]) if size[-1] > 0 else 0.0
    precision = float(np.sum(far**2)) / POWER_NOISE**2 / max(1, known.sum())
    weight = 1 / POWER_SPREAD**2 + precision
    slope = float(np.sum(far * risen) / np.sum(far**2)) if precision and size[-1] > 0 else POWER
    return float(np.clip((POWER / POWER_SPREAD**2 + precision * slope) / weight, 0, 1)), float(weight**-0.5)


def _means(values: Floats, kinds: Numbers) -> Floats:
    """The mean over all places of a place's kind."""
    means: Floats = np.bincount(kinds, values) / np.maximum(1, np.bincount(kinds))
    return means[kinds]


def _grown(mean: Floats, times: float, room: float) -> Floats:
    """A mean change once its growth has gone so many times as far; it comes no further than the room there is."""
    grown = room * -np.expm1(-times * np.abs(_straight(mean, room)) / room)
    return np.asarray(np.sign(mean) * np.maximum(np.abs(mean), grown))


def _straight(mean: Floats, room: float) -> Floats:
    """What a mean change would be if there were no end to it."""
    return np.asarray(-np.sign(mean) * room * np.log1p(-np.minimum(np.abs(mean) / room, 0.95)))


def _scatter(change: Floats, mean: Floats, kinds: Numbers) -> float:
    """Scatter of changes around their kinds' means; as if a place more had moved by as much as all do."""
    free = len(change) - len(np.unique(kinds))
    return float(np.sqrt((np.sum((change - mean) ** 2) + np.mean(mean**2)) / (free + 1)))


def _fluctuation(looks: Looks, walk: float) -> float:
    """Variance of what places do from look to look beside their kind's mean and a walk, which has ``walk`` a dose."""
    own = np.stack([gaps - _means(gaps, looks.kinds) for gaps in looks.gaps])
    recent = np.flatnonzero(looks.shares >= _RECENT * looks.shares[-1])
    steps = recent[:-1] if len(recent) > 1 else recent[:0]
    if not len(steps):
        return 0.0
    moved = np.mean((own[steps + 1] - own[steps]) ** 2, axis=1)
    return max(0.0, float(np.mean(moved - walk * (looks.shares[steps + 1] - looks.shares[steps])))) / 2


def _with(told: Told, ends: Floats, common: Floats, own: Floats) -> tuple[Floats, Floats, Floats]:
    """Average with a stored forecast by precision; as both have the run's noise in their errors, these shrink less."""
    known = np.isfinite(told.changes)
    live, stored = common**2 + own**2, np.where(known, told.deviations, np.inf) ** 2
    share = np.where(known, stored / (live + np.where(known, stored, 1)), 1.0)
    mixed = share * ends + (1 - share) * np.where(known, told.changes, 0.0)
    return mixed, share**0.25 * common, share**0.25 * own
