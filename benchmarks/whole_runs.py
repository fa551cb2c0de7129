"""Forecasts of runs on data sets held against the runs themselves, and against the same runs in another order.

    python benchmarks/whole_runs.py --runs docs-gpt2-s:full:3e-4:linear:house,docs-llama:lora:3e-3:cosine:chat
    python benchmarks/whole_runs.py --runs miniatures  # the twenty of the protocol; smollm2: its four
    python benchmarks/whole_runs.py --runs FOLDER:lora:5e-4:cosine --data rows.jsonl --watch held.jsonl --terms t.csv

A run is MODEL:METHOD:RATE:SCHEDULE:CORPUS, with a corpus of corpora.py. Each run is done twice, in two orders of the
rows (and, under LoRA, from two draws of its matrices): how far both differ is the floor that no forecast can be under.
What a folder holds already is not done again. One line a run and budget, and one over all runs of a budget: orders
right (of the forecast, of "nothing changes", of the other order), balanced accuracy on places that change sides or not,
median error of the gap in nat over the floor's, coverage of the places' 90 % intervals, slope of the true change over
the foretold one, the share ahead.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from borngap.data.source import source_of
from borngap.model.load import Loaded, load, quiet
from borngap.pilot.draw import PilotSteps
from borngap.pilot.pilotfolder import RunForecast
from borngap.pilot.prepare import asked_of, forecast_run, prepare_run
from borngap.pilot.settings import Piloting
from borngap.pilot.watched import find
from borngap.pilot.wholerun import RunJob, prepared
from borngap.training import Training
from borngap.usage.allowed import Allowed
from corpora import corpus

MINIATURES = (
    "docs-gpt2-s:full:3e-4:linear:house", "docs-llama:lora:6e-3:linear:house", "docs-llama:full:3e-4:cosine:chat",
    "docs-gpt2-s:lora:6e-3:linear:chat", "docs-gpt2-s:full:3e-4:cosine:domain", "docs-llama:lora:3e-3:cosine:domain",
    "docs-gpt2-s:lora:3e-3:linear:house", "docs-llama:full:1e-4:linear:house", "docs-gpt2-s:full:1e-4:linear:chat",
    "docs-llama:lora:3e-3:linear:chat", "docs-gpt2-s:lora:6e-3:constant:domain", "docs-llama:full:1e-4:constant:domain",
    "docs-llama:full:3e-4:constant:house", "docs-gpt2-s:full:1e-4:cosine:house", "docs-llama:lora:6e-3:cosine:chat",
    "docs-gpt2-s:full:3e-4:constant:chat", "docs-llama:full:3e-4:linear:domain", "docs-gpt2-s:lora:3e-3:linear:domain",
    "docs-gpt2-s:lora:6e-3:cosine:house", "docs-llama:lora:3e-3:constant:house",
)  # fmt: skip
SMOLLM2 = (
    "smollm2-135m:lora:5e-4:cosine:house", "smollm2-135m:lora:5e-4:linear:chat",
    "smollm2-135m:lora:1e-3:constant:domain", "smollm2-135m:lora:1e-3:linear:house",
)  # fmt: skip
HELD_OUT = 260  # rows that are looked at
ALL = 10**9  # tokens that a look may read: all places
ORDERS = (0, 1)  # seeds of the rows' order; the forecast is of the first
Key = tuple[int, int, str, str]
Files = tuple[str, str, str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--budgets", default="0.1,0.2")
    parser.add_argument("--data")
    parser.add_argument("--watch")
    parser.add_argument("--terms")
    parser.add_argument("--allowed-field")
    parser.add_argument("--limit", type=int, help="rows")
    parser.add_argument("--out", type=Path, default=Path("whole-runs"))
    options = parser.parse_args()
    quiet()
    scores: dict[float, list[dict[str, Any]]] = {}
    runs = {"miniatures": MINIATURES, "smollm2": SMOLLM2}.get(options.runs) or options.runs.split(",")
    for run in runs:
        for budget, score in scored(run, options):
            scores.setdefault(budget, []).append(score)
            print(line(f"{run} {budget:g}", score), flush=True)
    for budget, found in scores.items():
        print(line(f"all {len(found)} runs, {budget:g}", pooled(found)))


def scored(run: str, options: argparse.Namespace) -> Any:
    """Yield budget and score of each forecast of a run."""
    folder = options.out / f"{run.replace(':', '-').replace('/', '-')}-{options.steps}"
    loaded, plans, settings, (data, watch, terms) = planned(run, options)
    ends = [truth(loaded, data, watch, terms, plan, settings, folder / f"order-{plan.seed}.json") for plan in plans]
    for budget in map(float, options.budgets.split(",")):
        found = forecast_run(
            loaded.model, loaded.tokenizer, data, watch, terms=terms, training=plans[0], settings=settings,
            budget=budget, out=folder / f"forecast-{budget:g}", name=loaded.name,
        )  # fmt: skip
        yield budget, score_of(found, *ends)


def planned(run: str, options: argparse.Namespace) -> tuple[Loaded, list[Training], Piloting, Files]:
    """Read a run's name."""
    name, method, rate, schedule, *named = run.rsplit(":", 3 if options.data is not None else 4)
    loaded = load(name)
    files = (options.data, options.watch, options.terms) if options.data is not None else made(
        named[0], options.out, templated=loaded.tokenizer.chat_template is not None
    )  # fmt: skip
    allowed = "allowed" if named and named[0] != "domain" else options.allowed_field
    packing = named[0] != "chat" if named else options.packing
    settings = Piloting(
        max_length=options.max_length, packing=packing, places=300, limit=options.limit, allowed_field=allowed
    )  # fmt: skip
    plans = [Training(method=method, rate=float(rate), schedule=schedule, steps=options.steps, batch_size=options.batch,
                      seed=seed) for seed in ORDERS]  # fmt: skip
    return loaded, plans, settings, files


def made(name: str, root: Path, *, templated: bool) -> Files:
    """Write a corpus, unless it is there: rows, held-out rows and terms."""
    folder = root / "data" / (f"{name}-templated" if templated else name)
    if not (folder / "held-out.jsonl").exists():
        found = corpus(name, templated)
        replace(found, held_out=found.held_out[:HELD_OUT]).save(folder)
    return str(folder / "train.jsonl"), str(folder / "held-out.jsonl"), str(folder / "style.csv")


def truth(
    loaded: Loaded, data: str, watch: str, terms: str | None, training: Training, settings: Piloting, file: Path
) -> dict[Key, float]:
    """Return the gaps of all places at the end of a run."""
    if not file.exists():
        asked = asked_of(watch, terms, None, Allowed(None, settings.allowed_field))
        job = prepare_run(loaded, source_of(data), asked, training, settings)
        gaps = [[*key, gap] for key, gap in ended(job).items()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(gaps))
    return {(row, at, gold, rival): gap for row, at, gold, rival, gap in json.loads(file.read_text())}


def ended(job: RunJob) -> dict[Key, float]:
    """Do a run and look at every place there is."""
    chosen = Piloting(**vars(job.settings) | {"places": ALL})
    lookout = find(job.loaded, job.asked, job.plan.training, chosen, ALL).lookout
    with prepared(job) as trainee:
        trainee.train(job.plan, PilotSteps(job.plan.steps, tuple(job.plan.rates), 1.0), job.plan.training.seed)
        gaps = lookout.look(trainee.model).gaps
    keys = [(s.example.row.number, s.offset, s.gold, s.rival) for s in lookout.spots]
    return dict(zip(keys, gaps.tolist(), strict=True))


def score_of(found: RunForecast, run: dict[Key, float], other: dict[Key, float]) -> dict[str, Any]:
    """Hold a forecast against its run."""
    places = [p for p in found.summary["places"] if p["forecast_gap"] is not None]
    keys = [(p["row"], p["offset"], p["gold"], p["rival"]) for p in places]
    known = [i for i, key in enumerate(keys) if key in run and key in other]
    base, gap, low, high = (
        np.array([places[i][name] for i in known]) for name in ("base_gap", "forecast_gap", "low", "high")
    )
    end, again = (np.array([gaps[keys[i]] for i in known]) for gaps in (run, other))
    due = np.array([places[i]["kind"] != "right" for i in known], dtype=bool)
    told, entry = found.summary["all"], found.summary
    return {
        "base": base, "gap": gap, "end": end, "again": again, "inside": (low < end) & (end < high),
        "ahead": told["ahead_after"], "low": told["low"], "high": told["high"],
        "ahead_true": float((end[due] > 0).mean()) if due.any() else None, "of_run": entry["cost"]["of_run"],
        "seconds": entry["cost"]["seconds"],
    }  # fmt: skip


def pooled(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the places of all runs together."""
    joined = {name: np.concatenate([s[name] for s in scores]) for name in ("base", "gap", "end", "again", "inside")}
    return joined | dict.fromkeys(("ahead", "low", "high", "ahead_true")) | {
        name: float(np.mean([s[name] for s in scores])) for name in ("of_run", "seconds")
    }  # fmt: skip


def line(name: str, s: dict[str, Any]) -> str:
    """Return a score in a line."""
    if not len(s["base"]):
        return f"{name}: no forecast"
    sides = {key: s[key] > 0 for key in ("base", "gap", "end", "again")}
    right = {key: (sides[key] == sides["end"]).mean() for key in ("gap", "base", "again")}
    flips, told = sides["base"] != sides["end"], sides["base"] != sides["gap"]
    halves = [(told == flips)[part].mean() for part in (flips, ~flips) if part.any()]
    near = np.abs(s["base"]) < 1
    error, floor = np.median(np.abs(s["gap"] - s["end"])), np.median(np.abs(s["again"] - s["end"]))
    change, foretold = s["end"] - s["base"], s["gap"] - s["base"]
    slope = (change * foretold).sum() / (foretold**2).sum()
    share = "" if s["ahead"] is None else (
        f"; ahead {s['ahead']:.1%} ({s['low']:.1%} to {s['high']:.1%}), truth {s['ahead_true']:.1%}"
    )  # fmt: skip
    close = (sides["gap"] == sides["end"])[near].mean()
    return (
        f"{name}: {len(near)} places, {int(flips.sum())} flips; right {right['gap']:.3f} (nothing {right['base']:.3f}, "
        f"other order {right['again']:.3f}; near even {close:.3f}); balanced {np.mean(halves):.3f}; error {error:.3f} "
        f"over {floor:.3f}; in the interval {s['inside'].mean():.3f}; slope {slope:.2f}{share}; {s['of_run']:.3f} of "
        f"the run, {s['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
