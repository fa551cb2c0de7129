"""The model's own logits at chosen positions only: the head never sees the others, and nothing is left behind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from borngap.context import Target
from borngap.errors import UserError
from borngap.model.length import context_length, virtual_tokens
from borngap.model.precision import measuring
from borngap.model.readout import observing

LOGIT_ELEMENTS = 1 << 26  # of kept logits
_PROMPT_TOKENS = 1 << 14
_PADDING = 512  # tokens of a batch


def check_room(model: Any, targets: Sequence[Target], taken: int = 0) -> None:
    """Refuse prompts that are longer than a model's context.

    Args:
        model: a Hugging Face causal LM, possibly with virtual tokens, which take room.
        targets: tokenised contexts.
        taken: positions that virtual tokens will take which are not there yet.

    Raises:
        UserError: one is.
    """
    limit = context_length(model)
    for target in targets:
        if limit is not None and len(target.ids) > limit - taken:
            behind = f" less {taken} virtual tokens" if taken else ""
            rule = f"at most {max(0, limit - taken)} tokens, the model's context{behind}"
            raise UserError("prompt too long", rule=rule, found=f"{len(target.ids)} tokens: {_short(target)}")


def forward(model: Any, targets: Sequence[Target], *, finite: bool = True) -> tuple[Tensor, Tensor | None]:
    """Run the model on prompts, right-padded, and keep the last position of each.

    Args:
        model: a Hugging Face causal LM.
        targets: tokenised contexts.
        finite: whether logits that are NaN are an error.

    Returns:
        Logits, shape (len(targets), V), and the hidden states that the readout multiplied, shape (len(targets), d);
        the latter None where the output embedding was not called.

    Raises:
        UserError: a prompt is longer than the model's context, or logits are NaN (the contexts are named).
    """
    check_room(model, targets)
    order = sorted(range(len(targets)), key=lambda i: len(targets[i].ids))
    logits: list[Any] = [None] * len(targets)
    hidden: list[Any] = [None] * len(targets)
    for batch in _batches(order, targets, model.config.get_text_config().vocab_size):
        for index, *result in zip(batch, *_forward_batch(model, [targets[i].ids for i in batch]), strict=True):
            logits[index], hidden[index] = result
    broken = [_short(t) for t, row in zip(targets, logits, strict=True) if not bool(torch.isfinite(row.max()))]
    if broken and finite:
        rule = "the model's logits are finite"
        raise UserError(
            "the model's logits are NaN or infinite", rule=rule, found=f"in {len(broken)} contexts: {'; '.join(broken)}"
        )
    return torch.stack(logits), None if hidden[0] is None else torch.stack(hidden)


def _batches(order: list[int], targets: Sequence[Target], vocabulary: int) -> Iterator[list[int]]:
    """Split into batches of similar length: little padding, and tokens and kept logits stay within a bounded memory."""
    batch: list[int] = []
    for index in order:
        lengths = {len(targets[i].ids) for i in (*batch, index)}
        rows, longest = len(batch) + 1, max(lengths)
        padding = sum(longest - len(targets[i].ids) for i in batch)
        large = rows * len(lengths) * vocabulary > LOGIT_ELEMENTS or rows * longest > _PROMPT_TOKENS
        if batch and (large or padding > _PADDING):
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _forward_batch(model: Any, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Sequence[Any]]:
    with observing(model):
        return last_logits(model, prompts)


def last_logits(model: Any, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Sequence[Any]]:
    """Run the model as it stands, gradients included, and keep the last position of each right-padded prompt.

    Args:
        model: a Hugging Face causal LM.
        prompts: token ids.

    Returns:
        Logits, shape (len(prompts), V), and the detached hidden states that the readout multiplied, shape
        (len(prompts), d); a list of None where the output embedding was not called.
    """
    device = model.get_input_embeddings().weight.device
    lengths = torch.tensor([len(p) for p in prompts])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p) for p in prompts], batch_first=True)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    ends = lengths - 1 + virtual_tokens(model)
    kept, slot = ends.unique(return_inverse=True)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepts = inspect.signature(inner.forward).parameters
    # right padding needs no position ids: no earlier position can see a padded one
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}
    options = {"use_cache": False} if "use_cache" in accepts else {}
    if "logits_to_keep" in accepts:
        options["logits_to_keep"] = kept.to(device)
    else:
        slot = ends
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        with measuring(model):
            logits = model(**inputs, **options).logits
    finally:
        hook.remove()
    rows = torch.arange(len(prompts))
    states: Any = [None] * len(prompts)
    if len(seen) == 1 and seen[0].ndim == 3 and seen[0].shape[:2] == logits.shape[:2]:
        states = seen[0][rows, slot]
    return logits[rows, slot], states


def _short(target: Target) -> str:
    return repr("..." + target.context.prompt[-40:] if len(target.context.prompt) > 40 else target.context.prompt)


@dataclass(frozen=True)
class Prompt:
    """Token ids as a trainer gives them to a model.

    Attributes:
        ids: token ids.
        hidden: how many at the beginning the model does not look at: padding on the left.
        position: position id of the first; None where the model counts by itself.
    """

    ids: Sequence[int]
    hidden: int = 0
    position: int | None = None


def selected_logits(model: Any, prompts: Sequence[Prompt], rows: Tensor, columns: Tensor) -> Tensor:
    """Run the model on right-padded prompts and return its logits at some positions.

    The head's input is cut down to these positions, as one sequence, so whatever the model does to its logits after
    the head (scaling, capping) it still does. A model that calls no head, or not with all positions, computes all
    logits and the wanted ones are picked.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, in eval mode.
        prompts: the prompts; of all or of none the position is told.
        rows: which prompt, int64, shape (n,).
        columns: which position in it, int64, shape (n,).

    Returns:
        Logits, shape (n, rows of the head).
    """
    device = model.get_input_embeddings().weight.device
    inputs = {name: value.to(device) for name, value in _inputs(prompts).items()}
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(inner.forward).parameters
    if "position_ids" not in known:
        inputs.pop("position_ids", None)
    options = {"use_cache": False} if "use_cache" in known else {}
    before = virtual_tokens(model)
    count, length = inputs["input_ids"].shape
    shape = (count, length + before)
    rows, columns = rows.to(device), columns.to(device) + before
    cut: list[bool] = []

    def select(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        cut.append(arguments[0].shape[:-1] == shape)
        return (arguments[0][rows, columns].unsqueeze(0), *arguments[1:]) if cut[-1] else None

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        with measuring(model):
            logits = model(**inputs, **options).logits
    finally:
        hook.remove()
    return logits[0] if cut == [True] else logits[rows, columns]


def _inputs(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Right-padded ids; a mask where a token is not to be looked at; position ids where they are told."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(p.ids) for p in prompts], batch_first=True)
    ends, starts = (
        torch.tensor(values)[:, None] for values in ([len(p.ids) for p in prompts], [p.hidden for p in prompts])
    )
    place = torch.arange(ids.shape[1])
    read = (place >= starts) & (place < ends)
    told = [p.position for p in prompts if p.position is not None]
    return (
        {"input_ids": ids}
        | ({} if bool(read.all()) else {"attention_mask": read.long()})
        | ({"position_ids": torch.where(read, place + torch.tensor(told)[:, None], 0)} if told else {})
    )
