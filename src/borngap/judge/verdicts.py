"""Verdict: how a run ended, how it moved, why, and what to do (docs/track.md#how-verdicts-are-made)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from borngap.choices import CRITERIA, Criterion
from borngap.cuts import (
    CATAPULT,
    CATAPULT_LIKE,
    DRAG_TOLERANCE,
    INTERMEDIATE,
    JUMP,
    PHANTOM_SHARES,
    SILENT_FALL,
    SILENT_RISE,
)
from borngap.errors import UserError
from borngap.judge.trajectory import MARGINS, Trajectory

Outcome = Literal[
    "pre-resolved", "lost", "resolved", "relapsed", "structural", "kinematic", "unresolved", "diverged"
]  # fmt: skip
Character = Literal["catapult", "catapult-like", "intermediate", "borderline", "drift", "pre-resolved"]

_CHARACTERS: tuple[tuple[float, Character], ...] = (
    (CATAPULT, "catapult"),
    (CATAPULT_LIKE, "catapult-like"),
    (INTERMEDIATE, "intermediate"),
    (JUMP, "borderline"),
)
NEVER = frozenset({"structural", "kinematic", "unresolved"})
_LEADS: dict[Criterion, str] = {
    "rank": "logit gap of gold over its rival",
    "top1": "logit lead of gold over every other token",
    "born": "Born gap",
}
_ADVICE: dict[str, str] = {
    "pre-resolved": "nothing to train: the base model already has it",
    "lost": "the run undid what the base model had: stop earlier or lower the rate",
    "resolved": "the rate sufficed; what follows the flip only adds confidence, so a stopping rule can save it",
    "relapsed": "gold was ahead and fell back: stop at the flip, or lower the rate",
    "structural": "the background moved towards the rival; more of the same will not do, a larger rate may",
    "kinematic": "the signal stayed too small for the dose: raise the rate or the number of steps",
    "unresolved": "the dose (rate x steps) did not suffice: raise the rate or the number of steps",
    "diverged": "values ceased to be finite: lower the rate, or clip gradients",
}

# a context that is watched shares its run with all other rows: rate and steps are not its own to raise
WATCHED_ADVICE = (
    "more rows with these words, LoRA on all linear layers instead of two, full fine-tuning, a loss that looks at the "
    "rival too, and no damaged rows among those that hold the words"
)


@dataclass(frozen=True)
class Verdict:
    """What became of one context.

    Attributes:
        criterion: what the outcome, the character, the reason and the advice are judged by.
        outcomes: outcome by each criterion.
        flip_steps: first step with gold ahead, by each criterion; None without a flip.
        flip_times: the same, interpolated between records, unit steps.
        disagrees: whether the criteria rank and born tell different stories (a context never resolved counts alike).
        drag_worsened: whether the drag fell by more than 0.005 over the run; None if it is not known.
        silent: whether the loss fell smoothly while the rival stayed ahead; None if a value is not finite.
        character: how concentrated the change of the Born gap was; None if there is no jump ratio.
        jump_step: step of the largest change of the Born gap.
        jump_ratio: that change over the mean change, unit 1, in [1, N].
        jump_share: jump ratio / N, unit 1, in (0, 1].
        amplification: sharpness of the Born gap's jump against the logit gap's, unit 1.
        readout_share: share of the jump left with the geometry of step 0, unit 1.
        phantom: whether there is a jump (ratio 5 at least) and it is in the readout, not in the geometry.
        ablation: gold's probability at the end before and after the rival's is set to 0; None if not known.
        last_step: step of the last record.
        why: reason for the outcome, in words and numbers.
        advice: what to do.
    """

    criterion: Criterion
    outcomes: dict[Criterion, Outcome]
    flip_steps: dict[Criterion, int | None]
    flip_times: dict[Criterion, float | None]
    disagrees: bool
    drag_worsened: bool | None
    silent: bool | None
    character: Character | None
    jump_step: int | None
    jump_ratio: float | None
    jump_share: float | None
    amplification: float | None
    readout_share: float | None
    phantom: bool | None
    ablation: tuple[float, float] | None
    last_step: int
    why: str
    advice: str

    @property
    def outcome(self) -> Outcome:
        """The outcome by the chosen criterion."""
        return self.outcomes[self.criterion]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready values; what is unknown is None."""
        return {"outcome": self.outcome} | asdict(self)


def verdict(
    trajectory: Trajectory, criterion: Criterion = "rank", *, spacing: int | None = None, watched: bool = False
) -> Verdict:
    """Judge a trajectory.

    Source: docs/track.md#how-verdicts-are-made; tables 1 to 5 of the paper.

    Args:
        trajectory: one context's records; needs the three margins, ``drag`` and ``cross_entropy``.
        criterion: what counts as resolved.
        spacing: jump, character and amplification are judged over the records at multiples of so many steps (where
            the observer changed its pace); all records unless given.
        watched: whether the context was watched in a run on other rows, which decides what would help.

    Returns:
        The verdict.

    Raises:
        UserError: the criterion is unknown.
    """
    if criterion not in MARGINS:
        raise UserError("unknown criterion", rule=f"one of {', '.join(CRITERIA)}", found=criterion)
    outcomes = {c: outcome(trajectory, c) for c in CRITERIA}
    even = trajectory if spacing is None else trajectory.every(spacing)
    jump, share = even.jump, even.readout_share
    ratio = None if jump is None else jump.ratio
    return Verdict(
        criterion=criterion,
        outcomes=outcomes,
        flip_steps={c: trajectory.flip_step(c) for c in CRITERIA},
        flip_times={c: trajectory.flip_time(c) for c in CRITERIA},
        disagrees=_kind(outcomes["rank"]) != _kind(outcomes["born"]),
        drag_worsened=drag_worsened(trajectory),
        silent=silent(trajectory),
        character=character(ratio, pre_resolved=outcomes[criterion] == "pre-resolved"),
        jump_step=None if jump is None else jump.step,
        jump_ratio=ratio,
        jump_share=None if jump is None else jump.share,
        amplification=even.amplification,
        readout_share=share,
        phantom=phantom(ratio, share),
        ablation=ablation(trajectory),
        last_step=trajectory.steps[-1],
        why=_why(trajectory, criterion, outcomes[criterion]),
        advice=WATCHED_ADVICE if watched and outcomes[criterion] in NEVER else _ADVICE[outcomes[criterion]],
    )


def outcome(trajectory: Trajectory, criterion: Criterion) -> Outcome:
    """Return how a run ended by one criterion (docs/track.md#how-verdicts-are-made).

    Args:
        trajectory: one context's records.
        criterion: what counts as resolved.

    Returns:
        ``diverged`` if a margin, the drag or the cross-entropy is not finite; from a positive margin ``pre-resolved``
        or ``lost``; else ``resolved``, ``relapsed``, or never positive: for born ``structural`` (the drag fell by more
        than 0.005) or ``kinematic``, for rank and top1 ``unresolved``.
    """
    if first_broken(trajectory) is not None:
        return "diverged"
    margin = trajectory.margin(criterion)
    if margin[0] > 0:
        return "pre-resolved" if margin[-1] > 0 else "lost"
    if margin[-1] > 0:
        return "resolved"
    if any(value > 0 for value in margin):
        return "relapsed"
    if criterion != "born":
        return "unresolved"
    return "structural" if drag_worsened(trajectory) else "kinematic"


def character(jump_ratio: float | None, *, pre_resolved: bool = False) -> Character | None:
    """Name how concentrated the change of the Born gap is, by the paper's cuts (our fit to tables 2 and 3).

    Args:
        jump_ratio: largest over mean change, unit 1, at least 1; None if unknown.
        pre_resolved: whether gold was ahead from the start: named so instead.

    Returns:
        ``catapult`` from 15, ``catapult-like`` from 8, ``intermediate`` from 6, ``borderline`` from 5, else ``drift``.

    Example:
        >>> character(9.9), character(9.9, pre_resolved=True)
        ('catapult-like', 'pre-resolved')
    """
    if pre_resolved:
        return "pre-resolved"
    if jump_ratio is None:
        return None
    return next((name for cut, name in _CHARACTERS if jump_ratio >= cut), "drift")


def phantom(jump_ratio: float | None, readout_share: float | None) -> bool | None:
    """Return whether there is a jump and it stays when the geometry is kept still; None if that is not known.

    Args:
        jump_ratio: largest over mean change, unit 1; None if unknown.
        readout_share: share of the jump that the geometry of step 0 gives, unit 1; None if unknown.

    Returns:
        True where the ratio is 5 at least and the share within [0.9, 1.1].
    """
    if jump_ratio is None:
        return None
    if jump_ratio < JUMP:
        return False
    return None if readout_share is None else PHANTOM_SHARES[0] <= readout_share <= PHANTOM_SHARES[1]


def silent(trajectory: Trajectory) -> bool | None:
    """Return whether the loss fell while gold never passed its rival: a failure that the loss does not show.

    Args:
        trajectory: one context's records.

    Returns:
        True if the cross-entropy fell by 0.01 nat at least, never rose by more than 1e-3 nat between records, and gold
        was never the more probable of the two. None if a value is not finite.
    """
    if first_broken(trajectory) is not None:
        return None
    loss = trajectory.series("cross_entropy")
    fell = loss[0] - loss[-1] >= SILENT_FALL and all(b - a <= SILENT_RISE for a, b in pairwise(loss))
    return fell and all(gap <= 0 for gap in trajectory.series("logit_gap"))


def drag_worsened(trajectory: Trajectory) -> bool | None:
    """Return whether the drag fell by more than 0.005 over the run; None if it is not finite at an end."""
    drag = trajectory.series("drag")
    change = drag[-1] - drag[0]
    return change < -DRAG_TOLERANCE if math.isfinite(change) else None


def ablation(trajectory: Trajectory) -> tuple[float, float] | None:
    """Rival ablation: gold's final probability, before and after the rival's is set to 0, renormalised.

    ``p_g`` and ``p_g / (1 - p_c)``. Source: table 5.

    Args:
        trajectory: one context's records.

    Returns:
        Both probabilities, unit 1, in [0, 1]; None if a probability is missing or the rival has it all.
    """
    if not {"gold_probability", "rival_probability"} <= set(trajectory.values):
        return None
    gold, rival = (trajectory.series(f"{name}_probability")[-1] for name in ("gold", "rival"))
    return (gold, gold / (1 - rival)) if math.isfinite(gold + rival) and rival < 1 else None


def first_broken(trajectory: Trajectory) -> int | None:
    """Return the first step at which a margin, the drag or the cross-entropy is not finite; None if all are."""
    columns = [trajectory.series(name) for name in (*MARGINS.values(), "drag", "cross_entropy")]
    rows = zip(trajectory.steps, zip(*columns, strict=True), strict=True)
    return next((step for step, row in rows if not all(map(math.isfinite, row))), None)


def _kind(outcome: Outcome) -> str:
    return "never" if outcome in NEVER else outcome


def _why(trajectory: Trajectory, criterion: Criterion, result: Outcome) -> str:
    if result == "diverged":
        return f"a value is not finite at step {first_broken(trajectory)}"
    margin, drag = trajectory.margin(criterion), trajectory.series("drag")
    unit = "" if criterion == "born" else " nat"
    ends = f"{_LEADS[criterion]} {margin[0]:+.3g} to {margin[-1]:+.3g}{unit}"
    flip = trajectory.flip_step(criterion)
    when = "" if flip is None else f", positive from step {flip}"
    if result == "relapsed":
        when = f", positive at step {flip}, at most {max(margin):+.3g}{unit}"
    background = f"; drag {drag[0]:+.3g} to {drag[-1]:+.3g}" if result in NEVER else ""
    return ends + when + background
