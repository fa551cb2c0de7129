"""``borngap forecast``: what a planned fine-tuning comes to, before it: of contexts each alone, or of a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from borngap.cli.arguments import OF_A_RUN, AllowedRows, Json, ModelPlace, RayAddress, TermLanguage, bundled_contexts
from borngap.cli.commands.critical import Largest, loss_told, opening
from borngap.cli.options import Takes
from borngap.cli.progress import Progress, paced
from borngap.cli.runforecasts import RunOptions, check_contexts_alone, check_run_options, refuse_steps, run_forecast
from borngap.cli.show import fitted_table, print_json, print_table, say, say_notes, short_number
from borngap.methods import METHODS, WHOLE
from borngap.pilot.settings import Piloting
from borngap.report.text import MISSING, word
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.critical.forecast import Forecast


# what a forecast of single contexts has no use for; seeds are given as a list
_NOT_FORECAST = ("forward", "stop", "seed", "joint", "shuffle")
_PROSPECTS = {
    "will resolve": "resolves",
    "at risk": "at risk",
    "will fail": "fails",
    "pre-resolved": "ahead",
    "unknown": "unknown",
}


def forecast(
    context: typer.Context,
    *,
    source: ModelPlace,
    data: Annotated[
        str | None,
        typer.Option(help="Rows that the run trains on, as for `scan`: forecasts this run, not contexts each alone."),
    ] = None,
    watch: Annotated[str | None, typer.Option(help="With --data: held-out rows, whose places are watched.")] = None,
    terms: Annotated[
        Path | None, typer.Option("--terms", "-t", help="With --watch: words to use and to avoid, as for `terms`.")
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(
            "--contexts",
            "-c",
            help="JSON Lines or CSV, `-` for standard input, or a bundled list; without --data docs10 unless given.",
            autocompletion=bundled_contexts,
        ),
    ] = None,
    training: Annotated[Training, Takes(without=_NOT_FORECAST)],
    piloting: Annotated[Piloting, Takes(without=("chunk", "seed", "epochs"))],
    lrs: Annotated[
        str | None,
        typer.Option(help="Rates to compare, such as 5e-5:2e-3:6; they share the budget.", rich_help_panel=OF_A_RUN),
    ] = None,
    epochs: Annotated[
        str | None,
        typer.Option(
            help="Passes over the rows, in place of the steps; several, such as 1:5 or 1,2,4, are told by one pilot.",
            rich_help_panel=OF_A_RUN,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods to compare, with rates of their own, such as lora:2e-4,full:2e-5; they share the budget.",
            rich_help_panel=OF_A_RUN,
        ),
    ] = None,
    from_args: Annotated[
        Path | None,
        typer.Option(help="JSON of TrainingArguments or SFTConfig, in place of the options for them."),
    ] = None,
    allowed: AllowedRows = None,
    language: TermLanguage = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set, or key of a JSON object's rows.")] = "train",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder; an unfinished forecast there goes on.", rich_help_panel=OF_A_RUN),
    ] = None,
    engine: Annotated[
        Literal["process", "ray"],
        typer.Option(help="`ray` trains the pilots of several rates on a Ray cluster.", rich_help_panel=OF_A_RUN),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(help="Rates at work at once, with --engine ray; one a processor.", rich_help_panel=OF_A_RUN),
    ] = None,
    ray_address: RayAddress = None,
    by: Annotated[
        Literal["collocation", "class-mean"],
        typer.Option(help="`class-mean` shows the paper's rule next to the forecast; `critical` has more ways."),
    ] = "collocation",
    seeds: Annotated[
        tuple[int, ...],
        typer.Option(
            help="Seeds of LoRA's initial matrices; intervals carry their spread. A run has one, of its rows' "
            "order too."
        ),
    ] = (0,),
    no_lora: Annotated[bool, typer.Option("--no-lora", help="Leave out whether LoRA is enough.")] = False,
    max_lr: Largest = None,
    json: Json = False,
) -> None:
    """Say before training what a plan comes to: for single contexts, or with --data for a whole run.

    Without --data: which contexts a plan resolves, and which rate each needs; each context trained alone, all steps on
    its one prompt; a run on a data set moves it far less. With --data: at which share of held-out places your words
    will lead after this run.
    """
    training = replace(training, seed=seeds[0])
    given = RunOptions(
        data, watch, terms, contexts, allowed, lrs, epochs, methods, from_args, language, split, out, engine, workers,
        ray_address,
    )  # fmt: skip
    if data is not None:
        if epochs is not None:
            refuse_steps(context)
        check_run_options(seeds, by, max_lr, no_lora=no_lora)
        run_forecast(source, given, training, piloting, json=json)
    else:
        check_contexts_alone(given, training, piloting)
        _alone(source, contexts or "docs10", training, seeds, by, max_lr, no_lora=no_lora, json=json)


def _alone(
    source: ModelPlace, contexts: str, training: Training, seeds: tuple[int, ...], by: str, max_lr: float | None, *,
    no_lora: bool, json: bool,
) -> None:  # fmt: skip
    """Forecast contexts each alone."""
    from borngap.context import read_contexts
    from borngap.critical.forecast import forecast as look_ahead
    from borngap.critical.forecast import forecast_entry, rate_to_use
    from borngap.critical.record import rounding_note
    from borngap.model.precision import name_of, precision_notes, precision_of
    from borngap.runfolder import environment

    wanted = read_contexts(contexts)
    total = len(wanted) * (len(seeds) if METHODS[training.method].drawn else 1)
    loaded = source.load()
    with Progress("contexts", total) as progress:
        found = look_ahead(
            loaded,
            wanted,
            training,
            seeds=seeds,
            limit=max_lr,
            lora=not no_lora,
            on_context=paced(progress, total, "contexts"),
        )
    use = rate_to_use(found)
    if json:
        head = {"schema": 1, "scope": training.scope, "model": source.model, "method": training.method}
        head |= {"planned_rate": training.learning_rate, "steps": training.steps, "criterion": training.criterion}
        head |= {"seeds": list(seeds), "added": list(training.terms), "rate_to_use": use, **precision_of(loaded.model)}
        entries = [forecast_entry(i, entry) for i, entry in enumerate(found)]
        print_json(head | {"forecasts": entries, "environment": environment()})
        return
    say(opening(training))
    how = f"{loss_told(training)} at {training.learning_rate:g} for {training.steps} steps"
    say(f"{source.model}: {how}, criterion {training.criterion}")
    if training.penalised and training.method in WHOLE and not no_lora:
        say("note: what LoRA takes is without the penalty, which would change nothing there")
    for note in precision_notes(loaded.model, loaded.stored):
        say(f"note: {note}")
    print_table(_table(found, lora=training.method in WHOLE, paper=by == "class-mean"))
    print_table(_at_the_end(found))
    for index, entry in enumerate(found, 1):
        if entry.critical.why and entry.critical.status != "pre-resolved":
            say(f"{index:>3}  {entry.critical.why}")
    rounded = rounding_note([entry.critical for entry in found], name_of(loaded.model.dtype))
    say_notes(() if rounded is None else (rounded,), (entry.target.notes for entry in found))
    for line in _conclusion(found, use):
        say(line)


def _rate(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _table(found: list[Forecast], *, lora: bool, paper: bool) -> Any:
    headings = ["", "gold", "rival", "prospect", "takes rate", "90 % low", "high", "planned / it"]
    extra: dict[str, Callable[[Forecast], float | None]] = {}
    if lora:
        extra["LoRA takes"] = lambda f: None if f.lora is None else f.lora.rate
    if paper:
        extra["class-mean"] = lambda f: f.class_rate
    rows = []
    for index, entry in enumerate(found, 1):
        c, context = entry.critical, entry.target.context
        ratio = MISSING if c.rate is None else f"{entry.planned / c.rate:.2f}"
        shown = c.status if c.status in {"beyond", "diverged"} else _rate(c.rate)
        head = [index, word(context.gold), word(context.rival or ""), _PROSPECTS[entry.prospect]]
        rows.append([*head, shown, _rate(c.low), _rate(c.high), ratio, *(_rate(get(entry)) for get in extra.values())])
    return fitted_table("\nWhat it takes", [*headings, *extra], rows, 4, keys=2)


def _at_the_end(found: list[Forecast]) -> Any:
    ids = ("born_gap", "signal", "drag", "logit_gap", "gold_probability", "rival_probability")
    headings = ["", "gold", "outcome", "Born gap", "signal", "drag", "logit gap", "p gold", "p rival"]
    settled = all(entry.outcome_by == "collocation" for entry in found)
    headings += [] if settled else ["by"]
    rows = []
    for index, entry in enumerate(found, 1):
        head = [index, word(entry.target.context.gold), entry.outcome or MISSING]
        by = [] if settled else [entry.outcome_by]
        rows.append([*head, *(short_number(entry.end.get(name), 3) for name in ids), *by])
    return fitted_table("\nAt the end of the planned run", headings, rows, 3, keys=2)


def _conclusion(found: list[Forecast], use: float | None) -> list[str]:
    open_ = [f for f in found if f.critical.status != "pre-resolved"]
    counts = [sum(f.prospect == p for f in open_) for p in ("will resolve", "at risk", "will fail")]
    have = len(found) - len(open_)
    lines = [
        f"\nOf {len(open_)} contexts to train ({have} more are ahead already), each alone, {counts[0]} will resolve, "
        f"{counts[1]} are at risk and {counts[2]} will fail."
    ]
    if use is not None:
        most = sum(f.critical.status == "ok" for f in open_)
        lines.append(
            f"Rate to use if each is trained alone: {use:.3g}, above the interval of all {most} with a known rate."
        )
    beyond = sum(f.critical.status == "beyond" for f in open_)
    if beyond:
        lines.append(f"{beyond} resolve at no rate tried: more steps, other data or another method.")
    return lines + _about_lora(open_)


def _about_lora(found: list[Forecast]) -> list[str]:
    from borngap.training import USUAL_LORA_RATES

    asked = [f for f in found if f.lora_does is not None]
    if not asked:
        reasons = {f.lora.why for f in found if f.lora is not None and f.lora.why}
        return [f"Whether LoRA would do is not known: {reason}." for reason in sorted(reasons)]
    kind, does = asked[0].embedding_class, sum(bool(f.lora_does) for f in asked)
    rule = {"A": "would say no", "B": "would say yes"}.get(kind, "has nothing to say")
    return [
        f"LoRA at rates up to {USUAL_LORA_RATES[1]:g} resolves {does} of {len(asked)} in the same steps on each alone; "
        f"the paper's rule (embedding class {kind}) {rule}."
    ]
