"""What a RUN of a callback or tracker says of its host, in the terms of a plan of the reference loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from borngap.report.facts.typed import as_table, as_text
from borngap.runfolder import Run
from borngap.zoo import MODELS, fetched_path

_METHODS = {"LORA": "lora"}  # PEFT's name of the kind of adapter


def stand_ins(run: Run) -> dict[str, object]:
    """Return what the plan of a tracked RUN lacks, as far as its host told.

    Args:
        run: any RUN.

    Returns:
        Any of ``host``, ``model``, ``method``, ``rate`` (at its highest), ``steps``, ``schedule`` and ``seed``; empty
        for a RUN of the reference loop.
    """
    if run.plan.get("command") != "track":
        return {}
    host = as_table(run.environment.get("host"))
    arguments, model = as_table(host.get("arguments")), as_table(host.get("model"))
    last = run.steps["step"].max() if len(run.steps) else None
    found = {
        "host": _text(host.get("host")) or "a loop of its own",
        "model": _model(model),
        "method": _method(model),
        "rate": _rate(host, arguments),
        "steps": last or None,
        "schedule": _text(arguments.get("lr_scheduler_type")),
        "seed": arguments.get("seed"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _model(model: Mapping[str, object]) -> str | None:
    """Its name; of one that has none, its class. Models by name are named so, wherever they lie."""
    name, kind = _text(model.get("name")), _text(model.get("class"))
    if name is None:
        return None if kind is None else f"a {kind}"
    path = Path(name)
    bundled = path.parent == MODELS or path.parts[-3:-1] == ("zoo", "models")
    return path.name if bundled or path == fetched_path(path.name) else name


def _method(model: Mapping[str, object]) -> str | None:
    adapter, trained, total = _text(model.get("adapter")), model.get("trained_parameters"), model.get("parameters")
    if adapter is not None:
        return _METHODS.get(adapter, adapter)
    if not isinstance(trained, int) or not isinstance(total, int):
        return None
    return "full" if trained == total else f"training of {trained} of {total} parameters"


def _rate(host: Mapping[str, object], arguments: Mapping[str, object]) -> float | None:
    """The optimiser's rate; None where groups of parameters have different ones."""
    rates = host.get("learning_rates")
    known = rates if isinstance(rates, list) else [arguments.get("learning_rate")]
    single = known[0] if len(known) == 1 else None
    return float(single) if isinstance(single, int | float) and not isinstance(single, bool) else None


def _text(value: object) -> str | None:
    return as_text(value) or None
