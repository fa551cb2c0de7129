"""``borngap critical``: the smallest learning rate at which each context resolves, by any way there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Contexts, Json, ModelPlace
from borngap.cli.options import Takes
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, print_json, print_table, say, say_notes, short_number
from borngap.critical.record import By
from borngap.optimisers import FACTS_OF
from borngap.report.text import word
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.critical.search import ContextRate


Largest = Annotated[
    float | None, typer.Option("--max-lr", help="Largest rate that counts; by default full 1e-2, LoRA 1e-1.")
]


# what a rate is known of is a run to its end, by the last position's logits, without dropout
NOT_SEARCHED = ("dropout", "lora_dropout", "forward", "stop")


def critical(
    *,
    source: ModelPlace,
    contexts: Contexts = "docs10",
    training: Annotated[Training, Takes(without=("rate", *NOT_SEARCHED))],
    by: Annotated[
        By | None,
        typer.Option(
            help="How it is found; `bisect` and `grid` train many times, `dose` once. `collocation` unless given; "
            "`bisect` under other optimisers than AdamW."
        ),
    ] = None,
    lrs: Annotated[str | None, typer.Option(help="Rates of the grid: 1e-5,1e-4, or lowest:highest:count.")] = None,
    max_lr: Largest = None,
    json: Json = False,
) -> None:
    """Find the smallest learning rate at which each context, trained alone, resolves within the steps.

    The rate is for each context trained alone, all steps on its one prompt; a run on a data set moves it far less.
    """
    from borngap.context import read_contexts
    from borngap.critical.record import rounding_note
    from borngap.critical.search import critical_entry, critical_rates, usual_way
    from borngap.model.precision import name_of, precision_notes, precision_of
    from borngap.rates import read_rates
    from borngap.runfolder import environment

    rates = None if lrs is None else read_rates(lrs)
    wanted = read_contexts(contexts)
    loaded = source.load()
    with Progress("contexts", len(wanted)) as progress:
        found = critical_rates(loaded, wanted, training, by, limit=max_lr, rates=rates, on_context=progress.show)
    entries = [critical_entry(i, entry) for i, entry in enumerate(found)]
    if json:
        head = {"schema": 1, "scope": training.scope, "model": source.model, "method": training.method}
        head |= {"steps": training.steps, "criterion": training.criterion, "seed": training.seed}
        head["added"] = list(training.terms)
        print_json(head | precision_of(loaded.model) | {"critical": entries, "environment": environment()})
        return
    way = by or usual_way(training)
    say(opening(training))
    say(f"{source.model}: {loss_told(training)}, {training.steps} steps, criterion {training.criterion}, by {way}")
    for note in precision_notes(loaded.model, loaded.stored):
        say(f"note: {note}")
    print_table(_table(found, way))
    if way != (by or "collocation"):
        words = FACTS_OF[training.optimizer].words
        say(f"note: rates under {words} are found by real runs; collocation follows AdamW's updates alone")
    for number_, entry in enumerate(found, 1):
        if entry.critical.why and entry.critical.status != "pre-resolved":
            say(f"{number_:>3}  {entry.critical.status}: {entry.critical.why}")
    spent = [sum(getattr(t.critical, name) for t in found) for name in ("optimizer_steps", "forward_passes")]
    rounded = rounding_note([entry.critical for entry in found], name_of(loaded.model.dtype))
    say_notes(() if rounded is None else (rounded,), (entry.target.notes for entry in found))
    say(f"cost: {spent[0]} optimiser steps, {spent[1]} forwards of one context")


def opening(training: Training) -> str:
    """Return the first line of every output that names a rate: what it holds of."""
    return f"{training.scope[:1].upper()}{training.scope[1:]}."


def loss_told(training: Training) -> str:
    """Return method and, where it is not the cross-entropy alone, loss."""
    return ", ".join(filter(None, (training.method, training.loss_words)))


def _table(found: list[ContextRate], asked: str) -> Any:
    other = any(entry.critical.by != asked for entry in found)
    headings = ["", "gold", "rival", "status", *["by"][:other], "overlap", "critical rate", "low", "high"]
    rows = []
    for index, entry in enumerate(found, 1):
        c, context = entry.critical, entry.target.context
        words = [word(context.gold), word(context.rival or "")]
        rates = [short_number(value, 3) if value is None else f"{value:.3g}" for value in (c.rate, c.low, c.high)]
        rows.append([index, *words, c.status, *[c.by][:other], short_number(entry.overlap, 3), *rates])
    return fitted_table(
        "\nSmallest rate that resolves (90 % interval; of a search, its bracket)", headings, rows, 4 + other, keys=2
    )
