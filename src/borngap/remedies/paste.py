"""Lines to paste into a training script, or to give on the command line, for each remedy."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import RunJob
from borngap.remedies.outcomes import RemedyOutcome
from borngap.remedies.remedy import BIAS, NONE, Remedy
from borngap.train.targets import targets_of

_ROWS, _BIAS = "upsampled.jsonl", "bias.json"
_READING = ("text_field", "prompt_field", "completion_field", "messages_field", "loss", "max_length", "window", "limit")


@dataclass(frozen=True)
class NamedFiles:
    """What a search was given, as a user names it.

    Attributes:
        model: the model.
        data: the rows to train on.
        watch: held-out rows.
        terms: the terms.
        allowed: options that say where words to avoid are right.
        reading: options that say how rows are read.
    """

    model: str
    data: str
    watch: str
    terms: str
    allowed: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()

    def command(self, text: str, model: str, *options: str) -> str:
        """Return a command that asks for terms, as a shell takes it.

        Args:
            text: file of rows.
            model: the model.
            options: beside the terms and how rows are read.
        """
        return "$ " + shlex.join(["borngap", "terms", text, "-m", model, "-t", self.terms, *self.reading, *options])


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
        much = ["--export-rows", _ROWS, "--rows-times", str(remedy.upsample)]
        lines += [given.command(given.data, given.model, *much),
                  f'dataset = load_dataset("json", data_files="{_ROWS}", split="train")']  # fmt: skip
    arguments = _arguments(remedy, job)
    lines += [f"args = TrainingArguments(..., {arguments})"] if arguments else []
    if remedy.head:
        lines.append(f"config = LoraConfig(..., target_modules={_targets(job)})")
    if remedy.loss is not None:
        margin = f", margin={remedy.loss.margin:g}" if remedy.loss.kind == "margin" else ""
        lines += [
            f'loss = borngap.RivalLoss({json.dumps(given.terms, ensure_ascii=False)}, kind="{remedy.loss.kind}", '
            f"weight={remedy.loss.weight:g}{margin})",
            "trainer = Trainer(..., processing_class=tokenizer, compute_loss_func=loss)",
            "# SFTTrainer: no compute_loss_func, but loss.join(trainer) once it is made",
        ]
    return lines + _penalty(remedy, given)


def _penalty(remedy: Remedy, given: NamedFiles) -> list[str]:
    """A callback that adds a penalty's gradient before that of an update's first batch, so that both are clipped."""
    if remedy.penalty is None:
        return []
    of_pairs, terms = remedy.penalty.kind == "overlap", json.dumps(given.terms, ensure_ascii=False)
    name, more = ("pair_overlap", ", right, rival") if of_pairs else ("decorrelation", "")
    pairs = [
        "from borngap.rivals.pairs import token_pairs",
        f"right, rival = torch.tensor(token_pairs({terms}, tokenizer, trainer.train_dataset)).T",
    ]
    return [
        "# once the trainer is made:",
        *(["import torch"] if of_pairs else []),
        "from transformers import TrainerCallback",
        f"from borngap.losses.crowding import {name}",
        *(pairs if of_pairs else []),
        "class Penalty(TrainerCallback):",
        "    def on_step_begin(self, args, state, control, model=None, **others):",
        f"        ({remedy.penalty.weight:g} * {name}(model.get_output_embeddings().weight{more})).backward()",
        "trainer.add_callback(Penalty())",
    ]


def _arguments(remedy: Remedy, job: RunJob) -> str:
    training, settings, told = job.plan.training, job.settings, []
    if remedy.rate != 1:
        told.append(f"learning_rate={training.learning_rate:g}")
    if remedy.upsample > 1 or (remedy.epochs != 1 and settings.epochs is None):
        told.append(f"max_steps={len(job.plan.steps)}")
    elif remedy.epochs != 1:
        told.append(f"num_train_epochs={settings.epochs:g}")
    return ", ".join(told)


def reading_options(settings: Piloting, split: str, language: str | None) -> tuple[str, ...]:
    """Return the options that say how rows are read, those that are not as they are by default.

    Args:
        settings: of a search.
        split: of a hub data set.
        language: of TBX with several.
    """
    plain = Piloting()
    told: dict[str, Any] = {name: getattr(settings, name) for name in _READING}
    told = {name: value for name, value in told.items() if value != getattr(plain, name)}
    if settings.packing:  # its rows are read whole
        told.pop("max_length", None)
    told |= {"split": split} if split != "train" else {}
    told |= {"language": language} if language else {}
    return tuple(word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", str(value)))


def _targets(job: RunJob) -> list[str]:
    """The layers that are adapted, as LoraConfig takes them: last names where they mean these alone, else paths."""
    model, paths = job.loaded.model, targets_of(job.loaded.model, job.plan.training.lora_targets)
    names = {path.rpartition(".")[2] for path in paths}
    meant = [path for path, _ in model.named_modules() if path.rpartition(".")[2] in names]
    return sorted(names) if sorted(meant) == sorted(paths) else paths


def _bias(given: NamedFiles, outcome: RemedyOutcome) -> list[str]:
    over: Any = "SHARE" if outcome.over_use_more is None else f"{max(0.0, outcome.over_use_more.value):.3f}"
    much = ["--export-bias", _BIAS, "--bias-over-use", over]
    return [
        given.command(given.watch, "THE_TRAINED_MODEL", *given.allowed, *much),
        f'out = model.generate(**inputs, **json.load(open("{_BIAS}")))',
    ]
