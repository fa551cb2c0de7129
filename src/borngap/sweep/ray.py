"""The engine ``ray``: runs as tasks of a Ray cluster, by default one on this machine; a lost worker's are run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

from borngap.errors import UserError
from borngap.ray import connected
from borngap.sweep.engines import Worker
from borngap.sweep.plan import SweepPlan, SweepRun
from borngap.sweep.sweepfolder import Result
from borngap.sweep.workers import ATTEMPTS, answer_of, result_of


def on_ray(
    plan: SweepPlan, runs: Sequence[SweepRun], workers: int, device: str = "cpu", address: str | None = None
) -> Iterator[list[Result]]:
    """Carry out runs on a Ray cluster.

    Args:
        plan: the plan.
        runs: what to run.
        workers: processors of a local cluster.
        device: torch device.
        address: a running cluster; without, one is started here and ended afterwards.

    Yields:
        One result at a time, in the order in which they finish.

    Raises:
        UserError: Ray is not installed or not reachable, or a run's worker was lost four times.
    """
    ray = connected(workers, address, instead="--engine processes")
    try:
        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS)(carry_out)
        setting = ray.put(json.dumps(plan.to_json()))
        pending = [task.remote(setting, device, run.number) for run in runs]
        while pending:
            done, pending = ray.wait(pending)
            yield [result_of(json.loads(answer)) for answer in ray.get(done)]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        found = str(error).strip().splitlines()[0]
        raise UserError("Ray lost a run for good", found=found, fix="give the command again; it goes on") from None
    finally:
        ray.shutdown()


def carry_out(plan: str, device: str, number: int) -> str:
    """Carry out one run; the task that Ray sends around.

    Args:
        plan: the plan, JSON.
        device: torch device.
        number: which run.

    Returns:
        The result, JSON.
    """
    worker = _worker(plan, device)
    return json.dumps(answer_of(worker.sequential(worker.plan.runs[number])))


@lru_cache(maxsize=1)
def _worker(plan: str, device: str) -> Worker:
    """The model of this process: Ray keeps processes for later tasks."""
    import torch

    torch.set_num_threads(1)
    return Worker(SweepPlan.from_json(json.loads(plan)), device)
