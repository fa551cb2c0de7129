"""Forecasts beside what happened: the needed rate against the used one, the outcome told against the outcome."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.report.charts.series import rounded
from borngap.report.text import word
from borngap.report.wording import AHEAD
from borngap.shown import visible

_KEYS = ("forecasts", "critical")


def read_forecasts(path: str | Path) -> list[dict[str, Any]]:
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
    head = {key: data.get(key) for key in ("scope", *_SHARED)}
    entries = [head | entry for key in _KEYS for entry in data.get(key) or () if isinstance(entry, dict)]
    if not entries:
        raise UserError(f"{path} holds no forecasts", rule=f"a list {' or '.join(_KEYS)}", found=sorted(data), fix=fix)
    if not isinstance(data.get("scope"), str):
        raise UserError(f"{path} does not say what its rates hold of", rule="a text under 'scope'", fix=fix)
    return entries


def join(
    contexts: Sequence[dict[str, Any]], forecasts: Sequence[Mapping[str, Any]], plans: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Put each forecast beside its context.

    They belong together where gold, rival, and, as far as both tell it, prompt, model, method, number of steps and
    criterion are the same.

    Args:
        contexts: context records; those with a forecast get its rate as the needed one.
        forecasts: entries.
        plans: plans of the runs, by number.

    Returns:
        ``scopes`` (what the forecasts hold of), ``rows``, ``hits`` of ``told`` outcomes, ``unmatched``, and the
        ``sentence`` that says all this; None without forecasts.
    """
    if not forecasts:
        return None
    rows, unmatched = [], 0
    for entry in forecasts:
        matches = [context for context in contexts if _same(context, entry, plans[context["run"]])]
        unmatched += not matches
        rows += [_row(context, entry) for context in matches]
    told = [row["agrees"] for row in rows if row["agrees"] is not None]
    scopes = sorted({visible(entry["scope"]) for entry in forecasts})
    record = {"scopes": scopes, "rows": rows, "hits": sum(told), "told": len(told), "unmatched": unmatched}
    return record | {"sentence": _sentence(record)}


def _sentence(record: Mapping[str, Any]) -> str:
    parts = [f"{text[:1].upper()}{text[1:]}." for text in record["scopes"]]
    if record["told"]:
        parts.append(f"{record['hits']} of {record['told']} outcomes came as forecast.")
    if record["unmatched"]:
        parts.append(
            f"{record['unmatched']} forecasts are left out: no context of this report has their words, model, method, "
            "steps and criterion."
        )
    return " ".join(parts)


def _same(context: Mapping[str, Any], entry: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    words = word(entry.get("gold")) == context["gold"] and word(entry.get("rival")) == context["rival"]
    kind = all(entry.get(key) in {None, plan.get(key)} for key in _SHARED if plan.get(key) is not None)
    prompt, where = entry.get("prompt"), entry.get("context")
    if isinstance(prompt, str):
        return words and kind and context["prompt"].endswith(visible(prompt[-_COMPARED:]))
    return words and kind and (not isinstance(where, int) or where + 1 == context["number"])


def _row(context: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    measured = dict(context["needed"])
    bounds = {name: rounded(entry.get(key), 3) for name, key in _BOUNDS.items()}
    by = visible(str(entry.get("by") or "forecast"))
    used = context["used_rate"]
    if bounds["rate"] is not None and context["outcome"] != "pre-resolved":
        ratio = None if used is None else rounded(used / bounds["rate"], 2)
        context["needed"] = bounds | {"how": by, "why": "", "ratio": ratio}
    will = _will_resolve(entry, bounds, used)
    return {
        "id": context["id"],
        "gold": context["gold"],
        "rival": context["rival"],
        "by": by,
        "status": visible(str(entry.get("status") or "")),
        "used_rate": used,
        "forecast": bounds,
        "measured": measured,
        "told": {True: "gold ahead", False: "gold behind", None: "not told"}[will],
        "outcome": context["outcome"],
        "agrees": None if will is None else will == (context["outcome"] in AHEAD),
        "cost": {name: entry[name] for name in ("optimizer_steps", "forward_passes") if entry.get(name) is not None},
    }


def _will_resolve(entry: Mapping[str, Any], bounds: Mapping[str, float | None], used: float | None) -> bool | None:
    """What the forecast says of the used rate: its own word if it was made for that rate, else by its interval."""
    told, planned = entry.get("will_resolve"), rounded(entry.get("planned_rate"))
    if entry.get("status") == "pre-resolved":
        return True
    if isinstance(told, bool) and (planned is None or (used is not None and math.isclose(planned, used, rel_tol=1e-3))):
        return told
    low, high = bounds["low"] or bounds["rate"], bounds["high"] or bounds["rate"]
    if used is None or low is None or high is None or low <= used <= high:
        return None
    return used > high


_SHARED = ("model", "method", "steps", "criterion")
_COMPARED = 200  # characters at the end of a prompt
_BOUNDS = {"rate": "critical_rate", "low": "low", "high": "high"}
