"""Remedies tried: a pilot each, on the same rows and at the same places, and what they come to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from borngap.methods import WHOLE
from borngap.pilot.design import FORWARD_BACKWARD, Design, design, lengthened, look_tokens, noise_of
from borngap.pilot.estimates import BIAS as SHARED_BIAS
from borngap.pilot.pilotfolder import read_ends, read_forecast
from borngap.pilot.pilots import RunProgress, SeeRun
from borngap.pilot.places.watched import WatchList, find
from borngap.pilot.record import foretold
from borngap.pilot.wholerun import Beginning, RunJob, run_job
from borngap.remedies.choice import UNKNOWN_OVER_USE, Candidate, Evidence, meets, remedy_choice
from borngap.remedies.outcomes import Ended, PlainRun, RemedyOutcome
from borngap.remedies.paste import NamedFiles, pasted
from borngap.remedies.remedy import BIAS, NONE, Remedy
from borngap.remedies.remedyfolder import BASE_FILE, RemedyFolder, RemedySearch
from borngap.remedies.settings import Remedying
from borngap.runfolder import clean, environment

_ADAPTER_BIAS = 0.6  # of a remedy's pilot under adapters, whose changes are off by more (docs/remedies-measured.md)
_OF_LOSS = 0.5  # of what a look may read: differences of loss are small
_IDLE = 0.95  # of the places: a run that leaves so many leaders as they are does next to nothing
_DONE = 0.9  # of the wanted words' places: where so many lead there is little to move
_BLIND = "over-use is not known"
_UNFIT = "no pilot of the planned run was fit for a forecast"
_BASE = "no training"
_NO_LOSS = "no pilot tells what it does to the held-out loss, so it is never recommended: try it in a run"


@dataclass(frozen=True, eq=False)
class RemedyTrial:
    """A search for a remedy, ready to be made.

    Attributes:
        remedies: what is tried, the run without one first.
        jobs: the run of each by its name; a bias has none.
        settings: what is allowed, and what it may cost.
        given: what the user gave, as it is named in the lines to paste.
        found: the watched places; found anew unless given.
    """

    remedies: Sequence[Remedy]
    jobs: Mapping[str, RunJob]
    settings: Remedying
    given: NamedFiles
    found: WatchList | None = None

    @property
    def plain(self) -> RunJob:
        """The planned run."""
        return self.jobs[NONE]


def search(asked: RemedyTrial, out: str | Path | None, see: SeeRun) -> RemedySearch:
    """Try remedies, or go on with it.

    Args:
        asked: the search; its model is trained and put back.
        out: folder of the results; None keeps none.
        see: called as it goes on.

    Returns:
        What they come to.

    Raises:
        UserError: the budget buys too little, nothing can be watched, or the folder holds something else.
    """
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return RemedySearch(None, search(asked, Path(folder) / "remedies", see).summary)
    see(RunProgress("finding places to watch"))
    found = asked.found or _watched(asked)
    for job in asked.jobs.values():  # what is refused here leaves no folder
        design(job.plan, job.settings.budget * (1 - 1 / FORWARD_BACKWARD), job.settings.pilots)
    with RemedyFolder(out, asked.plain.head, environment()) as folder:
        see(RunProgress("looking at the places before training"))
        base = folder.kept(BASE_FILE, lambda: found.lookout.told(asked.plain.loaded.model))
        beginning = Beginning(found, {**base, "looked": 0, "seconds": 0.0})
        tried = list[_Tried]()
        for remedy in (remedy for remedy in asked.remedies if remedy.name in asked.jobs):
            job, at = asked.jobs[remedy.name], folder.tried(remedy.folder)
            seen = _seen(see, f"{remedy.name} ({len(tried) + 1} of {len(asked.jobs)})")
            forecast = run_job(replace(job, beginning=beginning), at, seen)
            why = str(forecast.summary["all"]["why"])
            tried.append(_Tried(remedy, job, forecast.summary, None if why else _ended(found, base, at, job), why))
        summary = clean(_Telling(asked, found, tried).summary(base))
        folder.conclude(summary)
    return RemedySearch(Path(out), {"schema": 1} | summary)


@dataclass(frozen=True, eq=False)
class _Tried:
    remedy: Remedy
    job: RunJob
    forecast: Mapping[str, Any]
    ended: Ended | None
    why: str


def _watched(asked: RemedyTrial) -> WatchList:
    """The places, and rows for the loss: each remedy's pilot is looked at once."""
    job = asked.plain
    tokens = look_tokens(job.plan, job.settings.budget, job.settings.pilots)
    return find(job.loaded, job.asked, job.plan.training, job.settings, tokens, _OF_LOSS)


def _seen(see: SeeRun, name: str) -> SeeRun:
    def seen(state: RunProgress) -> None:
        see(replace(state, doing=f"{name}: {state.doing}"))

    return seen


def _ended(found: WatchList, base: Mapping[str, Any], folder: Path, job: RunJob) -> Ended | None:
    """Where a run ends; None where its pilots left the stable range."""
    ends, pilot = read_ends(folder), read_forecast(folder).summary["all"]["pilot"]
    chosen = Design(pilot["pilots"], pilot["steps"], pilot["share"])
    gaps = [lengthened(base["gaps"], end["gaps"], chosen.share) for end in ends]
    training, noise = job.plan.training, noise_of(job.plan, chosen)
    bias = SHARED_BIAS if training.method in WHOLE else _ADAPTER_BIAS
    places = foretold(found.lookout.spots, base["gaps"], gaps, training.seed, noise, bias)
    if places is None:
        return None
    return Ended(places, np.mean([np.array(end["rows"], dtype=np.float64) for end in ends], 0))


class _Telling:
    """Puts together what remedies come to."""

    def __init__(self, asked: RemedyTrial, found: WatchList, tried: Sequence[_Tried]) -> None:
        self._asked, self._found, self._tried = asked, found, tried
        plain = tried[0].ended
        self._held = None if plain is None else PlainRun(found.lookout.spots, plain)

    def summary(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """All numbers, JSON-ready but for NaN."""
        candidates, biased = self._candidates(), self._biased()
        candidates += [] if biased is None else [Candidate(Remedy(BIAS), biased[0], 1.0)]
        settings, plain = self._asked.settings, self._tried[0].forecast
        evidence = self._evidence()
        choice = remedy_choice(candidates, settings.max_loss, settings.max_over_use, evidence, self._tried[0].why)
        entries = [self._untrained(), *map(self._entry, candidates)]
        if biased is not None:
            entries[-1] |= {"bias_nat": biased[1]}
        entry = plain["all"]
        known = None if self._held is None or not entry["right_avoid"] else self._held
        return {
            "model": plain["model"], "run": plain["run"], "places": entry["places"],
            "right_avoid": entry["right_avoid"], "held_out_tokens": int(sum(row[0] for row in base["rows"])),
            "max_loss": settings.max_loss, "max_over_use": settings.max_over_use, "take": choice.remedy,
            "why": choice.why, "over_use_why": None if entry["right_avoid"] else UNKNOWN_OVER_USE,
            "remedies": entries, "bias_curve": [] if known is None else known.curve(), "cost": self._cost(base),
            "notes": self._notes(has_bias=biased is not None), "environment": environment(),
        }  # fmt: skip

    def _candidates(self) -> list[Candidate]:
        outcomes = [
            RemedyOutcome()
            if self._held is None or one.ended is None
            else self._held.of(one.ended, knows_loss=one.remedy.is_as_noisy)
            for one in self._tried
        ]
        return [
            Candidate(one.remedy, outcome, self._of_plan(one))
            for one, outcome in zip(self._tried, outcomes, strict=True)
        ]

    def _biased(self) -> tuple[RemedyOutcome, float] | None:
        if self._held is None or all(remedy.name != BIAS for remedy in self._asked.remedies):
            return None
        settings = self._asked.settings
        return self._held.biased(settings.max_loss, settings.max_over_use / 100)

    def _untrained(self) -> dict[str, Any]:
        outcome = RemedyOutcome() if self._held is None else self._held.untrained()
        return {"remedy": _BASE, "words": "the model as it is", **outcome.to_json(), "run_cost": 0.0,
                "meets": None, "why": "", "lines": []}  # fmt: skip

    def _entry(self, one: Candidate) -> dict[str, Any]:
        settings, name = self._asked.settings, one.remedy.name
        own = next((tried for tried in self._tried if tried.remedy.name == name), self._tried[0])
        judged = name != NONE and one.outcome.over_use is not None
        return {
            "remedy": name, "words": one.remedy.words, **one.outcome.to_json(), "run_cost": one.run_cost,
            "meets": meets(one.outcome, settings.max_loss, settings.max_over_use) if judged else None,
            "why": own.why, "lines": pasted(one.remedy, own.job, self._asked.given, one.outcome),
        }  # fmt: skip

    def _of_plan(self, one: _Tried) -> float:
        """What a remedy's run costs, times the planned run."""
        return one.job.plan.tokens / self._asked.plain.plan.tokens

    def _cost(self, base: Mapping[str, Any]) -> dict[str, Any]:
        looked = base["looked"] / (FORWARD_BACKWARD * self._asked.plain.plan.tokens)
        shares = [one.forecast["cost"]["of_run"] * self._of_plan(one) for one in self._tried]
        seconds = base["seconds"] + sum(one.forecast["cost"]["seconds"] for one in self._tried)
        return {"of_run": looked + sum(shares), "budget": self._asked.settings.budget, "seconds": seconds}

    def _evidence(self) -> Evidence:
        settings, watched = self._asked.settings, len(self._found.lookout.spots)
        rows, budget, can_grow = "more held-out rows", "a larger --budget", settings.budget < 1
        places = rows
        if watched < self._found.there:
            places = "more --places" if watched >= settings.places else budget if can_grow else rows
        return Evidence(self._tried[0].forecast["all"]["right_avoid"], places, budget if can_grow else places)

    def _notes(self, *, has_bias: bool) -> list[str]:
        plain = self._tried[0].forecast
        notes = _of_an_idle_run(plain) + list(plain["notes"]) + _of_loss(plain)
        if not has_bias and any(remedy.name == BIAS for remedy in self._asked.remedies):
            notes.append(f"bias: not tried, since {_UNFIT if self._held is None else _BLIND}")
        for one in self._tried[1:]:
            notes += [f"{one.remedy.name}: {note}" for note in one.forecast["notes"] if note not in notes]
        unknown = [one.remedy.name for one in self._tried if not one.remedy.is_as_noisy]
        return notes + [f"{name}: {_NO_LOSS}" for name in unknown]


def _of_an_idle_run(forecast: Mapping[str, Any]) -> list[str]:
    """What is to be said of a planned run that leaves nearly all leaders as they are, though many are wrong."""
    entry = forecast["all"]
    same, ahead = entry["right_if_nothing_changes"], entry["ahead_after"]
    if same is None or ahead is None or same < _IDLE or ahead > _DONE:
        return []
    return [
        f"the planned run hardly moves a word: at {100 * same:.0f} % of the places the same word leads as before. "
        "Look for a learning rate first: borngap forecast --data ... --lrs RATES"
    ]


def _of_loss(forecast: Mapping[str, Any]) -> list[str]:
    """What is to be said of a pilot of the planned run that ends worse than it began, and is taken for fit."""
    entry = forecast["all"]
    before, after = entry["held_out_loss_before"], entry["pilot_loss"]
    if entry["why"] or before is None or after is None or after <= before:
        return []
    return [
        f"the held-out loss rises from {before:.2f} to {after:.2f} in the planned run's pilot, which a run on rows of "
        "the same kind lowers: trust none of this before a larger --budget, whose steps are shorter, agrees"
    ]
