"""Forecast of a whole run: pilots at a small share of its cost, and what they foretell of the watched places."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from borngap.folder import SUMMARY_FILE
from borngap.model.load import Loaded
from borngap.model.precision import precision_of
from borngap.model.vocabulary import tokenizer_digest
from borngap.pilot.design import FORWARD_BACKWARD, design, look_tokens, noise_of
from borngap.pilot.estimates import PlaceForecasts
from borngap.pilot.pilotfolder import ForecastFolder, RunForecast, place_table, read_forecast
from borngap.pilot.pilots import Pilots, PilotWork, RatePilots, RunProgress, SeeRun
from borngap.pilot.places.look import Look, check_finite
from borngap.pilot.places.watched import Asked, WatchList, find, taught_notes
from borngap.pilot.plan import StepPlan
from borngap.pilot.record import (
    best_entry,
    few_rows_notes,
    foretold,
    idle_notes,
    place_entries,
    shares_entry,
    term_entries,
    text_before,
    with_rates,
)  # fmt: skip
from borngap.pilot.rows import rows_with
from borngap.pilot.run import RowLoss, Trainee, model_penalty, rival_row_loss
from borngap.pilot.settings import Piloting
from borngap.rates import check_rates
from borngap.rivals.rivalloss import RivalLoss
from borngap.runfolder import clean, environment
from borngap.train.finetune import weights_digest
from borngap.train.methods import make_trainable, stripped
from borngap.usage.absent import absent_note

_UNTAUGHT = "wanted words that stand in no row that the run trains on"
_SLACK = 0.95  # of what is left for gradients: drawn rows may be longer than the mean row


@dataclass(frozen=True, eq=False)
class Beginning:
    """What is watched in several runs, and what the model says there before them.

    Attributes:
        found: the places, and the held-out rows.
        base: the look, as a folder keeps it.
    """

    found: WatchList
    base: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class RunJob:
    """A forecast ready to be made.

    Attributes:
        loaded: model and tokenizer.
        plan: the run.
        asked: what is watched.
        settings: what it may cost, and how rows are read.
        rates: learning rates to forecast, ascending.
        stops: numbers of epochs to forecast, ascending, each with the share of the plan's dose that its own run has;
            the last one is the plan's. None without several.
        facts: what tells the data from others, JSON-ready.
        beginning: what is watched and what the model says there, where several runs share it; found anew without.
        rivals: what is added to the cross-entropy that the run lowers; None where nothing is.
        pairs: right tokens and their rivals, of which a penalty on overlaps is.
        is_prepared: whether the model is as it will be trained: adapters in place, ``requires_grad`` set.
    """

    loaded: Loaded
    plan: StepPlan
    asked: Asked
    settings: Piloting
    rates: tuple[float, ...]
    facts: Mapping[str, Any]
    rivals: RivalLoss | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    is_prepared: bool = False
    beginning: Beginning | None = None
    stops: tuple[tuple[float, float], ...] = ()

    @property
    def head(self) -> dict[str, Any]:
        """Everything needed to repeat it, JSON-ready."""
        asked, model = self.asked, self.loaded.model
        watch = None if asked.held_out is None else {"data": asked.held_out.name, "stamp": asked.held_out.stamp()}
        marks = None if asked.allowed.marks is None else [asdict(mark) for mark in asked.allowed.marks]
        return {
            "data": dict(self.facts), "watch": watch, "allowed": marks,
            "terms": None if asked.terms is None else [asdict(term) for term in asked.terms],
            "contexts": None if asked.contexts is None else [context.to_json() for context in asked.contexts],
            "training": self.plan.training.to_json(), "settings": asdict(self.settings), "rates": list(self.rates),
            "stops": [list(stop) for stop in self.stops],
            "model": self.loaded.name, "digest": weights_digest(model), **precision_of(model),
            "tokenizer": tokenizer_digest(self.loaded.tokenizer),
            **({} if self.rivals is None else {"rivals": self.rivals.words}),
        }  # fmt: skip


PilotEngine = Callable[[RunJob, PilotWork, ForecastFolder, SeeRun], None]
"""Trains the pilots of a job that its folder does not hold yet, and keeps them there."""


def run_job(
    job: RunJob, out: str | Path | None, see: SeeRun | None = None, engine: PilotEngine | None = None
) -> RunForecast:
    """Make a forecast, or go on with one.

    Args:
        job: the job; its model is trained and put back.
        out: folder of the results; None keeps none.
        see: called as it goes on.
        engine: trains the pilots elsewhere; without, they are trained here one after the other.

    Returns:
        The forecast.

    Raises:
        UserError: the budget buys too little, nothing can be watched, or the folder holds something else.
    """
    check_rates(job.rates)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            found = run_job(job, folder, see, engine)
            return RunForecast(None, found.summary, found.places)
    if not (Path(out) / SUMMARY_FILE).exists():
        forecasting = _Forecasting(job, see or (lambda _: None))  # what is refused here leaves no folder
        with ForecastFolder(out, job.head, environment()) as folder:
            forecasting.run(folder, engine)
    with ForecastFolder(out, job.head, environment()):
        return read_forecast(out)


class _Forecasting:
    """Makes one forecast in a folder."""

    _folder: ForecastFolder
    _work: PilotWork
    _rows: list[int]  # of the run, with the wanted word of each term

    def __init__(self, job: RunJob, see: SeeRun) -> None:
        """Choose what is watched, and check that the budget buys a pilot.

        Args:
            job: the job.
            see: called as it goes on.

        Raises:
            UserError: nothing can be watched, or the budget is too small.
        """
        self._job, self._see, self._plan = job, see, job.plan
        self._tokens = self._passes = 0
        looks = job.settings.pilots * len(job.rates) * max(1, len(job.stops)) + (2 if job.beginning is None else 1)
        see(RunProgress("finding places to watch"))
        started = time.perf_counter()
        self._found = job.beginning.found if job.beginning is not None else find(
            job.loaded, job.asked, job.plan.training, job.settings, look_tokens(job.plan, job.settings.budget, looks)
        )  # fmt: skip
        self._forwards, self._seconds = float(self._found.read), time.perf_counter() - started
        self._left = FORWARD_BACKWARD * job.settings.budget * self._plan.tokens - self._found.read
        self._left = _SLACK * (self._left - (looks - 1) * self._found.lookout.tokens)
        design(self._plan, self._share(), job.settings.pilots, len(job.rates))

    def run(self, folder: ForecastFolder, engine: PilotEngine | None = None) -> None:
        """Train pilots, and foretell.

        Args:
            folder: what is in it already is not done again.
            engine: trains the pilots elsewhere.
        """
        self._folder, settings = folder, self._job.settings
        self._work = PilotWork(self._plan, self._found.lookout, settings.pilots, self._share(), self._job.stops)
        if engine is not None:
            engine(self._job, self._work, folder, self._see)
        with prepared(self._job) as trainee:
            self._foretell(self._found, trainee)

    def _foretell(self, found: WatchList, trainee: Trainee) -> None:
        base = self._folder.kept("base.json", lambda: self._looked(found, trainee.model))
        check_finite(Look(np.array(base["gaps"], dtype=np.float64), np.empty((0, 2))))
        self._spend(base)
        training = Pilots(self._work, trainee, self._folder.kept, self._see)
        entries, curve = [], []
        notes = [*_unread(self._job.facts), *found.notes(self._job.settings.places)]
        notes += taught_notes(found.lookout, self._plan.rows)
        tokenizer = self._job.loaded.tokenizer
        before = [
            text_before(spot.example.ids[spot.document.start : spot.offset], tokenizer) for spot in found.lookout.spots
        ]
        terms, used = self._job.asked.terms, {i for step in self._plan.steps for i in step}
        self._rows = [] if terms is None else rows_with([self._plan.rows[i] for i in used], terms.terms, tokenizer)
        trained = {i for i, count in enumerate(self._rows) if count}
        notes += [] if terms is None else absent_note([repr(term.use) for term in terms.terms], trained, _UNTAUGHT)
        for number, rate in enumerate(self._job.rates):
            pilots = training.of_rate(number, rate).judged(base["loss"])
            for made in pilots.made:
                self._spend(made)
            for stop, (epochs, _) in enumerate(self._job.stops or ((None, 1.0),)):
                ends = pilots.gaps(base["gaps"], stop)
                noise = noise_of(self._plan.at(rate), pilots.design)
                ended = foretold(found.lookout.spots, base["gaps"], ends, self._plan.training.seed, noise)
                entries += place_entries(found.lookout.spots, before, (rate, epochs), base["gaps"], ended)
                curve.append({"epochs": epochs} | self._entry(rate, found, base, ended, pilots))
            notes += pilots.notes
        self._conclude(found, curve, entries, notes)

    def _share(self) -> float:
        """What is left for the gradients at one rate, as a share of the run's."""
        return self._left / len(self._job.rates) / (FORWARD_BACKWARD * self._plan.tokens)

    def _looked(self, found: WatchList, model: Any) -> Mapping[str, Any]:
        self._see(RunProgress("looking at the places before training"))
        return found.lookout.told(model) if self._job.beginning is None else self._job.beginning.base

    def _spend(self, entry: Mapping[str, Any]) -> None:
        self._tokens += entry.get("tokens", 0)
        self._passes += entry.get("passes", 0)
        self._forwards += entry["looked"]
        self._seconds += entry["seconds"]

    def _entry(
        self, rate: float, found: WatchList, base: Mapping[str, Any], ended: PlaceForecasts | None, pilots: RatePilots
    ) -> dict[str, Any]:
        spots, terms = found.lookout.spots, self._job.asked.terms
        losses = [end["loss"] for end in pilots.ends]
        right = (None, None) if ended is None else ended.right()
        entry = {
            "rate": rate, **shares_entry(spots, base["gaps"], ended),
            "right_expected": right[0], "right_if_nothing_changes": right[1],
            "matched_by_nothing_changes": None if ended is None else ended.matched(),
            # a pilot's own loss is too high for the run's (docs/forecast-runs.md)
            "held_out_loss_before": base["loss"], "held_out_loss": None,
            "pilot_loss": float(np.mean(losses)) if losses and None not in losses else None,
            "why": pilots.why, "terms": [] if terms is None else
            term_entries(terms.terms, self._rows, spots, base["gaps"], ended),
            "pilot": asdict(pilots.design) | {
                "span": len(self._plan.steps) / pilots.design.steps, "rows": pilots.design.rows(self._plan),
            },
        }  # fmt: skip
        return entry | {"no_better": bool(idle_notes(entry, self._plan.training.method, 1))}

    def _doubts(self, curve: Sequence[Mapping[str, Any]], shown: Mapping[str, Any]) -> list[str]:
        """Where a forecast is no better than "nothing changes", of the shown rate first; or is of too few rows."""
        longest = {entry["rate"]: entry for entry in curve}
        told = {shown["rate"]: shown} | {rate: entry for rate, entry in longest.items() if rate != shown["rate"]}
        method = self._plan.training.method
        idle = [note for entry in told.values() for note in idle_notes(entry, method, len(longest))]
        return idle + few_rows_notes(shown, method, len(longest))

    def _conclude(
        self, found: WatchList, curve: list[dict[str, Any]], entries: list[dict[str, Any]], notes: list[str]
    ) -> None:
        job, plan = self._job, self._plan
        best = best_entry(curve)
        shown = best or curve[-1]
        own = [e for e in entries if (e["rate"], e["epochs"]) == (shown["rate"], shown["epochs"])]
        spent = (FORWARD_BACKWARD * self._tokens + self._forwards) / (FORWARD_BACKWARD * plan.tokens)
        self._folder.conclude(clean({
            "run": {
                "steps": len(plan.steps), "rows": len(plan.rows), "passes": plan.passes, "tokens": plan.tokens,
                "data": dict(job.facts), "watched": job.asked.kind, "there": found.there,
                "training": plan.training.to_json(), "settings": asdict(job.settings),
            },
            "model": job.loaded.name, "rate_to_use": best["rate"] if best and len(job.rates) > 1 else None,
            "epochs_to_use": best["epochs"] if best and len(job.stops) > 1 else None,
            "all": {k: v for k, v in shown.items() if k != "terms"},
            "terms": with_rates(curve, shown["terms"]),
            "curve": [{k: v for k, v in entry.items() if k != "terms"} for entry in curve],
            "places": own,
            "cost": {"gradients": self._passes, "of_run": spent, "budget": job.settings.budget,
                     "seconds": self._seconds},
            "notes": [*self._doubts(curve, shown), *notes], "environment": environment(),
        }), place_table(entries))  # fmt: skip


def _unread(facts: Mapping[str, Any]) -> list[str]:
    """What is to be said of rows of the data that could not be read."""
    found = facts["malformed"]
    return [f"rows of the data that could not be read and are left out: {found}"] if found else []


@contextmanager
def prepared(job: RunJob, loss: RowLoss | None = None) -> Iterator[Trainee]:
    """Prepare a job's model for training, and put it back at the end.

    Args:
        job: the job.
        loss: what it is trained with; unless given the job's own.

    Yields:
        What trains it: adapters in place, ``requires_grad`` set.
    """
    training, model = job.plan.training, job.loaded.model
    needed = [(p, p.requires_grad) for p in model.parameters()]
    trained = model if job.is_prepared else make_trainable(model, training)[0]
    loss = loss or (None if job.rivals is None else rival_row_loss(job.rivals))
    penalty = model_penalty(training.penalised, job.pairs)
    trainee = Trainee(trained, dropout=training.dropout, loss=loss, penalty=penalty)
    try:
        yield trainee
    finally:
        trainee.restore()
        if not job.is_prepared:
            stripped(trained)
        for parameter, flag in needed:
            parameter.requires_grad_(flag)
