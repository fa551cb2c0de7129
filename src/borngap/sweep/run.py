"""Carrying out a plan: what is missing is run and kept, in whatever order the engine finishes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from borngap.model.precision import precision_of
from borngap.runfolder import environment
from borngap.sweep.engines import Worker, choose_engine, in_sequence, in_stacks
from borngap.sweep.plan import Engine, SweepPlan, SweepRun
from borngap.sweep.ray import on_ray
from borngap.sweep.sweepfolder import Result, Sweep, SweepStore, read_sweep
from borngap.sweep.workers import in_processes

OnRun = Callable[[int, int], None]


def run_sweep(
    plan: SweepPlan,
    out: str | Path,
    *,
    engine: str = "auto",
    workers: int | None = None,
    device: str = "cpu",
    ray_address: str | None = None,
    on_run: OnRun | None = None,
) -> Sweep:
    """Carry out a plan and keep it in a SWEEP folder; runs that the folder holds already are not run again.

    Args:
        plan: the runs.
        out: the SWEEP.
        engine: ``sequential``, ``stacked`` (many runs in one forward), ``processes`` (one thread each), ``ray`` (an
            extra; a local cluster unless an address is given), or ``auto``.
        workers: processes of the engines that have some; one a processor unless given.
        device: torch device.
        ray_address: a running Ray cluster.
        on_run: called with the numbers of finished and planned runs, at the start and whenever runs are kept.

    Returns:
        The whole SWEEP.
    """
    worker, most = Worker(plan, device), workers or os.cpu_count() or 1
    chosen = choose_engine(worker, engine, most)
    head = worker.plan.to_json() | {"weights": worker.tuner.digest, "notes": [*plan.notes, *worker.tuner.notes]}
    head |= precision_of(worker.tuner.model)
    machine = environment() | {"threads": torch.get_num_threads(), "device": device, "engine": chosen}
    with SweepStore(out, head, machine) as store:
        missing = [run for run in plan.runs if run.number not in store.finished]
        report = on_run or (lambda *_: None)
        report(len(store.finished), len(plan.runs))
        for results in _carried_out(chosen, worker, missing, most, device, ray_address):
            store.add(results)
            report(len(store.finished), len(plan.runs))
        store.merge()
        return read_sweep(out)


def _carried_out(
    engine: Engine, worker: Worker, runs: Sequence[SweepRun], workers: int, device: str, address: str | None
) -> Iterator[list[Result]]:
    if engine == "sequential":
        return in_sequence(worker, runs)
    if engine == "stacked":
        return in_stacks(worker, runs)
    if engine == "processes":
        return in_processes(worker.plan, runs, workers, device)
    return on_ray(worker.plan, runs, workers, device, address)
