"""``borngap forecast``: what a planned fine-tuning will come to, before any training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import (
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
    Json,
    LoraAlpha,
    LoraRank,
    LoraTargets,
    Method,
    MethodName,
    Model,
    Rate,
    Schedule,
    ScheduleName,
    Steps,
    TopP,
    Warmup,
    WeightDecay,
    modules,
    numbers,
)  # fmt: skip
from borngap.cli.commands.critical import Largest, opening
from borngap.cli.progress import Progress
from borngap.cli.show import number, print_json, print_table, say, say_notes, table
from borngap.errors import UserError
from borngap.report.text import MISSING, word

if TYPE_CHECKING:
    from borngap.critical.forecast import Forecast


_PROSPECTS = {
    "will resolve": "resolves",
    "at risk": "at risk",
    "will fail": "fails",
    "pre-resolved": "ahead",
    "unknown": "unknown",
}


def forecast(
    model: Model,
    contexts: Contexts = "docs10",
    method: Method = MethodName.full,
    lr: Rate = None,
    steps: Steps = 50,
    criterion: Criterion = CriterionName.rank,
    by: Annotated[str, typer.Option(help="`class-mean` shows the paper's rule next to the forecast.")] = "collocation",
    seeds: Annotated[str, typer.Option(help="Seeds of LoRA's initial matrices; intervals carry their spread.")] = "0",
    no_lora: Annotated[bool, typer.Option("--no-lora", help="Don't ask whether LoRA would do.")] = False,
    max_lr: Largest = None,
    freeze: Freeze = None,
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
    """Say, without training, which contexts a plan will resolve, each trained alone, and what rate each takes.

    It is a forecast of each context trained alone, all steps on its one prompt; a run on a data set moves it far less.
    """
    from borngap.context import read_contexts
    from borngap.critical.forecast import forecast as look_ahead
    from borngap.critical.forecast import forecast_entry, rate_to_use
    from borngap.model.load import load, quiet
    from borngap.model.precision import precision_notes, precision_of
    from borngap.runfolder import environment
    from borngap.training import Training

    _check_way(by)
    chosen = numbers(seeds, "seeds")
    training = Training(
        method=method.value, rate=lr, steps=steps, freeze=tuple(part.value for part in freeze or ()), seed=chosen[0],
        lora_rank=lora_rank, lora_alpha=lora_alpha, lora_targets=modules(lora_targets), beta1=beta1, beta2=beta2,
        eps=eps, weight_decay=weight_decay, schedule=schedule.value, warmup=warmup, clip=clip, geometry=geometry.value,
        top_p=top_p, criterion=criterion.value,
        dtype=dtype,
    )  # fmt: skip
    quiet()
    wanted = read_contexts(contexts)
    total = len(wanted) * (len(chosen) if method is MethodName.lora else 1)
    loaded = load(model, device, dtype)
    with Progress("contexts", total) as progress:
        found = look_ahead(
            loaded, wanted, training, seeds=chosen, limit=max_lr, lora=not no_lora, on_context=progress.show
        )
    use = rate_to_use(found)
    if json:
        head = {"schema": 1, "scope": training.scope, "model": model, "method": method.value}
        head |= {
            "planned_rate": training.learning_rate,
            "steps": steps,
            "criterion": criterion.value,
            "seeds": list(chosen),
            "rate_to_use": use,
            **precision_of(loaded.model),
        }
        entries = [forecast_entry(i, entry) for i, entry in enumerate(found)]
        print_json(head | {"forecasts": entries, "environment": environment()})
        return
    say(opening(training))
    title = f"{model}: {method.value} at {training.learning_rate:g} for {steps} steps, criterion {criterion.value}"
    say(title)
    for note in precision_notes(loaded.model, loaded.stored):
        say(f"note: {note}")
    print_table(_table(found, lora=method is not MethodName.lora, paper=by == "class-mean"))
    print_table(_at_the_end(found))
    for index, entry in enumerate(found, 1):
        if entry.critical.why and entry.critical.status != "pre-resolved":
            say(f"{index:>3}  {entry.critical.why}")
    say_notes((), (entry.target.notes for entry in found))
    for line in _conclusion(found, use):
        say(line)


def _check_way(by: str) -> None:
    if by not in {"collocation", "class-mean"}:
        fix = "`borngap critical --by` has the other ways"
        raise UserError("unknown way to forecast", rule="collocation or class-mean", found=by, fix=fix)


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
    return table("\nWhat it takes", [*headings, *extra], rows, 4, keys=2)


def _at_the_end(found: list[Forecast]) -> Any:
    ids = ("born_gap", "signal", "drag", "logit_gap", "gold_probability", "rival_probability")
    headings = ["", "gold", "outcome", "Born gap", "signal", "drag", "logit gap", "p gold", "p rival"]
    settled = all(entry.outcome_by == "collocation" for entry in found)
    headings += [] if settled else ["by"]
    rows = []
    for index, entry in enumerate(found, 1):
        head = [index, word(entry.target.context.gold), entry.outcome or MISSING]
        by = [] if settled else [entry.outcome_by]
        rows.append([*head, *(number(entry.end.get(name), 3) for name in ids), *by])
    return table("\nAt the end of the planned run", headings, rows, 3, keys=2)


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
