"""Which rows a pilot takes, and at which rates: a systematic sample of the run's own next rows, at the run's dose.

Each step of a pilot stands for a stretch of the run's steps, its span: its rate is the sum of their rates, and AdamW's
betas are those of the run to the power of the span, so that AdamW's memory is as long in rows. Spans go as one over the
root of the run's rate (docs/forecast-runs.md). Of the rows of a stretch it takes those that keep the counts of the
watched words nearest to what the whole run has of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from borngap.data.tokenised import IGNORED
from borngap.pilot.plan import StepPlan

_CANDIDATES = 24  # rows that are weighed against each other: more changed nothing
_POWER = 0.5  # of the rate, by which spans shrink: 0 makes them alike, 1 makes all steps' doses alike
_LEAST = 1e-3  # of the highest rate: spans end somewhere where the rate is 0
_WORDS = 512  # watched words whose counts are kept in step, the most frequent ones
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
        seed: seeds the order in which rows are considered.
        others: pilots of as many steps, whose rows are not taken again while there are further ones.

    Returns:
        The pilot. With as many steps as the run and all rows of each it is the run itself.
    """
    count = len(plan.steps)
    if steps == count and share == 1:
        return PilotSteps(plan.steps, tuple(plan.rates), 1.0)
    edges = stretches(plan.rates, steps)
    rates = doses(plan.rates, edges)
    sample = _Sample(plan, counts, seed)
    chosen = []
    for k, (start, end) in enumerate(pairwise(edges)):
        stretch = plan.steps[int(start + 1e-9) : math.ceil(end - 1e-9)]
        size = max(1, round(share * sum(map(len, stretch)) / len(stretch)))
        chosen.append(sample.next(stretch, size, {row for other in others for row in other.rows[k]}))
    return PilotSteps(tuple(chosen), tuple(rates), count / steps, tuple(b - a for a, b in pairwise(edges)))


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


class _Sample:
    """Takes row after row, each the one that keeps the counts so far nearest to what is expected of as many rows."""

    def __init__(self, plan: StepPlan, counts: Counts, seed: int) -> None:
        often = np.bincount([i for step in plan.steps for i in step], minlength=len(plan.rows))
        self._mean = (often @ counts / often.sum()).astype(np.float64)
        self._counts, self._have, self._drawn = counts.astype(np.float64), np.zeros_like(self._mean), 0
        self._random = np.random.default_rng(seed)

    def next(self, steps: Sequence[Sequence[int]], size: int, taken: Collection[int]) -> tuple[int, ...]:
        """Take rows of some steps of the run."""
        pool = [row for step in steps for row in step]
        fresh = [row for row in pool if row not in taken]
        free = fresh if len(fresh) >= size else pool
        rows = [free[i] for i in self._random.permutation(len(free))]
        return tuple(self._take(rows) for _ in range(min(size, len(rows))))

    def _take(self, rows: list[int]) -> int:
        self._drawn += 1
        near = rows[:_CANDIDATES]
        off = self._have + self._counts[near] - self._drawn * self._mean
        best = int(np.argmin((off**2 / (self._mean + 1e-6)).sum(1)))
        self._have += self._counts[near[best]]
        return rows.pop(best)
