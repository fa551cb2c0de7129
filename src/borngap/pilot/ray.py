"""The engine ``ray`` of a forecast: the pilots of each rate are a task of a cluster, by default one on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from borngap.errors import UserError
from borngap.model.load import Loaded, load
from borngap.pilot.pilotfolder import ForecastFolder
from borngap.pilot.pilots import PilotEnd, Pilots, PilotWork, RunProgress, SeeRun
from borngap.pilot.wholerun import RunJob, prepared
from borngap.ray import answers
from borngap.runfolder import clean
from borngap.train.finetune import weights_digest


@dataclass(frozen=True)
class RayPilots:
    """Trains the pilots of several rates on a Ray cluster, each worker with a model of its own and one thread.

    Attributes:
        workers: processors of a cluster that is started here.
        address: a running cluster; without, one is started here and ended afterwards.
    """

    workers: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UserError: there is no worker.
        """
        if self.workers < 1:
            raise UserError("workers is out of range", rule="at least 1", found=self.workers)

    def __call__(self, job: RunJob, work: PilotWork, folder: ForecastFolder, see: SeeRun) -> None:
        """Train what the folder does not hold yet, and keep it there, rate by rate as they finish.

        Args:
            job: the forecast.
            work: what its pilots are of.
            folder: what is in it already is not done again.
            see: called as it goes on.

        Raises:
            UserError: Ray is not installed or reachable, or a worker can't load the model by its name.
        """
        held = {number: folder.held("pilots", f"{number:02}-") for number in range(len(job.rates))}
        missing = [number for number, rate in enumerate(job.rates) if not _is_whole(work, held[number], number, rate)]
        if not missing:
            return
        device = str(job.loaded.model.device)
        setting = (_without_model(job), work, weights_digest(job.loaded.model), device)
        tasks = [(number, json.dumps(held[number])) for number in missing]
        see(RunProgress("rates of which the pilots are done", len(job.rates) - len(missing), len(job.rates)))
        found = answers(train_rate, setting, tasks, self.workers, self.address, instead="--engine process")
        for done, answer in enumerate(found, len(job.rates) - len(missing) + 1):
            for name, entry in json.loads(answer).items():
                folder.kept(name, lambda entry=entry: entry)  # type: ignore[misc]
            see(RunProgress("rates of which the pilots are done", done, len(job.rates)))


class _Missing(Exception):  # noqa: N818  # no error
    """Something is not kept yet."""


def _is_whole(work: PilotWork, held: dict[str, PilotEnd], number: int, rate: float) -> bool:
    """Whether all pilots of a rate are there."""

    def keep(name: str, _: Any) -> PilotEnd:
        if name not in held:
            raise _Missing
        return held[name]

    try:
        Pilots(work, None, keep, lambda _: None).of_rate(number, rate)
    except _Missing:
        return False
    return True


def _without_model(job: RunJob) -> RunJob:
    """A job without what each worker loads itself, and without the rows that are looked at: the places are found."""
    return replace(job, loaded=replace(job.loaded, model=None), asked=replace(job.asked, held_out=None))


def train_rate(setting: tuple[RunJob, PilotWork, str, str], number: int, held: str) -> str:
    """Train the pilots of one rate; the task that Ray sends around.

    Args:
        setting: job, work, the fingerprint of the model's weights, and the torch device.
        number: of the rate.
        held: what is kept of it already, JSON.

    Returns:
        What each of its pilots came to, by the name under which it is kept, JSON.

    Raises:
        UserError: the model that this process finds under the name is another one.
    """
    job, work, digest, device = setting
    kept: dict[str, PilotEnd] = json.loads(held)

    def keep(name: str, make: Callable[[], Any]) -> PilotEnd:
        if name not in kept:
            kept[name] = json.loads(json.dumps(clean(make())))
        return kept[name]

    loaded = _loaded(job.loaded.name, device, job.plan.training.dtype)
    if weights_digest(loaded.model) != digest:
        fix = "a name, hub id or folder under which each of them finds it"
        raise UserError("a worker's model is another one", rule="loaded by its name", found=loaded.name, fix=fix)
    with prepared(replace(job, loaded=loaded)) as trainee:
        Pilots(work, trainee, keep, lambda _: None).of_rate(number, job.rates[number])
    return json.dumps(kept)


@lru_cache(maxsize=1)
def _loaded(name: str, device: str, dtype: str | None) -> Loaded:
    """The model of this process: Ray keeps processes for later tasks."""
    import torch

    torch.set_num_threads(1)
    return load(name, device, dtype)
