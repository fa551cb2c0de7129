"""Fine-tune a model on rows of text with transformers' Trainer, as a user's own script would."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from borngap.model.load import Loaded
from borngap.train.methods import make_trainable
from borngap.training import Training

LENGTH = 128  # tokens at which rows are cut
_IGNORED = -100


@dataclass(frozen=True)
class RowRun:
    """What a training on rows gave.

    Attributes:
        loaded: the model as it was trained, with an adapter under LoRA, in eval mode; and its tokenizer.
        loss_before: mean loss of a token of the held-out rows before training, unit nat.
        loss_after: the same after it.
    """

    loaded: Loaded
    loss_before: float
    loss_after: float


def train_on_rows(
    loaded: Loaded,
    train: Iterable[str],
    held_out: Iterable[str],
    training: Training,
    folder: str | Path,
    on_step: Callable[[int], None] = lambda _: None,
) -> RowRun:
    """Train on texts in their order, each cut at ``LENGTH`` tokens, in batches of ``training.batch_size``.

    Args:
        loaded: model and tokenizer; the model is changed.
        train: texts.
        held_out: texts whose loss is measured before and after.
        training: method, rate, steps, schedule, batch size; the loss is cross-entropy over all tokens.
        folder: where the Trainer may write.
        on_step: called with the number of steps done.

    Returns:
        The trained model and the losses.
    """
    model, _ = make_trainable(loaded.model, training)
    rows, others = ([_row(loaded.tokenizer, text) for text in texts] for texts in (train, held_out))
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=training.steps, per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.batch_size, learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule, warmup_steps=training.warmup, weight_decay=training.weight_decay,
        adam_beta1=training.beta1, adam_beta2=training.beta2, adam_epsilon=training.eps, max_grad_norm=training.clip,
        seed=training.seed, use_cpu=model.device.type == "cpu", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, report_to=[], remove_unused_columns=False, train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=rows, eval_dataset=others, data_collator=_batch, callbacks=[_Steps(on_step)]
    )
    trainer.remove_callback(PrinterCallback)
    before = _loss(trainer)
    trainer.train()
    return RowRun(replace(loaded, model=model.eval()), before, _loss(trainer))


class _Steps(TrainerCallback):
    def __init__(self, on_step: Callable[[int], None]) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **host: Any) -> None:  # noqa: ARG002  # as the host calls it
        """Tell the step."""
        self._on_step(state.global_step)


def _loss(trainer: Trainer) -> float:
    return float(trainer.evaluate()["eval_loss"])


def _row(tokenizer: Any, text: str) -> dict[str, list[int]]:
    return {"input_ids": tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]}


def _batch(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    there = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in ids])[:, None]
    # the first token has no prediction; where it has a label the Trainer divides by it all the same
    taught = there & (torch.arange(padded.shape[1]) > 0)
    return {"input_ids": padded, "attention_mask": there.long(), "labels": torch.where(taught, padded, _IGNORED)}
