"""Trials: real runs, watched for the first time that gold comes ahead and for nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from borngap.choices import Criterion
from borngap.critical.landscape import Landscape
from borngap.judge.trajectory import MARGINS
from borngap.model.forward import last_logits
from borngap.train.finetune import Step
from borngap.train.stacked import Lane, pays, stacked


class Trials:
    """Flip times of single contexts at given rates.

    Runs of contexts that are trained alone go through the model together where that pays; joint runs are done once a
    rate.

    Attributes:
        stacks: whether runs of several contexts go through the model together.
    """

    def __init__(self, land: Landscape, criterion: Criterion, seed: int, *, whole: bool = False) -> None:
        """Watch one criterion.

        Args:
            land: the model; what is computed is booked there.
            criterion: what counts as ahead.
            seed: of LoRA's initial matrices.
            whole: whether single runs go on to their end when the criterion is met.
        """
        self._whole = whole
        self._land, self._criterion, self._seed = land, criterion, seed
        self._joint: dict[float, dict[int, float | None]] = {}
        self.stacks = pays(land.tuner)

    def __call__(self, wanted: Sequence[tuple[int, float]]) -> list[float | None]:
        """Do runs.

        Args:
            wanted: pairs of context and rate.

        Returns:
            Flip times, interpolated between steps, unit steps; None where the criterion is not met within the budget,
            NaN where the loss ceased to be finite before.
        """
        if self._land.tuner.training.joint:
            return [self._together(index, rate) for index, rate in wanted]
        if self.stacks:
            return self._stacked(wanted)
        return [self.run(index, rate, self._land.tuner.training.steps) for index, rate in wanted]

    def run(self, index: int, rate: float, steps: int) -> float | None:
        """Train one context, or all jointly, until it flips or the steps are used up.

        Args:
            index: which context.
            rate: learning rate.
            steps: budget.

        Returns:
            The flip time, as above.
        """
        if self._land.tuner.training.joint:
            return self._together(index, rate)
        land, target = self._land, self._land.tuner.targets[index]
        land.home()
        updates = land.tuner.updates(rate)
        before, found = math.nan, None
        for step in range(steps + 1):
            if land.tuner.training.averages:  # other weights than those that the loss is of
                with updates.evaluated():
                    margin = land.margin(index, self._criterion, land.logits(index))
            logits, _ = last_logits(land.tuner.model, [target.ids])
            land.spent.forward_passes += 1
            if not land.tuner.training.averages:
                margin = land.margin(index, self._criterion, logits.detach())
            found = _time(step, before, margin) if found is None else found
            if step == steps or (found is not None and not self._whole):
                break
            before = margin
            updates.take(land.tuner.loss(logits, [index]))
            land.spent.optimizer_steps += 1
        return found

    def _stacked(self, wanted: Sequence[tuple[int, float]]) -> list[float | None]:
        name, land = MARGINS[self._criterion], self._land
        lanes = [Lane(index, rate, self._seed) for index, rate in wanted]
        series: list[list[float]] = [[] for _ in lanes]
        land.home()

        def ahead(number: int, entry: Step) -> bool:
            return (entry.records[lanes[number].index][name] or 0.0) > 0

        for number, entry in stacked(land.tuner, lanes, observe="margins", stop=ahead):
            value = entry.records[lanes[number].index][name]
            series[number].append(math.nan if value is None else value)
        land.spent.forward_passes += sum(map(len, series))
        land.spent.optimizer_steps += sum(len(s) - 1 for s in series)
        return [_first(s) for s in series]

    def _together(self, index: int, rate: float) -> float | None:
        if rate not in self._joint:
            land = self._land
            land.home()
            series: dict[int, list[float]] = {i: [] for i in range(len(land.tuner.targets))}
            for entry in land.tuner.joint(rate=rate):
                for i, record in entry.records.items():
                    value = record[MARGINS[self._criterion]]
                    series[i].append(math.nan if value is None else value)
            updates = len(series[index]) - 1
            land.spent.optimizer_steps += updates
            land.spent.forward_passes += updates * (land.tuner.training.batch_size + len(series))
            self._joint[rate] = {i: _first(s) for i, s in series.items()}
        return self._joint[rate][index]


def _first(series: Sequence[float]) -> float | None:
    """Flip time of a series of margins, one a step."""
    for step, (before, now) in enumerate(pairwise(series), 1):
        if now > 0 or math.isnan(now):
            return _time(step, before, now)
    return None


def _time(step: int, before: float, now: float) -> float | None:
    if math.isnan(now):
        return math.nan
    return step - 1 + before / (before - now) if now > 0 else None
