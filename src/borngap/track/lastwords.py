"""What a host says of a tracked run once it is over: how the contexts ended, and how to see more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from borngap.choices import Criterion

_AHEAD: dict[Criterion, str] = {
    "rank": "gold is ahead of its rival",
    "top1": "gold is the model's first choice",
    "born": "gold is ahead of its rival by the Born gap",
}


def closing(
    entries: Sequence[Mapping[str, Any]], criterion: Criterion, share: float, account: str, out: str | Path | None
) -> str:
    """Say in a sentence how a run ended, and which command shows more.

    Args:
        entries: verdicts, as a tracker's ``finish`` returns them; at least one.
        criterion: what counts as resolved.
        share: time spent on watching over the training's own.
        account: what the stopping rule found; empty without one.
        out: the RUN folder; None where nothing was written.

    Returns:
        Two lines, or three.
    """
    outcomes = Counter(entry["outcome"] for entry in entries)
    learnt, before = outcomes.pop("resolved", 0), outcomes.pop("pre-resolved", 0)
    parts = [
        f"{learnt} learnt in this run",
        f"{before} ahead all along",
        *(f"{n} {name}" for name, n in outcomes.items()),
    ]
    steps, made = entries[0]["last_step"], ", ".join(part for part in parts if not part.startswith("0 "))
    took = f"; watching took {100 * share:.1f} % of the training's time" if math.isfinite(share) else ""
    ahead = f"{_AHEAD[criterion]} in {learnt + before} of {len(entries)} contexts"
    said = f"borngap: after {steps} step{'s' * (steps != 1)} {ahead} ({made}){took}."
    more = f"For pictures and reasons: borngap report {out} -o report.html" if out else _NOTHING_WRITTEN
    return "\n".join(line for line in (said, account, more) if line)


_NOTHING_WRITTEN = (
    "Nothing was written; with out='runs/mine' a folder is left for: borngap report runs/mine -o report.html"
)
