"""The summary record: every number and every word of a report; HTML, Markdown, JSON and charts only show it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.observables.catalogue import OBSERVABLES
from borngap.report.charts.series import rounded
from borngap.report.facts.contexts import context_record, criterion_of, watched
from borngap.report.facts.forecasts import join
from borngap.report.facts.source import Source
from borngap.report.text import count, rate
from borngap.report.wording import (
    GLOSSARY,
    geometry_sentence,
    made_sentence,
    phantom_sentence,
    remedy_sentence,
    verdict_sentence,
)
from borngap.runfolder import Run
from borngap.shown import public, visible
from borngap.sweep.sweepfolder import Sweep

SCHEMA = 1
_RECORDS = (24, 400)  # records of one context: at least, at most
_BUDGET = 12_000  # records of all contexts together: some 1 MB
_PROMPTS = 400_000  # characters of all prompts together
_LONGEST = 10_000
_MOST = 1000  # contexts on one page
_BULK = ("mean", "std", "anisotropy", "mean_square", "crowding", "fraction_above", "ks_gaussian", "ks_exponential")
_METHODS = {"full": "full fine-tuning", "lora": "LoRA", "readout-only": "training of the readout only"}


def summary(
    sources: Sequence[Source],
    geometries: Sequence[Mapping[str, Any]] = (),
    forecasts: Sequence[Mapping[str, Any]] = (),
    phases: Sequence[Mapping[str, Any]] = (),
    sweeps: Sequence[Sweep] = (),
) -> dict[str, Any]:
    """Return the record that a report shows.

    Args:
        sources: RUNs, as far as they could be read.
        geometries: bulk statistics, one entry a model: ``model``, ``tied``, ``matrices`` (kind -> statistics with
            ``class``) and ``missing`` (why there are none).
        forecasts: entries of ``borngap forecast --json`` or ``borngap critical --json``.
        phases: phase diagrams, one a sweep.
        sweeps: the sweeps themselves, for how they were made.

    Returns:
        A JSON-ready record without time stamps of its own: equal input gives equal bytes.

    Raises:
        UserError: there is nothing to report on.
    """
    if not sources and not sweeps:
        fix = "give the RUN that the forecast was for; the forecast by itself is what `borngap forecast` prints"
        rule = "at least one RUN or SWEEP folder"
        raise UserError("nothing to report on", rule=rule, fix=fix if forecasts else None)
    runs = [_run(number, source) for number, source in enumerate(sources)]
    contexts, notes = _contexts(sources)
    for run in runs:
        run["verdict"] = verdict_sentence([c for c in contexts if c["run"] == run["number"]], run)
        source = sources[run["number"]].run
        behind = sum(watched(source, entry) for entry in source.verdicts)
        run["notes"] += [remedy_sentence(behind)] if behind else []
    forecast = join(contexts, forecasts, [source.run.plan for source in sources])
    notes += [f"The forecasts are of {text}." for text in (forecast or {}).get("scopes", ())]
    runs += [_sweep(number, *pair) for number, pair in enumerate(zip(sweeps, phases, strict=True), len(runs))]
    return {
        "schema": SCHEMA,
        "kind": "report",
        "title": _title(runs),
        "runs": runs,
        "contexts": contexts,
        "notes": notes,
        "phantom": phantom_sentence(contexts),
        "geometry": [_geometry(entry) for entry in geometries],
        "phase": list(phases),
        "forecast": forecast,
        "definitions": definitions(),
    }


def definitions(glossary: Mapping[str, str] = GLOSSARY, only: Collection[str] = OBSERVABLES) -> dict[str, Any]:
    """Return what the words mean and how each number is defined.

    Args:
        glossary: word -> meaning.
        only: ids of the observables that are shown.

    Returns:
        ``words`` and ``observables``.
    """
    return {
        "words": [{"word": key, "meaning": text} for key, text in glossary.items()],
        "observables": [
            {
                "id": o.id,
                "symbol": o.symbol,
                "unit": o.unit,
                "range": _interval(o.low, o.high),
                "equation": o.equation,
                "source": o.source,
                "absent": o.absent,
            }
            for o in OBSERVABLES.values()
            if o.id in only
        ],
    }


def run_label(plan: Mapping[str, Any], folder: Path) -> str:
    """Return a short name of a run: method and rate, or its folder where those are not known."""
    if not isinstance(plan.get("method"), str) or rounded(plan.get("rate")) is None:
        return visible(folder.name)
    frozen = "".join(f", {part} frozen" for part in plan.get("freeze") or ())
    targets = [t for t in plan.get("lora_targets") or () if t != "attention"]
    extra = f" + {' + '.join(targets)}" if plan["method"] == "lora" and targets else ""
    return visible(f"{plan['method']}{extra}{frozen}, rate {rate(plan['rate'])}")


def _run(number: int, source: Source) -> dict[str, Any]:
    plan = source.plan
    return {
        "number": number,
        "what": "RUN",
        "folder": visible(source.run.folder.name or str(source.run.folder)),
        "label": run_label(plan, source.run.folder),
        "model": public(str(plan.get("model") or "a model that the run does not name")),
        "method": visible(_METHODS.get(str(plan.get("method")), str(plan.get("method") or "training"))),
        "criterion": criterion_of(source.run),
        "dose": _dose(plan),
        "missing": [public(text) for text in source.missing],
        "notes": [public(str(note)) for note in plan.get("notes") or ()],
        "made": made_sentence(plan, source.run.environment),
        "settings": setting_pairs(source.run.plan, {"contexts", "notes"}),
        "environment": setting_pairs(source.run.environment, set()),
    }


def _dose(plan: Mapping[str, Any]) -> str:
    """Steps and rate, as far as they are known."""
    if not isinstance(plan.get("steps"), int):
        return ""
    steps = count(plan["steps"], "step")
    if rounded(plan.get("rate")) is None:
        return steps if plan.get("command") == "track" else ""
    schedule = plan.get("schedule")
    changing = f" ({visible(str(schedule))} schedule)" if schedule not in {None, "constant"} else ""
    return f"{steps} at learning rate {rate(plan['rate'])}{changing}"


def _sweep(number: int, sweep: Sweep, phase: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep as a run without contexts of its own: its verdict is its phase diagram's."""
    made = _run(number, Source(Run(sweep.folder, sweep.plan, sweep.environment, sweep.steps, [])))
    made |= {"what": "SWEEP", "method": f"sweep of {made['method']}", "label": f"sweep {visible(sweep.folder.name)}"}
    return made | {"verdict": phase["sentence"], "notes": phase["notes"]}


def _contexts(sources: Sequence[Source]) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of all contexts, and notes on what was thinned or left out."""
    entries = [
        (number, replace(source.run, plan=source.plan), entry)
        for number, source in enumerate(sources)
        for entry in source.run.verdicts
    ]
    shown = entries[:_MOST]
    limits = _limits(len(shown))
    records = [context_record(run, number, entry, limits) for number, run, entry in shown]
    if len(sources) == 1:
        records = [record | {"id": str(record["number"])} for record in records]
    notes = []
    if len(entries) > len(shown):
        notes.append(f"{len(entries)} contexts are too many for one page: the first {_MOST} are shown.")
    longest = max((record["records"] for record in records), default=0)
    if longest > limits[0]:
        notes.append(
            f"Charts show some {limits[0]} of up to {longest} records a context, with both ends, flips, stops and "
            "jumps; all of them are in the RUN folder (steps.parquet)."
        )
    return records, notes


def _limits(contexts: int) -> tuple[int, int]:
    each = max(1, contexts)
    return max(_RECORDS[0], min(_RECORDS[1], _BUDGET // each)), max(200, min(_LONGEST, _PROMPTS // each))


def _geometry(entry: Mapping[str, Any]) -> dict[str, Any]:
    matrices = {
        kind: {name: rounded(bulk.get(name), 4) for name in _BULK}
        | {"class": bulk["class"], "pairs": bulk["pairs"], "tokens": bulk["tokens"], "dimension": bulk["dimension"]}
        for kind, bulk in (entry.get("matrices") or {}).items()
    }
    record = {"model": public(entry["model"]), "tied": entry.get("tied"), "matrices": matrices}
    record["missing"] = public(entry.get("missing") or "")
    return record | {"sentence": geometry_sentence(record)}


def _title(runs: Sequence[Mapping[str, Any]]) -> str:
    models = sorted({run["model"] for run in runs})
    if len(runs) == 1:
        return f"{runs[0]['method'][:1].upper()}{runs[0]['method'][1:]} of {runs[0]['model']}"
    of = f" of {', '.join(models)}" if 0 < len(models) <= 3 else ""
    return f"{count(len(runs), 'fine-tuning run')}{of}" if runs else "Learning-rate sweep"


def setting_pairs(table: Mapping[str, Any], without: set[str]) -> list[list[str]]:
    """Return settings as words, nested ones flattened.

    Args:
        table: name -> setting.
        without: names that are left out.

    Returns:
        Name and words, in the order of the table.
    """
    pairs = []
    for key, value in table.items():
        if key in without:
            continue
        if isinstance(value, dict):
            pairs += [[f"{key}: {name}", text] for name, text in setting_pairs(value, set())]
        else:
            pairs.append([visible(str(key)), public(_setting(value))])
    return pairs


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return rate(value, 4)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _interval(low: float, high: float) -> str:
    def bound(value: float) -> str:
        return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "∞" if value > 0 else "−∞"

    left, right = "(" if math.isinf(low) else "[", ")" if math.isinf(high) else "]"
    return f"{left}{bound(low)}, {bound(high)}{right}"
