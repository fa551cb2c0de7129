"""Do forecasts hold under schedules and warm-up? Intervals and promises of collocation against real runs.

Run ``.venv/bin/python benchmarks/schedules.py --out FILE``; ``--small`` is a smoke test. Each model, method, criterion,
schedule and warm-up is appended to FILE (JSON Lines) when done, so that an interrupted campaign goes on. ``--table
FILE`` prints the tables again; ``--calibrate FILE`` writes collocation's part of ``critical/calibration.json``.

The truth of a context is the rate at which its largest margin within N steps is zero, by secants of real runs to 0.1 %,
begun at the forecast. A promise is a forecast at a random rate, 1.02 to 1.5 times the true one (seeded), against the
end of a real run at that rate.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import borngap
import stored
from borngap.critical import search as critical
from borngap.critical.calibration import FLOOR, collocation_half_width
from borngap.critical.forecast import at_rate
from borngap.critical.record import prospect
from borngap.critical.search import Searcher
from borngap.judge.trajectory import MARGINS
from borngap.model.load import quiet
from borngap.schedule import SCHEDULES
from borngap.train.stacked import Lane, pays, stacked
from borngap.training import Training
from borngap.zoo import bundled_names
from forecasts import half_width
from timing import machine, table

METHODS, CRITERIA, WARMUPS = ("lora", "full"), ("rank", "born"), (0, 1, 5, 10, 25)
STEPS = 50
KEY = ("model", "method", "criterion", "schedule", "warmup")


def margins(search: Searcher, wanted: list[tuple[int, float]]) -> list[list[float]]:
    """Margins after every step of real runs, one (context, rate) each."""
    name, seed = MARGINS[search.training.criterion], search.training.seed
    search.land.home()
    if pays(search.tuner):
        found: list[list[float]] = [[] for _ in wanted]
        for number, step in stacked(search.tuner, [Lane(i, rate, seed) for i, rate in wanted], observe="margins"):
            found[number].append(step.records[wanted[number][0]][name])
        return found
    return [
        [step.records[i][name] for step in search.tuner.alone(i, rate=rate, observe="margins")] for i, rate in wanted
    ]


def truths(search: Searcher, start: dict[int, float]) -> dict[int, float]:
    """Critical rates by secants on the largest margin of a run over the logarithm of the rate."""
    points = {i: [] for i in start}
    ask = [(i, math.log(rate) + offset) for i, rate in start.items() for offset in (-0.004, 0.004)]
    found: dict[int, float] = {}
    for _ in range(8):
        for (i, x), series in zip(ask, margins(search, [(i, math.exp(x)) for i, x in ask]), strict=True):
            points[i].append((x, max(series[1:])))
        ask = []
        for i, seen in points.items():
            if i in found:
                continue
            (x1, y1), (x2, y2) = sorted(seen, key=lambda p: abs(p[1]))[:2]
            x = x1 - y1 * (x2 - x1) / (y2 - y1) if y1 != y2 else x1
            if min(abs(x - p) for p, _ in seen) < 5e-3 and abs(x1 - x2) < 2e-2:
                found[i] = math.exp(x)
            else:
                ask.append((i, x1 + max(-0.3, min(0.3, x - x1))))
        if not ask:
            break
    return found


def evaluate(name: str, method: str, criterion: str, schedule: str, warmup: int, count: int) -> list[dict[str, Any]]:
    """One row a context that the base model does not have yet."""
    training = Training(method=method, steps=STEPS, criterion=criterion, schedule=schedule, warmup=warmup)
    search = Searcher(borngap.load(name), borngap.read_contexts("docs10")[:count], training)
    begin = time.process_time()
    with search.land.evaluating():
        rates = {i: search.one(i) for i in search.contexts}
    seconds = (time.process_time() - begin) / len(rates)
    rates = {i: c for i, c in rates.items() if c.status != "pre-resolved"}
    known = truths(search, {i: c.rate for i, c in rates.items() if c.rate is not None})
    lottery = random.Random(f"{name} {method} {criterion} {schedule} {warmup}")
    multiples = {i: math.exp(lottery.uniform(math.log(1.02), math.log(1.5))) for i in rates}
    runs = margins(search, [(i, multiples[i] * known[i]) for i in known])
    rows = []
    for i, c in rates.items():
        row = dict(zip(KEY, (name, method, criterion, schedule, warmup), strict=True)) | {
            "context": i, "gold": search.tuner.targets[i].context.gold, "rate": c.rate, "low": c.low, "high": c.high,
            "status": c.status, "by": c.by, "forward_passes": c.forward_passes, "seconds": seconds,
            "error": c.high and math.log(c.high / c.rate) / collocation_half_width(1.0 - FLOOR, method) - FLOOR,
            "truth": known.get(i),
        }  # fmt: skip
        if i in known:
            promise, series = promised(search, i, multiples[i] * known[i], c), runs[list(known).index(i)]
            row |= {"multiple": multiples[i], **promise, "ahead": series[-1] > 0, "met": max(series[1:]) > 0}
        rows.append(row)
    return rows


def promised(search: Searcher, index: int, rate: float, c: critical.Critical) -> dict[str, Any]:
    """What a forecast at a rate says: prospect and outcome."""
    settings, tuner = search.training, search.tuner
    search.training = replace(settings, rate=rate)
    with search.land.evaluating():
        end = at_rate(search, index)
    search.training = settings
    assert tuner is search.tuner
    return {"prospect": prospect(c, rate), "outcome": end.outcome, "outcome_by": end.by}


def errors(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Rows solved by collocation, with log(rate / truth)."""
    return [(r, math.log(r["rate"] / r["truth"])) for r in rows if r["truth"] and r["by"] == "collocation"]


def grouped(rows: list[dict[str, Any]], *names: str) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Rows by some of their keys, in order."""
    for key in dict.fromkeys(tuple(r[n] for n in names) for r in rows):
        yield key, [r for r in rows if tuple(r[n] for n in names) == key]


def quality(rows: list[dict[str, Any]], *names: str) -> str:
    """One line a group: errors, how many intervals hold, promises kept."""
    lines = []
    for key, group in grouped(rows, *names):
        found = errors(group)
        width = {m: collocation_half_width(1.0 - FLOOR, m) for m in METHODS}
        inside = [abs(e) <= width[r["method"]] * (r["error"] + FLOOR) for r, e in found]
        promises = [r["ahead"] for r in group if r.get("prospect") == "will resolve" and r["outcome"] != "relapsed"]
        absolute = [abs(e) for _, e in found]
        spent = statistics.mean(r["forward_passes"] for r in group)
        bias, broken = statistics.mean(e for _, e in found), len(promises) - sum(promises)
        lines.append([
            *map(str, key), str(len(group)), str(len(group) - len(found)), f"{100 * bias:+.2f} %",
            f"{100 * statistics.median(absolute):.2f} %", f"{100 * max(absolute):.1f} %",
            f"{100 * statistics.mean(inside):.0f} %", f"{broken} of {len(promises)}", f"{spent:.0f}",
        ])  # fmt: skip
    heads = ["contexts", "not solved", "bias", "median", "worst", "intervals hold", "promises broken", "forwards"]
    return table([*names, *heads], lines)


def scale(rows: list[dict[str, Any]]) -> float:
    """Conformal 90 % quantile of errors over the courses' own estimates of them."""
    return half_width([e / (r["error"] + FLOOR) for r, e in errors(rows)])


def calibrate(rows: list[dict[str, Any]]) -> None:
    """Write the scales that collocation's intervals are made of."""
    path = Path(critical.__file__).parent / "calibration.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    found = {method: round(scale([r for r in rows if r["method"] == method]), 3) for method in METHODS}
    path.write_text(json.dumps(known | {"collocation": found}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Evaluate what is not in the file yet; print the tables."""
    parser = stored.parser(__doc__, bundled_names(), METHODS, CRITERIA)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--schedules", default=",".join(SCHEDULES))
    parser.add_argument("--warmups", default=",".join(map(str, WARMUPS)))
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    rows = stored.read(options.table or options.calibrate or options.out)
    if not (options.table or options.calibrate):
        print(machine(), flush=True)
        wanted = stored.lists(options, "methods", "criteria", "warmups", "schedules", "models")
        count = options.count
        if options.small:
            wanted, count = [["lora"], ["rank"], ["10"], ["cosine"], ["docs-gpt2-s"]], 2
        done = {tuple(r[k] for k in KEY) for r in rows}
        for method, criterion, warmup, schedule, name in product(*wanted):
            if (name, method, criterion, schedule, int(warmup)) in done:
                continue
            new = evaluate(name, method, criterion, schedule, int(warmup), count)
            rows += new
            stored.add(options.out, new)
            print(f"{name} {method} {criterion} {schedule} {warmup} done", flush=True)
    if options.calibrate:
        calibrate(rows)
    print(quality(rows, "method", "schedule"), quality(rows, "method", "schedule", "warmup"), sep="\n\n")


if __name__ == "__main__":
    main()
