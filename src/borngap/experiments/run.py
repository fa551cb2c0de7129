"""A whole reproduction: models one after the other or in processes of their own, then tables and claims."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.experiments.arms import ARMS, Scope
from borngap.experiments.campaign import OnProgress, reproduce_model
from borngap.experiments.claims.claimlist import CLAIMS
from borngap.experiments.claims.judging import claims_table, judged
from borngap.experiments.folder import Plan, start
from borngap.experiments.parts import bracketed, dragging, fields, geometries, heads, ratesweep, regimes, steplevel
from borngap.experiments.parts.concepts import figures as concepts
from borngap.experiments.processes import end_quietly, end_with_parent, one_model
from borngap.experiments.study import Study, read_study
from borngap.folder import Lock
from borngap.results import stored
from borngap.results.claims import JudgedClaim
from borngap.results.figures import Figure
from borngap.results.stored import Results
from borngap.results.tables import Table
from borngap.runfolder import clean

BRACKETS = "brackets"
EXPERIMENTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "regimes": (regimes, ("lora", "lora-seeds")),
    "steps": (steplevel, ("full", "lora", "lora-seeds")),
    "boundary": (ratesweep, ("full", "lora")),
    "drag": (dragging, ("full", "lora")),
    "fields": (fields, ("full", "lora")),
    "geometry": (geometries, ("lora",)),
    "heads": (heads, ("full", "lora", "lora-readout", "full-embeddings", "full-readout", "readout-only")),
    BRACKETS: (bracketed, ()),
}  # fmt: skip
QUICK = Scope(steps=30, fields=(1.7, 10.0), further_seeds=False, pairs=200_000)
QUICK_CONTEXTS = 5
# what 2 cores can bear of a model of 100 million parameters and more; forecasts are held against two runs, not bisected
REAL = Scope(further_seeds=False, bisect=False, ends=False, criteria=("rank",), keep="rival-ahead", most=16)
REAL_EXPERIMENTS = ("regimes", "steps", "boundary", "drag", "fields", "geometry", BRACKETS)
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
    arms = tuple(arm for arm in ARMS if arm in needed)
    return replace(base, arms=arms, brackets=BRACKETS in experiments)


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
    with start(folder, plan):
        if workers == 1 or len(plan.models) == 1:
            for model in plan.models:
                reproduce_model(folder, model, plan, report, device)
        else:
            _in_processes(plan, folder, min(workers, len(plan.models)), device, report)


def _in_processes(plan: Plan, folder: Path, count: int, device: str, report: OnProgress) -> None:
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent)
    with manager, ProcessPoolExecutor(count, context, end_quietly) as pool:
        news = manager.Queue()
        futures = [pool.submit(one_model, folder, model, plan, news, device) for model in plan.models]
        try:
            _follow(futures, news, report)
        except BrokenProcessPool:
            fix = "give the same command again: what was finished is kept; with fewer --workers it needs less memory"
            raise UserError("a process ended before its model was done", found="killed from outside", fix=fix) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def all_tables(study: Study) -> list[Table]:
    """Return every table that a study's arms have runs for."""
    return [found for module in _of(study) for found in module.tables(study)]


def all_figures(study: Study) -> list[Figure]:
    """Return the data of every figure that a study has runs for."""
    drawn = [f for module in _of(study) if hasattr(module, "figures") for f in module.figures(study)]
    return [*concepts(), *(figure for figure in drawn if figure.rows)]


def results_of(study: Study) -> Results:
    """Return every claim, judged, every table, and the data of every figure, from what is stored alone.

    Args:
        study: what is stored.

    Returns:
        The results; the table of claims comes first.
    """
    claims: list[JudgedClaim] = [clean(record) for record in judged(CLAIMS, study)]
    tables = [claims_table(claims), *all_tables(study)]
    contexts = study.contexts["context"].n_unique()
    return Results(claims, tables, all_figures(study), study.runs.height, contexts, list(study.undone))


def rewrite_results(folder: Path) -> None:
    """Write the results of a reproduction, complete or not, into its folder; what stood there is replaced.

    Args:
        folder: the reproduction.
    """
    found = results_of(read_study(folder))
    with Lock(folder):
        stored.write_results(folder, found)


def _of(study: Study) -> list[Any]:
    # further seeds add runs to an arm, not an experiment
    arms = {*study.plan.scope.arms, "lora-seeds"} if study.plan is not None else set(ARMS)
    named = {name: set(needed) <= arms for name, (_, needed) in EXPERIMENTS.items()}
    named[BRACKETS] = study.plan is None or study.plan.scope.brackets
    return [EXPERIMENTS[name][0] for name, there in named.items() if there]


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
