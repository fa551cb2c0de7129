"""``borngap sweep``: runs over contexts, rates and seeds, and the phase diagram that they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from borngap.choices import Criterion
from borngap.cli.arguments import Contexts, Json, ModelPlace, RayAddress
from borngap.cli.options import Takes, texts
from borngap.cli.progress import Progress, spoken
from borngap.cli.show import fitted_table, print_json, print_table, say, short_number
from borngap.errors import UserError
from borngap.report.text import MISSING, word
from borngap.sweep.plan import Engine
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.sweep.phase import Estimate, Phase
    from borngap.sweep.plan import SweepPlan
    from borngap.sweep.sweepfolder import Sweep


# rates and seeds are lists of the sweep's own, and each context is trained alone; criteria may be several
_OF_A_SWEEP = ("rate", "seed", "joint", "batch_size", "shuffle", "criterion")


def sweep(
    *,
    source: ModelPlace,
    contexts: Contexts = "docs10",
    lrs: Annotated[str, typer.Option("--lrs", help="Rates: 1e-4,1e-3, or lowest:highest:count, by equal factors.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="SWEEP folder; an unfinished one of the same plan goes on.")
    ] = None,
    training: Annotated[Training, Takes(without=_OF_A_SWEEP, defaults={"method": "lora"})],
    seeds: Annotated[tuple[int, ...], typer.Option(help="Seeds of LoRA's initial matrices.")] = (0,),
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the runs and how long they would take; run none.")
    ] = False,
    criterion: Annotated[tuple[Criterion, ...], typer.Option(help=texts(Training)["criterion"])] = ("rank",),
    engine: Annotated[Literal["auto", Engine], typer.Option(help="What carries out the runs.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes; one a processor unless given.")] = None,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Train every context at every rate; print critical rates, theta*, reduced fields and the phase boundary."""
    from borngap.context import read_contexts
    from borngap.model.load import quiet
    from borngap.rates import read_rates
    from borngap.sweep.plan import plan_sweep

    rates = read_rates(lrs)
    if workers is not None and workers < 1:
        raise UserError("workers is out of range", rule="at least 1", found=workers)
    settings = replace(training, criterion=criterion[0])
    planned = plan_sweep(source.model, read_contexts(contexts), rates, training=settings, seeds=seeds)
    quiet()
    if plan:
        _show_plan(planned, out, engine, workers, source.device, json=json)
        return
    if out is None:
        raise UserError("no folder for the results", rule="--out DIR, or --plan")
    result = _carry_out(planned, out, engine, workers, source.device, ray_address)
    _show(result, criterion, json=json)


def _carry_out(plan: SweepPlan, out: Path, engine: str, workers: int | None, device: str, address: str | None) -> Sweep:
    from borngap.sweep.run import run_sweep

    if engine == "ray" and address is None:
        from borngap.ray import WARNING

        typer.echo(f"warning: {WARNING}", err=True)
    with Progress("runs") as bar:
        return run_sweep(plan, out, engine=engine, workers=workers, device=device, ray_address=address, on_run=bar.show)


def _show_plan(plan: SweepPlan, out: Path | None, engine: str, workers: int | None, device: str, *, json: bool) -> None:
    """Print the runs that are missing, and an estimate."""
    from dataclasses import asdict

    from borngap.sweep.engines import Worker, choose_engine, estimate
    from borngap.sweep.sweepfolder import SWEEP_FILE, read_sweep

    worker, most = Worker(plan, device), workers or os.cpu_count() or 1
    plan = worker.plan
    chosen = choose_engine(worker, engine, most)
    done = read_sweep(out).finished if out is not None and (out / SWEEP_FILE).exists() else frozenset()
    missing = [run for run in plan.runs if run.number not in done]
    seconds = estimate(worker, missing, chosen, most)
    if json:
        head = {"schema": 1, "plan": plan.to_json(), "engine": chosen, "finished": len(done)}
        print_json(head | {"estimate_seconds": seconds, "runs": [asdict(run) for run in missing]})
        return
    names = {i: word(context.gold) for i, context in enumerate(plan.contexts)}
    rows = [[run.number, run.context + 1, names[run.context], f"{run.rate:g}", run.seed, run.steps] for run in missing]
    title = f"{plan.model}, {plan.training.method}: {len(missing)} runs to do, {len(done)} done"
    print_table(fitted_table(title, ["run", "context", "gold", "rate", "seed", "steps"], rows, 0))
    for note in plan.notes:
        say(f"note: {note}")
    text = f"engine {chosen}: about {spoken(seconds)}, by timing a few steps on this machine as busy as it is now"
    say(text)


def _show(result: Sweep, criteria: Sequence[Criterion], *, json: bool) -> None:
    from borngap.runfolder import clean
    from borngap.sweep.points import phase_diagrams

    found = phase_diagrams(result, criteria)
    if json:
        head = {"schema": 1, "plan": result.plan, "environment": result.environment, "runs": result.entries}
        print_json(clean(head | {"phases": [diagram.to_json() for diagram in found]}))
        return
    plan = result.plan
    title = f"{plan['model']}: {plan['method']}, {plan['steps']} steps, {result.runs.height} runs"
    say(title)
    for note in plan["notes"]:
        say(f"note: {note}")
    for diagram in found:
        _report(result, diagram)
    say(f"\nwritten to {result.folder}")


def _report(result: Sweep, diagram: Phase) -> None:
    name = diagram.criterion
    rates = result.plan["rates"]
    title = f"\nBy the criterion {name}: step of the flip at each rate"
    if len(result.plan["seeds"]) > 1:
        title = f"\nBy the criterion {name}: seeds with a flip at each rate"
    print_table(
        fitted_table(title, ["", "gold", "rival", *(f"{rate:.3g}" for rate in rates)], _flips(result, name), 3, keys=2)
    )
    ways = ["", "gold", "Gmax", "status", "critical rate", "above", "up to", "theta"]
    words = {row["context"]: row["gold"] for row in result.runs.iter_rows(named=True)}
    rows = [
        [c.context + 1, word(words[c.context]), short_number(c.gold_overlap, 3), c.status,
         *map(_rate, (c.rate, c.low, c.high, c.theta))]
        for c in diagram.critical
    ]  # fmt: skip
    print_table(fitted_table("\nCritical rates", ways, rows, 2, keys=2))
    say(_theta(diagram.theta))
    ways = ["rate", "mean", "95 % low", "high", "least", "largest"]
    rows = [
        [f"{f.rate:.3g}", *(short_number(v, 3) for v in (f.mean, f.low, f.high, f.least, f.largest))]
        for f in diagram.fields
    ]
    if rows:
        print_table(fitted_table("\nReduced field H = rate x Gmax / theta* over contexts", ways, rows, 0))
    _boundaries(diagram)


def _flips(result: Sweep, criterion: str) -> list[list[Any]]:
    rows: dict[int, list[Any]] = {}
    for (context, _), group in result.runs.sort("context", "rate", "seed").group_by(
        "context", "rate", maintain_order=True
    ):
        runs = group.to_dicts()
        head = [int(str(context)) + 1, word(runs[0]["gold"]), word(runs[0]["rival"] or MISSING)]
        rows.setdefault(int(str(context)), head).append(_cell(runs, criterion))
    return list(rows.values())


def _cell(runs: list[dict[str, Any]], criterion: str) -> str:
    outcomes = [run[f"outcome_{criterion}"] for run in runs]
    flips = [run[f"flip_time_{criterion}"] for run in runs if run[f"flip_time_{criterion}"] is not None]
    short = next((o for o in ("diverged", "lost", "pre-resolved", "relapsed") if o in outcomes), "")
    if short in {"lost", "pre-resolved"} or not flips:
        return short or MISSING
    text = f"{flips[0]:.1f}" if len(runs) == 1 else f"{len(flips)}/{len(runs)}"
    return f"{text} {short}".strip()


def _theta(theta: Estimate) -> str:
    if theta.value is None:
        return f"theta* unknown: {theta.reason}"
    ends = "" if theta.low is None else f", 95 % interval {theta.low:.3g} to {theta.high:.3g}"
    note = f"; {theta.reason}" if theta.reason else ""
    return f"theta* = {theta.value:.3g}{ends}, mean of rate x Gmax over {theta.contexts} contexts{note}"


def _boundaries(diagram: Phase) -> None:
    ways = ["cut on", "at", "95 % low", "high", "catapults lie", "accuracy", "unseen contexts", "catapults", "drifts"]
    rows = [
        [b.by, _rate(b.cut), _rate(b.low), _rate(b.high), b.side or MISSING, short_number(b.accuracy, 3),
         short_number(b.held_out, 3), b.catapults, b.drifts]
        for b in diagram.boundaries
    ]  # fmt: skip
    title = "\nPhase boundary: catapult (jump ratio from 8) or drift (below 5)"
    if all(b.cut is None for b in diagram.boundaries):  # one reason holds for all, and the table would be empty
        say(title, style="bold")
        say(f"no cut: {diagram.boundaries[0].reason}")
    else:
        print_table(fitted_table(title, ways, rows, 1))
        for b in diagram.boundaries:
            if b.reason:
                say(f"no cut on {b.by}: {b.reason}")
    for c in diagram.comparisons:
        if c.difference is not None:
            ends = "" if c.low is None else f" ({100 * c.low:+.0f} to {100 * (c.high or 0):+.0f})"
            text = f"{c.by} against {c.against}, unseen contexts: {100 * c.difference:+.0f} points{ends}: {c.verdict}"
            say(text)
    if diagram.left_out:
        left = ", ".join(f"{count} {name}" for name, count in sorted(diagram.left_out.items()))
        say(f"left out of the boundary: {left}, of {diagram.runs} runs")


def _rate(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"
