"""What is measured of one model besides runs and critical rates: the base model, its bulk, forecast outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from borngap.choices import KINDS, Criterion, Kind
from borngap.context import Context
from borngap.critical.forecast import at_rate
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.experiments.arms import Scope
from borngap.experiments.claims.paper import lora_targets
from borngap.methods import Method
from borngap.model.load import load, model_facts
from borngap.model.probe import probe, records
from borngap.model.readout import geometry_of
from borngap.runfolder import clean
from borngap.training import Training
from borngap.zoo.choose import keep

_QUANTILES = tuple(float(p) for p in (1, 2, 5, *range(10, 90, 10), 95, 98, 99, 99.9))


def base_of(name: str, contexts: Sequence[Context], scope: Scope, device: str = "cpu") -> dict[str, Any]:
    """Measure a model before any training.

    Args:
        name: bundled name, local folder, or hub id.
        contexts: what the reproduction is about.
        scope: how much is measured.
        device: torch device.

    Returns:
        JSON-ready: ``model`` (a summary), ``contexts`` (observables of those that this model can be asked, with
        ``context``, their number), ``left_out`` (number -> reason), ``bulk`` (geometry -> statistics),
        ``lora_targets``.

    Raises:
        UserError: no context can be used with this model.
    """
    loaded = load(name, device, scope.dtype)
    kept, left_out = keep(loaded, contexts, scope.keep, scope.most)
    if not kept:
        raise UserError(f"no context can be used with {name}", found=next(iter(left_out.values())))
    chosen = [contexts[i] for i in kept]
    rows = records(probe(loaded.model, loaded.tokenizer, chosen))
    rows = [{"context": i} | row for i, row in zip(kept, rows, strict=True)]
    bulk = {kind: _bulk(loaded.model, kind, loaded.tokenizer, scope.pairs) for kind in KINDS}
    head = {"schema": 1, "model": model_facts(loaded), "lora_targets": list(lora_targets(name))}
    more = {"contexts": rows, "left_out": {str(i): why for i, why in left_out.items()}, "bulk": bulk}
    whole: dict[str, Any] = clean(head | more)
    return whole


def ends_of(name: str, contexts: Sequence[Context], training: Training, device: str = "cpu") -> list[dict[str, Any]]:
    """Forecast how runs at the settings' rate end, without an optimiser step.

    Args:
        name: bundled name, local folder, or hub id.
        contexts: what would be trained on, each alone.
        training: the plan, its rate included.
        device: torch device.

    Returns:
        One JSON-ready entry a context: ``outcome`` by the settings' criterion, ``by`` (``run`` where a real run had to
        answer), and observables at the end.
    """
    searcher = Searcher(load(name, device, training.dtype), contexts, training)
    entries = []
    with searcher.land.evaluating():
        for i in searcher.contexts:
            end = at_rate(searcher, i)
            head = {"context": i, "rate": training.learning_rate, "outcome": end.outcome, "by": end.by}
            entries.append(clean(head | {f"final_{name}": value for name, value in end.values.items()}))
    return entries


def settings_of(method: Method, scope: Scope, criterion: Criterion, targets: tuple[str, ...]) -> Training:
    """Return the settings that critical rates of a method are searched for with."""
    more: dict[str, Any] = {"lora_targets": targets} if method == "lora" else {}
    return Training(method=method, steps=scope.steps, criterion=criterion, dtype=scope.dtype, **more)


def _bulk(model: Any, kind: Kind, tokenizer: Any, pairs: int) -> dict[str, Any]:
    with torch.no_grad():
        bulk = geometry_of(model, kind, tokenizer).bulk(pairs, percentiles=_QUANTILES)
    return asdict(bulk) | {"class": bulk.embedding_class}
