"""How good are forecasts of critical rates? Every predictor against bisection, on bundled models.

Run ``.venv/bin/python benchmarks/forecasts.py --out FILE``; ``--small`` is a smoke test. Each model, method and
criterion is appended to FILE (JSON Lines) when done, so that an interrupted run goes on; to measure one predictor
anew, remove its lines from FILE. ``--table FILE`` prints the table again, with the coverage of 90 % intervals that
were calibrated on all other models; ``--calibrate FILE`` writes ``critical/calibration.json``. Errors are log(rate /
bisected rate); bisection is to 1 %, so up to half a per cent of each error is its own.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import borngap
import stored
from borngap.critical import search as critical
from borngap.critical.search import Searcher
from borngap.model.load import quiet
from borngap.training import Training
from borngap.zoo import bundled_names
from timing import machine, table

WAYS = ("collocation", "dose", "path", "ray", "class-mean")
METHODS = ("full", "lora")
CRITERIA = ("rank", "born")


def evaluate(name: str, method: str, criterion: str, steps: int, count: int, ways: list[str]) -> list[dict[str, Any]]:
    """Bisect every context and forecast it in every way that is wanted."""
    training = Training(method=method, steps=steps, criterion=criterion)
    searcher = Searcher(borngap.load(name), borngap.read_contexts("docs10")[:count], training)
    rows = []
    for by in ways:
        begin = time.process_time()
        found = searcher.search(by)
        seconds = (time.process_time() - begin) / len(found)
        for index, entry in enumerate(found):
            c = entry.critical
            rows.append({
                "model": name, "method": method, "criterion": criterion, "steps": steps, "by": by, "context": index,
                "gold": entry.target.context.gold, "rate": c.rate, "low": c.low, "high": c.high, "status": c.status,
                "optimizer_steps": c.optimizer_steps, "forward_passes": c.forward_passes, "seconds": seconds,
            })  # fmt: skip
    return rows


def errors(rows: list[dict[str, Any]], by: str, method: str) -> list[tuple[str, float]]:
    """(model, log ratio to bisection) of every context that both have a rate for."""
    key = ("model", "method", "criterion", "steps", "context")
    truth = {tuple(r[k] for k in key): r["rate"] for r in rows if r["by"] == "bisect" and r["status"] == "ok"}
    mine = [r for r in rows if r["by"] == by and r["method"] == method and r["status"] == "ok"]
    found = [(r["model"], r["rate"], truth.get(tuple(r[k] for k in key))) for r in mine]
    # the bisected rate is the upper end of a bracket one per cent wide
    return [(model, math.log(rate / (known / math.sqrt(1.0085)))) for model, rate, known in found if known]


def half_width(values: list[float]) -> float:
    """Conformal 90 % quantile of absolute errors."""
    ordered = sorted(abs(v) for v in values)
    return ordered[min(len(ordered) - 1, math.ceil(0.9 * (len(ordered) + 1)) - 1)] if ordered else math.nan


def covered(found: list[tuple[str, float]]) -> float:
    """Share of errors within an interval that was calibrated on the other models."""
    inside = [abs(v) <= half_width([w for other, w in found if other != model]) for model, v in found]
    return statistics.mean(inside) if len({m for m, _ in found}) > 1 else math.nan


def quality(rows: list[dict[str, Any]]) -> str:
    """One line a predictor and method."""
    lines = []
    for method, by in product(METHODS, ("bisect", *WAYS)):
        mine = [r for r in rows if r["by"] == by and r["method"] == method and r["status"] != "pre-resolved"]
        if not mine:
            continue
        found = errors(rows, by, method)
        absolute = [abs(v) for _, v in found]
        spent = [statistics.mean(r[k] for r in mine) for k in ("optimizer_steps", "forward_passes", "seconds")]
        lost = sum(r["status"] != "ok" for r in mine)
        numbers = ["-"] * 4
        if by != "bisect" and found:
            spread = half_width([v for _, v in found])
            numbers = [f"{100 * np.median(absolute):.2f} %", f"{100 * max(absolute):.1f} %", f"{100 * spread:.1f} %"]
            numbers.append(f"{100 * covered(found):.0f} %")
        counts = [method, by, str(len(mine)), str(lost)]
        lines.append([*counts, *numbers, f"{spent[0]:.0f}", f"{spent[1]:.0f}", f"{spent[2]:.2f}"])
    heads = ["method", "by", "contexts", "no rate", "median", "worst", "90 %", "coverage, left out"]
    return table([*heads, "optimiser steps", "forwards", "s"], lines)


def calibrate(rows: list[dict[str, Any]]) -> None:
    """Write the half widths that intervals are made of."""
    ways = [by for by in WAYS if by != "collocation"]  # its own come from schedules.py
    widths = {by: {m: round(half_width([v for _, v in errors(rows, by, m)]), 4) for m in METHODS} for by in ways}
    about = (
        "half_width: 90th percentile of |log(rate / bisected rate)| over the bundled models, docs10, criteria "
        "rank and born; made by benchmarks/forecasts.py --calibrate. collocation: 90th percentile of the same "
        "over the course's own estimate + 5e-4, over schedules and warm-ups; made by benchmarks/schedules.py "
        "--calibrate"
    )
    path = Path(critical.__file__).parent / "calibration.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(known | {"about": about, "half_width": widths}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Evaluate what is not in the file yet; print the table."""
    parser = stored.parser(__doc__, bundled_names(), METHODS, CRITERIA)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()
    quiet()
    source = options.table or options.calibrate
    if source:
        rows = stored.read(source)
        print(quality(rows))
        if options.calibrate:
            calibrate(rows)
        return
    torch.set_num_threads(1)
    print(machine(), flush=True)
    models, methods, criteria = stored.lists(options, "models", "methods", "criteria")
    steps, count = options.steps, options.count
    if options.small:
        models, methods, criteria, steps, count = ["docs-gpt2-s"], ["lora"], ["rank"], 10, 2
    rows = stored.read(options.out)
    done = {(r["model"], r["method"], r["criterion"], r["steps"], r["by"]) for r in rows}
    for name, method, criterion in product(models, methods, criteria):
        missing = [by for by in ("bisect", *WAYS) if (name, method, criterion, steps, by) not in done]
        if missing:
            new = evaluate(name, method, criterion, steps, count, missing)
            rows += new
            stored.add(options.out, new)
            print(f"{name} {method} {criterion} done", flush=True)
    print(quality(rows))


if __name__ == "__main__":
    main()
