"""What one example of a host trains: token ids and labels of each of its documents, as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, NoReturn

import torch
from torch import Tensor

from borngap.data.tokenised import IGNORED
from borngap.errors import UserError

GIVE_CONTEXTS = "give contexts: BornGapCallback([Context(prompt, gold, rival), ...])"
_OTHER_INPUTS = ("pixel", "image", "video", "audio", "input_features", "input_values")
LabelledIds = tuple[Tensor, Tensor]
"""Token ids and labels, each of shape (length,); the label is -100 where nothing is learnt."""


def keeps_apart(model: Any) -> bool:
    """Return whether a causal LM in training reads packed documents apart by their ``position_ids``.

    transformers does so without a cache, for models that take positions: not Bloom, for one.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "position_ids" in signature(type(inner).forward).parameters and not getattr(inner.config, "use_cache", False)


def refuse(found: str) -> NoReturn:
    """Ask for contexts where a host's data has no targets.

    Args:
        found: what its batches are instead.

    Raises:
        UserError: always.
    """
    rule = "a batch has input_ids with labels, or with a completion_mask (DPO, KTO), or chosen_input_ids (ORPO, CPO)"
    raise UserError("this trainer's data has no next-token targets to watch", rule=rule, found=found, fix=GIVE_CONTEXTS)


def documents(batch: Any, *, apart: bool = True) -> list[LabelledIds]:
    """Return what a batch of one example trains.

    * ``labels`` (Trainer, SFT, GKD): every row, the labels as they are.
    * ``completion_mask`` (DPO, TPO, KTO): the answer of the first row, which is the chosen one; nothing where KTO calls
      it undesirable.
    * ``chosen_input_ids`` (ORPO, CPO): the chosen answer by its own labels.

    Rows are cut where ``position_ids`` start again. Whether the model reads on across such a cut depends on it and on
    the attention mask: with a mask, or if the model keeps nothing apart, only the first document of a row is read as it
    stands here, and the others are left out.

    Args:
        batch: what the collator made of one example.
        apart: whether the model keeps documents apart by their ``position_ids``.

    Returns:
        The documents; none if the example has images or sound, which a context can't hold.

    Raises:
        UserError: a batch of this kind has no next-token targets.
    """
    fields = _fields(batch)
    if any(sense in name for name in fields for sense in _OTHER_INPUTS):
        return []
    ids, labels, mask, positions = _rows(fields)
    found = []
    for row in range(len(ids)):
        keep = torch.ones_like(ids[row], dtype=torch.bool) if mask is None else mask[row].bool()
        places = None if positions is None else positions[row][keep]
        whole = list(zip(*(_cut(part, places) for part in (ids[row][keep], labels[row][keep])), strict=True))
        found += whole if apart and mask is None else whole[:1]
    return found


def _fields(batch: Any) -> dict[str, Any]:
    if not isinstance(batch, Mapping) and not hasattr(batch, "keys"):
        refuse(f"a {type(batch).__name__} of examples, from which the host makes its texts itself")
    fields = {name: batch[name] for name in batch.keys() if batch[name] is not None}  # noqa: SIM118
    if "chosen_input_ids" in fields:
        names = ("input_ids", "attention_mask", "labels")
        fields = {name: fields[f"chosen_{name}"] for name in names if f"chosen_{name}" in fields}
    if "input_ids" not in fields:
        refuse(f"{', '.join(fields)}, but no input_ids")
    return fields


def _rows(fields: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Token ids, labels, attention mask and positions, each of shape (rows, length)."""
    ids, labels = _tensor(fields["input_ids"]), None
    mask, positions = (_tensor(fields[n]) if n in fields else None for n in ("attention_mask", "position_ids"))
    if "labels" in fields:
        labels = _tensor(fields["labels"])
    elif "completion_mask" in fields:
        ids, labels = ids[:1], _answer(ids, fields)
    else:
        refuse(f"{', '.join(fields)}, but neither labels nor a completion_mask")
    for name, rows in (("labels", labels), ("attention_mask", mask), ("position_ids", positions)):
        if rows is not None and rows.shape[1:] != ids.shape[1:]:
            refuse(f"{name} of shape {tuple(rows.shape)} for input_ids of shape {tuple(ids.shape)}")
    return ids, labels, mask, positions


def _answer(ids: Tensor, fields: Mapping[str, Any]) -> Tensor:
    """Labels of the first row: its answer, unless KTO's flag says that it is to be unlearnt."""
    desirable = bool(torch.as_tensor(fields.get("label", True)).flatten()[0])
    return torch.where(_tensor(fields["completion_mask"])[:1].bool() & desirable, ids[:1], IGNORED)


def _tensor(value: Any) -> Tensor:
    tensor = torch.as_tensor(value).cpu()
    return tensor[None] if tensor.ndim == 1 else tensor


def _cut(row: Tensor, positions: Tensor | None) -> tuple[Tensor, ...]:
    if positions is None:
        return (row,)
    starts = ((positions[1:] - positions[:-1]) != 1).nonzero().flatten() + 1
    return row.tensor_split(starts)
