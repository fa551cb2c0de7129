"""The summary record: every number and every word of a report; HTML, Markdown, JSON and charts only show it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from borngap.errors import UserError
from borngap.observables.catalogue import OBSERVABLES
from borngap.report.charts.series import rounded, term_series
from borngap.report.facts.contexts import context_record, watched
from borngap.report.facts.entries import RunPlan
from borngap.report.facts.forecasts import StoredForecast, join
from borngap.report.facts.live import live_record
from borngap.report.facts.runfacts import RunFacts
from borngap.report.records import (
    ContextRecord,
    Definitions,
    GeometryRecord,
    MatrixRecord,
    ModelGeometry,
    Pair,
    PhaseRecord,
    RunRecord,
    Summary,
)
from borngap.report.text import count, rate
from borngap.report.wording import (
    GLOSSARY,
    geometry_sentence,
    made_sentence,
    phantom_sentence,
    remedy_sentence,
    verdict_sentence,
    watched_sentence,
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
_METHODS = {"full": "full fine-tuning", "lora": "LoRA", "readout-only": "training of the readout only"}


def summary(
    sources: Sequence[RunFacts],
    geometries: Sequence[ModelGeometry] = (),
    forecasts: Sequence[StoredForecast] = (),
    phases: Sequence[PhaseRecord] = (),
    sweeps: Sequence[Sweep] = (),
) -> Summary:
    """Return the record that a report shows.

    Args:
        sources: RUNs, as far as they could be read.
        geometries: bulk statistics, one entry a model.
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
    contexts, notes = _contexts(sources)
    runs = [_run(number, source, contexts) for number, source in enumerate(sources)]
    forecast = join(contexts, forecasts, [source.own_plan for source in sources])
    notes += [f"The forecasts are of {scope}." for scope in (forecast["scopes"] if forecast else ())]
    runs += [_sweep(number, *pair) for number, pair in enumerate(zip(sweeps, phases, strict=True), len(runs))]
    return {
        "schema": SCHEMA,
        "kind": "report",
        "title": _title(runs),
        "runs": runs,
        "contexts": contexts,
        "notes": notes,
        "phantom": phantom_sentence(contexts),
        "terms": [
            {"run": number, "label": run["label"], "series": term_series(source.usage, _RECORDS[1])}
            for number, (source, run) in enumerate(zip(sources, runs, strict=False))
            if len(source.usage) > 1
        ],
        "live": [
            found
            for number, (source, run) in enumerate(zip(sources, runs, strict=False))
            if (found := live_record(source.run, number, run["label"])) is not None
        ],
        "geometry": [_geometry(entry) for entry in geometries],
        "phase": list(phases),
        "forecast": forecast,
        "definitions": definitions(),
    }


def definitions(glossary: Mapping[str, str] = GLOSSARY, only: Collection[str] = OBSERVABLES) -> Definitions:
    """Return what the words mean and how each number is defined.

    Args:
        glossary: word -> meaning.
        only: ids of the observables that are shown.

    Returns:
        Both.
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


def run_label(plan: RunPlan, folder: Path) -> str:
    """Return a short name of a run: method, what is added to its loss, rate; or its folder where they are not known."""
    if plan.method is None or plan.rate is None:
        return visible(folder.name)
    frozen = "".join(f", {part} frozen" for part in plan.freeze)
    targets = [target for target in plan.lora_targets if target != "attention"]
    extra = f" + {' + '.join(targets)}" if plan.method == "lora" and targets else ""
    added = plan.loss.replace("cross-entropy + ", ", ")
    return visible(f"{plan.method}{extra}{frozen}{added}, rate {rate(plan.rate)}")


def _run(number: int, source: RunFacts, contexts: Sequence[ContextRecord]) -> RunRecord:
    plan, run = source.plan, source.run
    own = [context for context in contexts if context["run"] == number]
    behind = sum(watched(source, entry) for entry in source.entries)
    dose, usage = _dose(plan), [watched_sentence(source.usage)] if source.usage else []
    usage += [source.displaced] if source.displaced else []
    return {
        "number": number,
        "what": "RUN",
        "folder": visible(run.folder.name or str(run.folder)),
        "label": run_label(plan, run.folder),
        "model": public(plan.model or "a model that the run does not name"),
        "method": visible(_METHODS.get(plan.method or "", plan.method or "training")),
        "criterion": source.criterion,
        "dose": dose,
        "missing": [public(text) for text in source.missing],
        "notes": [*map(public, plan.notes), *usage, *([remedy_sentence(behind)] if behind else [])],
        "made": made_sentence(plan, run.environment),
        "settings": setting_pairs(run.plan, {"contexts", "places", "notes"}),
        "environment": setting_pairs(run.environment, set()),
        "verdict": verdict_sentence(own, source.criterion, dose),
    }


def _dose(plan: RunPlan) -> str:
    """Steps, loss and rate, as far as they are known."""
    if plan.steps is None:
        return ""
    steps = count(plan.steps, "step") + (f" of {plan.loss}" if plan.loss else "")
    if plan.rate is None:
        return steps if plan.tracked else ""
    changing = "" if plan.schedule in {None, "constant"} else f" ({visible(str(plan.schedule))} schedule)"
    return f"{steps} at learning rate {rate(plan.rate)}{changing}"


def _sweep(number: int, sweep: Sweep, phase: PhaseRecord) -> RunRecord:
    """A sweep as a run without contexts of its own: its verdict is its phase diagram's."""
    made = _run(number, RunFacts(Run(sweep.folder, sweep.plan, sweep.environment, sweep.steps, [])), ())
    return {
        **made,
        "what": "SWEEP",
        "method": f"sweep of {made['method']}",
        "label": f"sweep {visible(sweep.folder.name)}",
        "verdict": phase["sentence"],
        "notes": phase["notes"],
    }


def _contexts(sources: Sequence[RunFacts]) -> tuple[list[ContextRecord], list[str]]:
    """Records of all contexts, and notes on what was thinned or left out."""
    entries = [(number, source, entry) for number, source in enumerate(sources) for entry in source.entries]
    shown = entries[:_MOST]
    limits = _limits(len(shown))
    records = [context_record(source, number, entry, limits) for number, source, entry in shown]
    if len(sources) == 1:
        records = [{**record, "id": str(record["number"])} for record in records]
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


def _geometry(found: ModelGeometry) -> GeometryRecord:
    shown: ModelGeometry = {
        "model": public(found["model"]),
        "tied": found["tied"],
        "matrices": {kind: _matrix(bulk) for kind, bulk in found["matrices"].items()},
        "missing": public(found["missing"]),
    }
    return {**shown, "sentence": geometry_sentence(shown)}


def _matrix(bulk: MatrixRecord) -> MatrixRecord:
    return {
        "mean": rounded(bulk["mean"], 4),
        "std": rounded(bulk["std"], 4),
        "anisotropy": rounded(bulk["anisotropy"], 4),
        "mean_square": rounded(bulk["mean_square"], 4),
        "crowding": rounded(bulk["crowding"], 4),
        "fraction_above": rounded(bulk["fraction_above"], 4),
        "ks_gaussian": rounded(bulk["ks_gaussian"], 4),
        "ks_exponential": rounded(bulk["ks_exponential"], 4),
        "class": bulk["class"],
        "pairs": bulk["pairs"],
        "tokens": bulk["tokens"],
        "dimension": bulk["dimension"],
    }


def _title(runs: Sequence[RunRecord]) -> str:
    models = sorted({run["model"] for run in runs})
    if len(runs) == 1:
        return f"{runs[0]['method'][:1].upper()}{runs[0]['method'][1:]} of {runs[0]['model']}"
    of = f" of {', '.join(models)}" if 0 < len(models) <= 3 else ""
    return f"{count(len(runs), 'fine-tuning run')}{of}" if runs else "Learning-rate sweep"


def setting_pairs(table: Mapping[str, object], without: set[str]) -> list[Pair]:
    """Return settings as words, nested ones flattened.

    Args:
        table: name -> setting.
        without: names that are left out.

    Returns:
        Name and words, in the order of the table.
    """
    pairs: list[Pair] = []
    for key, value in table.items():
        if key in without:
            continue
        if isinstance(value, dict):
            pairs += [[f"{key}: {name}", text] for name, text in setting_pairs(value, set())]
        else:
            pairs.append([visible(str(key)), public(_setting(value))])
    return pairs


def _setting(value: object) -> str:
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
