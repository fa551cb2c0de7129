"""Which remedy to take: the most success among those within what a remedy may cost; the cheaper one of near equals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from borngap.remedies.outcomes import RemedyOutcome
from borngap.remedies.remedy import BIAS, NONE, Remedy

_NEAR = 0.01  # of the places: so near to the best one a remedy is as good
UNKNOWN_OVER_USE = (
    "over-use is not known, as no watched place is marked as one where the word to avoid is right (--allowed, "
    "--allowed-field), and what raises success as a rule raises over-use too"
)


@dataclass(frozen=True)
class Candidate:
    """A remedy that was tried.

    Attributes:
        remedy: what it changes.
        outcome: what it gains and costs.
        run_cost: what its run costs, times the planned run.
    """

    remedy: Remedy
    outcome: RemedyOutcome
    run_cost: float


@dataclass(frozen=True)
class Choice:
    """What is recommended.

    Attributes:
        remedy: name of the remedy to take; None where none is.
        why: in words.
    """

    remedy: str | None
    why: str


@dataclass(frozen=True)
class Evidence:
    """What the numbers rest on.

    Attributes:
        right: number of watched places where the word to avoid is right.
        places_by: what would give more places, in words.
        pilots_by: what would give better pilots, in words.
    """

    right: int
    places_by: str
    pilots_by: str


def remedy_choice(
    tried: Sequence[Candidate], max_loss: float, max_over_use: float, evidence: Evidence, why: str = ""
) -> Choice:
    """Choose a remedy.

    Args:
        tried: all of them, the run without one too.
        max_loss: held-out loss that it may add, unit nat a token.
        max_over_use: over-use that it may add, in percentage points.
        evidence: what the numbers rest on.
        why: what is wrong with the pilot of the run without a remedy, if anything is.

    Returns:
        The choice.
    """
    known = [one for one in tried if one.remedy.name != NONE and one.outcome.gain is not None]
    if not known:
        return Choice(None, why or "no pilot was fit for a forecast")
    if all(one.outcome.over_use is None for one in known):
        return Choice(None, UNKNOWN_OVER_USE)
    rule = f"{max_loss:g} nat of held-out loss and {max_over_use:g} points of over-use above the planned run"
    meet = [one for one in known if meets(one.outcome, max_loss, max_over_use)]
    if not meet:
        return Choice(None, f"none raises success within {rule}; nearest: {_nearest(known, max_loss, max_over_use)}")
    most = max(map(_gain, meet))
    near = [one for one in meet if _gain(one) >= most - _NEAR]
    best = min(near, key=lambda one: (one.remedy.name != BIAS, one.run_cost, _loss(one), -_gain(one)))
    among = (
        f"; {len(near) - 1} other{'s' * (len(near) > 2)} within a point of it cost as much or more"
        if len(near) > 1
        else ""
    )
    doubts = _doubts(best, max_loss, max_over_use, evidence)
    return Choice(best.remedy.name, f"the most success within {rule}{among}{doubts}")


def meets(outcome: RemedyOutcome, max_loss: float, max_over_use: float) -> bool:
    """Return whether a remedy raises success within what it may cost.

    Args:
        outcome: its outcome.
        max_loss: as for ``remedy_choice``.
        max_over_use: as for ``remedy_choice``.
    """
    parts = (outcome.gain, outcome.loss, outcome.over_use_more)
    gain, loss, over = (None if part is None else part.value for part in parts)
    if gain is None or loss is None or over is None:
        return False
    return gain > 0 and loss <= max_loss + 1e-9 and 100 * over <= max_over_use + 1e-9


def _nearest(known: Sequence[Candidate], max_loss: float, max_over_use: float) -> str:
    """The remedy with the least excess over what it may cost, in units of that, and its price."""

    def excess(one: Candidate) -> float:
        over = one.outcome.over_use_more
        parts = (_loss(one) / max(max_loss, 1e-3), (100 * over.value if over else 0.0) / max(max_over_use, 0.1))
        return max(parts)

    better = [one for one in known if _gain(one) > 0 and one.outcome.loss is not None]
    if not better:
        return "no remedy gains anything"
    best = min(better, key=excess)
    over = best.outcome.over_use_more
    points = "" if over is None else f" and {100 * over.value:+.0f} points of over-use"
    return f"{best.remedy.name}, {100 * _gain(best):+.0f} points of success for {_loss(best):+.3f} nat{points}"


def _gain(one: Candidate) -> float:
    return one.outcome.gain.value if one.outcome.gain is not None else 0.0


def _loss(one: Candidate) -> float:
    return one.outcome.loss.value if one.outcome.loss is not None else 0.0


def _doubts(best: Candidate, max_loss: float, max_over_use: float, evidence: Evidence) -> str:
    """What its intervals leave open, and what would tell. A bias needs no pilot: what is missing there is places."""
    by, doubts = [evidence.places_by if best.remedy.name == BIAS else evidence.pilots_by], list[str]()
    gain, over = best.outcome.gain, best.outcome.over_use_more
    if gain is not None and gain.low is not None and gain.low <= 0:
        doubts.append("whether it gains anything is not sure (its interval holds 0)")
    loss = best.outcome.loss
    if best.remedy.name != BIAS and loss is not None and loss.high is not None and loss.high > max_loss + 1e-9:
        doubts.append(f"its held-out loss may be above that limit ({loss.low:+.3f} to {loss.high:+.3f} nat)")
    if over is not None and over.low is not None and over.high is not None and 100 * over.high > max_over_use + 1e-9:
        places = f"{evidence.right} place{'s' * (evidence.right != 1)} where the other word is right"
        ends = f"{_points(over.low)} to {_points(over.high)} points"
        by.append(evidence.places_by)
        doubts.append(f"its over-use may be above that limit ({ends}, on {places})")
    return f"; {'; '.join(doubts)}: {' or '.join(dict.fromkeys(by))} would tell" if doubts else ""


def _points(share: float) -> str:
    told = f"{100 * share:+.0f}"
    return "0" if float(told) == 0 else told
