"""The pilots of a forecast: at each rate one design, and one of shorter spans where it leaves the stable range."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from borngap.pilot.design import Design, design, lengthened, shortened
from borngap.pilot.draw import PilotSteps, counts_of, pilot_steps
from borngap.pilot.places.look import Look, Lookout, looked
from borngap.pilot.plan import StepPlan
from borngap.pilot.run import PilotCourse, Trainee, loss_ends

_WORSE = 1.15  # times the held-out loss before training: a pilot that ends above it tells nothing of its run
_TRIES = 3  # designs at one rate: after a pilot that leaves the stable range one with half its span
PilotEnd = dict[str, Any]
KeepEnd = Callable[[str, Callable[[], Mapping[str, Any]]], PilotEnd]
"""Returns what is kept under a name, JSON-ready; what is not there yet is made and kept."""


@dataclass(frozen=True)
class RunProgress:
    """How far a forecast has come.

    Attributes:
        doing: what is being done, in words.
        done: steps of the pilot, or pilots, that are done; None while something else is done.
        total: how many there are.
    """

    doing: str
    done: int | None = None
    total: int | None = None


SeeRun = Callable[[RunProgress], None]


@dataclass(frozen=True, eq=False)
class PilotWork:
    """What the pilots of all rates have in common, beside the model.

    Attributes:
        plan: the run, at any rate.
        lookout: the watched places.
        pilots: how many there are at each rate.
        share: what is left for gradients at one rate, as a share of the run's.
        stops: numbers of epochs to forecast, each with the share of the plan's dose that its own run has.
    """

    plan: StepPlan
    lookout: Lookout
    pilots: int
    share: float
    stops: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class RatePilots:
    """What the pilots of one rate came to.

    Attributes:
        design: what they are.
        ends: what each came to; none where none is fit for a forecast.
        made: what was trained, fit or not.
        why: why none is fit.
        notes: of pilots that were done again.
    """

    design: Design
    ends: list[PilotEnd]
    made: list[PilotEnd]
    why: str
    notes: list[str]

    def judged(self, before: float | None) -> RatePilots:
        """Return the same, unfit where the held-out loss has risen by over 15 %.

        Args:
            before: mean loss of a held-out token before training, unit nat; None where no rows are held out.
        """
        after = max((end["loss"] or 0.0 for end in self.ends), default=0.0)
        if before is None or after <= _WORSE * before:
            return self
        why = f"the held-out loss of a pilot of {self.design.steps} steps rises from {before:.2f} to {after:.2f}"
        return replace(self, ends=[], why=f"{why}: it has left the stable range (a larger --budget buys shorter steps)")

    def gaps(self, base: Sequence[float], stop: int) -> list[list[float]]:
        """Return the gaps of each at one of the stops, the last one its end, as batches of the run's size move them.

        Args:
            base: gaps before training, unit nat.
            stop: which.

        Returns:
            Gaps, unit nat.
        """
        found = ([*end["midway"], end["gaps"]][stop] for end in self.ends)
        return [lengthened(base, gaps, self.design.share) for gaps in found]


class Pilots:
    """Trains pilots, rate after rate."""

    def __init__(
        self, work: PilotWork, trainee: Trainee | None, keep: KeepEnd, see: Callable[[RunProgress], None]
    ) -> None:
        """Prepare.

        Args:
            work: what they are of.
            trainee: what is trained; None where all is kept already.
            keep: keeps what each came to.
            see: called as it goes on.
        """
        self._work, self._trainee, self._keep, self._see = work, trainee, keep, see
        self._counts = counts_of(work.plan, {spot.gold_id for spot in work.lookout.spots})

    def of_rate(self, number: int, rate: float) -> RatePilots:
        """Train the pilots of one rate: of shorter spans where the first design leaves the stable range.

        Args:
            number: of the rate, from 0.
            rate: the run's learning rate.

        Returns:
            What they came to.
        """
        plan, share = self._work.plan.at(rate), self._work.share
        notes, made = list[str](), list[PilotEnd]()
        chosen, why = design(plan, share, self._work.pilots), ""
        for attempt in range(_TRIES):
            ends = self._trained(f"pilots/{number:02}-{attempt}", plan, chosen)
            made += ends
            if all(end["is_stable"] for end in ends):
                return RatePilots(chosen, ends, made, "", notes)
            span = len(plan.steps) / chosen.steps
            start, end = _loss_ends(ends[-1]["losses"])
            why = (
                f"at the rate {rate:g} a pilot, whose rate is {span:.3g} times the run's, leaves the stable range "
                f"(its loss goes from {_shown(start)} to {_shown(end)})"
            )
            share -= sum(end["tokens"] for end in ends) / plan.tokens
            shorter = shortened(plan, chosen, share)
            if shorter is None:
                break
            notes.append(f"{why}; done again with {shorter.steps} steps instead of {chosen.steps}")
            chosen = shorter
        return RatePilots(chosen, [], made, f"{why}, and the budget buys no shorter span", notes)

    def _trained(self, name: str, plan: StepPlan, chosen: Design) -> list[PilotEnd]:
        drawn, ends = list[PilotSteps](), list[PilotEnd]()
        for index in range(chosen.pilots):
            seed = plan.training.seed + index
            drawn.append(pilot_steps(plan, chosen.steps, chosen.share, self._counts, seed, drawn))
            doing = f"pilot {index + 1} of {chosen.pilots} at {plan.training.learning_rate:g}, steps"

            def make(pilot: PilotSteps = drawn[-1], seed: int = seed, doing: str = doing) -> PilotEnd:
                return self._made(plan, pilot, seed, doing)

            ends.append(self._keep(f"{name}-{index}.json", make))
            if not ends[-1]["is_stable"]:
                break
        return ends

    def _made(self, plan: StepPlan, pilot: PilotSteps, seed: int, doing: str) -> PilotEnd:
        """Train one pilot; return what it came to, JSON-ready but for NaN."""
        assert self._trainee is not None  # noqa: S101  # else all is kept
        model, lookout = self._trainee.model, self._work.lookout
        started, marks = time.perf_counter(), _marks(pilot, self._work.stops)
        midway = list[list[float]]()

        def on_step(step: int) -> None:
            self._see(RunProgress(doing, step, len(pilot.rows)))
            if step in marks:
                midway.extend([lookout.look(model).gaps.tolist()] * marks.count(step))

        course = self._trainee.train(plan, pilot, seed, on_step)
        end = _end(course, lookout, model) | {"midway": midway, "seconds": time.perf_counter() - started}
        return end | {"looked": end["looked"] + lookout.tokens * len(set(marks))}


def _marks(pilot: PilotSteps, stops: Sequence[tuple[float, float]]) -> list[int]:
    """Steps of a pilot after which the dose of each run but the longest is done."""
    done = np.cumsum(pilot.rates) / np.sum(pilot.rates)
    return [int(np.searchsorted(done, share - 1e-9)) + 1 for _, share in stops[:-1]]


def _end(course: PilotCourse, lookout: Lookout, model: Any) -> PilotEnd:
    look = lookout.look(model) if course.is_stable else Look(np.array([]), np.empty((0, 2)))
    stable = course.is_stable and bool(np.isfinite(look.gaps).all())
    return {
        **looked(look), "losses": list(course.losses), "is_stable": stable, "tokens": course.tokens,
        "passes": course.passes, "looked": lookout.tokens if course.is_stable else 0,
    }  # fmt: skip


def _loss_ends(losses: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Where the loss of a pilot began and ended; None where that is no number."""
    known = [loss for loss in losses if loss is not None]
    start, end = loss_ends(known) if known else (None, None)
    return start, end if len(known) == len(losses) else None


def _shown(loss: float | None) -> str:
    return "no number" if loss is None else f"{loss:.2f}"
