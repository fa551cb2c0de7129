"""Live forecasts held against the runs that they were made in: who will stay behind, and what stopping would save.

    python benchmarks/live_runs.py --runs docs-gpt2-s:full:1e-4:cosine:house,docs-llama:lora:2e-3:constant:chat

Runs are named, and data given, as for ``whole_runs.py``. Before each a forecast at a tenth of its cost is made
(``borngap forecast --data``), whose places it is watched at, at 20 looks. What a folder holds is not redone.
A line a run and share of the dose, without the stored forecast and with it; then over all runs, with 95 % intervals by
drawing the runs again: of the words that are behind, how many told to stay behind did (precision), how many that stayed
were told (recall), as the callback tells it; orders right, beside those of "as it is now"; gaps within 90 % intervals;
and by ``stop="hopeless"`` at several fractions which runs end, at which step, and what came ahead after it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from borngap.data.source import source_of
from borngap.judge.watch import Watch
from borngap.live.live import LiveForecast
from borngap.live.outlook import NORMAL_90, Looks, Told, outlook
from borngap.model.load import quiet
from borngap.pilot.design import look_tokens
from borngap.pilot.draw import PilotSteps
from borngap.pilot.places.watched import find
from borngap.pilot.prepare import asked_of, forecast_run, prepare_run
from borngap.pilot.wholerun import prepared
from borngap.resample import percentile_interval
from borngap.usage.allowed import Allowed
from whole_runs import folder_name, names, planned, run_options

BUDGET, LOOKS = 0.1, 20
AT = (0.2, 0.3, 0.5, 0.7)  # shares of the dose
FRACTIONS = (1.0, 0.95, 0.9, 0.8)


def main() -> None:
    options = run_options(__doc__.splitlines()[0]).parse_args()
    quiet()
    found = []
    for run in names(options):
        found.append(watched(run, options))
        for share in AT:
            for stored in (False, True):
                print(
                    f"{run} at {share:g}{', stored' * stored}: {told(score(found[-1], share, stored=stored))}",
                    flush=True,
                )
    for part, some in parts_of(found).items():
        for share in AT:
            for stored in (False, True):
                scores = [score(f, share, stored=stored) for f in some]
                print(f"{part} ({len(some)} runs) at {share:g}{', stored' * stored}: {pooled(scores)}")
    for fraction in FRACTIONS:
        print(f"hopeless, fraction {fraction:g}: {saved([stopped(f, fraction) for f in found])}")


def parts_of(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """All runs, those of each method and, where a name tells it, those on each corpus."""
    parts = {"all": found}
    for one in found:
        _, method, _, _, *corpora = one["run"].split(":")
        for part in (method, *corpora):
            parts.setdefault(part, []).append(one)
    return {part: some for part, some in parts.items() if len(some) > 1}


def watched(run: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a run showed at its looks, and what was forecast of it before; made where it is not there."""
    file = options.out / f"{folder_name(run)}-{options.steps}" / "looks.json"
    if not file.exists():
        made = looked(run, options, file.parent)
        file.write_text(json.dumps(made))
    return {"run": run} | json.loads(file.read_text())


def looked(run: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Forecast a run, then do it and look at the places of the forecast as it goes."""
    loaded, (training, *_), settings, (data, watch, terms) = planned(run, options)
    told_before = forecast_run(loaded.model, loaded.tokenizer, data, watch, terms=terms, training=training,
                               settings=settings, budget=BUDGET, out=folder / "forecast",
                               name=loaded.name).summary["places"]  # fmt: skip
    asked = asked_of(watch, terms, None, Allowed(None, settings.allowed_field))
    job = prepare_run(loaded, source_of(data), asked, training, settings)
    lookout = find(loaded, asked, training, job.settings, look_tokens(job.plan, BUDGET, settings.pilots + 2)).lookout
    assert [(s.example.row.number, s.offset) for s in lookout.spots] == [(p["row"], p["offset"]) for p in told_before]
    done = np.cumsum(job.plan.rates) / np.sum(job.plan.rates)
    at = {max(1, round(len(done) * k / LOOKS)) for k in range(1, LOOKS + 1)}
    with prepared(job) as trainee:
        gaps = [lookout.look(trainee.model).gaps.tolist()]

        def see(step: int) -> None:
            if step in at:
                gaps.append(lookout.look(trainee.model).gaps.tolist())

        trainee.train(job.plan, PilotSteps(job.plan.steps, tuple(job.plan.rates), 1.0), training.seed, see)
    steps = sorted(at)
    stored = [_stored(place) for place in told_before]
    return {"steps": [0, *steps], "shares": [0.0, *(float(done[s - 1]) for s in steps)], "gaps": gaps,
            "due": [spot.kind == "due" for spot in lookout.spots], "stored": stored}  # fmt: skip


def _stored(place: dict[str, Any]) -> list[float]:
    """The gap that a place's forecast tells, and how sure it is; NaN where it abstains."""
    if place["forecast_gap"] is None:
        return [math.nan, math.nan]
    return [place["forecast_gap"], (place["high"] - place["low"]) / 2 / NORMAL_90]


def forecast(found: dict[str, Any], look: int, *, stored: bool) -> LiveForecast:
    """Return what the callback would tell at a look."""
    shares, gaps, due = (np.array(found[name]) for name in ("shares", "gaps", "due"))
    before = np.array(found["stored"], dtype=np.float64).T
    told_before = Told(before[0] - gaps[0], before[1]) if stored else None
    places = outlook(Looks(shares[: look + 1], gaps[: look + 1], due.astype(np.int64)), told_before)
    words = [[i] for i in np.flatnonzero(due).tolist()]
    return LiveForecast(found["steps"][look], found["steps"][-1], shares[look], places, gaps[look], words, ())


def score(found: dict[str, Any], share: float, *, stored: bool) -> dict[str, float]:
    """Return counts of one run at the first look from a share of the dose on."""
    look = next(i for i, done in enumerate(found["shares"]) if done >= share)
    live, end = forecast(found, look, stored=stored), np.array(found["gaps"][-1])
    stays = {n for n in live.lagging if end[live.words[n][0]] <= 0}
    behind, places = set(live.lagging) & set(live.behind), live.places
    return {
        "told": len(behind), "true": len(behind & stays), "stay": len(stays), "lag": len(live.lagging),
        "places": len(end), "order": int(((places.gaps > 0) == (end > 0)).sum()),
        "as now": int(((live.now > 0) == (end > 0)).sum()),
        "inside": int(((places.low < end) & (end < places.high)).sum()),
        "ahead": live.ahead[0], "low": live.ahead[1], "high": live.ahead[2], "words": len(live.words),
        "leads": sum(end[word[0]] > 0 for word in live.words),
    }  # fmt: skip


def told(s: dict[str, float]) -> str:
    """Return the score of a run in words."""
    return (
        f"{s['lag']} lag, {s['stay']} stay, {s['told']} told, {s['true']} right; orders {s['order'] / s['places']:.3f} "
        f"(as now {s['as now'] / s['places']:.3f}); inside {s['inside'] / s['places']:.3f}; ahead {s['ahead']:.0f} "
        f"({s['low']:.0f} to {s['high']:.0f}) of {s['words']}, truth {s['leads']}"
    )


def pooled(scores: list[dict[str, float]]) -> str:
    """Return the scores of all runs in words."""
    ratios = {"precision": ("true", "told"), "recall": ("true", "stay"), "orders": ("order", "places"),
              "as now": ("as now", "places"), "inside": ("inside", "places")}  # fmt: skip
    columns = {name: np.array([s[name] for s in scores], dtype=float) for name in scores[0]}
    parts = []
    for name, (over, under) in ratios.items():

        def ratio(drawn: Any, over: str = over, under: str = under) -> float:
            return float(columns[over][drawn].sum() / columns[under][drawn].sum())

        low, high = percentile_interval(ratio, len(scores))
        parts.append(f"{name} {ratio(slice(None)):.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})"))
    hits = sum(s["low"] <= s["leads"] <= s["high"] for s in scores)
    return "; ".join([*parts, f"the number ahead within its interval in {hits} of {len(scores)} runs"])


def stopped(found: dict[str, Any], fraction: float) -> dict[str, Any]:
    """Return where ``stop="hopeless"`` ends a run, and what came ahead after that; None where it does not."""
    watch, steps, end = Watch("hopeless", fraction=fraction), found["steps"], np.array(found["gaps"][-1])
    for look, share in enumerate(found["shares"][:-1]):
        if share >= AT[0]:
            live = forecast(found, look, stored=True)
            watch.foresee(live)
            if watch.reason is not None:
                came = sum(end[live.words[n][0]] > 0 for n in live.lagging)
                return {
                    "run": found["run"],
                    "saved": 1 - steps[look] / steps[-1],
                    "lag": len(live.lagging),
                    "came": came,
                }
    return {"run": found["run"], "saved": 0.0, "lag": 0, "came": 0}


def saved(ends: list[dict[str, Any]]) -> str:
    """Return what stopping saved, in words."""
    each = [
        f"{e['run']} saves {e['saved']:.0%}, of {e['lag']} behind {e['came']} came ahead" for e in ends if e["saved"]
    ]
    return f"{len(each)} of {len(ends)} runs end; {np.mean([e['saved'] for e in ends]):.0%} of all steps; " + "; ".join(
        each
    )


if __name__ == "__main__":
    main()
