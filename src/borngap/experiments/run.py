"""A whole reproduction: models one after the other or in processes of their own, then tables and claims."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.experiments import dragging, fields, geometries, heads, ratesweep, regimes, steplevel
from borngap.experiments.arms import ARMS, Scope
from borngap.experiments.campaign import OnProgress, reproduce_model, searches
from borngap.experiments.claimlist import CLAIMS
from borngap.experiments.claims import judged, table
from borngap.experiments.concepts import figures as concepts
from borngap.experiments.folder import Plan, home, start
from borngap.experiments.study import Study
from borngap.experiments.tables import Figure, Table, write_table
from borngap.store import clean, json_bytes, refuse_unwritable, write_whole
from borngap.sweep.engines import Worker, estimate
from borngap.sweep.plan import plan_sweep
from borngap.training import Training

EXPERIMENTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "regimes": (regimes, ("lora", "lora-seeds")),
    "steps": (steplevel, ("full", "lora", "lora-seeds")),
    "boundary": (ratesweep, ("full", "lora")),
    "drag": (dragging, ("full", "lora")),
    "fields": (fields, ("full", "lora")),
    "geometry": (geometries, ("lora",)),
    "heads": (heads, ("full", "lora", "lora-readout", "full-embeddings", "full-readout", "readout-only")),
}  # fmt: skip
QUICK = Scope(steps=30, fields=(1.7, 10.0), further_seeds=False, pairs=200_000)
QUICK_CONTEXTS = 5
# measured on docs-gpt2-s: a critical rate takes as long as so many runs
_SEARCH = {"collocation": 1.5, "bisect": 4.0}
_STACKED_SEARCH = {"collocation": 0.6, "bisect": 0.8}
_POLL = 0.5


def scope_of(experiments: Sequence[str], base: Scope) -> Scope:
    """Return a scope that runs what some experiments need, each run once.

    Args:
        experiments: names.
        base: how much of each.

    Returns:
        The scope.

    Raises:
        UserError: a name is unknown.
    """
    unknown = [name for name in experiments if name not in EXPERIMENTS]
    if unknown or not experiments:
        rule = f"one or more of {', '.join(EXPERIMENTS)}"
        raise UserError("unknown experiment", rule=rule, found=unknown or "none")
    needed = {arm for name in experiments for arm in EXPERIMENTS[name][1]}
    return replace(base, arms=tuple(arm for arm in ARMS if arm in needed))


def reproduce(
    plan: Plan, folder: Path, *, workers: int = 1, device: str = "cpu", report: OnProgress = lambda *_: None
) -> None:
    """Do and store everything of a plan that is not stored yet.

    Args:
        plan: the plan.
        folder: the reproduction.
        workers: processes; each does whole models, on one thread.
        device: torch device.
        report: called with the model, what is being done, how much of it is done, and of how many.

    Raises:
        UserError: the folder is not of this plan, a model can't be loaded or used, or a process was killed.
    """
    start(folder, plan)
    if workers == 1 or len(plan.models) == 1:
        for model in plan.models:
            reproduce_model(folder, model, plan, report, device)
        return
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(plan.models))
    with context.Manager() as manager, ProcessPoolExecutor(count, context, _end_quietly) as pool:
        news = manager.Queue()
        futures = [pool.submit(_one, folder, model, plan, news, device) for model in plan.models]
        try:
            _follow(futures, news, report)
        except BrokenProcessPool:
            fix = "give the same command again: what was finished is kept; with fewer --workers it needs less memory"
            raise UserError("a process ended before its model was done", found="killed from outside", fix=fix) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def planned_runs(plan: Plan) -> int:
    """Return how many fine-tuning runs a plan has at most: every field has a rate and every context can be used."""
    scope, total = plan.scope, 0
    for name in scope.arms:
        arm = ARMS[name]
        chosen = [f for f in arm.fields if not scope.fields or f in scope.fields]
        seeds = len(arm.seeds) if scope.further_seeds or arm.seeds == (0,) else 0
        total += (len(chosen) + len(arm.rates)) * seeds * len(plan.contexts)
    return total * len(plan.models)


def estimated(plan: Plan, folder: Path, workers: int, device: str = "cpu") -> float:
    """Time a few steps of each model that nothing is stored of, and reckon how long the whole will take.

    Args:
        plan: the plan.
        folder: the reproduction; models that have been begun are taken for half done.
        workers: processes.
        device: torch device.

    Returns:
        Unit s, of this machine as busy as it is now; a rough figure.
    """
    total = 0.0
    for model in plan.models:
        settings = Training(method="full", steps=plan.scope.steps)
        sweep = plan_sweep(model, plan.contexts[:1], [settings.learning_rate], training=settings)
        one = estimate(Worker(sweep, device), sweep.runs, "sequential", 1)
        share = 0.5 if home(folder, model).exists() else 1.0
        total += share * one * (planned_runs(plan) / len(plan.models) + _searching(plan))
    return total / min(workers, len(plan.models))


def all_tables(study: Study) -> list[Table]:
    """Return every table that a study's arms have runs for."""
    return [found for module in _of(study) for found in module.tables(study)]


def all_figures(study: Study) -> list[Figure]:
    """Return the data of every figure that a study's arms have runs for."""
    drawn = [f for module in _of(study) if hasattr(module, "figures") for f in module.figures(study)]
    return [*concepts(), *drawn]


def write_results(study: Study, folder: Path) -> tuple[list[Table], list[dict[str, Any]]]:
    """Write every table and the claims, from what is stored alone.

    Args:
        study: what is stored.
        folder: the reproduction.

    Returns:
        The tables, claims first, and the claims' records.
    """
    records = [clean(record) for record in judged(CLAIMS, study)]
    found = [table(records), *all_tables(study)]
    target = folder / "tables"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse_unwritable(target, error)
    for each in found:
        write_table(each, target)
    write_whole(folder / "claims.json", json_bytes({"schema": 1, "claims": records}))
    return found, records


def _of(study: Study) -> list[Any]:
    # further seeds add runs to an arm, not an experiment
    arms = {*study.plan.scope.arms, "lora-seeds"} if study.plan is not None else set(ARMS)
    return [module for module, needed in EXPERIMENTS.values() if set(needed) <= arms]


def _end_quietly() -> None:
    """End a worker on Ctrl-C without a traceback of its own: files are written whole or not at all."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _one(folder: Path, model: str, plan: Plan, news: Any, device: str) -> None:
    parent = multiprocessing.parent_process()

    def report(*told: Any) -> None:
        if parent is not None and not parent.is_alive():  # nobody waits for this any more
            os._exit(1)
        news.put(told)

    reproduce_model(folder, model, plan, report, device)


def _follow(futures: Sequence[Future[None]], news: Any, report: OnProgress) -> None:
    """Hand on what workers report; the first error ends it."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_POLL, return_when=FIRST_COMPLETED)
        while True:
            try:
                report(*news.get_nowait())
            except queue.Empty:
                break
        for future in done:
            future.result()


def _searching(plan: Plan) -> float:
    """Searches for critical rates, as so many runs."""
    weights = (_STACKED_SEARCH if s.method == "lora" else _SEARCH for s in searches(plan))
    pairs = zip(weights, searches(plan), strict=True)
    return len(plan.contexts) * sum(weight[search.by] for weight, search in pairs)
