"""Critical rates of every method without training, held against bisection; what each method's usual rate does.

    python benchmarks/methods.py --models docs-gpt2-s,docs-llama --contexts docs10 --out FOLDER
    python benchmarks/methods.py --models smollm2-135m --contexts paper10 --most 3 --methods lora,ia3 --out FOLDER

    python benchmarks/methods.py --solve FOLDER        # collocation anew, for what is stored; bisected rates stay
    python benchmarks/methods.py --truths FOLDER       # adds to each bisected rate the rate by secants, to 0.1 %
    python benchmarks/methods.py --table docs/methods  # the table of docs/methods.md, of what is stored there
    python benchmarks/methods.py --coverage docs/methods  # how often collocation's 90 % intervals hold the true rate

One JSON file a model and method; what a folder holds already is not done again. One line each: trained parameters;
contexts by status; |rate / bisected rate - 1| in the median and at worst; the rates that half and 90 % of the contexts
that have one take; contexts resolved at the method's usual rate; seconds of both ways.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from borngap.context import read_contexts
from borngap.critical.ofmethods import SHARES, MethodRates
from borngap.critical.record import CriticalRate
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.files import write_whole
from borngap.methods import METHODS
from borngap.model.load import load, quiet
from borngap.resample import percentile_interval
from borngap.training import Training
from schedules import truths

WAYS = ("collocation", "bisect")
LEFT_OUT = ("readout-only", "peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="docs-gpt2-s,docs-llama")
    parser.add_argument("--methods", default=",".join(name for name in METHODS if name not in LEFT_OUT))
    parser.add_argument("--contexts", default="docs10")
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--solve", type=Path)
    parser.add_argument("--truths", type=Path)
    parser.add_argument("--coverage", type=Path)
    options = parser.parse_args()
    if options.coverage is not None:
        print(coverage(options.coverage))
        return
    if options.table is not None:
        print(markdown(options.table))
        return
    quiet()
    if options.solve is not None:
        solve_anew(options)
        return
    if options.truths is not None:
        add_truths(options)
        return
    for model in options.models.split(","):
        for method in options.methods.split(","):
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"{Path(model).name}-{method.replace('+', '-plus')}.json"
            if not path.is_file():
                write_whole(path, json.dumps(found(model, method, options), indent=1).encode())
            print(line(json.loads(path.read_text())), flush=True)


def found(model: str, method: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Search by both ways, each from a model loaded anew; what can't be applied says why."""
    training, contexts = Training(method=method, steps=options.steps), read_contexts(options.contexts)[: options.most]
    record: dict[str, Any] = {"model": model, "method": method, "steps": options.steps, "rate": training.rate}
    try:
        ways = {by: searched(model, contexts, training, by) for by in WAYS}
    except UserError as error:
        return record | {"refused": str(error)}
    return record | ways


def searched(model: str, contexts: Sequence[Any], training: Training, by: Any) -> dict[str, Any]:
    searcher = Searcher(load(model), contexts, replace(training))
    begun = time.perf_counter()
    rates = [entry.critical for entry in searcher.search(by)]
    seconds = time.perf_counter() - begun
    rows = [{"status": rate.status, "rate": rate.rate, "low": rate.low, "high": rate.high, "why": rate.why}
            for rate in rates]  # fmt: skip
    return {"parameters": len(searcher.land.base), "seconds": seconds, "contexts": rows}


def solve_anew(options: argparse.Namespace) -> None:
    """Solve by collocation again what is stored of the models and methods given."""
    models, methods = options.models.split(","), options.methods.split(",")
    for path in sorted(options.solve.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "refused" in record or record["model"] not in models or record["method"] not in methods:
            continue
        contexts = read_contexts(options.contexts)[: len(record["bisect"]["contexts"])]
        training = Training(method=record["method"], steps=record["steps"])
        record["collocation"] = searched(record["model"], contexts, training, "collocation")
        write_whole(path, json.dumps(record, indent=1).encode())
        print(line(record), flush=True)


def add_truths(options: argparse.Namespace) -> None:
    """Store beside each bisected rate the one at which the largest margin of a run is zero, by secants of real runs."""
    for path in sorted(options.truths.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        chosen = options.methods.split(",")
        if "refused" in record or record["method"] not in chosen or "true" in record["bisect"]["contexts"][0]:
            continue
        training = Training(method=record["method"], steps=record["steps"])
        contexts = record["bisect"]["contexts"]
        searcher = Searcher(load(record["model"]), read_contexts(options.contexts)[: len(contexts)], training)
        start = {i: row["rate"] for i, row in enumerate(contexts) if row["rate"]}
        with searcher.land.evaluating():
            found = truths(searcher, start)
        for i, row in enumerate(contexts):
            row["true"] = None if i not in found else float(f"{found[i]:.5g}")
        write_whole(path, json.dumps(record, indent=1).encode())
        print(record["model"], record["method"], len(found), "of", len(start), flush=True)


def coverage(folder: Path) -> str:
    """A line a method, and all: contexts, intervals that hold the true rate, and the factor that would hold 90 %."""
    rows = [heads := ["method", "n", "held", "interval's width over LoRA's that would hold 90 %"], ["---"] * len(heads)]
    ratios: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "collocation" not in record:
            continue
        for told, ran in zip(record["collocation"]["contexts"], record["bisect"]["contexts"], strict=True):
            if told["rate"] and ran.get("true"):
                half = np.log(told["high"] / told["low"]) / 2
                ratios.setdefault(record["method"], []).append(float(abs(np.log(told["rate"] / ran["true"])) / half))
    ratios["all"] = [ratio for own in ratios.values() for ratio in own]
    whole = ("full", "lora", "all")
    ratios["all but full and LoRA"] = [r for name, own in ratios.items() if name not in whole for r in own]
    for name, own in ratios.items():
        held, wanted = sum(ratio <= 1 for ratio in own), float(np.quantile(own, 0.9))
        rows.append([name, str(len(own)), f"{held} ({held / len(own):.0%})".replace("%", " %"), f"{wanted:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def both(record: dict[str, Any]) -> list[tuple[float, float]]:
    """Rates by both ways, of contexts that have one by both."""
    ways = (record["collocation"]["contexts"], record["bisect"]["contexts"])
    return [(a["rate"], b["rate"]) for a, b in zip(*ways, strict=True) if a["rate"] and b["rate"]]


def taken(record: dict[str, Any]) -> MethodRates:
    """The method's rates by real runs."""
    rows = record["bisect"]["contexts"]
    rates = tuple(CriticalRate(r["rate"], r["low"], r["high"], r["status"], "bisect", r["why"]) for r in rows)
    return MethodRates(record["method"], record["rate"], record["bisect"]["parameters"], rates)


def line(record: dict[str, Any]) -> str:
    """What a terminal shows of a record."""
    head = f"{record['model']:12} {record['method']:8}"
    if "refused" in record:
        return f"{head} refused: {' '.join(record['refused'].split())}"
    statuses = [dict(Counter(row["status"] for row in record[by]["contexts"])) for by in WAYS]
    seconds = " and ".join(f"{record[by]['seconds']:.0f} s" for by in WAYS)
    return f"{head} {' | '.join(cells(record))}; {statuses[0]}, by runs {statuses[1]}; {seconds}"


def cells(record: dict[str, Any]) -> list[str]:
    """Error of collocation, rates that half and 90 % take with intervals, and what the usual rate resolves."""
    if "refused" in record:
        return ["refused", "", "", ""]
    errors = [abs(a / b - 1) for a, b in both(record)]
    rates = taken(record)
    error = f"{median(errors):.2%}, {max(errors):.1%} ({len(errors)})".replace("%", " %")
    half, most = (rates.quantile(share) for share in SHARES)
    low, high = (f"{end:.1e}" if end else "beyond" for end in half.interval)
    return [
        error,
        f"{half.rate:.1e} ({low} to {high})" if half.rate else "beyond",
        f"{most.rate:.1e}" if most.rate else "beyond",
        f"{rates.at_usual} of {len(rates.known)}",
    ]


def over(record: dict[str, Any], plain: dict[str, Any]) -> str:
    """Median over contexts of the bisected rate over LoRA's, with its interval, and how many are smaller."""
    if "refused" in record or record["method"] == "lora":
        return ""
    ratios = against(*([row["rate"] for row in r["bisect"]["contexts"]] for r in (record, plain)))
    return f"{typical(ratios)}; smaller at {sum(ratio < 1 for ratio in ratios)} of {len(ratios)}"


def against(rates: Sequence[float | None], plain: Sequence[float | None]) -> list[float]:
    """Each context's rate over another, of contexts that have both."""
    return [a / b for a, b in zip(rates, plain, strict=True) if a and b]


@dataclass(frozen=True)
class Ratio:
    """The median of ratios over contexts, and its 95 % interval by resampling contexts; None of a single one."""

    middle: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.middle:.2g}{f' ({self.low:.2g} to {self.high:.2g})' if self.low and self.high else ''}"


def typical(ratios: Sequence[float]) -> Ratio:
    """The median of ratios, on their logarithms."""
    logs = np.log(ratios)
    ends = percentile_interval(lambda drawn: float(np.median(logs[drawn])), len(logs))
    low, high = (None if end is None else float(np.exp(end)) for end in ends)
    return Ratio(float(np.exp(np.median(logs))), low, high)


def markdown(folder: Path) -> str:
    """The table of the docs."""
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    order = {name: number for number, name in enumerate(METHODS)}
    stored.sort(key=lambda record: (record["model"], order[record["method"]]))
    plain = {record["model"]: record for record in stored if record["method"] == "lora"}
    heads = ["model", "method", "trained", "error, worst (n)", "half take (95 %)", "90 % take", "over LoRA's (95 %)",
             "usual rate: resolved"]  # fmt: skip
    rows = [heads, ["---"] * len(heads)]
    for record in stored:
        trained = "" if "refused" in record else f"{record['bisect']['parameters']:,}"
        error, half, most, resolved = cells(record)
        usual = f"{record['rate']:g}: {resolved}" if resolved else ""
        ratio = over(record, plain[record["model"]]) if record["model"] in plain else ""
        rows.append([record["model"], f"`{record['method']}`", trained, error, half, most, ratio, usual])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
