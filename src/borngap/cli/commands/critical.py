"""``borngap critical``: the smallest learning rate at which each context resolves, by any way there is."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import (
    BatchSize,
    Beta1,
    Beta2,
    Clip,
    Contexts,
    Criterion,
    CriterionName,
    Device,
    Dtype,
    Eps,
    Freeze,
    GeometryName,
    GeometryOption,
    Joint,
    Json,
    LoraAlpha,
    LoraRank,
    LoraTargets,
    Method,
    MethodName,
    Model,
    Schedule,
    ScheduleName,
    Seed,
    Steps,
    TopP,
    Warmup,
    WeightDecay,
    modules,
)  # fmt: skip
from borngap.cli.progress import Progress
from borngap.cli.show import number, print_json, print_table, say, say_notes, table
from borngap.report.text import word

if TYPE_CHECKING:
    from borngap.critical.search import ContextRate
    from borngap.training import Training


class ByName(StrEnum):
    """How a critical rate is found."""

    collocation = "collocation"
    path = "path"
    ray = "ray"
    dose = "dose"
    bisect = "bisect"
    grid = "grid"
    class_mean = "class-mean"


Largest = Annotated[
    float | None, typer.Option("--max-lr", help="Largest rate that counts; by default full 1e-2, LoRA 1e-1.")
]


def critical(
    model: Model,
    contexts: Contexts = "docs10",
    method: Method = MethodName.full,
    steps: Steps = 50,
    by: Annotated[ByName, typer.Option(help="How it is found; `bisect` and `grid` really train.")] = ByName.collocation,
    criterion: Criterion = CriterionName.rank,
    lrs: Annotated[str | None, typer.Option(help="Rates of the grid: 1e-5,1e-4, or lowest:highest:count.")] = None,
    max_lr: Largest = None,
    freeze: Freeze = None,
    joint: Joint = False,
    batch_size: BatchSize = 8,
    seed: Seed = 0,
    lora_rank: LoraRank = 8,
    lora_alpha: LoraAlpha = 16.0,
    lora_targets: LoraTargets = "attention",
    beta1: Beta1 = 0.9,
    beta2: Beta2 = 0.999,
    eps: Eps = 1e-8,
    weight_decay: WeightDecay = 0.0,
    schedule: Schedule = ScheduleName.constant,
    warmup: Warmup = 0,
    clip: Clip = 0.0,
    geometry: GeometryOption = GeometryName.readout,
    top_p: TopP = 0.9,
    device: Device = "cpu",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Find the smallest learning rate at which each context, trained alone, resolves within the steps.

    It holds of each context trained alone, all steps on its one prompt; a run on a data set moves it far less.
    """
    from borngap.context import read_contexts
    from borngap.critical.search import critical_entry, critical_rates
    from borngap.model.load import load, quiet
    from borngap.model.precision import precision_notes, precision_of
    from borngap.rates import read_rates
    from borngap.runfolder import environment
    from borngap.training import Training

    training = Training(
        method=method.value, steps=steps, freeze=tuple(part.value for part in freeze or ()), seed=seed,
        lora_rank=lora_rank, lora_alpha=lora_alpha, lora_targets=modules(lora_targets), beta1=beta1, beta2=beta2,
        eps=eps, weight_decay=weight_decay, schedule=schedule.value, warmup=warmup, clip=clip, joint=joint,
        batch_size=batch_size, geometry=geometry.value, top_p=top_p, criterion=criterion.value,
        dtype=dtype,
    )  # fmt: skip
    rates = None if lrs is None else read_rates(lrs)
    quiet()
    wanted = read_contexts(contexts)
    loaded = load(model, device, dtype)
    with Progress("contexts", len(wanted)) as progress:
        found = critical_rates(loaded, wanted, training, by.value, limit=max_lr, rates=rates, on_context=progress.show)
    entries = [critical_entry(i, entry) for i, entry in enumerate(found)]
    if json:
        head = {"schema": 1, "scope": training.scope, "model": model, "method": method.value, "steps": steps}
        head |= {"criterion": criterion.value, "seed": seed, **precision_of(loaded.model)}
        print_json(head | {"critical": entries, "environment": environment()})
        return
    say(opening(training))
    title = f"{model}: {method.value}, {steps} steps, criterion {criterion.value}, by {by.value}"
    say(title)
    for note in precision_notes(loaded.model, loaded.stored):
        say(f"note: {note}")
    print_table(_table(found, by.value))
    for number_, entry in enumerate(found, 1):
        if entry.critical.why and entry.critical.status != "pre-resolved":
            say(f"{number_:>3}  {entry.critical.status}: {entry.critical.why}")
    spent = [sum(getattr(t.critical, name) for t in found) for name in ("optimizer_steps", "forward_passes")]
    say_notes((), (entry.target.notes for entry in found))
    say(f"cost: {spent[0]} optimiser steps, {spent[1]} forwards of one context")


def opening(training: Training) -> str:
    """Return the first line of every output that names a rate: what it holds of."""
    return f"{training.scope[:1].upper()}{training.scope[1:]}."


def _table(found: list[ContextRate], asked: str) -> Any:
    other = any(entry.critical.by != asked for entry in found)
    headings = ["", "gold", "rival", "status", *["by"][:other], "overlap", "critical rate", "low", "high"]
    rows = []
    for index, entry in enumerate(found, 1):
        c, context = entry.critical, entry.target.context
        words = [word(context.gold), word(context.rival or "")]
        rates = [number(value, 3) if value is None else f"{value:.3g}" for value in (c.rate, c.low, c.high)]
        rows.append([index, *words, c.status, *[c.by][:other], number(entry.overlap, 3), *rates])
    return table(
        "\nSmallest rate that resolves (90 % interval; of a search, its bracket)", headings, rows, 4 + other, keys=2
    )
