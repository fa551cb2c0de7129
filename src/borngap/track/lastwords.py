"""What a host says of a tracked run once it is over: how contexts and terms ended, and how to see more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from borngap.choices import Criterion
from borngap.judge.termshares import WatchedPlace, shares_of_terms
from borngap.judge.watch import Values

_AHEAD: dict[Criterion, str] = {
    "rank": "gold is ahead of its rival",
    "top1": "gold is the model's first choice",
    "born": "gold is ahead of its rival by the Born gap",
}


def closing(
    steps: int,
    entries: Sequence[Mapping[str, Any]],
    usage: str,
    criterion: Criterion,
    share: float,
    account: str,
    out: str | Path | None,
) -> str:
    """Say in a sentence how a run ended, and which command shows more.

    Args:
        steps: optimiser steps done.
        entries: verdicts of the contexts, as a tracker's ``finish`` returns them.
        usage: what became of terms; empty without any.
        criterion: what counts as resolved.
        share: time spent on watching over the training's own.
        account: what the stopping rule found; empty without one.
        out: the RUN folder; None where nothing was written.

    Returns:
        Two lines, or three.
    """
    took = f"watching took {100 * share:.1f} % of the training's time" if math.isfinite(share) else ""
    told = "; ".join(part for part in (_of_contexts(entries, criterion) if entries else "", usage, took) if part)
    said = f"borngap: after {steps} step{'s' * (steps != 1)} {told}."
    more = f"For pictures and reasons: borngap report {out} -o report.html" if out else _NOTHING_WRITTEN
    return "\n".join(line for line in (said, account, more) if line)


def of_usage(places: Sequence[WatchedPlace], first: Mapping[int, Values], last: Mapping[int, Values]) -> str:
    """Say where wanted words led at the end of a run, and at its start; empty without places.

    Args:
        places: places of terms.
        first: context -> its observables at the start.
        last: the same at the end.

    Returns:
        A part of a sentence.
    """
    begin, end = (shares_of_terms(places, records) for records in (first, last))
    parts = []
    for is_due, name, text in ((True, "success", "where it is due"), (False, "over_use", "where the other is right")):
        count = len({place.place for place in places if place.is_due == is_due})
        if count and math.isfinite(end[name] + begin[name]):
            parts.append(
                f"at {round(end[name] * count)} of {count} places {text} ({round(begin[name] * count)} before)"
            )
    return f"the wanted word leads {' and '.join(parts)}" if parts else ""


def _of_contexts(entries: Sequence[Mapping[str, Any]], criterion: Criterion) -> str:
    outcomes = Counter(entry["outcome"] for entry in entries)
    learnt, before = outcomes.pop("resolved", 0), outcomes.pop("pre-resolved", 0)
    parts = [
        f"{learnt} learnt in this run",
        f"{before} ahead all along",
        *(f"{n} {name}" for name, n in outcomes.items()),
    ]
    made = ", ".join(part for part in parts if not part.startswith("0 "))
    return f"{_AHEAD[criterion]} in {learnt + before} of {len(entries)} contexts ({made})"


_NOTHING_WRITTEN = (
    "Nothing was written; with out='runs/mine' a folder is left for: borngap report runs/mine -o report.html"
)
