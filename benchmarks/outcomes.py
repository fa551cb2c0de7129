"""Do forecast outcomes come true? Forecasts against real runs, from a quarter to four times the critical rate.

Run ``.venv/bin/python benchmarks/outcomes.py --out FILE``; ``--small`` is a smoke test. Each model, method and
criterion is appended to FILE (JSON Lines) when done; ``--table FILE`` prints the table again.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import product
from typing import Any

import torch

import borngap
import stored
from borngap.critical import forecast as forecasts
from borngap.critical.search import Searcher
from borngap.judge.trajectory import from_records
from borngap.judge.verdicts import outcome
from borngap.model.load import quiet
from borngap.training import Training
from timing import machine, table

FACTORS = (0.25, 0.7, 1.4, 4.0)


def evaluate(name: str, method: str, criterion: str, count: int, steps: int) -> list[dict[str, Any]]:
    """Forecast and train every context at every multiple of its critical rate."""
    training = Training(method=method, steps=steps, criterion=criterion)
    searcher = Searcher(borngap.load(name), borngap.read_contexts("docs10")[:count], training)
    rates = [entry.critical.rate for entry in searcher.search()]
    rows = []
    for index, factor in product(searcher.contexts, FACTORS):
        rate = rates[index]
        if rate is None:  # ahead already: the standard rate stands in
            rate = training.learning_rate
        searcher.training = replace(training, rate=factor * rate)
        begin = time.process_time()
        with searcher.land.evaluating():
            mine = forecasts.at_rate(searcher, index)
        middle = time.process_time()
        steps_ = list(searcher.tuner.alone(index, rate=factor * rate))
        path = from_records([(step.step, step.records[index]) for step in steps_])
        true, last = outcome(path, criterion), steps_[-1].records[index]
        rows.append({
            "model": name, "method": method, "criterion": criterion, "context": index, "factor": factor,
            "rate": factor * rate, "forecast": mine.outcome, "by": mine.by, "true": true,
            "born_gap": [mine.values.get("born_gap"), last["born_gap"]],
            "drag": [mine.values.get("drag"), last["drag"]],
            "logit_gap": [mine.values.get("logit_gap"), last["logit_gap"]],
            "seconds": [middle - begin, time.process_time() - middle],
        })  # fmt: skip
    return rows


def judged(rows: list[dict[str, Any]]) -> str:
    """One line a method and criterion, and every miss."""
    lines = []
    for method, criterion in product(("full", "lora"), ("rank", "born")):
        mine = [r for r in rows if r["method"] == method and r["criterion"] == criterion]
        solved = [r for r in mine if r["by"] == "collocation"]
        if not solved:
            continue
        right = sum(r["forecast"] == r["true"] for r in solved)
        gaps = [abs(r["born_gap"][0] - r["born_gap"][1]) for r in solved if None not in r["born_gap"]]
        lines.append([
            method, criterion, str(len(mine)), str(len(mine) - len(solved)), f"{100 * right / len(solved):.1f} %",
            f"{statistics.median(gaps):.4f}", f"{statistics.quantiles(gaps, n=10)[-1]:.3f}",
            f"{statistics.mean(r['seconds'][0] for r in solved):.2f}",
            f"{statistics.mean(r['seconds'][1] for r in solved):.2f}",
        ])  # fmt: skip
    heads = ["method", "criterion", "runs", "not solved", "outcome right", "Born gap at the end: median error", "90 %"]
    missed = [r for r in rows if r["by"] == "collocation" and r["forecast"] != r["true"]]
    misses = [
        f"{r['model']} {r['method']} {r['criterion']}, context {r['context'] + 1} at {r['factor']:g} times its rate: "
        f"forecast {r['forecast']}, came {r['true']} (Born gap {r['born_gap'][0]:+.4f}, {r['born_gap'][1]:+.4f})"
        for r in missed
    ]
    return "\n".join([table([*heads, "forecast (s)", "run (s)"], lines), "", *misses])


def main() -> None:
    """Evaluate what is not in the file yet; print the table."""
    models = ("docs-gpt2-s", "docs-llama", "docs-neox-s")
    parser = stored.parser(__doc__, models, ("lora", "full"), ("rank", "born"))
    options = parser.parse_args()
    quiet()
    rows = stored.read(options.table or options.out)
    if options.table:
        print(judged(rows))
        return
    torch.set_num_threads(1)
    print(machine(), flush=True)
    models, methods, criteria = stored.lists(options, "models", "methods", "criteria")
    count, steps = 10, 50
    if options.small:
        models, methods, criteria, count, steps = ["docs-gpt2-s"], ["lora"], ["rank"], 1, 10
    done = {(r["model"], r["method"], r["criterion"]) for r in rows}
    for method, criterion, name in product(methods, criteria, models):
        if (name, method, criterion) not in done:
            new = evaluate(name, method, criterion, count, steps)
            rows += new
            stored.add(options.out, new)
            print(f"{name} {method} {criterion} done", flush=True)
    print(judged(rows))


if __name__ == "__main__":
    main()
