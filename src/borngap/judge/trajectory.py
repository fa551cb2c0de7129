"""Trajectory: the observables of one context over the steps of a run; its flips and its jump.

Definitions: docs/track.md#how-verdicts-are-made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from borngap.choices import CRITERIA, Criterion
from borngap.errors import UserError

MARGINS: dict[Criterion, str] = {"rank": "logit_gap", "top1": "top1_margin", "born": "born_gap"}
DRIFT_IDS = ("overlap_drift", "embedding_rotation", "frozen_born_gap")


@dataclass(frozen=True)
class Jump:
    """The largest change of the Born gap between two neighbouring records.

    Attributes:
        index: record at which it ends.
        step: the step of that record.
        size: |Phi(t) - Phi(t-1)| there, unit 1.
        ratio: size over the mean of such changes, unit 1, in [1, N]; N the number of changes.
        share: ratio / N, unit 1, in (0, 1]: comparable across N.
    """

    index: int
    step: int
    size: float
    ratio: float
    share: float


@dataclass(frozen=True)
class Trajectory:
    """One context's observables over steps.

    Attributes:
        steps: optimiser steps done when each record was taken; strictly increasing.
        values: observable id -> one number a record; NaN where it was not measured or does not exist.

    Raises:
        UserError: no records, steps that do not increase, or columns of another length.
    """

    steps: tuple[int, ...]
    values: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        """Check the records.

        Raises:
            UserError: no records, steps that do not increase, or columns of another length.
        """
        if not self.steps:
            raise UserError("a trajectory has no records", rule="at least one")
        if any(b <= a for a, b in pairwise(self.steps)):
            raise UserError("steps do not increase", rule="each larger than the last", found=self.steps)
        wrong = {name: len(column) for name, column in self.values.items() if len(column) != len(self.steps)}
        if wrong:
            raise UserError("columns of another length than the steps", rule=f"{len(self.steps)} records", found=wrong)

    @classmethod
    def of(cls, table: pl.DataFrame) -> Trajectory:
        """Read a trajectory from the rows of one context in a RUN's steps table.

        Args:
            table: a column ``step`` and one column an observable; null where a number is missing.

        Returns:
            The trajectory, in order of steps.
        """
        table = table.sort("step")
        numeric = [
            name for name, dtype in table.schema.items() if dtype.is_numeric() and name not in {"step", "context"}
        ]
        values = {name: tuple(table[name].cast(pl.Float64).fill_null(math.nan).to_list()) for name in numeric}
        return cls(tuple(table["step"].to_list()), values)

    def series(self, name: str) -> Sequence[float]:
        """Return one observable over the records.

        Args:
            name: observable id.

        Returns:
            One number a record, NaN where missing.

        Raises:
            UserError: the trajectory does not hold it.
        """
        if name not in self.values:
            raise UserError("the trajectory lacks an observable", rule=f"it holds {name!r}", found=sorted(self.values))
        return self.values[name]

    def margin(self, criterion: Criterion) -> Sequence[float]:
        """Return the signed margin of a criterion: positive where gold counts as ahead.

        Args:
            criterion: ``rank`` (logit gap, nat), ``top1`` (lead over every other token, nat) or ``born`` (Born gap).

        Returns:
            One number a record.

        Raises:
            UserError: the criterion is unknown.
        """
        if criterion not in MARGINS:
            raise UserError("unknown criterion", rule=f"one of {', '.join(CRITERIA)}", found=criterion)
        return self.series(MARGINS[criterion])

    def flip_step(self, criterion: Criterion) -> int | None:
        """Return the first step with a positive margin if the first record's is not positive, else None."""
        index = self._flip_index(criterion)
        return None if index is None else self.steps[index]

    def flip_time(self, criterion: Criterion) -> float | None:
        """Return the flip step with the margin interpolated linearly between records, unit steps.

        Args:
            criterion: what counts as ahead.

        Returns:
            A real number in (flip step of the record before, flip step]; None without a flip.
        """
        index, margin = self._flip_index(criterion), self.margin(criterion)
        if index is None or not math.isfinite(margin[index] - margin[index - 1]):
            return None
        before, after = self.steps[index - 1], self.steps[index]
        return before + (after - before) * -margin[index - 1] / (margin[index] - margin[index - 1])

    @property
    def evenly_spaced(self) -> bool:
        """Whether neighbouring records are all the same number of steps apart."""
        return len({b - a for a, b in pairwise(self.steps)}) == 1

    def every(self, spacing: int) -> Trajectory:
        """Return the records whose step is a multiple of a spacing.

        Args:
            spacing: steps, at least 1.

        Returns:
            A trajectory of those records.
        """
        keep = [i for i, step in enumerate(self.steps) if step % spacing == 0]
        values = {name: tuple(column[i] for i in keep) for name, column in self.values.items()}
        return Trajectory(tuple(self.steps[i] for i in keep), values)

    def until(self, step: int) -> Trajectory:
        """Return the records up to a step, as if the run had ended there.

        Args:
            step: of the last record that is kept; at least that of the first.

        Returns:
            A trajectory of those records.
        """
        count = sum(each <= step for each in self.steps)
        return Trajectory(self.steps[:count], {name: column[:count] for name, column in self.values.items()})

    def changes(self, name: str) -> list[float]:
        """Return by how much an observable changes from each record to the next, in size.

        Args:
            name: observable id.

        Returns:
            One number fewer than there are records, in the observable's unit.

        Raises:
            UserError: the trajectory does not hold it.
        """
        return [abs(b - a) for a, b in pairwise(self.series(name))]

    @property
    def jump(self) -> Jump | None:
        """The jump of the Born gap: ``max |Phi(t) - Phi(t-1)|`` against the mean of such changes.

        Source: section 4.2 of the paper ("trajectory concentration ratio"). None where records are not evenly spaced,
        where a Born gap is not finite, and where the Born gap never changes: the ratio has no value there.
        """
        changes = self.changes("born_gap")
        total = sum(changes)
        if not self.evenly_spaced or not math.isfinite(total) or total == 0:
            return None
        index = max(range(len(changes)), key=changes.__getitem__)
        share = changes[index] / total
        return Jump(index + 1, self.steps[index + 1], changes[index], share * len(changes), share)

    @property
    def amplification(self) -> float | None:
        """Return how much sharper the Born gap moves at its jump than the logit gap does there.

        ``(|dPhi| at the jump / mean |dPhi|) / (|dDelta| at the jump / mean |dDelta|)``, unit 1. A number, no test: the
        logit gap may jump too. None without a jump, or where the logit gap does not move at it.
        """
        if self.jump is None:
            return None
        changes = self.changes("logit_gap")
        at_jump, mean = changes[self.jump.index - 1], sum(changes) / len(changes)
        return self.jump.ratio * mean / at_jump if at_jump > 0 and math.isfinite(mean) else None

    @property
    def readout_share(self) -> float | None:
        """Share of the jump that is left when the geometry is kept as it was at step 0, unit 1.

        ``(Phi0(t) - Phi0(t-1)) / (Phi(t) - Phi(t-1))`` at the jump, Phi0 the Born gap of the same probabilities with
        the rows of step 0 (``frozen_born_gap``). Exactly 1 while the geometry rests; None without a
        jump or without Phi0.
        """
        if self.jump is None or "frozen_born_gap" not in self.values:
            return None
        index, frozen, moving = self.jump.index, self.series("frozen_born_gap"), self.series("born_gap")
        share = (frozen[index] - frozen[index - 1]) / (moving[index] - moving[index - 1])
        return share if math.isfinite(share) else None

    def _flip_index(self, criterion: Criterion) -> int | None:
        margin = self.margin(criterion)
        if not margin[0] <= 0:
            return None
        return next((i for i, value in enumerate(margin) if value > 0), None)


def from_records(records: Sequence[tuple[int, Mapping[str, float | None]]]) -> Trajectory:
    """Return the trajectory of one context's records.

    Args:
        records: (step, observables) in order of steps; None where a number is missing.

    Returns:
        The trajectory.
    """
    names = dict.fromkeys(name for _, record in records for name in record)
    values = {name: [_number(record.get(name)) for _, record in records] for name in names}
    return Trajectory(tuple(step for step, _ in records), values)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
