"""LoRA's rank and targets at equal alpha over rank: which rate each takes, without training.

    python benchmarks/lora_ranks.py --out docs/optimisers/ranks.json
    python benchmarks/lora_ranks.py --table docs/optimisers/ranks.json

alpha is twice the rank throughout. One line a model, rank and targets: trained parameters, the rate that half of the
contexts take, and the median over contexts of its rate over that of rank 8 on attention, with a 95 % interval by
resampling contexts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from borngap.context import read_contexts
from borngap.critical.search import Searcher
from borngap.files import write_whole
from borngap.model.load import load, quiet
from borngap.training import Training
from methods import against, typical

MODELS, RANKS = ("docs-gpt2-s", "docs-llama"), (1, 4, 8, 32)
PLAN = [(rank, "attention") for rank in RANKS] + [(8, "all-linear")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", default="docs10")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("ranks.json"))
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    quiet()
    if options.table is None:
        rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.is_file() else []
        done = {(row["model"], row["rank"], row["targets"]) for row in rows}
        for model in MODELS:
            for rank, targets in PLAN:
                if (model, rank, targets) not in done:
                    rows.append(searched(options, model, rank, targets))
                    write_whole(options.out, json.dumps(rows).encode())
    print(table(json.loads((options.table or options.out).read_text(encoding="utf-8"))))


def searched(options: argparse.Namespace, model: str, rank: int, targets: str) -> dict[str, Any]:
    training = Training(
        method="lora", lora_rank=rank, lora_alpha=2.0 * rank, lora_targets=(targets,), steps=options.steps
    )
    searcher = Searcher(load(model), read_contexts(options.contexts), training)
    rates = [entry.critical.rate for entry in searcher.search()]
    kept = [None if rate is None else float(f"{rate:.4g}") for rate in rates]
    return {"model": model, "rank": rank, "targets": targets, "parameters": len(searcher.land.base), "rates": kept}


def table(rows: list[dict[str, Any]]) -> str:
    """The table of the docs."""
    plain = {row["model"]: row["rates"] for row in rows if (row["rank"], row["targets"]) == (8, "attention")}
    heads = ["model", "rank", "targets", "trained", "half take", "over rank 8 on attention (95 %)", "n"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        ratios = against(row["rates"], plain[row["model"]])
        ratio = "" if set(ratios) == {1.0} else str(typical(ratios))
        half = sorted(rate for rate in row["rates"] if rate)[(len(ratios) + 1) // 2 - 1]
        head = [row["model"], str(row["rank"]), row["targets"], f"{row['parameters']:,}"]
        lines.append([*head, f"{half:.1e}", ratio, str(len(ratios))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
