"""Forecasts beside what happened: the needed rate against the used one, the outcome told against the outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.report.series import rounded
from borngap.report.text import visible, word
from borngap.report.wording import AHEAD

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
    entries = [entry for key in _KEYS for entry in data.get(key) or () if isinstance(entry, dict)]
    if not entries:
        raise UserError(f"{path} holds no forecasts", rule=f"a list {' or '.join(_KEYS)}", found=sorted(data), fix=fix)
    return entries


def join(contexts: Sequence[dict[str, Any]], forecasts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Put each forecast beside its context, by gold, rival and, where both tell it, the prompt or the number.

    Args:
        contexts: context records; those with a forecast get its rate as the needed one.
        forecasts: entries.

    Returns:
        ``rows``, ``hits`` of ``told`` outcomes, and ``unmatched``; None without forecasts.
    """
    if not forecasts:
        return None
    rows, unmatched = [], 0
    for entry in forecasts:
        matches = [context for context in contexts if _same(context, entry)]
        unmatched += not matches
        rows += [_row(context, entry) for context in matches]
    told = [row["agrees"] for row in rows if row["agrees"] is not None]
    return {"rows": rows, "hits": sum(told), "told": len(told), "unmatched": unmatched}


def _same(context: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    words = word(entry.get("gold")) == context["gold"] and word(entry.get("competitor")) == context["rival"]
    prompt, where = entry.get("prompt"), entry.get("context")
    same = True
    if isinstance(prompt, str):
        same = visible(prompt[-200:]) == context["prompt"][-len(visible(prompt[-200:])) :]
    elif isinstance(where, int):
        same = where + 1 == context["number"]
    return words and same


def _row(context: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    measured = dict(context["needed"])
    bounds = {name: rounded(entry.get(key), 3) for name, key in _BOUNDS.items()}
    by = visible(str(entry.get("by") or "forecast"))
    if bounds["rate"] is not None and context["outcome"] != "pre-resolved":
        used = context["used_rate"]
        ratio = None if used is None else rounded(used / bounds["rate"], 2)
        context["needed"] = bounds | {"how": by, "why": "", "ratio": ratio}
    will = _PROSPECTS.get(entry.get("will_resolve")) if isinstance(entry.get("will_resolve"), (str, bool)) else None
    ahead = context["outcome"] in AHEAD
    return {
        "id": context["id"],
        "gold": context["gold"],
        "rival": context["rival"],
        "by": by,
        "status": visible(str(entry.get("status") or "")),
        "used_rate": context["used_rate"],
        "forecast": bounds,
        "measured": measured,
        "told": visible(str(entry.get("outcome") or ("" if will is None else "resolved" if will else "unresolved"))),
        "outcome": context["outcome"],
        "agrees": (will == ahead) if isinstance(will, bool) else None,
        "cost": {
            name: entry.get(name) for name in ("optimizer_steps", "forward_passes") if entry.get(name) is not None
        },
    }


_PROSPECTS = {True: True, False: False, "will resolve": True, "pre-resolved": True, "will fail": False}
_BOUNDS = {"rate": "critical_rate", "low": "low", "high": "high"}
