"""How many runs a reproduction has, and how long it takes: a few steps of each way of training are timed.

Costs are counted in runs of the method itself, since a model's size moves runs and searches alike. The multiples were
measured with 50 steps on docs-gpt2-s and SmolLM2-135M-Instruct (2026-11-29, docs/reproduce.md).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from borngap.context import Context
from borngap.experiments.arms import ARMS, Arm
from borngap.experiments.campaign import checked_by_runs, searches
from borngap.experiments.folder import Plan, home
from borngap.experiments.ratefinding import REFINED
from borngap.methods import Method
from borngap.model.load import load_tokenizer
from borngap.sweep.engines import OBSERVED, Worker, choose_engine
from borngap.sweep.plan import plan_sweep
from borngap.train.stacked import Lane, stacked
from borngap.training import Training
from borngap.zoo.choose import unmeasurable

# in runs one after the other: a critical rate by collocation, the forecast end of a run
_COLLOCATION: dict[Method, float] = {"full": 2.0, "lora": 1.0, "readout-only": 0.8}
_ENDS = {"full": 2.0, "lora": 0.9}
# in runs as a sweep does them: a critical rate by bisection, two runs beside a forecast, a bisection between these
_BISECTION, _BESIDE, _BETWEEN = 7.0, 2.0, 3.4
_LANES = 16  # of a stack that is timed
_WARM, _TIMED = 2, 5  # steps


@dataclass(frozen=True)
class _Costs:
    """What a run of a method takes, unit s: alone, and as a sweep does many."""

    alone: float
    each: float


def planned_runs(plan: Plan) -> int:
    """Return how many fine-tuning runs a plan has at most: every field has a rate and every context can be used."""
    return sum(_runs_of(ARMS[name], plan) for name in plan.scope.arms) * len(plan.models)


def estimated(plan: Plan, folder: Path, workers: int, device: str = "cpu") -> float:
    """Time a few steps of each model that is to be run, and reckon how long the whole will take.

    Args:
        plan: the plan.
        folder: the reproduction; models that have been begun are taken for half done.
        workers: processes.
        device: torch device.

    Returns:
        Unit s, of processors that nothing else keeps busy, one a process; a rough figure.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the runs will have it
    try:
        shares = {model: 0.5 if home(folder, model).exists() else 1.0 for model in plan.models}
        total = sum(share * _seconds(plan, model, device) for model, share in shares.items())
    finally:
        torch.set_num_threads(threads)
    return total / min(workers, len(plan.models))


def _seconds(plan: Plan, model: str, device: str) -> float:
    """What one model takes, unit s."""
    tokenizer = load_tokenizer(model)
    strange = dict(unmeasurable(plan.contexts, tokenizer))
    known = [context for i, context in enumerate(plan.contexts) if i not in strange][:_LANES]
    if not known:
        return 0.0
    arms = [ARMS[name] for name in plan.scope.arms]
    methods = {arm.training["method"] for arm in arms} | {search.method for search in searches(plan)}
    costs = {method: _costs(plan, model, known, method, device) for method in sorted(methods)}
    contexts = _contexts(plan)
    total = sum(_runs_of(arm, plan) * costs[arm.training["method"]].each for arm in arms)
    for search in searches(plan):
        cost = costs[search.method]
        one = _COLLOCATION[search.method] * cost.alone if search.by == "collocation" else _BISECTION * cost.each
        total += contexts * one
    for search in checked_by_runs(plan):
        total += (contexts * _BESIDE + min(contexts, REFINED) * _BETWEEN) * costs[search.method].each
    ends = [name for name in plan.scope.arms if name in _ENDS] if plan.scope.ends else []
    return total + contexts * sum(_ENDS[name] * costs[ARMS[name].training["method"]].alone for name in ends)


def _costs(plan: Plan, model: str, contexts: Sequence[Context], method: Method, device: str) -> _Costs:
    settings = Training(method=method, steps=plan.scope.steps, dtype=plan.scope.dtype)
    sweep = plan_sweep(model, contexts, [settings.learning_rate], training=settings)
    worker, updates = Worker(sweep, device), plan.scope.steps + 1
    clock = time.process_time if device == "cpu" else time.perf_counter
    alone = updates * _step(worker.tuner.alone(0, rate=settings.learning_rate, observe=OBSERVED), 1, clock)
    if choose_engine(worker, "auto", 1) != "stacked":
        return _Costs(alone, alone)
    lanes = [Lane(run.context, run.rate, run.seed) for run in sweep.runs]
    together = _step(stacked(worker.tuner, lanes, observe=OBSERVED), len(lanes), clock)
    return _Costs(alone, updates * together / len(lanes))


def _step(running: Iterator[object], entries: int, clock: Callable[[], float]) -> float:
    """Median time of a step, unit s, after the first ones, which take memory and measure more."""
    times = []
    for _ in range(_WARM + _TIMED):
        began = clock()
        if sum(1 for _, _ in zip(range(entries), running, strict=False)) < entries:
            break
        times.append(clock() - began)
    return statistics.median(times[min(_WARM, len(times) - 1) :])


def _contexts(plan: Plan) -> int:
    return min(len(plan.contexts), plan.scope.most or len(plan.contexts))


def _runs_of(arm: Arm, plan: Plan) -> int:
    scope = plan.scope
    chosen = [f for f in arm.fields if not scope.fields or f in scope.fields]
    seeds = len(arm.seeds) if scope.further_seeds or arm.seeds == (0,) else 0
    return (len(chosen) + len(arm.rates)) * seeds * _contexts(plan)
