"""Probe a model: a batched forward to the target positions, and a table of every observable."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from borngap.context import Context, Target, tokenize
from borngap.errors import UserError
from borngap.model.length import context_length, virtual_tokens
from borngap.model.precision import full_float32, measuring
from borngap.model.readout import geometry_of, observing, readout_of, transform_note
from borngap.model.vocabulary import tokenizer_of
from borngap.observables.catalogue import DEFAULT_TOP_P, INTEGER_IDS, OBSERVABLES
from borngap.observables.choice import choose_competitor
from borngap.observables.geometry import Geometry, Kind
from borngap.observables.measure import measure
from borngap.tokens import decoded, starts_word, word_text

_BATCH_ELEMENTS = 1 << 26
LEADING = ("prompt", "gold", "competitor", "gold_id", "competitor_id")
TRAILING = ("fragment", "notes")


@full_float32()
def probe(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[Context],
    *,
    geometry: Kind = "readout",
    top_p: float = DEFAULT_TOP_P,
    only: Iterable[str] | None = None,
) -> pl.DataFrame:
    """Measure every observable of every context, without training and without leaving a trace in the model.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, on any device.
        tokenizer: its tokenizer, or a processor that has one.
        contexts: what to predict; a context without competitor gets the one that the geometry names.
        geometry: the geometry matrix, ``readout``, ``input`` or ``centered``.
        top_p: nucleus mass in (0, 1].
        only: ids of the observables wanted; all unless given.

    Returns:
        One row a context: ``prompt``, ``gold``, ``competitor``, ``gold_id``, ``competitor_id``, the observables'
        ids, ``fragment`` (a word is measured by a part of it) and ``notes``, a JSON object of field and reason. A
        number that does not exist is null, with its reason in ``notes``.

    Raises:
        UserError: a context does not fit the tokenizer or the model, or the model's logits are NaN.
    """
    tokenizer, readout = tokenizer_of(tokenizer), readout_of(model)
    matrix = geometry_of(model, geometry, tokenizer, readout)
    named_targets = [named(context, tokenizer) for context in contexts]
    targets, logits, hidden = prepare(model, tokenizer, named_targets, matrix, top_p)
    gold, competitor = (torch.tensor([getattr(t, key) for t in targets]) for key in ("gold_id", "competitor_id"))
    values = measure(logits, matrix, gold, competitor, hidden=hidden, top_p=top_p, only=only)
    general = transform_note(readout, hidden, logits) if hidden is not None else None
    return _table(targets, values, general)


def prepare(
    model: Any, tokenizer: Any, targets: Sequence[Target], geometry: Geometry, top_p: float = DEFAULT_TOP_P
) -> tuple[list[Target], Tensor, Tensor | None]:
    """Run the model on every target and choose the competitors that are missing.

    Args:
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        targets: tokenised contexts.
        geometry: names the competitors.
        top_p: nucleus mass.

    Returns:
        Targets with competitors, logits and hidden states as ``forward`` gives them.

    Raises:
        UserError: there are no targets, or a context has a token that the model can't read or measure.
    """
    if not targets:
        raise UserError("no contexts", rule="at least one")
    for target in targets:
        _check_tokens(target, geometry, model.get_input_embeddings().weight.shape[0], tokenizer)
    logits, hidden = forward(model, targets)
    chosen = [_with_competitor(t, row, geometry, tokenizer, top_p) for t, row in zip(targets, logits, strict=True)]
    notes = {"geometry": "; ".join(geometry.notes)} if geometry.notes else {}
    return [replace(t, notes=t.notes | notes) for t in chosen], logits, hidden


def _check_tokens(target: Target, geometry: Geometry, rows: int, tokenizer: Any) -> None:
    strange = sorted({i for i in target.ids if i >= rows})
    if strange:
        raise UserError(
            f"the context {_short(target)} has tokens that the model has no row for",
            rule=f"ids below {rows}, the rows of its embedding",
            found=", ".join(f"{tokenizer.convert_ids_to_tokens(i)!r} ({i})" for i in strange),
            fix="use the tokenizer that the model was trained with",
        )
    for name, token in (("gold", target.gold_id), ("competitor", target.competitor_id)):
        if token is not None:
            geometry.check(f"the {name} {getattr(target.context, name)!r}", torch.tensor([token]))


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
    limit = context_length(model)
    for target in targets:
        if limit is not None and len(target.ids) > limit:
            rule = f"at most {limit} tokens, the model's context"
            raise UserError("prompt too long", rule=rule, found=f"{len(target.ids)} tokens: {_short(target)}")
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


def records(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return a probe table as JSON-ready records: ``notes`` decoded, missing numbers None."""
    return [row | {"notes": json.loads(row["notes"])} for row in table.to_dicts()]


def _batches(order: list[int], targets: Sequence[Target], vocabulary: int) -> Iterator[list[int]]:
    """Split into batches, of similar length, whose kept logits stay within a bounded memory."""
    batch: list[int] = []
    for index in order:
        lengths = {len(targets[i].ids) for i in (*batch, index)}
        if batch and (len(batch) + 1) * len(lengths) * vocabulary > _BATCH_ELEMENTS:
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


def named(context: Context, tokenizer: Any) -> Target:
    """Tokenise a context, naming it in an error."""
    try:
        return tokenize(context, tokenizer)
    except UserError as error:
        where = f"{error.what}, in the context {context.prompt[-60:]!r}"
        raise UserError(where, rule=error.rule, found=error.found, fix=error.fix) from None


def _with_competitor(target: Target, logits: Tensor, geometry: Geometry, tokenizer: Any, top_p: float) -> Target:
    if target.competitor_id is not None:
        return target

    def describe(token: int) -> tuple[str, bool]:
        return decoded([token], tokenizer), starts_word(token, tokenizer)

    rival = choose_competitor(logits.float().softmax(0), geometry, target.gold_id, top_p, describe)
    own = None if target.context.prompt_ids is None else rival
    context = replace(target.context, competitor=word_text(rival, tokenizer), competitor_id=own)
    note = {"competitor": "chosen: the most overlapping other word of the nucleus"}
    return replace(target, context=context, competitor_id=rival, notes=target.notes | note)


def _table(targets: list[Target], values: dict[str, Tensor], general: str | None) -> pl.DataFrame:
    columns: dict[str, Any] = {
        key: [getattr(t.context, key) for t in targets] for key in ("prompt", "gold", "competitor")
    }
    columns |= {key: [getattr(t, key) for t in targets] for key in ("gold_id", "competitor_id")}
    notes = [dict(t.notes) | ({"logits": general} if general else {}) for t in targets]
    for name, value in values.items():
        numbers = value.tolist()
        for row, number in zip(notes, numbers, strict=True):
            if math.isnan(number):
                row[name] = OBSERVABLES[name].absent
        dtype = pl.Int64 if name in INTEGER_IDS else pl.Float64
        columns[name] = pl.Series([None if math.isnan(n) else n for n in numbers], dtype=dtype)
    columns["fragment"] = [t.fragment for t in targets]
    columns["notes"] = [json.dumps(row, ensure_ascii=False) for row in notes]
    return pl.DataFrame(columns)


def _short(target: Target) -> str:
    return repr("..." + target.context.prompt[-40:] if len(target.context.prompt) > 40 else target.context.prompt)
