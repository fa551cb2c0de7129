"""Lines to paste into a training script, or to give on the command line, for each remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from borngap.pilot.wholerun import RunJob
from borngap.remedies.outcomes import RemedyOutcome
from borngap.remedies.remedy import BIAS, NONE, Remedy
from borngap.train.targets import targets_of

_ROWS, _BIAS = "upsampled.jsonl", "bias.json"


@dataclass(frozen=True)
class NamedFiles:
    """What a search was given, as a user names it.

    Attributes:
        model: the model.
        data: the rows to train on.
        watch: held-out rows.
        terms: the terms.
        allowed: options that say where words to avoid are right.
    """

    model: str
    data: str
    watch: str
    terms: str
    allowed: str = ""


def pasted(remedy: Remedy, job: RunJob, given: NamedFiles, outcome: RemedyOutcome) -> list[str]:
    """Return the lines of a remedy.

    Args:
        remedy: what it changes.
        job: its run; of a bias the planned one.
        given: how the user names things.
        outcome: what it comes to: of a bias the over-use that it may add.

    Returns:
        Python, and commands behind a ``$``; none for the run as it is planned.
    """
    if remedy.name == NONE:
        return []
    if remedy.name == BIAS:
        return _bias(given, outcome)
    lines = []
    if remedy.upsample > 1:
        much = f"--export-rows {_ROWS} --rows-times {remedy.upsample}"
        lines += [f"$ borngap terms {given.data} -m {given.model} -t {given.terms} {much}",
                  f'dataset = load_dataset("json", data_files="{_ROWS}", split="train")']  # fmt: skip
    arguments = _arguments(remedy, job)
    lines += [f"args = TrainingArguments(..., {arguments})"] if arguments else []
    if remedy.head:
        lines.append(f"config = LoraConfig(..., target_modules={_targets(job)})")
    if remedy.loss is not None:
        margin = f", margin={remedy.loss.margin:g}" if remedy.loss.kind == "margin" else ""
        lines += [
            f'loss = borngap.RivalLoss("{given.terms}", kind="{remedy.loss.kind}", '
            f"weight={remedy.loss.weight:g}{margin})",
            "trainer = Trainer(..., processing_class=tokenizer, compute_loss_func=loss)",
            "# SFTTrainer: no compute_loss_func, but loss.join(trainer) once it is made",
        ]
    return lines


def _arguments(remedy: Remedy, job: RunJob) -> str:
    training, settings, told = job.plan.training, job.settings, []
    if remedy.rate != 1:
        told.append(f"learning_rate={training.learning_rate:g}")
    if remedy.upsample > 1 or (remedy.epochs != 1 and settings.epochs is None):
        told.append(f"max_steps={len(job.plan.steps)}")
    elif remedy.epochs != 1:
        told.append(f"num_train_epochs={settings.epochs:g}")
    return ", ".join(told)


def _targets(job: RunJob) -> list[str]:
    """The layers that are adapted, as LoraConfig takes them: last names where they mean these alone, else paths."""
    model, paths = job.loaded.model, targets_of(job.loaded.model, job.plan.training.lora_targets)
    names = {path.rpartition(".")[2] for path in paths}
    meant = [path for path, _ in model.named_modules() if path.rpartition(".")[2] in names]
    return sorted(names) if sorted(meant) == sorted(paths) else paths


def _bias(given: NamedFiles, outcome: RemedyOutcome) -> list[str]:
    over: Any = "SHARE" if outcome.over_use_more is None else f"{max(0.0, outcome.over_use_more.value):.3f}"
    held = f"{given.watch} {given.allowed}".strip()
    return [
        f"$ borngap terms {held} -m THE_TRAINED_MODEL -t {given.terms} --export-bias {_BIAS} --bias-over-use {over}",
        f'out = model.generate(**inputs, **json.load(open("{_BIAS}")))',
    ]
