"""The Trainer that a loss on rivals works for: what it can't join, which words its data lacks, and its log."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor

from borngap.data.tokenised import TOKEN_COLUMNS, tokenised
from borngap.errors import UserError
from borngap.rivals.spots import SpotFinder

_ROWS = 4096  # of the training data that are looked through first for words, before the first step
_FRAMES = 12
_SHOWN = 8


def calling_trainer(loss: Any) -> Any:
    """Return the Trainer that has a loss for its ``compute_loss_func`` and is calling it; None where none is."""
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        owner = frame.f_locals.get("self")
        if getattr(owner, "compute_loss_func", None) is loss:
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None


def has_fused_head(trainer: Any) -> bool:
    """Return whether a trainer's model multiplies hidden states and output embedding piece by piece, as TRL's."""
    model = trainer.model
    forward = (model.get_base_model() if hasattr(model, "get_base_model") else model).forward
    while forward is not None:  # others may have wrapped it
        if "fused_lm_head" in signature(forward, follow_wrapped=False).parameters:
            return True
        forward = getattr(forward, "__wrapped__", None)
    return False


def check_trainer(trainer: Any, loss: Any) -> None:
    """Refuse a trainer whose loss can't be joined.

    Args:
        trainer: transformers' Trainer, or one that is made of it.
        loss: the RivalLoss.

    Raises:
        UserError: it smooths labels, has a loss of its own or of another's, or would make all logits for this one.
    """
    args, fused = trainer.args, has_fused_head(trainer)
    if getattr(args, "label_smoothing_factor", 0):
        rule, found = "label_smoothing_factor=0", f"label_smoothing_factor={args.label_smoothing_factor:g}"
        raise UserError("a loss on rivals can't join label smoothing", rule=rule, found=found)
    if fused and trainer.compute_loss_func is loss:
        fix = "leave compute_loss_func out; after the SFTTrainer is made: loss.join(trainer)"
        raise UserError("SFTTrainer would make the logits of the whole batch for a compute_loss_func", fix=fix)
    if trainer.compute_loss_func not in (None, loss):
        raise UserError("the trainer has another compute_loss_func", rule="one loss", found=trainer.compute_loss_func)
    if fused and getattr(args, "loss_type", "nll") != "nll":
        found = f"loss_type={args.loss_type!r}"
        raise UserError("a loss on rivals can't join this loss", rule="loss_type='nll'", found=found)
    if not fused and type(trainer).compute_loss is not _of_transformers(trainer).compute_loss:
        fix = "add loss.term(logits, labels) to the loss in a compute_loss of your own"
        found = type(trainer).__name__
        raise UserError("this trainer computes a loss of its own", rule="Trainer or SFTTrainer", found=found, fix=fix)


def warn_of_missing(trainer: Any, finder: SpotFinder) -> None:
    """Say which words stand nowhere in the training data, before the first step.

    4,096 random rows are looked through; where none of the words stands there, the others too, as far as the first one
    with a word.

    Args:
        trainer: the Trainer.
        finder: finds the words.

    Raises:
        UserError: none stands in any row.
    """
    dataset, tokenizer = trainer.train_dataset, getattr(trainer, "processing_class", None)
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not len(dataset):
        return
    read, padding = list[int](), getattr(tokenizer, "pad_token_id", None)
    missing = finder.missing(_label_rows(dataset, _drawn(len(dataset)), padding, read))
    if not missing or not read:
        return
    where = "the training data" if len(read) == len(dataset) else f"{len(read)} random rows of the training data"
    if len(missing) == finder.count:
        others = _label_rows(dataset, _undrawn(len(dataset)), padding, read)
        stands = any(len(finder.missing([row])) < finder.count for row in others)
        if not stands and len(read) == len(dataset):
            refuse_missing(missing, "the training data")
    warnings.warn(f"RivalLoss finds no place of these in {where}: {_told(missing)}", stacklevel=4)


def refuse_missing(missing: Sequence[str], where: str) -> NoReturn:
    """Say that no word to use stands in any row.

    Args:
        missing: the words.
        where: what was looked through.

    Raises:
        UserError: always.
    """
    rule = "a word to use stands in what is supervised: there it is told from its rival"
    raise UserError(f"none of the words to use stands in {where}", rule=rule, found=_told(missing))


def _told(missing: Sequence[str]) -> str:
    return "; ".join(missing[:_SHOWN]) + (f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")


def log_through(trainer: Any, loss: Any) -> None:
    """Put the numbers of a loss on rivals into a trainer's own training log.

    Args:
        trainer: the Trainer.
        loss: the RivalLoss.
    """
    before = trainer.log

    def log(logs: dict[str, float], *args: Any, **more: Any) -> None:
        if "loss" in logs:
            logs.update(loss.numbers())
        before(logs, *args, **more)

    trainer.log = log


def _of_transformers(trainer: Any) -> Any:
    """The class Trainer itself, which is not to be imported here."""
    kinds = [k for k in type(trainer).__mro__ if k.__module__ == "transformers.trainer" and k.__name__ == "Trainer"]
    if not kinds:
        raise UserError("this is no Trainer", rule="transformers' Trainer or TRL's SFTTrainer", found=trainer)
    return kinds[0]


def looked_through(rows: Any) -> list[Any]:
    """Return the rows of a data set in which words are looked for: 4,096 at most.

    Args:
        rows: rows, in memory or to be read one by one; of those that have a length random ones are read, always the
            same; of others the first.
    """
    if not hasattr(rows, "__len__"):
        return list(islice(rows, _ROWS))
    return [rows[number] for number in _drawn(len(rows))]


def rest_of(rows: Any) -> Iterator[Any]:
    """Yield the rows of a data set that are not among those that are looked through first.

    Args:
        rows: rows; of those without a length, which can be gone through but once, none is left.

    Yields:
        The rows.
    """
    for number in _undrawn(len(rows)) if hasattr(rows, "__len__") else ():
        yield rows[number]


def labels_of(row: Any, padding: int | None) -> Tensor | None:
    """Return the labels of a row that a trainer has prepared, as ``tokenised`` reads it; None where it has no tokens.

    Args:
        row: its columns.
        padding: the tokenizer's padding token.

    Returns:
        Token ids, -100 where nothing is learnt, int64, shape (T,).
    """
    if not isinstance(row, Mapping) or "input_ids" not in row:
        return None
    names = [name for name in TOKEN_COLUMNS if row.get(name) is not None]
    columns = {name: torch.as_tensor(row[name]).flatten().tolist() for name in names}
    return torch.tensor(tokenised(columns, padding).labels)


def _drawn(count: int) -> list[int]:
    """Numbers of random rows, in random order."""
    return random.Random(0).sample(range(count), min(count, _ROWS))  # noqa: S311  # no secret


def _undrawn(count: int) -> list[int]:
    """Numbers of the other rows, ascending."""
    return sorted(set(range(count)) - set(_drawn(count)))


def _label_rows(dataset: Any, numbers: Iterable[int], padding: int | None, read: list[int]) -> Iterator[Tensor]:
    """Labels of rows, as long as they hold token ids; the numbers of those read are put into a list."""
    for number in numbers:
        labels = labels_of(dataset[number], padding)
        if labels is None:
            return
        read.append(number)
        yield labels
