"""The plan of a run: which rows make each step, and at which rate, as a host's loader and scheduler have them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from borngap.data.tokenised import Tokens
from borngap.errors import UserError
from borngap.pilot.rows import taught
from borngap.pilot.settings import Piloting
from borngap.schedule import check_dose
from borngap.training import Training


@dataclass(frozen=True)
class StepPlan:
    """A run, step by step.

    Attributes:
        rows: what is trained on.
        steps: of each optimiser step the rows that its gradient is the mean over, all batches that are accumulated
            together; indices into ``rows``.
        training: the settings; its steps and its warm-up are those of this run.
    """

    rows: tuple[Tokens, ...]
    steps: tuple[tuple[int, ...], ...]
    training: Training

    @property
    def rates(self) -> list[float]:
        """The learning rate of every step."""
        return [self.training.learning_rate * factor for factor in self.training.factors]

    @property
    def passes(self) -> int:
        """How often a row is gone through, over all rows."""
        return sum(map(len, self.steps))

    @property
    def step_rows(self) -> float:
        """Rows of a step, in the mean."""
        return self.passes / len(self.steps)

    @property
    def tokens(self) -> int:
        """Tokens that the run reads, rows counted as often as they are gone through."""
        return sum(self.row_tokens(step) for step in self.steps)

    def row_tokens(self, indices: Sequence[int]) -> int:
        """Return the tokens of some rows."""
        return sum(d.stop - d.start for i in indices for d in self.rows[i].documents)

    def at(self, rate: float) -> StepPlan:
        """Return the same run at another rate."""
        return replace(self, training=replace(self.training, rate=rate))


def run_plan(rows: Sequence[Tokens], training: Training, settings: Piloting) -> StepPlan:
    """Plan a run.

    Args:
        rows: what is trained on.
        training: rate, schedule, batch size, steps (unless ``settings`` has epochs), and the seed of the order.
        settings: epochs, accumulation, the share that warms up, the order.

    Returns:
        The plan: a new order each epoch, batches of rows, the last one of an epoch smaller; batches that are
        accumulated make a step, fewer of them at the end of an epoch. So transformers' Trainer does it.

    Raises:
        UserError: no step moves anything.
    """
    size, count = training.batch_size, len(rows)
    used = count - count % size if settings.drop_last and count >= size else count
    each = math.ceil(math.ceil(used / size) / settings.accumulation)
    wanted = training.steps if settings.epochs is None else math.ceil(settings.epochs * each)
    warmup = math.ceil(settings.warmup_ratio * wanted) if settings.warmup_ratio else training.warmup
    chosen = replace(training, steps=wanted, warmup=warmup)
    check_dose(chosen.factors)
    orders = _orders(count, training.seed, shuffled=settings.order == "shuffled")
    steps = tuple(islice(_steps(orders, used, size * settings.accumulation), wanted))
    plan = StepPlan(tuple(rows), steps, chosen)
    if not any(taught(rows[i]) for step in steps for i in step):
        raise UserError("the run has no supervised token", rule="a step has a token to predict")
    return plan


def _orders(count: int, seed: int, *, shuffled: bool) -> Iterator[list[int]]:
    """The rows' order in epoch after epoch: that of torch's random sampler, seeded anew for each."""
    for epoch in itertools.count():
        if shuffled:
            yield torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        else:
            yield list(range(count))


def _steps(orders: Iterator[list[int]], used: int, size: int) -> Iterator[tuple[int, ...]]:
    for order in orders:
        yield from (tuple(order[start : min(start + size, used)]) for start in range(0, used, size))
