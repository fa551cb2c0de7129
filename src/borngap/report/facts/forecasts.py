"""Forecasts beside what happened: the needed rate against the used one, the outcome told against the outcome."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from borngap.errors import UserError
from borngap.report.charts.series import rounded
from borngap.report.facts.entries import RunPlan
from borngap.report.facts.typed import as_flag, as_items, as_table, as_text, as_whole
from borngap.report.records import Bounds, ContextRecord, ForecastRecord, ForecastRow, Number
from borngap.report.text import word
from borngap.report.wording import AHEAD
from borngap.shown import visible

_KEYS = ("forecasts", "critical")


@dataclass(frozen=True)
class StoredForecast:
    """One entry of ``borngap forecast --json`` or ``borngap critical --json``; None where it does not tell.

    Attributes:
        scope: what it holds of.
        shared: model, method, number of steps and criterion, by name.
        gold: the right word.
        rival: its rival.
        prompt: what stands before it.
        context: number of the context, from 0.
        bounds: the critical rate with its interval.
        by: the way in which it was found.
        status: why there is no rate.
        will_resolve: whether gold will be ahead at the planned rate.
        planned_rate: the rate that this was told of.
        cost: optimiser steps and forward passes.
    """

    scope: str
    shared: Mapping[str, object]
    gold: str | None
    rival: str | None
    prompt: str | None
    context: int | None
    bounds: Bounds
    by: str
    status: str
    will_resolve: bool | None
    planned_rate: Number
    cost: dict[str, int]


def read_forecasts(path: str | Path) -> list[StoredForecast]:
    """Read what ``borngap forecast --json`` or ``borngap critical --json`` printed.

    Args:
        path: the file.

    Returns:
        Its entries.

    Raises:
        UserError: it can't be read, is not JSON, of another schema, or holds no forecasts.
    """
    fix = "write it with `borngap forecast ... --json > FILE`"
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("can't read the forecast", found=f"{path} ({error.strerror})", fix=fix) from None
    except ValueError as error:
        raise UserError(f"{path} is no forecast", rule="JSON", found=str(error), fix=fix) from None
    if not isinstance(data, dict) or data.get("schema") != 1:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise UserError(f"{path} is no forecast of this version", rule="schema 1", found=found, fix=fix)
    head = {key: data.get(key) for key in _SHARED}
    entries = [head | entry for key in _KEYS for entry in map(as_table, as_items(data.get(key))) if entry]
    if not entries:
        raise UserError(f"{path} holds no forecasts", rule=f"a list {' or '.join(_KEYS)}", found=sorted(data), fix=fix)
    scope = as_text(data.get("scope"))
    if scope is None:
        raise UserError(f"{path} does not say what its rates hold of", rule="a text under 'scope'", fix=fix)
    return [_forecast(scope, entry) for entry in entries]


def _forecast(scope: str, entry: Mapping[str, object]) -> StoredForecast:
    costs = {name: as_whole(entry.get(name)) for name in ("optimizer_steps", "forward_passes")}
    return StoredForecast(
        scope=scope,
        shared={key: entry.get(key) for key in _SHARED if entry.get(key) is not None},
        gold=as_text(entry.get("gold")),
        rival=as_text(entry.get("rival")),
        prompt=as_text(entry.get("prompt")),
        context=as_whole(entry.get("context")),
        bounds={
            "rate": rounded(entry.get("critical_rate"), 3),
            "low": rounded(entry.get("low"), 3),
            "high": rounded(entry.get("high"), 3),
        },
        by=visible(str(entry.get("by") or "forecast")),
        status=visible(str(entry.get("status") or "")),
        will_resolve=as_flag(entry.get("will_resolve")),
        planned_rate=rounded(entry.get("planned_rate")),
        cost={name: cost for name, cost in costs.items() if cost is not None},
    )


def join(
    contexts: Sequence[ContextRecord], forecasts: Sequence[StoredForecast], plans: Sequence[RunPlan]
) -> ForecastRecord | None:
    """Put each forecast beside its context.

    They belong together where gold, rival, and, as far as both tell it, prompt, model, method, number of steps and
    criterion are the same.

    Args:
        contexts: context records; those with a forecast get its rate as the needed one.
        forecasts: entries.
        plans: plans of the runs, by number.

    Returns:
        What the forecasts told beside what happened; None without forecasts.
    """
    if not forecasts:
        return None
    rows: list[ForecastRow] = []
    unmatched = 0
    for forecast in forecasts:
        matches = [context for context in contexts if _same(context, forecast, plans[context["run"]])]
        unmatched += not matches
        rows += [_row(context, forecast) for context in matches]
    told = [row["agrees"] for row in rows if row["agrees"] is not None]
    scopes = sorted({visible(forecast.scope) for forecast in forecasts})
    hits = sum(told)
    return {
        "scopes": scopes,
        "rows": rows,
        "hits": hits,
        "told": len(told),
        "unmatched": unmatched,
        "sentence": _sentence(scopes, hits, len(told), unmatched),
    }


def _sentence(scopes: Sequence[str], hits: int, told: int, unmatched: int) -> str:
    parts = [f"{scope[:1].upper()}{scope[1:]}." for scope in scopes]
    if told:
        parts.append(f"{hits} of {told} outcomes came as forecast.")
    if unmatched:
        parts.append(
            f"{unmatched} forecasts are left out: no context of this report has their words, model, method, "
            "steps and criterion."
        )
    return " ".join(parts)


def _same(context: ContextRecord, forecast: StoredForecast, plan: RunPlan) -> bool:
    words = word(forecast.gold) == context["gold"] and word(forecast.rival) == context["rival"]
    known = {"model": plan.model, "method": plan.method, "steps": plan.steps, "criterion": plan.criterion}
    kind = all(known[key] in (None, value) for key, value in forecast.shared.items())
    if forecast.prompt is not None:
        return words and kind and context["prompt"].endswith(visible(forecast.prompt[-_COMPARED:]))
    return words and kind and (forecast.context is None or forecast.context + 1 == context["number"])


def _row(context: ContextRecord, forecast: StoredForecast) -> ForecastRow:
    measured, bounds, used = context["needed"], forecast.bounds, context["used_rate"]
    if bounds["rate"] is not None and context["outcome"] != "pre-resolved":
        ratio = None if used is None else rounded(used / bounds["rate"], 2)
        context["needed"] = {**bounds, "how": forecast.by, "why": "", "ratio": ratio}
    will = _will_resolve(forecast, used)
    return {
        "id": context["id"],
        "gold": context["gold"],
        "rival": context["rival"],
        "by": forecast.by,
        "status": forecast.status,
        "used_rate": used,
        "forecast": bounds,
        "measured": measured,
        "told": {True: "gold ahead", False: "gold behind", None: "not told"}[will],
        "outcome": context["outcome"],
        "agrees": None if will is None else will == (context["outcome"] in AHEAD),
        "cost": forecast.cost,
    }


def _will_resolve(forecast: StoredForecast, used: Number) -> bool | None:
    """What the forecast says of the used rate: its own word if it was made for that rate, else by its interval."""
    told, planned, bounds = forecast.will_resolve, forecast.planned_rate, forecast.bounds
    if forecast.status == "pre-resolved":
        return True
    if told is not None and (planned is None or (used is not None and math.isclose(planned, used, rel_tol=1e-3))):
        return told
    low, high = bounds["low"] or bounds["rate"], bounds["high"] or bounds["rate"]
    if used is None or low is None or high is None or low <= used <= high:
        return None
    return used > high


_SHARED = ("model", "method", "steps", "criterion")
_COMPARED = 200  # characters at the end of a prompt
