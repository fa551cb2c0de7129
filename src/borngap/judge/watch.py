"""Watch: follows contexts while they train; says when something happened to one, and when a run may end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, get_args

from borngap.choices import CRITERIA, Criterion, HostStop
from borngap.context import Target
from borngap.errors import UserError
from borngap.judge.stopping import (
    EVALUATION,
    CrossEntropyPatience,
    PatienceState,
    SaturationRule,
    SaturationState,
    all_failing,
    all_resolved,
    all_saturated,
    saving,
    unsaturated,
)
from borngap.judge.trajectory import MARGINS, Trajectory
from borngap.judge.verdicts import verdict

Values = Mapping[str, float | None]


class Outlook(Protocol):
    """What a live forecast tells the rules: numbers of the words that lag now, and of those that will be behind."""

    @property
    def lagging(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def behind(self) -> Sequence[int]: ...  # noqa: D102


@dataclass(frozen=True)
class Foreseen:
    """What ``stop="hopeless"`` remembers.

    Attributes:
        lagging: words that were behind at the last look.
        lost: those of them that were forecast to stay behind.
        looks: looks in a row at which these were as large a share as is asked for.
    """

    lagging: int = 0
    lost: int = 0
    looks: int = 0


class Watch:
    """The rules' states of every context, advanced at evaluations.

    Attributes:
        saturation: context -> state of the saturation rule.
        held: context -> evaluations in a row at which gold was ahead by the criterion.
        foreseen: what the last live forecast tells of the words that lag.
        patience: context -> state of cross-entropy patience.
    """

    def __init__(
        self,
        stop: HostStop = "none",
        rule: SaturationRule | None = None,
        fraction: float = 1.0,
        criterion: Criterion = "rank",
    ) -> None:
        """Start with nothing seen.

        Args:
            stop: what ends a run: ``saturation``, ``structural``, ``resolved``, ``hopeless`` or ``none``.
            rule: the saturation rule, whose patience holds for the two last ones too; the default one unless given.
            fraction: share of contexts that must be saturated (of the resolvable ones) or resolved (of all), or, of the
                words that lag, must be forecast to stay behind, in (0, 1].
            criterion: what counts as resolved.

        Raises:
            UserError: a setting is unknown or out of range.
        """
        for name, value, allowed in (("stop", stop, get_args(HostStop)), ("criterion", criterion, CRITERIA)):
            if value not in allowed:
                raise UserError(f"unknown {name}", rule=f"one of {', '.join(allowed)}", found=value)
        if not 0 < fraction <= 1:
            raise UserError("fraction is out of range", rule="0 < fraction <= 1", found=fraction)
        self._stop, self._rule, self._fraction, self._criterion = stop, rule or SaturationRule(), fraction, criterion
        self._waiting: dict[int, set[str]] = {}
        self.held: dict[int, int] = {}
        self.foreseen = Foreseen()
        self.saturation: dict[int, SaturationState] = {}
        self.patience: dict[int, PatienceState] = {}

    def update(self, records: Mapping[int, Values], *, evaluate: bool) -> set[int]:
        """Take in records of one moment.

        Args:
            records: context -> its observables.
            evaluate: whether this is an evaluation, at which the stopping rules advance.

        Returns:
            The contexts to which something happened: gold passed its rival by some criterion, or a rule fired.
        """
        events = {context for context, record in records.items() if self._flips(context, record)}
        if evaluate:
            events |= {context for context, record in records.items() if self._advance(context, record)}
        return events

    def foresee(self, forecast: Outlook | None) -> None:
        """Take in a live forecast; None where there is none of the last look."""
        if forecast is None:
            self.foreseen = Foreseen()
            return
        lagging, lost = len(forecast.lagging), len(set(forecast.lagging) & set(forecast.behind))
        hopeless = lagging > 0 and lost >= self._fraction * lagging
        self.foreseen = Foreseen(lagging, lost, self.foreseen.looks + 1 if hopeless else 0)

    @property
    def worsening(self) -> frozenset[int]:
        """Contexts that are losing to a worsening drag."""
        return frozenset(context for context, state in self.saturation.items() if state.worsening)

    @property
    def reason(self) -> str | None:
        """Why the run may end now, by the rule that was chosen; None if it goes on."""
        states = list(self.saturation.values())
        if self._stop == "saturation" and all_saturated(states, self._fraction):
            return "the Born gap is saturated"
        if self._stop == "structural" and all_failing(states):
            return "structural failure: the drag worsens"
        if self._stop == "resolved" and all_resolved(list(self.held.values()), self._rule.patience, self._fraction):
            return "gold is ahead in enough contexts and stays so"
        if self._stop == "hopeless" and self.foreseen.looks >= self._rule.patience:
            return f"of {self.foreseen.lagging} words that are behind {self.foreseen.lost} will stay there"
        return None

    @property
    def account(self) -> str:
        """What the rule that was chosen found, in a sentence; empty without a rule."""
        if self._stop == "none":
            return ""
        if self.reason is not None:
            return f"Training was to end there: {self.reason}."
        head, count = f"stop={self._stop!r} did not fire", len(self.saturation)
        if self._stop == "structural":
            return f"{head}: {len(self.worsening)} of {count} contexts lose to a worsening drag."
        if self._stop == "resolved":
            settled = sum(held >= self._rule.patience for held in self.held.values())
            return f"{head}: gold stays ahead in {settled} of {count} contexts, {self._fraction:.0%} were asked for."
        if self._stop == "hopeless":
            seen = self.foreseen
            return f"{head}: {seen.lost} of {seen.lagging} words that lag were forecast to stay behind."
        states = list(self.saturation.values())
        rest = ", ".join(f"{number} {what}" for what, number in unsaturated(states).items())
        return f"{head}: {sum(state.saturated for state in states)} of {count} contexts are saturated; {rest}."

    def state(self) -> dict[str, Any]:
        """Return everything remembered, JSON-ready but for numbers that are not finite."""
        rules = {"saturation": self.saturation, "patience": self.patience}
        kept = {name: {str(i): asdict(state) for i, state in states.items()} for name, states in rules.items()}  # type: ignore[attr-defined]
        held = {str(i): count for i, count in self.held.items()}
        kept["foreseen"] = asdict(self.foreseen)
        return kept | {"held": held, "waiting": {str(i): sorted(names) for i, names in self._waiting.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self._waiting = {int(i): set(names) for i, names in state["waiting"].items()}
        self.held = {int(i): count for i, count in state["held"].items()}
        self.foreseen = Foreseen(**state["foreseen"])
        self.patience = {int(i): PatienceState(**kept) for i, kept in state["patience"].items()}
        self.saturation = {
            int(i): SaturationState(**kept | {"recent": tuple(map(tuple, kept["recent"]))})
            for i, kept in state["saturation"].items()
        }

    def _flips(self, context: int, record: Values) -> bool:
        """Whether a criterion that waited for gold to come ahead is met now."""
        ahead = {name for name in MARGINS.values() if _number(record, name) > 0}
        if context not in self._waiting:
            self._waiting[context] = set(MARGINS.values()) - ahead
            return False
        flipped = self._waiting[context] & ahead
        self._waiting[context] -= flipped
        return bool(flipped)

    def _advance(self, context: int, record: Values) -> bool:
        before, waited = self.saturation.get(context, SaturationState()), self.patience.get(context, PatienceState())
        self.held[context] = self.held.get(context, 0) + 1 if _number(record, MARGINS[self._criterion]) > 0 else 0
        values = [_number(record, name) for name in ("born_gap", "logit_gap", "drag")]
        after = self._rule.update(before, *values)
        self.saturation[context] = after
        self.patience[context] = CrossEntropyPatience().update(waited, _number(record, "cross_entropy"))
        fired = after.saturated and not before.saturated
        return fired or (self.patience[context].stopped and not waited.stopped)


def judge(
    target: Target, path: Trajectory, criterion: Criterion, spacing: int | None = None, *, watched: bool = False
) -> dict[str, Any]:
    """Return the entry of a finished context in a RUN's verdicts.

    Args:
        target: the context.
        path: its records.
        criterion: what counts as resolved.
        spacing: steps between the records that jumps and stopping rules are judged by; all unless given.
        watched: whether the context was watched in a run on other rows.

    Returns:
        Words, token ids and relation, notes, the verdict, and what stopping on saturation would have saved; JSON-ready.
    """
    head = {key: getattr(target.context, key) for key in ("prompt", "gold", "rival")}
    head |= {"gold_id": target.gold_id, "rival_id": target.rival_id, "relation": target.relation}
    head |= {"notes": target.notes}
    pace = max(EVALUATION, spacing or 1)
    # a host may evaluate at steps of its own choice: then its records are the evaluations
    saved = saving(path, pace if len(path.every(pace).steps) > 1 else None)
    return head | verdict(path, criterion, spacing=spacing, watched=watched).to_json() | {"saving": asdict(saved)}


def is_evaluation(step: int, every: int = EVALUATION) -> bool:
    """Return whether the stopping rules advance at a step."""
    return step % every == 0


def _number(record: Values, name: str) -> float:
    value = record.get(name)
    return math.nan if value is None else value
