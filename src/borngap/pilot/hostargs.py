"""A host's own arguments as a run's settings: TrainingArguments or SFTConfig as JSON, and loaders as rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.data.jsonfile import parsed_json
from borngap.data.tokenised import Tokens, tokenised
from borngap.errors import UserError
from borngap.pilot.settings import Piloting
from borngap.scanning.reading import Loss
from borngap.schedule import Schedule
from borngap.training import Training

_SCHEDULES: dict[str, Schedule] = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine",
}  # fmt: skip
_ADAMW = (
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw_hf", "adamw_apex_fused",
    "adamw_anyprecision", "paged_adamw_32bit", "adamw_torch_8bit", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit",
)  # fmt: skip
_Holds = Callable[[Any], bool]
_REFUSED: tuple[tuple[str, _Holds, str], ...] = (
    ("label_smoothing_factor", lambda v: not v, "no label smoothing"),
    ("shuffle_dataset", lambda v: not v, "no shuffling before the run"),
    ("packing_strategy", lambda v: v in {None, "bfd"}, "packing by bfd"),
    ("truncation_mode", lambda v: v in {None, "keep_start"}, "rows cut at their end"),
    ("train_sampling_strategy", lambda v: v in {None, "random", "sequential"}, "rows at random, or in their order"),
    ("group_by_length", lambda v: not v, "rows at random, or in their order"),
    ("loss_type", lambda v: v in {None, "nll"}, "cross-entropy (nll)"),
    ("neftune_noise_alpha", lambda v: not v, "no noise on embeddings"),
    ("optim", lambda v: v is None or _plain(v) in _ADAMW, "AdamW, such as adamw_torch_fused or adamw_8bit"),
    ("lr_scheduler_type", lambda v: v is None or _plain(v) in _SCHEDULES, f"one of {', '.join(_SCHEDULES)}"),
)


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Read a host's arguments.

    Args:
        path: JSON, as ``trainer.args.to_json_string()`` writes it; ``training_args.bin`` is a pickle and not read.

    Returns:
        Name -> value.

    Raises:
        UserError: it can't be read, or is no such file.
    """
    rule = "a JSON object, as trainer.args.to_json_string() writes it"
    try:
        values = parsed_json(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"can't read {path}", rule=rule, found=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        fix = "training_args.bin is a pickle, which is never loaded: write the JSON"
        raise UserError(f"{path} is no text", rule=rule, found="bytes that are not UTF-8", fix=fix) from None
    if not isinstance(values, dict) or "learning_rate" not in values:
        raise UserError(f"{path} holds no arguments of a run", rule=rule, found=_what(values))
    return values


def of_arguments(
    values: Mapping[str, Any], training: Training, settings: Piloting, kind: str
) -> tuple[Training, Piloting]:
    """Return settings with what a host's arguments say.

    Args:
        values: arguments by name, of ``TrainingArguments`` or ``SFTConfig``.
        training: gives what they do not say: method, LoRA.
        settings: the same: budget, places.
        kind: layout of the rows: ``text``, ``completion``, ``chat``, ...; which loss a host means depends on it.

    Returns:
        Both, as the host would run; dropout is on, as hosts have it.

    Raises:
        UserError: an argument asks for what a forecast can't do.
    """
    for name, holds, rule in _REFUSED:
        if name in values and not holds(values[name]):
            raise UserError(f"a run with {name} can't be forecast", rule=rule, found=values[name])
    get = {name: value for name, value in values.items() if value is not None}.get
    schedule, (warmup, ratio) = _plain(get("lr_scheduler_type", "linear")), _warmup(values)
    seed = get("data_seed", get("seed", training.seed))
    steps = int(get("max_steps", -1))
    own = replace(
        training, rate=get("learning_rate", training.rate), schedule=_SCHEDULES[schedule], dropout=True, seed=int(seed),
        warmup=0 if schedule == "constant" else warmup, clip=float(get("max_grad_norm", 0.0)),
        steps=steps if steps > 0 else training.steps, batch_size=int(get("per_device_train_batch_size", 8)),
        weight_decay=float(get("weight_decay", 0.0)), beta1=get("adam_beta1", 0.9), beta2=get("adam_beta2", 0.999),
        eps=get("adam_epsilon", 1e-8),
    )  # fmt: skip
    sft = "packing" in values
    chosen = replace(
        settings, epochs=None if steps > 0 else float(get("num_train_epochs", 3)),
        accumulation=int(get("gradient_accumulation_steps", 1)),
        warmup_ratio=0.0 if schedule == "constant" else ratio, packing=bool(get("packing")),
        max_length=get("max_length", get("max_seq_length")) if sft else settings.max_length,
        order="sequential" if _plain(get("train_sampling_strategy", "")) == "sequential" else "shuffled",
        drop_last=bool(get("dataloader_drop_last")), end_of_text=sft, loss=_loss(values, settings.loss, kind),
    )  # fmt: skip
    return own, chosen


def rows_of_loader(loader: Any) -> tuple[tuple[Tokens, ...], str]:
    """Return the rows of a data loader as its own collator makes them, each by itself.

    Args:
        loader: a ``torch`` DataLoader whose batches have ``input_ids`` and, optionally, ``labels``,
            ``attention_mask`` and ``position_ids``.

    Returns:
        The rows, and a hash that tells them from others.

    Raises:
        UserError: the loader has no length, or its batches are not of token ids.
    """
    if not hasattr(loader.dataset, "__len__"):
        raise UserError("the loader's rows have no length", rule="a data set that can be counted")
    rows, digest = [], hashlib.sha256()
    for index in range(len(loader.dataset)):
        batch = loader.collate_fn([loader.dataset[index]])
        rows.append(_row(batch, index))
        digest.update(repr((rows[-1].ids, rows[-1].labels)).encode())
    return tuple(rows), digest.hexdigest()


def of_loader(loader: Any, training: Training, settings: Piloting) -> tuple[Training, Piloting]:
    """Return settings with what a data loader says: batch size, order, whether the last batch is dropped.

    Args:
        loader: a ``torch`` DataLoader.
        training: all else.
        settings: all else.

    Returns:
        Both. A random order is one of our own by the seed: that of the loader depends on what is drawn before it.

    Raises:
        UserError: it has batches of another kind than of so many rows.
    """
    name = type(getattr(loader, "sampler", None)).__name__
    if loader.batch_size is None or name not in {"RandomSampler", "SequentialSampler", "SeedableRandomSampler"}:
        rule = "batches of a fixed size, rows at random or in their order"
        raise UserError("a run of this loader can't be forecast", rule=rule, found=name)
    order: Any = "sequential" if name == "SequentialSampler" else "shuffled"
    chosen = replace(settings, order=order, drop_last=bool(loader.drop_last))
    return replace(training, batch_size=loader.batch_size), chosen


def _row(batch: Any, index: int) -> Tokens:
    """A batch of one row."""
    try:
        given = dict(batch)
        columns = {name: given[name][0].tolist() for name in ("input_ids", "labels") if name in given}
        mask = "position_ids" if "position_ids" in given else "attention_mask"
        columns |= {mask: given[mask][0].tolist()} if mask in given else {}
        return tokenised(columns, None)
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
        rule = "batches with input_ids, and labels that are the ids or -100"
        raise UserError(f"row {index} of the loader can't be trained on", rule=rule, found=str(error)) from None


def _warmup(values: Mapping[str, Any]) -> tuple[int, float]:
    """Steps of warm-up, and the share of them; a number of steps goes before a share, one below 1 is a share."""
    steps, ratio = values.get("warmup_steps") or 0, values.get("warmup_ratio") or 0.0
    return (int(steps), 0.0) if steps >= 1 else (0, float(steps or ratio))


def _loss(values: Mapping[str, Any], loss: Loss, kind: str) -> Loss:
    """What SFTTrainer supervises: of chats all tokens unless told otherwise, of completions these alone."""
    if "assistant_only_loss" not in values:
        return loss
    if kind == "chat":
        return "answers" if values["assistant_only_loss"] else "all"
    return "all" if values.get("completion_only_loss") is False else "answers"


def _plain(value: Any) -> str:
    """A name as an enum of transformers, or as text."""
    return str(getattr(value, "value", value)).lower().rpartition(".")[2]


def _what(values: Any) -> str:
    if isinstance(values, ValueError):
        return str(values)
    return f"the fields {', '.join(list(values)[:6])}" if isinstance(values, dict) else type(values).__name__
