"""What carries out the runs of a plan in this process: one after the other, or stacked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from borngap.errors import UserError
from borngap.model.load import load
from borngap.sweep.plan import ENGINES, Engine, SweepPlan, SweepRun
from borngap.sweep.sweepfolder import Result, entry_of
from borngap.train.finetune import FineTune, Step
from borngap.train.observe import Observe
from borngap.train.stacked import Lane, pays, refused, stacked

GROUP = 64  # runs that are stacked and written together: what a kill costs at most
OBSERVED: Observe = "light"  # angles of all pairs of a wide pool would cost more than the training
_TIMED = 3  # steps that an estimate rests on


class Worker:
    """Carries out runs of a plan in this process; a model is loaded once a seed.

    Attributes:
        plan: the plan, with the dtype that its runs are done in.
        tuner: the model, prepared for the seed that was asked for last.
    """

    def __init__(self, plan: SweepPlan, device: str = "cpu") -> None:
        """Load the model and choose the rivals.

        Args:
            plan: the plan.
            device: torch device.
        """
        self.plan, self._device = plan, device
        self._seed = plan.seeds[0]
        self.tuner = self._prepared(self._seed)
        # whoever carries out the rest takes the same, however much memory is free by then
        self.plan = replace(plan, training=replace(plan.training, dtype=self.tuner.training.dtype))

    def sequential(self, run: SweepRun) -> Result:
        """Carry out one run by the reference loop."""
        if run.seed != self._seed:
            self.tuner, self._seed = self._prepared(run.seed), run.seed
        steps = list(self.tuner.alone(run.context, rate=run.rate, observe=OBSERVED))
        return self.result(run, steps, "sequential")

    def stacked(self, runs: Sequence[SweepRun]) -> Iterator[Result]:
        """Carry out runs in one forward a step."""
        lanes = [Lane(run.context, run.rate, run.seed) for run in runs]
        seen: list[list[Step]] = [[] for _ in runs]
        for number, step in stacked(self.tuner, lanes, observe=OBSERVED):
            seen[number].append(step)
            if step.last:
                yield self.result(runs[number], seen[number], "stacked")
                seen[number] = []

    def groups(self) -> list[list[SweepRun]]:
        """Return the plan's runs in stacks of prompts of similar length.

        They depend on the plan alone: a resumed sweep stacks as an undisturbed one, so both give the same bits.
        """
        order = sorted(self.plan.runs, key=lambda run: (len(self.tuner.targets[run.context].ids), run.number))
        return [order[start : start + GROUP] for start in range(0, len(order), GROUP)]

    def result(self, run: SweepRun, steps: Sequence[Step], engine: str) -> Result:
        """Judge a finished run."""
        records = [step.records[run.context] for step in steps]
        verdict = {"context": run.context} | self.tuner.entry(run.context, steps)
        entry = entry_of(run.number, run.rate, run.seed, engine, verdict, (records[0], records[-1]))
        return Result(entry, [{"step": step.step} | record for step, record in zip(steps, records, strict=True)])

    def _prepared(self, seed: int) -> FineTune:
        training = replace(self.plan.training, seed=seed)
        return FineTune(load(self.plan.model, self._device, training.dtype), self.plan.contexts, training)


def in_sequence(worker: Worker, runs: Sequence[SweepRun]) -> Iterator[list[Result]]:
    """Carry out runs one after the other.

    Args:
        worker: holds the model.
        runs: what to run.

    Yields:
        One result at a time.
    """
    for run in runs:
        yield [worker.sequential(run)]


def in_stacks(worker: Worker, runs: Sequence[SweepRun]) -> Iterator[list[Result]]:
    """Carry out runs in stacks of up to 64.

    Args:
        worker: holds the model.
        runs: what to run.

    Yields:
        The results of a stack.
    """
    wanted = {run.number for run in runs}
    for group in worker.groups():
        missing = [run for run in group if run.number in wanted]
        if missing:
            yield sorted(worker.stacked(missing), key=lambda result: result.entry["run"])


def choose_engine(worker: Worker, engine: str, workers: int) -> Engine:
    """Return the engine for a plan.

    Args:
        worker: holds the plan and the model.
        engine: a name, or ``auto``: stacked where that pays (LoRA, and other methods on a GPU); otherwise processes on
            a CPU, if there may be several.
        workers: how many processes there may be.

    Returns:
        Its name.

    Raises:
        UserError: there is no such engine, or it can't carry out the plan.
    """
    if engine not in {*ENGINES, "auto"}:
        raise UserError("unknown engine", rule=f"one of auto, {', '.join(ENGINES)}", found=engine)
    found = refused(worker.plan.training)
    if engine == "stacked" and found:
        rule = "AdamW, no dropout, no penalty, and forward last"
        raise UserError("the engine stacked can't carry out this plan", rule=rule, found=found, fix="--engine auto")
    if engine == "auto":
        many = workers > 1 and len(worker.plan.runs) > 1 and worker.tuner.model.device.type == "cpu"
        return "stacked" if pays(worker.tuner) else "processes" if many else "sequential"
    return next(name for name in ENGINES if name == engine)


def estimate(worker: Worker, runs: Sequence[SweepRun], engine: Engine, workers: int) -> float:
    """Time a few steps and reckon how long runs would take; nothing is written.

    Args:
        worker: holds the model.
        runs: what would be run.
        engine: what would carry them out.
        workers: how many processes, for the engines that have some.

    Returns:
        Unit s, of this machine as busy as it is now, without the start of processes.
    """
    if not runs:
        return 0.0
    updates = worker.plan.training.steps + 1
    if engine == "stacked":
        wanted = {run.number for run in runs}
        sizes = [sum(run.number in wanted for run in group) for group in worker.groups()]
        size = max(sizes)
        lanes = [Lane(run.context, run.rate, run.seed) for run in runs[:size]]
        seconds = _seconds_a_step(lambda: stacked(worker.tuner, lanes, observe=OBSERVED), len(lanes))
        return seconds * updates * sum(math.ceil(each / size) if each else 0 for each in sizes)
    longest = max(runs, key=lambda run: len(worker.tuner.targets[run.context].ids))
    seconds = _seconds_a_step(lambda: worker.tuner.alone(longest.context, rate=longest.rate, observe=OBSERVED), 1)
    together = min(workers, len(runs)) if engine in {"processes", "ray"} else 1
    return seconds * updates * len(runs) / together


def _seconds_a_step(start: Callable[[], Iterator[object]], entries: int) -> float:
    """Time of a step after the first, whose record holds the expensive observables too."""
    running = start()
    for _ in range(entries):
        next(running)
    begin, seen = time.perf_counter(), 0
    while seen < _TIMED * entries and next(running, None) is not None:
        seen += 1
    return (time.perf_counter() - begin) / max(1, seen / entries)
