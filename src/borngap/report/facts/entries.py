"""A context's entry in a RUN's verdicts, and what a RUN's plan says, by their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from borngap.choices import CRITERIA, Criterion
from borngap.errors import UserError
from borngap.judge.verdicts import NEVER
from borngap.losses.form import NO_TERM, loss_words, read_form, read_penalty
from borngap.report.facts.typed import as_flag, as_items, as_number, as_table, as_text, as_texts, as_whole
from borngap.report.records import Number, Stops
from borngap.shown import visible


@dataclass(frozen=True)
class Entry:
    """What became of a context; None where it is not known. The names are those of a verdict and of a record."""

    context: int
    prompt: str
    gold: str | None
    rival: str | None
    relation: str | None
    notes: list[str]
    outcome: str | None
    outcomes: Mapping[Criterion, str | None]
    flip_steps: Mapping[Criterion, int | None]
    flip_times: Mapping[Criterion, Number]
    character: str | None
    last_step: int | None
    why: str
    advice: str
    disagrees: bool | None
    silent: bool | None
    phantom: bool | None
    drag_worsened: bool | None
    jump_ratio: Number
    jump_share: Number
    amplification: Number
    readout_share: Number
    jump_step: int | None
    ablation: list[Number] | None
    stop: Stops

    @property
    def failed(self) -> bool:
        """Whether gold never came ahead."""
        return self.outcome in NEVER


def parsed_entry(context: int, stored: Mapping[str, object]) -> Entry:
    """Return a context's entry, whatever is left of it.

    Args:
        context: its number in the RUN.
        stored: as ``verdicts.json`` has it.

    Returns:
        The entry.
    """
    get = stored.get
    outcomes, steps, times = (as_table(get(name)) for name in ("outcomes", "flip_steps", "flip_times"))
    parts = as_items(get("ablation"))
    return Entry(
        context=context,
        prompt=as_text(get("prompt")) or "",
        gold=as_text(get("gold")),
        rival=as_text(get("rival")),
        relation=as_text(get("relation")),
        notes=[visible(f"{key}: {note}") for key, note in sorted(as_table(get("notes")).items())],
        outcome=as_text(get("outcome")),
        outcomes={name: as_text(outcomes.get(name)) for name in CRITERIA},
        flip_steps={name: as_whole(steps.get(name)) for name in CRITERIA},
        flip_times={name: as_number(times.get(name)) for name in CRITERIA},
        character=as_text(get("character")),
        last_step=as_whole(get("last_step")),
        why=visible(as_text(get("why")) or ""),
        advice=visible(as_text(get("advice")) or ""),
        disagrees=as_flag(get("disagrees")),
        silent=as_flag(get("silent")),
        phantom=as_flag(get("phantom")),
        drag_worsened=as_flag(get("drag_worsened")),
        jump_ratio=as_number(get("jump_ratio")),
        jump_share=as_number(get("jump_share")),
        amplification=as_number(get("amplification")),
        readout_share=as_number(get("readout_share")),
        jump_step=as_whole(get("jump_step")),
        ablation=[as_number(part) for part in parts] if len(parts) == 2 else None,
        stop=_stop(as_table(get("saving"))),
    )


@dataclass(frozen=True)
class RunPlan:
    """What a RUN's plan says, as far as a report needs it; None where it does not tell.

    Attributes:
        tracked: whether somebody else's training was watched.
        model: its name.
        method: how it is trained.
        loss: what it lowers, in words, where something is added to the cross-entropy; else empty.
        rate: learning rate, at its highest.
        steps: optimiser steps.
        schedule: of the learning rate.
        warmup: steps of it.
        seed: of the run.
        joint: whether all contexts are trained together.
        criterion: what counts as resolved.
        host: whose training was watched.
        weights: digest of the model's weights at the start.
        dtype: of the weights.
        measured_in: dtype of norm and head.
        freeze: parts that are frozen.
        lora_targets: modules with adapters.
        notes: what the run said of itself.
        contexts: words of the contexts.
    """

    tracked: bool
    model: str | None
    method: str | None
    loss: str
    rate: Number
    steps: int | None
    schedule: str | None
    warmup: int
    seed: int | None
    joint: bool | None
    criterion: Criterion | None
    host: str | None
    weights: str | None
    dtype: str | None
    measured_in: str | None
    freeze: list[str]
    lora_targets: list[str]
    notes: list[str]
    contexts: list[dict[str, object]]


def parsed_plan(stored: Mapping[str, object]) -> RunPlan:
    """Return a plan, whatever is left of it.

    Args:
        stored: as ``run.json`` or ``sweep.json`` has it.

    Returns:
        The plan.
    """
    get = stored.get
    return RunPlan(
        tracked=get("command") == "track",
        model=as_text(get("model")) or None,
        method=as_text(get("method")),
        loss=loss_of_training(stored),
        rate=as_number(get("rate")),
        steps=as_whole(get("steps")),
        schedule=as_text(get("schedule")),
        warmup=as_whole(get("warmup")) or 0,
        seed=as_whole(get("seed")),
        joint=as_flag(get("joint")),
        criterion=next((name for name in CRITERIA if name == get("criterion")), None),
        host=as_text(get("host")),
        weights=as_text(get("weights")),
        dtype=as_text(get("dtype")),
        measured_in=as_text(get("measured_in")),
        freeze=as_texts(get("freeze")),
        lora_targets=as_texts(get("lora_targets")),
        notes=[str(note) for note in as_items(get("notes"))],
        contexts=[as_table(context) for context in as_items(get("contexts"))],
    )


def loss_of_training(stored: Mapping[str, object]) -> str:
    """Return what a stored training lowers, in words, where something is added to the cross-entropy; else nothing.

    Args:
        stored: its settings, whatever is left of them.
    """
    terms = (as_text(stored.get(name)) or NO_TERM for name in ("rival_loss", "penalty"))
    try:
        return loss_words(read_form(next(terms)), read_penalty(next(terms)))
    except UserError:
        return ""


def _stop(saving: Mapping[str, object]) -> Stops:
    return {
        "saturation": as_whole(saving.get("saturation_step")),
        "patience": as_whole(saving.get("patience_step")),
        "patience_fired": as_flag(saving.get("patience_fired")),
        "saved_steps": as_whole(saving.get("saved_steps")),
    }
