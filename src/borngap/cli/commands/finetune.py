"""``borngap finetune``: train contexts, watch them at every step, and judge what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Contexts, Json, ModelPlace
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, print_json, print_table, say, say_notes, short_number
from borngap.report.text import MISSING, word
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.runfolder import Run
    from borngap.train.finetune import Step


def finetune(
    *,
    source: ModelPlace,
    contexts: Contexts = "docs10",
    out: Annotated[Path, typer.Option("--out", "-o", help="RUN folder; an unfinished one of the same plan goes on.")],
    training: Training,
    json: Json = False,
) -> None:
    """Fine-tune on contexts, watch every step, and say of each whether it is resolved, how, and why."""
    from borngap.context import read_contexts
    from borngap.train.finetune import finetune as run_plan

    wanted = read_contexts(contexts)
    with Progress("steps") as progress:
        see = _seen(progress, len(wanted), training.steps)
        run = run_plan(source.load(), wanted, training, out, see)
    if json:
        print_json({"schema": 1, "plan": run.plan, "environment": run.environment, "verdicts": run.verdicts})
    else:
        _report(run, training)


def _seen(progress: Progress, contexts: int, steps: int) -> Callable[[Step], None]:
    """Return what shows one entry of a run: step, loss, Born gap, and the order of gold and rival."""

    def see(entry: Step) -> None:
        records = list(entry.records.values())
        ahead = sum((r["logit_gap"] or 0) > 0 for r in records)
        gap = sum(r["born_gap"] or 0 for r in records) / len(records)
        seen = f"loss {entry.loss:.3f}, Born gap {gap:+.3f}, "
        if len(records) > 1:  # a joint run, with the means over its contexts
            progress.show(entry.step, steps, seen=f"{seen}gold ahead in {ahead} of {len(records)}")
            return
        index = next(iter(entry.records))
        name, order = f"context {index + 1} of {contexts}, steps", "gold ahead" if ahead else "rival ahead"
        progress.show(index * steps + entry.step, contexts * steps, what=name, seen=seen + order)

    return see


def _report(run: Run, training: Training) -> None:
    plan, entries = run.plan, run.verdicts
    say(_title(plan, training.loss_words))
    say_notes(plan["notes"], (entry["notes"] for entry in entries))
    ways = ["", "gold", "rival", "by rank", "by top1", "by Born gap", "flip"]
    print_table(fitted_table("Outcome", ways, [_outcome(entry, plan["criterion"]) for entry in entries], 6, keys=2))
    ways = ["", "gold", "character", "phantom", "silent", "jump ratio", "share", "amplification", "p(gold) ablated"]
    print_table(fitted_table("\nHow it moved", ways, [_movement(entry) for entry in entries], 5, keys=2))
    say()
    for entry in entries:
        mark = "; rank and born disagree" if entry["disagrees"] else ""
        text = f"{entry['context'] + 1:>3}  {entry['outcome']}: {entry['why']}{mark}. {entry['advice'].capitalize()}."
        say(text)
    say(_savings(entries, plan["stop"]))
    say(f"written to {run.folder}")


def _title(plan: dict[str, Any], loss: str) -> str:
    frozen = f", {' and '.join(plan['freeze'])} frozen" if plan["freeze"] else ""
    how = "jointly" if plan["joint"] else "each alone"
    added = f", {loss}" if loss else ""
    return (
        f"{plan['model']}: {plan['method']}{frozen}{added}, rate {plan['rate']:g}, {plan['steps']} steps, {how}; "
        f"flip, character and advice by the criterion {plan['criterion']}"
    )


def _outcome(entry: dict[str, Any], criterion: str) -> list[Any]:
    words = [word(entry["gold"]), word(entry["rival"] or MISSING)]
    outcomes = [entry["outcomes"][name] for name in ("rank", "top1", "born")]
    return [entry["context"] + 1, *words, *outcomes, short_number(entry["flip_steps"][criterion])]


def _movement(entry: dict[str, Any]) -> list[Any]:
    head = [entry["context"] + 1, word(entry["gold"]), entry["character"] or MISSING]
    flags = [_yes(entry["phantom"]), _yes(entry["silent"])]
    numbers = [short_number(entry[name], 3) for name in ("jump_ratio", "jump_share", "amplification")]
    ablation = MISSING if entry["ablation"] is None else " -> ".join(short_number(p, 3) for p in entry["ablation"])
    return [*head, *flags, *numbers, ablation]


def _yes(flag: bool | None) -> str:
    return MISSING if flag is None else "yes" if flag else "no"


def _savings(entries: list[dict[str, Any]], stop: str) -> str:
    if stop != "none":
        return f"runs ended early on {stop} where the rule fired"
    saved = [entry["saving"] for entry in entries if entry["saving"]["saved_steps"] is not None]
    if not saved:
        return "no run is saturated: stopping on saturation would have saved nothing"
    share = sum(s["saved_steps"] for s in saved) / max(1, sum(s["patience_step"] for s in saved))
    changed = sum(any(s["changed"].values()) for s in saved)
    return (
        f"stopping on saturation: {len(saved)} of {len(entries)} runs, {100 * share:.0f} % of their steps saved "
        f"against cross-entropy patience; order or rank changed after the stop in {changed}"
    )
