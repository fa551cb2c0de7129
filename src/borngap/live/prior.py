"""A stored forecast of the run that is being watched: what its pilot tells of the targets, and of other rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from borngap.context import Target
from borngap.errors import UserError
from borngap.live.outlook import NORMAL_90, Told
from borngap.methods import Method
from borngap.pilot.estimates import Floats
from borngap.pilot.pilotfolder import read_forecast
from borngap.pilot.record import text_before
from borngap.training import Training

_SAME = 1e-3  # relative distance of two rates that are the same
_LONGER = 0.1  # share by which a run may be longer or shorter than the one that was forecast
_OTHER_SCHEDULE = 0.03  # mean distance of factors on the rate, beside a step's: linear and cosine are 0.07 apart
_APART = 0.1  # nat between a forecast's gaps before training and a run's, more than bfloat16 makes
_KEY = ("gold_id", "rival_id", "before")
Key = tuple[int, int, str]


@dataclass(frozen=True)
class HostRun:
    """The run that is watched.

    Attributes:
        method: what it trains.
        rate: before schedule and warm-up.
        rates: of the steps to come.
        done: steps before them.
    """

    method: Method
    rate: float
    rates: tuple[float, ...]
    done: int = 0

    @property
    def steps(self) -> int:
        """All steps of the run."""
        return self.done + len(self.rates)


class Prior:
    """A FORECAST folder, asked about targets.

    A target is found by gold, rival, and the end of what stands before it. One that is not there is told by the mean of
    the places with its gold and rival.
    """

    def __init__(self, folder: str | Path, targets: Sequence[Target], tokenizer: Any, run: HostRun) -> None:
        """Read it.

        Args:
            folder: where it lies.
            targets: what is watched.
            tokenizer: of the model.
            run: the run that is watched.

        Raises:
            UserError: it is not finished or damaged, is of another method, rate, schedule or length, or tells nothing
                of any target.
        """
        found, rate = read_forecast(folder), run.rate
        _check_plan(folder, Training.from_json(found.summary["run"]["training"]), run)
        longest = pl.col("epochs").fill_null(0) == pl.col("epochs").fill_null(0).max()
        self._places = found.places.filter(longest & pl.col("forecast_gap").is_not_null())
        self._keys = [_key(target, tokenizer) for target in targets]
        rates = sorted(set(found.places["rate"].to_list()))
        own = [other for other in rates if abs(other - rate) <= _SAME * rate]
        if not own:
            fix = "forecast this run: borngap forecast --data with its rate, or --lrs with it among them"
            rule = f"a forecast at the run's rate, {rate:g}"
            raise UserError(f"the forecast in {folder} is of other rates", rule=rule, found=rates, fix=fix)
        self._rate, self._others, self._folder = own[0], [other for other in rates if other != own[0]], folder
        if not np.isfinite(self.told.changes).any():
            rule = "it watches words that the run watches: the same terms, and held-out rows of the same kind"
            raise UserError(f"the forecast in {folder} tells nothing of what is watched", rule=rule)

    @cached_property
    def told(self) -> Told:
        """What it tells of the targets at the run's rate."""
        return self._at(self._rate)

    def check(self, bases: Floats) -> None:
        """Check that the forecast began where the run begins.

        Args:
            bases: logit gaps of all targets before training, unit nat.

        Raises:
            UserError: the places of both are apart by over 0.1 nat in the median, so the model is another one.
        """
        began = {row[:3]: row[3] for row in self._at_rate(self._rate).select(*_KEY, "base_gap").rows()}
        apart = [abs(began[key] - gap) for key, gap in zip(self._keys, bases, strict=True) if key in began]
        if apart and np.median(apart) > _APART:
            rule = f"gaps before training within {_APART:g} nat of the forecast's, in the median"
            found = f"{np.median(apart):.2f} nat, {len(apart)} places"
            raise UserError(f"the forecast in {self._folder} is of another model", rule=rule, found=found)

    def hint(self, behind: Sequence[Sequence[int]], bases: Floats) -> str:
        """Say at which other rate of the forecast most of some words would lead; empty where at none.

        Args:
            behind: targets of each word.
            bases: logit gaps of all targets before training, unit nat.

        Returns:
            A part of a sentence.
        """
        if not behind:
            return ""
        ahead = {rate: self._leading(rate, behind, bases) for rate in self._others}
        best = max(ahead, key=lambda rate: (ahead[rate], -rate), default=None)
        if best is None or not ahead[best]:
            return ""
        return f"at {best / self._rate:.2g} times the rate {ahead[best]} of them would, by {self._folder}"

    def _leading(self, rate: float, words: Sequence[Sequence[int]], bases: Floats) -> int:
        """How many words would lead: where the forecast knows all of their targets, by its middle."""
        ends = bases + self._at(rate).changes
        return sum(all(ends[i] > 0 for i in word) for word in words)

    def _at_rate(self, rate: float) -> pl.DataFrame:
        return self._places.filter(pl.col("rate") == rate)

    def _at(self, rate: float) -> Told:
        deviation = (pl.col("high") - pl.col("low")) / (2 * NORMAL_90)
        asked = (*_KEY, pl.col("forecast_gap") - pl.col("base_gap"), deviation.alias("sd"))
        rows = self._at_rate(rate).select(*asked).rows()
        exact = {tuple(row[:3]): row[3:] for row in rows}
        pairs = _of_pairs(rows)
        found = [exact.get(key) or pairs.get(key[:2]) or (np.nan, np.nan) for key in self._keys]
        changes, deviations = np.array(found, dtype=np.float64).reshape(-1, 2).T
        return Told(changes, deviations)


def _check_plan(folder: str | Path, foretold: Training, run: HostRun) -> None:
    """Refuse a forecast of a run of another method, length or schedule."""
    fix = "forecast this run: borngap forecast --data with its settings, rows and epochs, or --from-args"
    if foretold.method.removesuffix("+") != run.method:  # a host's LoRA+ is told from LoRA by its optimiser alone
        rule = f"that of this run, {run.method}"
        raise UserError(f"the forecast in {folder} is of another method", rule=rule, found=foretold.method, fix=fix)
    if abs(foretold.steps - run.steps) > _LONGER * run.steps:
        rule = f"within a tenth of the {run.steps} optimiser steps of this run"
        name = f"the forecast in {folder} is of a run of another length"
        raise UserError(name, rule=rule, found=foretold.steps, fix=fix)
    planned = np.interp(np.linspace(0, 1, run.steps), np.linspace(0, 1, foretold.steps), foretold.factors)[run.done :]
    apart = float(np.mean(np.abs(planned - np.array(run.rates) / run.rate))) if len(planned) else 0.0
    limit = _OTHER_SCHEDULE + 1 / run.steps
    if apart > limit:
        rule = f"rates within {limit:.2g} of this run's in the mean, of the highest one"
        told = f"{foretold.schedule}, {foretold.warmup} steps of warm-up; {apart:.2f} apart"
        raise UserError(f"the forecast in {folder} is of another schedule", rule=rule, found=told, fix=fix)


def _key(target: Target, tokenizer: Any) -> Key:
    rival = -1 if target.rival_id is None else target.rival_id
    return target.gold_id, rival, text_before(target.ids, tokenizer)


def _of_pairs(rows: Sequence[Sequence[Any]]) -> dict[tuple[int, int], tuple[float, float]]:
    """Mean change of the places of each pair of words; a single one lies around it by its own scatter too."""
    pairs: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for gold, rival, _, change, deviation in rows:
        pairs.setdefault((gold, rival), []).append((change, deviation))
    return {
        pair: (float(np.mean(own, 0)[0]), float(np.hypot(np.std(own, 0)[0], np.mean(own, 0)[1])))
        for pair, own in pairs.items()
    }
