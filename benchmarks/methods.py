"""Critical rates of every method without training, held against bisection; what each method's usual rate does.

    python benchmarks/methods.py --models docs-gpt2-s,docs-llama --contexts docs10 --out FOLDER
    python benchmarks/methods.py --models smollm2-135m --contexts paper10 --most 3 --methods lora,ia3 --out FOLDER

One JSON file a model and method; what a folder holds already is not done again. One line each: trained parameters;
contexts by status; |rate / bisected rate - 1| in the median and at worst; the rates that half and 90 % of the contexts
that have one take; contexts resolved at the method's usual rate; seconds of both ways.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from borngap.context import read_contexts
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.files import write_whole
from borngap.methods import METHODS
from borngap.model.load import load, quiet
from borngap.training import Training

LEFT_OUT = ("readout-only", "peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="docs-gpt2-s,docs-llama")
    parser.add_argument("--methods", default=",".join(name for name in METHODS if name not in LEFT_OUT))
    parser.add_argument("--contexts", default="docs10")
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    quiet()
    for model in options.models.split(","):
        for method in options.methods.split(","):
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"{Path(model).name}-{method}.json"
            if not path.is_file():
                write_whole(path, json.dumps(found(model, method, options), indent=1).encode())
            print(line(json.loads(path.read_text())), flush=True)


def found(model: str, method: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Search by both ways, each from a model loaded anew; what can't be applied says why."""
    training, contexts = Training(method=method, steps=options.steps), read_contexts(options.contexts)[: options.most]
    record: dict[str, Any] = {"model": model, "method": method, "steps": options.steps, "rate": training.rate}
    try:
        ways = {by: searched(model, contexts, training, by) for by in ("collocation", "bisect")}
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


def line(record: dict[str, Any]) -> str:
    head = f"{record['model']:12} {record['method']:8}"
    if "refused" in record:
        return f"{head} refused: {' '.join(record['refused'].split())}"
    ours, runs = record["collocation"], record["bisect"]
    pairs = [
        (a["rate"], b["rate"])
        for a, b in zip(ours["contexts"], runs["contexts"], strict=True)
        if a["rate"] is not None and b["rate"] is not None
    ]
    errors = [abs(math.log(a / b)) for a, b in pairs]
    rates = sorted(b for _, b in pairs)
    statuses = [Counter(row["status"] for row in way["contexts"]) for way in (ours, runs)]
    resolved = sum(rate < record["rate"] for rate in rates)
    words = f"{head} {ours['parameters']:>9,} parameters, {dict(statuses[0])} (runs: {dict(statuses[1])})"
    if not errors:
        return words
    half, most = (rates[min(len(rates) - 1, math.ceil(share * len(rates)) - 1)] for share in (0.5, 0.9))
    seconds = f"{ours['seconds']:.0f} s, runs {runs['seconds']:.0f} s"
    return (
        f"{words}, error {median(errors):.4f}, worst {max(errors):.4f}, n {len(errors)}; half take {half:.2e}, 90 % "
        f"{most:.2e}; at {record['rate']:g} {resolved} of {len(rates)}; {seconds}"
    )


if __name__ == "__main__":
    main()
