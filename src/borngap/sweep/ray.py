"""The engine ``ray``: runs as tasks of a Ray cluster, by default one on this machine; a lost worker's are run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

from borngap.ray import answers
from borngap.sweep.engines import Worker
from borngap.sweep.plan import SweepPlan, SweepRun
from borngap.sweep.sweepfolder import Result
from borngap.sweep.workers import answer_of, result_of


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
    tasks = [(device, run.number) for run in runs]
    setting = json.dumps(plan.to_json())
    for answer in answers(carry_out, setting, tasks, workers, address, instead="--engine processes"):
        yield [result_of(json.loads(answer))]


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
