"""The plan of a sweep: a pure list of runs (docs/sweep.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal, get_args

from borngap.context import Context
from borngap.errors import UserError
from borngap.methods import METHODS, Method
from borngap.rates import check_rates
from borngap.training import Training

Engine = Literal["sequential", "stacked", "processes", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
_OF_A_RUN = ("rate", "seed")  # what the runs of a plan differ in, besides the context


@dataclass(frozen=True)
class SweepRun:
    """One fine-tuning run of a plan.

    Attributes:
        number: its place in the plan, from 0.
        model: bundled name, local folder, or hub id.
        context: index of the context it trains.
        method: what is trained.
        rate: learning rate.
        seed: seeds LoRA's initial matrices.
        steps: optimiser steps N.
    """

    number: int
    model: str
    context: int
    method: Method
    rate: float
    seed: int
    steps: int


@dataclass(frozen=True)
class SweepPlan:
    """Every context at every rate with every seed.

    Attributes:
        model: bundled name, local folder, or hub id.
        contexts: what to train on, each alone.
        training: all settings but rate and seed, which are the runs' own.
        rates: learning rates, increasing.
        seeds: seeds of LoRA's initial matrices.
        notes: what the user must know.
    """

    model: str
    contexts: tuple[Context, ...]
    training: Training
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def runs(self) -> tuple[SweepRun, ...]:
        """The runs: seed by seed, context by context, rates increasing."""
        method, steps = self.training.method, self.training.steps
        cells = product(self.seeds, range(len(self.contexts)), self.rates)
        return tuple(SweepRun(n, self.model, i, method, rate, seed, steps) for n, (seed, i, rate) in enumerate(cells))

    def settings(self, run: SweepRun) -> Training:
        """Return the settings of one run."""
        return replace(self.training, rate=run.rate, seed=run.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        settings = {key: value for key, value in self.training.to_json().items() if key not in _OF_A_RUN}
        contexts = [context.to_json() for context in self.contexts]
        head = {"command": "sweep", "model": self.model, "notes": list(self.notes), "contexts": contexts}
        return head | {"rates": list(self.rates), "seeds": list(self.seeds)} | settings

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> SweepPlan:
        """Return the plan that ``to_json`` wrote."""
        names = [name for name in Training.__dataclass_fields__ if name in plan and name not in _OF_A_RUN]
        training = Training.from_json({name: plan[name] for name in names} | {"rate": plan["rates"][0]})
        contexts = tuple(Context(**context) for context in plan["contexts"])
        lists = (tuple(plan[name]) for name in ("rates", "seeds", "notes"))
        return cls(plan["model"], contexts, training, *lists)


def plan_sweep(
    model: str,
    contexts: Sequence[Context],
    rates: Sequence[float],
    *,
    training: Training | None = None,
    seeds: Sequence[int] = (0,),
) -> SweepPlan:
    """Plan a sweep; nothing is loaded or run.

    Args:
        model: bundled name, local folder, or hub id.
        contexts: what to train on, each alone from the base weights.
        rates: learning rates, positive and increasing.
        training: all other settings; LoRA's usual ones unless given.
        seeds: seeds of LoRA's initial matrices; nothing else is random, so other methods run once.

    Returns:
        The plan; ``plan.runs`` lists the runs.

    Raises:
        UserError: there are no contexts or rates, rates are not positive and increasing, seeds repeat, there are no
            steps, or contexts would be trained jointly.

    Example:
        >>> len(plan_sweep("docs-gpt2-s", [Context("a", "b"), Context("c", "d")], [1e-4, 1e-3], seeds=[0, 1, 2]).runs)
        12
    """
    training = training or Training(method="lora")
    check_rates(rates)
    _check_seeds(seeds)
    if not contexts:
        raise UserError("no contexts", rule="at least one")
    if training.steps < 1:
        raise UserError("a sweep without steps", rule="at least 1 step a run", found=training.steps)
    if training.joint:
        raise UserError("a sweep trains each context alone", found="joint", fix="leave --joint out")
    notes: tuple[str, ...] = ()
    if not METHODS[training.method].drawn and not training.dropout and tuple(seeds) != (0,):
        notes = (f"nothing in {training.method} fine-tuning is random: each run once, seeds are not used",)
        seeds = (0,)
    plain = replace(training, rate=rates[0], seed=seeds[0])
    return SweepPlan(model, tuple(contexts), plain, tuple(map(float, rates)), tuple(seeds), notes)


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError("seeds are out of range", rule="at least one, none twice, not negative", found=list(seeds))
