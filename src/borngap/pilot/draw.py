"""Which rows a pilot takes, and at which rates: a balanced sample of the run's own next rows, at the run's dose.

Each step of a pilot stands for a stretch of the run's steps, its span: its rate is the sum of their rates, and AdamW's
betas are those of the run to the power of the span, so that AdamW's memory is as long in rows. Spans go as one over the
root of the run's rate (docs/forecast-runs.md). Rows of a stretch are drawn at random, and exchanged while that brings
all rows of the pilot together nearer to the whole run's counts of watched words and of rows with each. No step is
balanced by itself: steps alike would let AdamW, which divides by what differs between them, drive these words too far.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from borngap.data.tokenised import IGNORED
from borngap.pilot.estimates import Floats
from borngap.pilot.plan import StepPlan

_CANDIDATES = 24  # rows that one is weighed against
_POWER = 0.5  # of the rate, by which spans shrink: 0 makes them alike, 1 makes all steps' doses alike
_LEAST = 1e-3  # of the highest rate: spans end somewhere where the rate is 0
_WORDS = 512  # watched words whose counts are kept in step, the most frequent ones
_RARE = 1e-6  # keeps words that the run does not have from dividing by 0
_ROUNDS = 20  # of exchanges, at most: a few suffice
_PART = 4096  # rows that are counted at once
Counts = NDArray[np.float32]


@dataclass(frozen=True)
class PilotSteps:
    """What a pilot does.

    Attributes:
        rows: of each of its steps, indices into the plan's rows.
        rates: the learning rate of each step.
        span: steps of the run that one of its steps stands for, N/n, in the mean.
        spans: of each step; empty where all are alike.
    """

    rows: tuple[tuple[int, ...], ...]
    rates: tuple[float, ...]
    span: float
    spans: tuple[float, ...] = ()


def counts_of(plan: StepPlan, words: Collection[int]) -> Counts:
    """Return how often each row has each watched word as a supervised token.

    Args:
        plan: the run.
        words: token ids.

    Returns:
        Float32, shape (rows, words); of more than 512 words the most frequent ones.
    """
    ordered = sorted(set(words))
    place = {token: slot for slot, token in enumerate(ordered)}
    counts = np.zeros((len(plan.rows), len(ordered)), np.float32)
    for index, row in enumerate(plan.rows):
        for label in row.labels[1:]:
            if label != IGNORED and label in place:
                counts[index, place[label]] += 1
    often = np.argsort(-counts.sum(0), kind="stable")[:_WORDS]
    return counts[:, np.sort(often)]


def pilot_steps(
    plan: StepPlan, steps: int, share: float, counts: Counts, seed: int, others: Sequence[PilotSteps] = ()
) -> PilotSteps:
    """Choose a pilot's rows.

    Args:
        plan: the run.
        steps: of the pilot, at most those of the run.
        share: rows of a pilot's step over those of a run's, in (0, 1].
        counts: as ``counts_of`` gives them.
        seed: seeds the draw.
        others: pilots of as many steps, whose rows are not taken again while there are further ones.

    Returns:
        The pilot. With as many steps as the run and all rows of each it is the run itself.
    """
    count = len(plan.steps)
    if steps == count and share == 1:
        return PilotSteps(plan.steps, tuple(plan.rates), 1.0)
    edges = stretches(plan.rates, steps)
    rates = doses(plan.rates, edges)
    drawing = _Drawing(plan, counts, seed)
    for k, (start, end) in enumerate(pairwise(edges)):
        stretch = plan.steps[int(start + 1e-9) : math.ceil(end - 1e-9)]
        size = max(1, round(share * sum(map(len, stretch)) / len(stretch)))
        drawing.draw(stretch, size, {row for other in others for row in other.rows[k]})
    rows, spans = drawing.balanced(), (b - a for a, b in pairwise(edges))
    return PilotSteps(tuple(rows), tuple(rates), count / steps, tuple(spans))


def stretches(rates: Sequence[float], steps: int) -> list[float]:
    """Cut a run into the stretches that a pilot's steps stand for.

    A step of a pilot is as long as all steps of its stretch together. Where the rate is high so long a step goes too
    far: the loss rises, and the next gradient points back.

    Args:
        rates: of each step of the run.
        steps: of the pilot, at most those of the run.

    Returns:
        The edges, ascending from 0 to the run's steps.
    """
    height = np.asarray(rates, dtype=np.float64) / max(rates)
    run = np.concatenate([[0.0], np.cumsum(np.maximum(height, _LEAST) ** _POWER)])
    edges = np.interp(np.linspace(0, run[-1], steps + 1), run, np.arange(len(run)))
    return [0.0, *map(float, edges[1:-1]), float(len(rates))]


def doses(rates: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Return the sums of rates between times, a step cut by an edge counting in part on either side.

    Args:
        rates: of each step.
        edges: ascending, in [0, steps].

    Returns:
        One sum for each stretch; where edges are whole steps each is the plain sum of its steps.
    """
    found = []
    for start, end in pairwise(edges):
        first, last = round(start), round(end)
        if abs(start - first) < 1e-9 and abs(end - last) < 1e-9:
            found.append(math.fsum(rates[first:last]))
        else:
            parts = ((i, min(end, i + 1) - max(start, i)) for i in range(int(start), math.ceil(end)))
            found.append(math.fsum(rates[i] * part for i, part in parts if part > 0))
    return found


class _Drawing:
    """Rows of each step drawn at random, then exchanged to bring all together near to what as many of the run have.

    Single steps stay as uneven as the run's: AdamW divides by what differs from step to step.
    """

    def __init__(self, plan: StepPlan, counts: Counts, seed: int) -> None:
        often = np.bincount([i for step in plan.steps for i in step], minlength=len(plan.rows))
        parts = range(0, len(counts), _PART)
        wide = (often[start : start + _PART] @ _wide(counts[start : start + _PART]) for start in parts)
        self._mean = np.sum(list(wide), axis=0) / often.sum()
        self._counts = counts
        self._random = np.random.default_rng(seed)
        self._taken, self._left = list[list[int]](), list[list[int]]()

    def draw(self, steps: Sequence[Sequence[int]], size: int, others: Collection[int]) -> None:
        """Draw the rows of one step from those of some steps of the run."""
        pool = list(dict.fromkeys(row for step in steps for row in step))
        drawn = [pool[i] for i in self._random.permutation(len(pool))]
        fresh, taken = ([row for row in drawn if (row in others) == old] for old in (False, True))
        rows = [*fresh, *taken]
        self._taken.append(rows[:size])
        self._left.append(rows[size : max(size, len(fresh))])

    def balanced(self) -> list[tuple[int, ...]]:
        """Exchange rows of a step for others of its stretch while that brings the counts nearer to the run's."""
        everything = [row for rows in self._taken for row in rows]
        aim = len(everything) * self._mean
        off, weight = _wide(self._counts[everything]).sum(0) - aim, 1 / (aim + _RARE)
        for _ in range(_ROUNDS):
            before = off
            for step in self._random.permutation(len(self._taken)):
                off = self._exchange(self._taken[step], self._left[step], off, weight)
            if off is before:
                break
        return [tuple(rows) for rows in self._taken]

    def _exchange(self, taken: list[int], left: list[int], off: Floats, weight: Floats) -> Floats:
        for slot, row in enumerate(taken):
            near = [row, *left[:_CANDIDATES]]
            some = _wide(self._counts[near])
            after = off - some[0] + some
            best = int(np.argmin((after**2 * weight).sum(1)))
            if best:
                taken[slot], left[best - 1], off = near[best], row, after[best]
        return off


def _wide(counts: Counts) -> Counts:
    """How often rows have each word, and whether they have it."""
    return np.concatenate([counts, np.minimum(counts, 1)], axis=1)
