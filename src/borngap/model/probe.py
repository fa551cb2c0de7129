"""Probe a model: a batched forward to the target positions, and a table of every observable."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from borngap.choices import DEFAULT_TOP_P, Kind
from borngap.context import Context, Target, tokenize
from borngap.errors import UserError
from borngap.model.forward import _short, forward
from borngap.model.precision import full_float32
from borngap.model.readout import geometry_of, readout_of, transform_note
from borngap.model.tokenrelations import vocabulary_relations
from borngap.model.vocabulary import tokenizer_of
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES
from borngap.observables.geometry import Geometry
from borngap.observables.predictions import measure
from borngap.observables.rivalchoice import choose_rival
from borngap.tokens import decoded, starts_word, word_text

LEADING = ("prompt", "gold", "rival", "gold_id", "rival_id", "relation")
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
        contexts: what to predict; a context without rival gets a synonym, or the one that the geometry names.
        geometry: the geometry matrix, ``readout``, ``input`` or ``centered``.
        top_p: nucleus mass in (0, 1].
        only: ids of the observables wanted; all unless given.

    Returns:
        One row a context: ``prompt``, ``gold``, ``rival``, ``gold_id``, ``rival_id``, ``relation``, the
        observables' ids, ``fragment`` (a word is measured by a part of it) and ``notes``, a JSON object of field and
        reason. A number that does not exist is null, with its reason in ``notes``.

    Raises:
        UserError: a context does not fit the tokenizer or the model, or the model's logits are NaN.
    """
    tokenizer, readout = tokenizer_of(tokenizer), readout_of(model)
    matrix = geometry_of(model, geometry, tokenizer, readout)
    named_targets = [named(context, tokenizer) for context in contexts]
    targets, logits, hidden = with_rivals(model, tokenizer, named_targets, matrix, top_p)
    gold, rival = (torch.tensor([getattr(t, key) for t in targets]) for key in ("gold_id", "rival_id"))
    values = measure(logits, matrix, gold, rival, hidden=hidden, top_p=top_p, only=only)
    general = transform_note(readout, hidden, logits) if hidden is not None else None
    return _table(targets, values, general)


def with_rivals(
    model: Any, tokenizer: Any, targets: Sequence[Target], geometry: Geometry, top_p: float = DEFAULT_TOP_P
) -> tuple[list[Target], Tensor, Tensor | None]:
    """Run the model on every target and choose the rivals that are missing.

    Args:
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        targets: tokenised contexts.
        geometry: names the rivals.
        top_p: nucleus mass.

    Returns:
        Targets with rivals, logits and hidden states as ``forward`` gives them.

    Raises:
        UserError: there are no targets, or a context has a token that the model can't read or measure.
    """
    if not targets:
        raise UserError("no contexts", rule="at least one")
    for target in targets:
        _check_tokens(target, geometry, model.get_input_embeddings().weight.shape[0], tokenizer)
    logits, hidden = forward(model, targets)
    chosen = [_with_rival(t, row, geometry, tokenizer, top_p) for t, row in zip(targets, logits, strict=True)]
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
    for name, token in (("gold", target.gold_id), ("rival", target.rival_id)):
        if token is not None:
            geometry.check(f"the {name} {getattr(target.context, name)!r}", torch.tensor([token]))


def records(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return a probe table as JSON-ready records: ``notes`` decoded, missing numbers None."""
    return [row | {"notes": json.loads(row["notes"])} for row in table.to_dicts()]


def named(context: Context, tokenizer: Any) -> Target:
    """Tokenise a context, naming it in an error."""
    try:
        return tokenize(context, tokenizer)
    except UserError as error:
        where = f"{error.what}, in the context {context.prompt[-60:]!r}"
        raise UserError(where, rule=error.rule, found=error.found, fix=error.fix) from None


def _with_rival(target: Target, logits: Tensor, geometry: Geometry, tokenizer: Any, top_p: float) -> Target:
    if target.rival_id is not None:
        return target

    def describe(token: int) -> tuple[str, bool]:
        return decoded([token], tokenizer), starts_word(token, tokenizer)

    synonyms = frozenset(vocabulary_relations(tokenizer, geometry.size).synonyms(target.gold_id))
    rival = choose_rival(logits.float().softmax(0), geometry, target.gold_id, top_p, describe, synonyms)
    own = None if target.context.prompt_ids is None else rival
    context = replace(target.context, rival=word_text(rival, tokenizer), rival_id=own)
    note = {"rival": f"chosen: the most overlapping {'synonym' if rival in synonyms else 'other word'} of the nucleus"}
    return replace(target, context=context, rival_id=rival, notes=target.notes | note)


def _table(targets: list[Target], values: dict[str, Tensor], general: str | None) -> pl.DataFrame:
    columns: dict[str, Any] = {key: [getattr(t.context, key) for t in targets] for key in ("prompt", "gold", "rival")}
    columns |= {key: [getattr(t, key) for t in targets] for key in ("gold_id", "rival_id", "relation")}
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
