"""``borngap reproduce``: the paper's experiments on any models, judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Json, Keeping, Machine, bundled_contexts, named_models
from borngap.cli.progress import Progress, spoken
from borngap.cli.show import fitted_table, print_json, print_table, say, short_number
from borngap.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from borngap.experiments.folder import Plan
    from borngap.results.claims import JudgedClaim

_QUICK_MODELS = "docs-gpt2-s,docs-neox-s"


def reproduce(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder; an unfinished reproduction of the same plan goes on.")
    ],
    models: Annotated[
        str,
        typer.Option(
            "--models",
            "-m",
            help="Comma-separated; `bundled`, or `paper` for the paper's eight.",
            autocompletion=named_models,
        ),
    ] = "bundled",
    contexts: Annotated[
        str,
        typer.Option(
            "--contexts",
            "-c",
            help="A file, or a bundled name: docs10, docs40, paper10, paper120.",
            autocompletion=bundled_contexts,
        ),
    ] = "",
    experiments: Annotated[
        str, typer.Option(help="Comma-separated: regimes, steps, boundary, drag, fields, geometry, heads, brackets.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Two models, five contexts, fewer rates, 30 steps: minutes.")
    ] = False,
    real: Annotated[
        bool,
        typer.Option(
            "--real", help="For pretrained models: paper120, rival ahead, 16 at most, brackets instead of bisections."
        ),
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps a run; by default 50, or 30 if quick.")] = None,
    keeping: Keeping,
    workers: Annotated[int | None, typer.Option(help="Processes, a model each; one a processor unless given.")] = None,
    machine: Machine,
    estimate: Annotated[
        bool, typer.Option("--plan", help="Say what would be run and how long it takes; run none.")
    ] = False,
    judge: Annotated[
        bool,
        typer.Option("--judge", help="Judge what the folder holds by now; run nothing, whatever else is given."),
    ] = False,
    json: Json = False,
) -> None:
    """Run the paper's experiments, write every table and figure, and judge every claim; an interrupted run goes on."""
    from borngap.experiments.estimating import estimated, planned_runs
    from borngap.experiments.run import reproduce
    from borngap.model.load import quiet

    if workers is not None and workers < 1:
        raise UserError("workers is out of range", rule="at least 1", found=workers)
    if steps is not None and steps < 1:
        raise UserError("steps is out of range", rule="at least 1", found=steps)
    quiet()
    if judge and estimate:
        raise UserError("--judge and --plan are given", rule="one of them")
    if judge:
        _judge(out, json=json)
        return
    if quick and real:
        raise UserError("--quick and --real are given", rule="one of them")
    changed = {"steps": steps, "dtype": machine.dtype, "keep": keeping.keep, "most": keeping.most}
    scope = {key: value for key, value in changed.items() if value is not None}
    plan = _plan(models, contexts, experiments, scope, quick=quick, real=real)
    processes = workers or os.cpu_count() or 1
    if estimate:
        seconds = estimated(plan, out, processes, machine.device)
        _tell(plan, planned_runs(plan), seconds, processes, json=json)
        return
    if not _finished(out, plan):
        if not json:
            _tell(plan, planned_runs(plan), estimated(plan, out, processes, machine.device), processes, json=False)
        with Progress("reproduction") as bar:
            report = _seen(bar, planned_runs(plan))
            reproduce(plan, out, workers=processes, device=machine.device, report=report)
    _judge(out, json=json)


def _plan(models: str, contexts: str, experiments: str, changed: dict[str, Any], *, quick: bool, real: bool) -> Plan:
    from dataclasses import replace

    from borngap.context import read_contexts
    from borngap.experiments.arms import Scope
    from borngap.experiments.folder import Plan
    from borngap.experiments.run import BRACKETS, EXPERIMENTS, QUICK, QUICK_CONTEXTS, REAL, REAL_EXPERIMENTS, scope_of

    usual = "paper10" if models == "paper" else "paper120" if real else "docs10"
    chosen = read_contexts(contexts or usual)
    if quick and not contexts:
        chosen = chosen[:: max(1, len(chosen) // QUICK_CONTEXTS)][:QUICK_CONTEXTS]
    names = [name.strip() for name in experiments.split(",")] if experiments else []
    names = names or list(REAL_EXPERIMENTS if real else [name for name in EXPERIMENTS if name != BRACKETS])
    scope = scope_of(names, replace(QUICK if quick else REAL if real else Scope(), **changed))
    return Plan(_models(models, quick=quick), tuple(chosen), scope)


def _models(text: str, *, quick: bool) -> tuple[str, ...]:
    from borngap.experiments.claims.paper import paper_models
    from borngap.zoo import bundled_names

    if text == "paper":
        return tuple(model.hub for model in paper_models())
    if text == "bundled":
        return tuple(_QUICK_MODELS.split(",")) if quick else tuple(bundled_names())
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _finished(out: Path, plan: Plan) -> bool:
    """Whether everything is stored; checks that the folder is of this plan."""
    from borngap.experiments.campaign import undone
    from borngap.experiments.folder import PLAN_FILE, start

    if not (out / PLAN_FILE).is_file():
        return False
    with start(out, plan):
        return not any(undone(out, model, plan) for model in plan.models)


def _tell(plan: Plan, runs: int, seconds: float, processes: int, *, json: bool) -> None:
    if json:
        head = {"schema": 1, "plan": plan.to_json(), "runs": runs, "processes": processes}
        print_json(head | {"estimate_seconds": seconds})
        return
    kept = min(len(plan.contexts), plan.scope.most or len(plan.contexts))
    work = (
        f"up to {runs} runs of {plan.scope.steps} steps"
        if runs
        else "no runs but those that forecasts are held against"
    )
    text = f"{len(plan.models)} models, {kept} contexts at most, {work}"
    count = min(processes, len(plan.models))
    say(f"{text}: about {spoken(seconds)} if {count} of the processors have nothing else to do")


def _seen(bar: Progress, total: int) -> Callable[[str, str, int, int], None]:
    """Return what shows how many runs are done, if there are any, and what is at work."""
    done: dict[tuple[str, str], int] = {}

    def see(model: str, what: str, count: int, of: int) -> None:
        searching = what.startswith(("critical rates", "base model", "forecast"))
        done[model, what] = 0 if searching else count
        text = f"{model}, {what} ({count} of {of})" if searching and of > 1 else f"{model}, {what}"
        if total:
            bar.show(sum(done.values()), total, what=f"{text}; runs")
        else:
            bar.show(what=text)

    return see


def _judge(out: Path, *, json: bool) -> None:
    """Write the results of what is stored, and print the claims."""
    from borngap.experiments.run import rewrite_results
    from borngap.report.reproduction import write_report

    rewrite_results(out)
    found = write_report(out)
    if json:
        print_json({"schema": 1, "undone": found.undone, "claims": found.claims})
    else:
        _show(found.claims, out)
        if found.undone:
            say(f"not done yet: {'; '.join(found.undone)}")


def _show(records: Sequence[JudgedClaim], out: Path) -> None:
    from borngap.report.reproduction import verdict_line

    rows = [
        [
            r["claim"],
            r["verdict"],
            short_number(r["ours"], 3),
            "–" if r["low"] is None else f"{short_number(r['low'], 3)} to {short_number(r['high'], 3)}",
            r["n"],
        ]
        for r in records
    ]
    print_table(fitted_table("Claims", ["claim", "verdict", "ours", "95 % interval", "n"], rows, 2))
    say(verdict_line(records))
    say(f"written to {out}: report.html, report.md, claims.json, tables, figures")
