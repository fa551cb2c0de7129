"""``borngap finetune``: train contexts, watch them at every step, and judge what came of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
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
    Rate,
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
from borngap.report.text import MISSING, word

if TYPE_CHECKING:
    from borngap.runfolder import Run
    from borngap.train.finetune import Step


class StopName(StrEnum):
    """What ends a run early."""

    none = "none"
    saturation = "saturation"
    structural = "structural"
    resolved = "resolved"


class ForwardName(StrEnum):
    """Which positions the training forward computes."""

    last = "last"
    labels = "labels"


def finetune(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="RUN folder; an unfinished one of the same plan goes on.")],
    contexts: Contexts = "docs10",
    method: Method = MethodName.full,
    lr: Rate = None,
    steps: Steps = 50,
    freeze: Freeze = None,
    joint: Joint = False,
    batch_size: BatchSize = 8,
    shuffle: Annotated[int | None, typer.Option(help="Seed of a new order each epoch, if joint.")] = None,
    seed: Seed = 0,
    criterion: Criterion = CriterionName.rank,
    stop: Annotated[StopName, typer.Option(help="What ends a run early.")] = StopName.none,
    lora_rank: LoraRank = 8,
    lora_alpha: LoraAlpha = 16.0,
    lora_dropout: Annotated[float, typer.Option(help="Dropout in LoRA's adapters; needs --dropout.")] = 0.0,
    lora_targets: LoraTargets = "attention",
    beta1: Beta1 = 0.9,
    beta2: Beta2 = 0.999,
    eps: Eps = 1e-8,
    weight_decay: WeightDecay = 0.0,
    schedule: Schedule = ScheduleName.constant,
    warmup: Warmup = 0,
    clip: Clip = 0.0,
    dropout: Annotated[bool, typer.Option("--dropout", help="Leave the model's dropout on.")] = False,
    forward: Annotated[
        ForwardName, typer.Option(help="`labels` trains by the host's forward over all positions.")
    ] = ForwardName.last,
    geometry: GeometryOption = GeometryName.readout,
    top_p: TopP = 0.9,
    device: Device = "cpu",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Fine-tune on contexts, watch every step, and say what came of each: resolved or not, how, and why."""
    from borngap.context import read_contexts
    from borngap.model.load import load, quiet
    from borngap.train.finetune import finetune as run_plan
    from borngap.training import Training

    training = Training(
        method=method.value, rate=lr, steps=steps, freeze=tuple(part.value for part in freeze or ()), seed=seed,
        lora_rank=lora_rank, lora_alpha=lora_alpha, lora_dropout=lora_dropout,
        lora_targets=modules(lora_targets), beta1=beta1, beta2=beta2, eps=eps,
        weight_decay=weight_decay, schedule=schedule.value, warmup=warmup, clip=clip, dropout=dropout,
        dtype=dtype,
        joint=joint, batch_size=batch_size, shuffle=shuffle, forward=forward.value, geometry=geometry.value,
        top_p=top_p, criterion=criterion.value, stop=stop.value,
    )  # fmt: skip
    quiet()
    wanted = read_contexts(contexts)
    with Progress("steps") as progress:
        see = _seen(progress, len(wanted), training.steps)
        run = run_plan(load(model, device, dtype), wanted, training, out, see)
    if json:
        print_json({"schema": 1, "plan": run.plan, "environment": run.environment, "verdicts": run.verdicts})
    else:
        _report(run)


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


def _report(run: Run) -> None:
    plan, entries = run.plan, run.verdicts
    say(_title(plan))
    say_notes(plan["notes"], (entry["notes"] for entry in entries))
    ways = ["", "gold", "rival", "by rank", "by top1", "by Born gap", "flip"]
    print_table(table("Outcome", ways, [_outcome(entry, plan["criterion"]) for entry in entries], 6, keys=2))
    ways = ["", "gold", "character", "phantom", "silent", "jump ratio", "share", "amplification", "p(gold) ablated"]
    print_table(table("\nHow it moved", ways, [_movement(entry) for entry in entries], 5, keys=2))
    say()
    for entry in entries:
        mark = "; rank and born disagree" if entry["disagrees"] else ""
        text = f"{entry['context'] + 1:>3}  {entry['outcome']}: {entry['why']}{mark}. {entry['advice'].capitalize()}."
        say(text)
    say(_savings(entries, plan["stop"]))
    say(f"written to {run.folder}")


def _title(plan: dict[str, Any]) -> str:
    frozen = f", {' and '.join(plan['freeze'])} frozen" if plan["freeze"] else ""
    how = "jointly" if plan["joint"] else "each alone"
    return (
        f"{plan['model']}: {plan['method']}{frozen}, rate {plan['rate']:g}, {plan['steps']} steps, {how}; "
        f"flip, character and advice by the criterion {plan['criterion']}"
    )


def _outcome(entry: dict[str, Any], criterion: str) -> list[Any]:
    words = [word(entry["gold"]), word(entry["rival"] or MISSING)]
    outcomes = [entry["outcomes"][name] for name in ("rank", "top1", "born")]
    return [entry["context"] + 1, *words, *outcomes, number(entry["flip_steps"][criterion])]


def _movement(entry: dict[str, Any]) -> list[Any]:
    head = [entry["context"] + 1, word(entry["gold"]), entry["character"] or MISSING]
    flags = [_yes(entry["phantom"]), _yes(entry["silent"])]
    numbers = [number(entry[name], 3) for name in ("jump_ratio", "jump_share", "amplification")]
    ablation = MISSING if entry["ablation"] is None else " -> ".join(number(p, 3) for p in entry["ablation"])
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
