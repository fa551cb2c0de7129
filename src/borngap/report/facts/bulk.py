"""Bulk geometry of the models that runs were made with, measured where a model is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from borngap.choices import KINDS, Kind
from borngap.errors import UserError
from borngap.report.facts.entries import RunPlan
from borngap.report.records import MatrixRecord, ModelGeometry
from borngap.runfolder import clean

_ADAPTERS = " (adapters count as weights)"
_PAIRS, _SEED = 200_000, 0  # the standard error of the crowding is below 1 %


def geometries(plans: Iterable[RunPlan]) -> list[ModelGeometry]:
    """Return the bulk statistics of each model that the plans name, once each.

    A RUN does not hold them: they are properties of its model. Nothing is downloaded; a model whose weights are not
    those of the run is not measured.

    Args:
        plans: plans of RUNs and SWEEPs.

    Returns:
        A record a model.
    """
    wanted = dict.fromkeys((plan.model, plan.weights, plan.dtype) for plan in plans if plan.model)
    return [_measured(*each) for each in wanted]


def _measured(name: str, weights: str | None, dtype: str | None) -> ModelGeometry:
    from borngap.zoo import local_names

    if name not in local_names() and not Path(name).exists():
        why = f"{name} is neither bundled nor fetched and no local folder or file, and a report asks no network"
        return _nothing(name, f"{why}: `borngap geometry --model {name}` measures its geometry.")
    try:
        found = _of_model(name, weights, dtype)
    except UserError as error:
        return _nothing(name, f"{name} can't be read, so its geometry is not shown: {error.what}.")
    if found is None:
        why = f"{name} has other weights than at the start of the run{_ADAPTERS}"
        return _nothing(name, f"{why}: its geometry is not shown.")
    return found


def _nothing(name: str, why: str) -> ModelGeometry:
    return {"model": name, "tied": None, "matrices": {}, "missing": why}


def _of_model(name: str, weights: str | None, dtype: str | None) -> ModelGeometry | None:
    """Statistics of a model's matrices; None if its weights are not those of the run."""
    from borngap.model.load import load, quiet
    from borngap.model.readout import geometry_of, readout_of
    from borngap.train.finetune import weights_digest

    quiet()
    loaded = load(name, dtype=dtype)
    if weights is not None and weights_digest(loaded.model) != weights:
        return None
    tied = readout_of(loaded.model).tied  # then input is readout: counted once
    same: dict[str, Kind] = {"input": "readout"} if tied else {}
    wanted = [kind for kind in KINDS if kind not in same]
    bulks = {kind: geometry_of(loaded.model, kind, loaded.tokenizer).bulk(_PAIRS, _SEED) for kind in wanted}
    told = {kind: clean(asdict(bulk)) | {"class": bulk.embedding_class} for kind, bulk in bulks.items()}
    matrices: dict[str, MatrixRecord] = {kind: told[same.get(kind, kind)] for kind in KINDS}
    return {"model": name, "tied": tied, "matrices": matrices, "missing": ""}
