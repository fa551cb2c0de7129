"""Forecasts of runs on data sets held against the runs themselves, and against the same runs in another order.

    python benchmarks/whole_runs.py --runs docs-gpt2-s:full:3e-4:linear:house,docs-llama:lora:3e-3:cosine:chat
    python benchmarks/whole_runs.py --runs miniatures  # the twenty of the protocol; smollm2: its four
    python benchmarks/whole_runs.py --runs miniatures --store docs/runs  # small records, for whole_runs_table.py
    python benchmarks/whole_runs.py --runs FOLDER:lora:5e-4:cosine --data rows.jsonl --watch held.jsonl --terms t.csv

A run is MODEL:METHOD:RATE:SCHEDULE:CORPUS, with a corpus of corpora.py; linear+16 is a schedule with 16 steps of
warm-up. Each run is done twice, in two orders of the rows (and, under LoRA, from two draws of its matrices): how far
both differ is the floor that no forecast can be under. What a folder holds already is not done again. One line a run
and budget: orders right (of the forecast, of "nothing changes", of the other order), balanced accuracy on places that
change sides or not, median error of the gap in nat over the floor's, coverage of the places' 90 % intervals, slope of
the true change over the foretold one, the share ahead.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.data.source import source_of
from borngap.files import write_whole
from borngap.model.load import Loaded, load, quiet
from borngap.pilot.draw import PilotSteps
from borngap.pilot.places.watched import find
from borngap.pilot.prepare import asked_of, forecast_run, prepare_run
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import RunJob, prepared
from borngap.training import Training
from borngap.usage.allowed import Allowed
from corpora import corpus
from whole_runs_table import Key, line, record_of, score_of

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
ORDERS = (0, 1)  # seeds of the rows' order; the forecast is of the first, with --other of the second
Files = tuple[str, str, str | None]


def main() -> None:
    parser = run_options(__doc__.splitlines()[0])
    parser.add_argument("--budgets", default="0.1,0.2", help="empty: no forecasts, the runs alone")
    parser.add_argument("--other", action="store_true", help="forecast the other order; stored in STORE/other")
    parser.add_argument("--store", type=Path, help="folder of records")
    options = parser.parse_args()
    quiet()
    for run in names(options):
        record = recorded(run, options)
        for budget in record["forecasts"]:
            score = score_of(record, budget)
            print(line(f"{run} {budget}", score) if score else f"{run} {budget}: no forecast", flush=True)
        if options.store is not None:
            folder = options.store / "other" if options.other else options.store
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{folder_name(run)}.json", json.dumps(record).encode())


def run_options(description: str) -> argparse.ArgumentParser:
    """Options that say which runs, on which data, of what shape, and where they are kept."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--data", help="rows of your own; runs are then named without a corpus")
    parser.add_argument("--watch")
    parser.add_argument("--terms")
    parser.add_argument("--allowed-field")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--limit", type=int, help="rows")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("whole-runs"))
    return parser


def names(options: argparse.Namespace) -> Sequence[str]:
    """Return the names of the runs that are asked for."""
    return {"miniatures": MINIATURES, "smollm2": SMOLLM2}.get(options.runs) or options.runs.split(",")


def recorded(run: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do a run in both orders and its forecasts, and return the record."""
    folder = options.out / f"{folder_name(run)}-{options.steps}"
    loaded, plans, settings, (data, watch, terms) = planned(run, options)
    plans = plans[::-1] if options.other else plans
    ends = [truth(loaded, data, watch, terms, plan, settings, folder / f"order-{plan.seed}.json") for plan in plans]
    name = "forecast-other" if options.other else "forecast"
    found = {
        budget: forecast_run(
            loaded.model, loaded.tokenizer, data, watch, terms=terms, training=plans[0], settings=settings,
            budget=float(budget), out=folder / f"{name}-{budget}", name=loaded.name,
        )
        for budget in (options.budgets.split(",") if options.budgets else ())
    }  # fmt: skip
    return record_of(run, found, *ends)


def folder_name(run: str) -> str:
    """Return the name of a run's folder and record."""
    return run.replace(":", "-").replace("/", "-")


def planned(run: str, options: argparse.Namespace) -> tuple[Loaded, list[Training], Piloting, Files]:
    """Read a run's name."""
    name, method, rate, schedule, *named = run.rsplit(":", 3 if options.data is not None else 4)
    loaded = load(name)
    schedule, _, warm = schedule.partition("+")
    files = (options.data, options.watch, options.terms) if options.data is not None else made(
        named[0], options.out, templated=loaded.tokenizer.chat_template is not None
    )  # fmt: skip
    allowed = "allowed" if named and named[0] != "domain" else options.allowed_field
    packing = named[0] != "chat" if named else options.packing
    settings = Piloting(
        max_length=options.max_length, packing=packing, places=300, limit=options.limit, allowed_field=allowed
    )  # fmt: skip
    plans = [Training(method=method, rate=float(rate), schedule=schedule, warmup=int(warm or 0), steps=options.steps,
                      batch_size=options.batch, seed=seed) for seed in ORDERS]  # fmt: skip
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


if __name__ == "__main__":
    main()
