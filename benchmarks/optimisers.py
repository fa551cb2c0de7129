"""Which rate each optimiser takes, and how near the dose of two short runs comes to bisection.

    python benchmarks/optimisers.py --model docs-gpt2-s --contexts docs10 --out FILE
    python benchmarks/optimisers.py --table docs/methods/optimisers.json

One line an optimiser and method: contexts with a rate by both ways; the rates that half and 90 % of the contexts
take, by bisection; |log(dose / bisected)| in the median and at worst; what both ways took. FILE holds all of it; what
it holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from borngap.context import read_contexts
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.files import write_whole
from borngap.model.load import load, quiet
from borngap.optimisers import OPTIMISERS
from borngap.training import Training

WAYS = ("dose", "bisect")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="docs-gpt2-s")
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS))
    parser.add_argument("--methods", default="lora,full")
    parser.add_argument("--contexts", default="docs10")
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("optimisers.json"))
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    quiet()
    if options.table is not None:
        print(table(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    stored: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.is_file() else []
    done = {(entry["method"], entry["optimizer"]) for entry in stored}
    for method in options.methods.split(","):
        for name in options.optimisers.split(","):
            if (method, name) not in done:
                stored.append(searched(options, method, name))
                write_whole(options.out, json.dumps(stored).encode())
            own = [entry for entry in stored if (entry["method"], entry["optimizer"]) == (method, name)]
            print(table(own), flush=True)


def searched(options: argparse.Namespace, method: Any, name: Any) -> dict[str, Any]:
    """Search one optimiser's rates by both ways."""
    training = Training(method=method, optimizer=name, steps=options.steps)
    record: dict[str, Any] = {"model": options.model, "method": method, "optimizer": name, "steps": options.steps}
    try:
        searcher = Searcher(load(options.model), read_contexts(options.contexts)[: options.most], training)
    except UserError as error:
        return record | {"refused": str(error)}
    for by in WAYS:
        begun = time.perf_counter()
        found = [entry.critical for entry in searcher.search(by)]
        record[by] = {
            "seconds": round(time.perf_counter() - begun, 1), "steps": sum(rate.optimizer_steps for rate in found),
            "rates": [None if rate.rate is None else float(f"{rate.rate:.4g}") for rate in found],
            "statuses": [rate.status for rate in found],
        }  # fmt: skip
    return record | {"limit": float(f"{searcher.limit:.3g}")}


def table(stored: list[dict[str, Any]]) -> str:
    """The table of the docs."""
    heads = ["method", "optimiser", "contexts", "half take", "90 % take", "dose: median, worst", "no rate by dose",
             "steps a context: dose, bisection"]  # fmt: skip
    rows = [heads, ["---"] * len(heads)]
    for entry in stored:
        if "refused" in entry:
            rows.append([entry["method"], entry["optimizer"], "refused", *[""] * 5])
            continue
        pairs = zip(*(entry[by]["rates"] for by in WAYS), strict=True)
        both = [abs(np.log(a / b)) for a, b in pairs if a and b]
        known = sorted(rate for rate in entry["bisect"]["rates"] if rate)
        open_ = [s for s in entry["bisect"]["statuses"] if s != "pre-resolved"]
        lost = sum(s in {"abstained", "diverged", "beyond"} for s in entry["dose"]["statuses"])
        at = [f"{known[int(np.ceil(share * len(known))) - 1]:.2g}" if known else "" for share in (0.5, 0.9)]
        error = f"{median(both):.1%}, {max(both):.0%} ({len(both)})".replace("%", " %") if both else ""
        steps = " and ".join(f"{entry[by]['steps'] / max(1, len(open_)):.0f}" for by in WAYS)
        head = [entry["method"], f"`{entry['optimizer']}`", f"{len(known)} of {len(open_)}"]
        rows.append([*head, *at, error, str(lost), steps])
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    main()
