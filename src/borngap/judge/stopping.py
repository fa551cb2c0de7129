"""Stopping rules, pure state machines: Born-gap saturation and cross-entropy patience.

Definitions: docs/track.md#stopping-by-saturation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from borngap.cuts import DRAG_TOLERANCE
from borngap.errors import UserError
from borngap.judge.trajectory import Trajectory

EVALUATION = 5
Require = Literal["both", "born", "rank"]


@dataclass(frozen=True)
class SaturationState:
    """What the saturation rule remembers of one context.

    Attributes:
        born_gap: Born gap of the last evaluation; None before the first.
        largest: largest change of the Born gap between evaluations so far, unit 1.
        calm: evaluations in a row that count as saturated.
        recent: (drag, logit gap) of the last evaluations, at most patience + 1 of them.
        saturated: whether the rule fired, now or before.
        worsening: whether the drag fell beyond its tolerance over the last evaluations while the logit gap grew and
            gold is still behind.
        broken: whether the last values were not finite.
    """

    born_gap: float | None = None
    largest: float = 0.0
    calm: int = 0
    recent: tuple[tuple[float, float], ...] = ()
    saturated: bool = False
    worsening: bool = False
    broken: bool = False


@dataclass(frozen=True)
class SaturationRule:
    """Stop when the order is settled and the Born gap no longer moves.

    Saturated: gold is ahead and ``|Phi(t) - Phi(t-1)|`` is at most ``tolerance`` of the largest such change so far, for
    ``patience`` evaluations in a row. A slope relative to Phi itself would fire while Phi still climbs. A run that is
    not resolved never counts as saturated, nor does one whose Born gap has not moved at all. Where batches are small
    their noise alone keeps the Born gap moving by more than the tolerance until the learning rate has fallen.

    Source: section 4.1 of the paper, which stops on Phi > 0 alone (``require="born"``); the rest is our choice.

    Attributes:
        tolerance: share of the largest change, in (0, 1).
        patience: evaluations in a row, at least 1.
        require: which order must be settled: ``both``, Phi > 0 and Delta > 0; ``born``, Phi > 0; ``rank``, Delta > 0.

    Raises:
        UserError: a setting is out of range.
    """

    tolerance: float = 0.05
    patience: int = 2
    require: Require = "both"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: a setting is out of range.
        """
        if not 0 < self.tolerance < 1:
            raise UserError("the saturation tolerance is out of range", rule="0 < tolerance < 1", found=self.tolerance)
        if self.patience < 1:
            raise UserError("patience is out of range", rule="at least 1 evaluation", found=self.patience)
        if self.require not in get_args(Require):
            raise UserError("unknown requirement", rule="both, born or rank", found=self.require)

    def update(self, state: SaturationState, born_gap: float, logit_gap: float, drag: float) -> SaturationState:
        """Take in one evaluation.

        Args:
            state: the state before.
            born_gap: Phi, unit 1.
            logit_gap: Delta, unit nat.
            drag: background drag, unit 1.

        Returns:
            The state after; once saturated it stays so.
        """
        if not all(map(math.isfinite, (born_gap, logit_gap, drag))):
            return replace(state, broken=True, calm=0, worsening=False)
        change = 0.0 if state.born_gap is None else abs(born_gap - state.born_gap)
        largest = max(state.largest, change)
        ahead = (born_gap > 0 or self.require == "rank") and (logit_gap > 0 or self.require == "born")
        still = state.born_gap is not None and largest > 0 and change <= self.tolerance * largest
        calm = state.calm + 1 if ahead and still else 0
        recent = (*state.recent, (drag, logit_gap))[-self.patience - 1 :]
        return SaturationState(
            born_gap=born_gap,
            largest=largest,
            calm=calm,
            recent=recent,
            saturated=state.saturated or calm >= self.patience,
            worsening=not ahead and self._worsens(recent),
        )

    def _worsens(self, recent: tuple[tuple[float, float], ...]) -> bool:
        (first_drag, first_gap), (drag, gap) = recent[0], recent[-1]
        return len(recent) > self.patience and drag - first_drag < -DRAG_TOLERANCE and gap > first_gap


@dataclass(frozen=True)
class PatienceState:
    """What cross-entropy patience remembers.

    Attributes:
        best: cross-entropy that later ones are compared with, unit nat; None before the first evaluation.
        waited: evaluations in a row without a sufficient fall.
        stopped: whether the rule fired, now or before.
    """

    best: float | None = None
    waited: int = 0
    stopped: bool = False


@dataclass(frozen=True)
class CrossEntropyPatience:
    """The usual early stopping: stop after so many evaluations without a fall of the loss.

    Attributes:
        fall: a fall below the best so far that counts, unit nat.
        patience: evaluations in a row without one.
    """

    fall: float = 1e-3
    patience: int = 3

    def update(self, state: PatienceState, cross_entropy: float) -> PatienceState:
        """Take in one evaluation.

        Args:
            state: the state before.
            cross_entropy: unit nat; one that is not finite counts as no fall.

        Returns:
            The state after; once stopped it stays so.
        """
        if state.best is None or state.best - cross_entropy >= self.fall:
            return PatienceState(cross_entropy, 0, state.stopped)
        waited = state.waited + 1
        return PatienceState(state.best, waited, state.stopped or waited >= self.patience)


@dataclass(frozen=True)
class Saving:
    """What stopping on saturation would have saved one context.

    Attributes:
        saturation_step: step at which the saturation rule fires; None if it never does.
        patience_step: step at which cross-entropy patience fires; the last evaluation if it never does.
        patience_fired: whether it fires within the run.
        saved_steps: patience step less saturation step; negative if saturation is the later; None without saturation.
        saved_share: the same over the patience step, unit 1.
        changed: whether gold's rank, its Born rank and the order of gold and rival differ between both steps; None
            where a number was not measured.
    """

    saturation_step: int | None
    patience_step: int
    patience_fired: bool
    saved_steps: int | None
    saved_share: float | None
    changed: dict[str, bool | None]


def saving(
    trajectory: Trajectory,
    every: int | None = EVALUATION,
    rule: SaturationRule | None = None,
    patience: CrossEntropyPatience | None = None,
) -> Saving:
    """Compare the saturation rule with cross-entropy patience on a finished run.

    Args:
        trajectory: records at least at the multiples of ``every``.
        every: steps from one evaluation to the next; None if every record is one.
        rule: the saturation rule; the default one unless given.
        patience: the patience rule; the default one unless given.

    Returns:
        Both stop steps, the saving, and what changed between them.
    """
    seen = trajectory if every is None else trajectory.every(every)
    saturation, waited = (
        saturation_step(seen, rule or SaturationRule()),
        patience_step(seen, patience or CrossEntropyPatience()),
    )
    stop = seen.steps[-1] if waited is None else waited
    saved = None if saturation is None else stop - saturation
    share = None if saved is None or stop == 0 else saved / stop
    return Saving(saturation, stop, waited is not None, saved, share, _changed(seen, saturation, stop))


def saturation_step(trajectory: Trajectory, rule: SaturationRule) -> int | None:
    """Return the step of the first record at which the rule counts the context as saturated; None if there is none."""
    state = SaturationState()
    columns = (trajectory.series(name) for name in ("born_gap", "logit_gap", "drag"))
    for step, *values in zip(trajectory.steps, *columns, strict=True):
        state = rule.update(state, *values)
        if state.saturated:
            return step
    return None


def patience_step(trajectory: Trajectory, patience: CrossEntropyPatience) -> int | None:
    """Return the step of the first record at which patience runs out; None if it does not."""
    state = PatienceState()
    for step, loss in zip(trajectory.steps, trajectory.series("cross_entropy"), strict=True):
        state = patience.update(state, loss)
        if state.stopped:
            return step
    return None


def all_saturated(states: Sequence[SaturationState], fraction: float = 1.0) -> bool:
    """Return whether a run of many contexts may stop for saturation.

    Resolvable are the contexts that are neither broken nor losing to a worsening drag. One that is merely not resolved
    yet is resolvable and keeps the run going.

    Args:
        states: one a context.
        fraction: share of the resolvable contexts that must be saturated, in (0, 1].

    Returns:
        True if at least that share, and at least one context, is saturated.
    """
    resolvable = [state for state in states if state.saturated or not (state.broken or state.worsening)]
    saturated = sum(state.saturated for state in resolvable)
    return saturated > 0 and saturated / len(resolvable) >= fraction


def unsaturated(states: Sequence[SaturationState]) -> dict[str, int]:
    """Count contexts by what keeps them from being saturated.

    Args:
        states: one a context, after at least one evaluation.

    Returns:
        Reason -> how many; without reasons that hold for none.
    """
    return dict(Counter(_obstacle(state) for state in states if not state.saturated))


def _obstacle(state: SaturationState) -> str:
    if state.broken or state.born_gap is None:
        return "no longer finite"
    if state.recent[-1][1] <= 0:
        return "behind"
    return "ahead but not by the Born gap" if state.born_gap <= 0 else "ahead but still moving"


def all_resolved(held: Sequence[int], patience: int, fraction: float = 1.0) -> bool:
    """Return whether a run of many contexts may stop since gold is ahead and stays so.

    Args:
        held: evaluations in a row, up to the last, at which a context's margin was positive; one number a context.
        patience: how many of them count as resolved, at least 1.
        fraction: share of all contexts that must be resolved, in (0, 1].

    Returns:
        True if at least that share is resolved.
    """
    return sum(count >= patience for count in held) / len(held) >= fraction


def all_failing(states: Sequence[SaturationState]) -> bool:
    """Return whether no context is left that could still resolve, and at least one fails structurally."""
    failing = any(state.worsening for state in states)
    return failing and all(state.worsening or state.broken or state.saturated for state in states)


def _changed(seen: Trajectory, saturation: int | None, stop: int) -> dict[str, bool | None]:
    names = ("gold_rank", "born_rank", "order")
    if saturation is None:
        return dict.fromkeys(names)
    before, after = seen.steps.index(saturation), seen.steps.index(stop)
    series = {name: seen.values.get(name) for name in names[:2]}
    series["order"] = [float(gap > 0) if math.isfinite(gap) else math.nan for gap in seen.series("logit_gap")]
    return {name: _differ(column, before, after) for name, column in series.items()}


def _differ(column: Sequence[float] | None, before: int, after: int) -> bool | None:
    if column is None or not math.isfinite(column[before] + column[after]):
        return None
    return column[before] != column[after]
