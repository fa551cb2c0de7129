"""Live forecasts: where the watched words of a run will stand at its end, from the looks that are taken anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from borngap.context import Target
from borngap.judge.termshares import WatchedPlace
from borngap.judge.watch import Values
from borngap.live.doses import Doses
from borngap.live.outlook import FIRST_DOSE, Looks, outlook
from borngap.live.prior import HostRun, Prior
from borngap.pilot.estimates import Floats, PlaceForecasts
from borngap.train.methods import method_of

_LOW, _HIGH = 5, 95  # percentiles


@dataclass(frozen=True, eq=False)
class LiveForecast:
    """What a run's looks tell of its end.

    Attributes:
        step: after which it was made.
        steps: of the run.
        share: of its dose that was done.
        places: forecasts of all targets.
        now: logit gaps at that step, unit nat.
        words: targets of each watched word, several where it has several rivals; words that are due, and contexts.
        right: the same of places where the word to avoid is right.
        hint: what another learning rate would do, in words; empty unless a stored forecast tells.
    """

    step: int
    steps: int
    share: float
    places: PlaceForecasts
    now: np.ndarray[Any, np.dtype[np.float64]]
    words: Sequence[Sequence[int]]
    right: Sequence[Sequence[int]]
    hint: str = ""

    @cached_property
    def behind(self) -> list[int]:
        """Words that will stay or come behind: the upper end of a 90 % interval is not above 0."""
        return [n for n, word in enumerate(self.words) if any(self.places.high[i] <= 0 for i in word)]

    @cached_property
    def undecided(self) -> list[int]:
        """Words of which neither is sure."""
        lead = {n for n, word in enumerate(self.words) if all(self.places.low[i] > 0 for i in word)}
        return [n for n in range(len(self.words)) if n not in lead and n not in set(self.behind)]

    @cached_property
    def lagging(self) -> list[int]:
        """Words that are behind now."""
        return [n for n, word in enumerate(self.words) if any(self.now[i] <= 0 for i in word)]

    @cached_property
    def ahead(self) -> tuple[float, float, float]:
        """How many words will lead: the mean, and the 90 % interval."""
        return _counted(np.stack([(self.places.draws[:, list(word)] > 0).all(1) for word in self.words], 1))

    @property
    def metrics(self) -> dict[str, float]:
        """Shares of the words for a host's log."""
        count, (mean, low, high) = len(self.words), self.ahead
        found = {"ahead": mean, "low": low, "high": high, "undecided": len(self.undecided), "behind": len(self.behind)}
        shares = {name: value / count for name, value in found.items()}
        if self.right:
            over = np.stack([(self.places.draws[:, list(word)] < 0).any(1) for word in self.right], 1)
            shares["over_use"] = _counted(over)[0] / len(self.right)
        return {f"forecast/{name}": float(value) for name, value in shares.items()}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of a RUN's table of forecasts, one a target."""
        ends = zip(self.places.gaps, self.places.low, self.places.high, strict=True)
        return [
            {"context": i, "step": self.step, "steps": self.steps, "share": self.share, "gap": float(gap),
             "low": float(low), "high": float(high)}
            for i, (gap, low, high) in enumerate(ends)
        ]  # fmt: skip

    @property
    def brief(self) -> str:
        """A few words for a progress bar."""
        mean, low, high = (round(value) for value in self.ahead)
        return f"{mean} ({low} to {high}) of {len(self.words)} will lead"

    def __str__(self) -> str:
        """Say it in a sentence."""
        return f"step {self.step:,} of {self.steps:,}: {self.outcome}"

    @property
    def outcome(self) -> str:
        """What will be, without the step at which it was said."""
        mean, low, high = (round(value) for value in self.ahead)
        head = f"{mean} of {len(self.words)} watched words will lead at the end ({low} to {high})"
        said = f"{head}, {len(self.undecided)} undecided, {len(self.behind)} will not"
        return f"{said}{self.hint and f': {self.hint}'}"


class Live:
    """Forecasts the end of one run, look after look.

    Attributes:
        last: of the last look; None before a fifth of the dose, at the end, where a gap is not finite, and where the
            host's rates are not known.
        told: all forecasts so far, as rows of a RUN's table.
    """

    def __init__(self, count: int, places: Sequence[WatchedPlace], doses: Doses | None) -> None:
        """Say what is watched.

        Args:
            count: how many targets.
            places: those of them, the last ones, that are places of terms.
            doses: the run's; None where they are not known.
        """
        self._doses, self._rate = doses if doses is not None and doses.is_known else None, 0.0
        self._stored: Prior | None = None
        right = {place.context for place in places if not place.is_due}
        self._kinds = np.array([int(i in right) for i in range(count)], dtype=np.int64)
        self._words, self._right = _groups(count, places)
        self.last: LiveForecast | None = None
        self.told: list[dict[str, Any]] = []

    @classmethod
    def of(
        cls, targets: Sequence[Target], places: Sequence[WatchedPlace], model: Any, tokenizer: Any,
        rates: Sequence[float] | None, forecast: str | Path | None, state: Mapping[str, Any] | None,
    ) -> Live:  # fmt: skip
        """Begin, or go on.

        Args:
            targets: what is watched.
            places: those of them, the last ones, that are places of terms.
            model: the host's, prepared for training.
            tokenizer: its tokenizer.
            rates: learning rates of the steps to come; None where they are not known.
            forecast: FORECAST folder of this run, or None.
            state: a tracker's state of the interrupted run, or None.

        Returns:
            What forecasts.
        """
        kept: Mapping[str, Any] = {} if state is None else state["live"]
        first = 0 if state is None else state["last_step"]
        before = {int(step): dose for step, dose in kept.get("doses", {}).items()}
        # a run that was interrupted while its rates were not known has no dose to go on from
        doses = None if rates is None or (first and first not in before) else Doses(rates, first, before)
        live = cls(len(targets), places, doses)
        live.told, live._rate = list(kept.get("told", ())), kept.get("rate", max(rates or (0.0,)))
        if forecast is not None and doses is not None:
            plan = HostRun(method_of(model), live._rate, tuple(rates or ()), first)
            live._stored = Prior(forecast, targets, tokenizer, plan)
        return live

    def look(self, records: Sequence[tuple[int, Mapping[int, Values]]]) -> None:
        """Forecast from all looks so far.

        Args:
            records: step -> context -> its observables, the first one before training.

        Raises:
            UserError: the stored forecast is of another model.
        """
        if self._stored is not None and len(records) == 1:
            self._stored.check(_gaps(records)[0])
        self.last = None if self._doses is None else self._forecast(records, self._doses)
        if self.last is not None:
            self.told = [row for row in self.told if row["step"] != self.last.step] + self.last.rows

    def _forecast(self, records: Sequence[tuple[int, Mapping[int, Values]]], doses: Doses) -> LiveForecast | None:
        step, share = records[-1][0], doses.share(records[-1][0])
        if len(records) < 2 or not FIRST_DOSE <= share < 1 or not self._words:
            return None
        gaps = _gaps(records)
        if not np.isfinite(gaps[[0, -1]]).all():
            return None
        sound = np.isfinite(gaps).all(1)
        shares = np.array([doses.share(at) for at, _ in records])
        found = outlook(
            Looks(shares[sound], gaps[sound], self._kinds), None if self._stored is None else self._stored.told
        )
        made = LiveForecast(step, doses.steps, share, found, gaps[-1], self._words, self._right)
        if self._stored is None:
            return made
        return replace(made, hint=self._stored.hint([self._words[n] for n in made.behind], gaps[0]))

    def state(self, last: int, looks: Sequence[int]) -> dict[str, Any]:
        """Return what a checkpoint keeps, JSON-ready.

        Args:
            last: the step of the checkpoint.
            looks: steps of all records.
        """
        doses = {} if self._doses is None else {str(step): self._doses.at(step) for step in (*looks, last)}
        return {"doses": doses, "told": self.told, "rate": self._rate}


def _gaps(records: Sequence[tuple[int, Mapping[int, Values]]]) -> Floats:
    """Logit gaps of all looks, shape (look, target)."""
    return np.array([[_gap(record[i]) for i in sorted(record)] for _, record in records], dtype=np.float64)


def _gap(record: Values) -> float:
    gap = record.get("logit_gap")
    return np.nan if gap is None else gap


def _groups(count: int, places: Sequence[WatchedPlace]) -> tuple[list[list[int]], list[list[int]]]:
    """Targets by word: of those that count, and of places where the word to avoid is right."""
    due, right = dict[Any, list[int]](), dict[Any, list[int]]()
    for place in places:
        (due if place.is_due else right).setdefault(place.place, []).append(place.context)
    return [*([i] for i in range(count - len(places))), *due.values()], list(right.values())


def _counted(of_draws: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """How many are true: the mean over draws, and the 90 % interval."""
    counts = of_draws.sum(1)
    low, high = np.percentile(counts, (_LOW, _HIGH))
    mean = float(counts.mean())  # of a skewed count it may lie outside its percentiles
    return mean, min(float(low), mean), max(float(high), mean)
