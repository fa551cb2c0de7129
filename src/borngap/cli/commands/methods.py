"""``borngap methods``: which rate each fine-tuning method takes, and whether its usual rate does anything."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Json, ModelPlace, bundled_contexts
from borngap.cli.commands.critical import opening
from borngap.cli.methodruns import DataOptions, check_no_data, compare_on_data
from borngap.cli.options import Takes
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, print_json, print_table, say
from borngap.errors import UserError
from borngap.methods import METHODS, NAMES, Method
from borngap.pilot.settings import Piloting
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.critical.ofmethods import MethodRates, Quantile

_BY_DEFAULT: tuple[Method, ...] = tuple(name for name in NAMES if name not in {"readout-only", "peft"})


def methods(
    *,
    source: ModelPlace,
    contexts: Annotated[
        str | None,
        typer.Option(
            "--contexts", "-c",
            help="JSON Lines or CSV, `-` for standard input, or a bundled list; without --data docs10 unless given.",
            autocompletion=bundled_contexts,
        ),
    ] = None,
    methods: Annotated[
        tuple[str, ...],
        typer.Option(
            help="Which, comma-separated; all unless given. With --data also with rates, such as lora:1e-4:1e-3:3; "
            "four from the usual one up unless given."
        ),
    ] = _BY_DEFAULT,
    data: Annotated[
        str | None, typer.Option(help="Rows of a run: compares the methods in it, not on contexts each alone.")
    ] = None,
    watch: Annotated[str | None, typer.Option(help="With --data: held-out rows, whose places are watched.")] = None,
    terms: Annotated[
        Path | None, typer.Option("--terms", "-t", help="With --watch: words to use and to avoid, as for `terms`.")
    ] = None,
    allowed: Annotated[
        Path | None, typer.Option(help="With --data: rows in which words to avoid are right, as for `terms`.")
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            help="With --data: share of the places at which your words lead, where methods are compared; the largest "
            "that all reach unless given."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --data: folder; an unfinished comparison goes on.")
    ] = None,
    training: Annotated[Training, Takes(without=("method", "rate", "freeze", "joint", "shuffle", "lora_rank",
                                                 "peft_config", "optimizer", "penalty", "forward", "stop"))],
    piloting: Annotated[Piloting, Takes(without=("chunk", "seed"))],
    json: Json = False,
) -> None:  # fmt: skip
    """Say which learning rate each fine-tuning method takes for these contexts, and what its usual rate does.

    Nothing is trained; the rates are for each context trained alone.

    With --data: what each method does to your words in a run, from pilots.
    """
    given = DataOptions(data, watch, contexts, terms, allowed, gain, out)
    if data is not None:
        compare_on_data(source, given, methods, training, piloting, json=json)
        return
    check_no_data(given, training, piloting)
    _alone(source, contexts or "docs10", methods, training, json=json)


def _alone(source: ModelPlace, contexts: str, methods: tuple[str, ...], training: Training, *, json: bool) -> None:
    """Find rates for contexts each alone."""
    from borngap.context import read_contexts
    from borngap.critical.ofmethods import methods_entry, methods_of
    from borngap.model.precision import precision_of
    from borngap.runfolder import environment

    chosen = _chosen(methods)
    wanted = read_contexts(contexts)
    loaded = source.load()
    precision = precision_of(loaded.model)
    with Progress("methods", len(chosen) * len(wanted)) as progress:
        done = count(1)
        found = methods_of(loaded, wanted, chosen, training, lambda name, _: progress.show(next(done), what=name))
    if json:
        head = {"schema": 1, "scope": training.scope, "model": source.model, "steps": training.steps}
        head |= {"criterion": training.criterion, "seed": training.seed, "added": list(training.terms)}
        print_json(head | precision | {"methods": [methods_entry(e) for e in found], "environment": environment()})
        return
    say(opening(training))
    added = f"{training.loss_words}, " if training.loss_words else ""
    say(f"{source.model}: {len(wanted)} contexts, {added}{training.steps} steps, criterion {training.criterion}")
    print_table(_table([entry for entry in found if not entry.refused]))
    for entry in found:
        if entry.refused:
            say(f"{entry.method}: left out: {entry.refused}")
    for entry in found:
        if lost := len(entry.open) - len(entry.known):
            why = next(rate.why for rate in entry.open if rate.rate is None and rate.status != "beyond")
            how = f"real runs find one: borngap critical --method {entry.method} --by bisect"
            counts = f"{lost} of {len(entry.open)} contexts left out"
            say(f"* {entry.method}: {counts}, no rate was found: {why}; {how}")
    for entry in found:
        if entry.known and not entry.at_usual:
            say(f"{entry.method}: at its usual rate, {entry.usual:g}, {METHODS[entry.method].words} turns no context")


def _chosen(names: tuple[str, ...]) -> list[Method]:
    unknown = [name for name in names if name not in _BY_DEFAULT and name != "readout-only"]
    if unknown or not names:
        rule = f"some of {', '.join((*_BY_DEFAULT, 'readout-only'))}"
        raise UserError("unknown method", rule=rule, found=", ".join(unknown) or "none")
    return [name for name in NAMES if name in names]


def _table(found: list[MethodRates]) -> Any:
    from borngap.critical.ofmethods import SHARES

    rates = ["half take", "low", "high", "90 % take", "low", "high"]
    headings = ["method", "trained", "usual rate", "resolves", *rates, "step, ms", "MiB"]
    rows = []
    for entry in found:
        half, most = (_of(entry.quantile(share)) for share in SHARES)
        counts = f"{entry.at_usual} of {len(entry.known)}{'*' * (len(entry.known) < len(entry.open))}"
        costs = [f"{1000 * (entry.step_seconds or 0):.0f}", f"{entry.training_bytes / 2**20:.3g}"]
        rows.append([entry.method, f"{entry.parameters:,}", f"{entry.usual:g}", counts, *half, *most, *costs])
    title = (
        "\nRates that resolve contexts in which the rival leads (low and high: 95 % interval over contexts; step: of "
        "training on one context; MiB: weights that are trained, their gradients and AdamW's moments)"
    )
    return fitted_table(title, headings, rows)


def _of(quantile: Quantile) -> tuple[str, str, str]:
    low, high = quantile.interval
    return _rate(quantile.rate), "" if low is None else _rate(low), "" if low is None else _rate(high)


def _rate(value: float | None) -> str:
    """A rate in at most six characters."""
    return "beyond" if value is None else f"{value:.1e}".replace("e-0", "e-")
