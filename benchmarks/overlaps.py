"""What goes with the jump ratio from context to context: rank correlations in a stored study, alone and partial.

Run ``.venv/bin/python benchmarks/overlaps.py --study docs/results/gemma``. Of each rate it gives Spearman's
rho of jump ratio with overlap and with what might stand behind it, and overlap's with that held fixed (ranks, residuals
of a straight line); p by permutation of the residuals, intervals by drawing pairs of words again, since contexts of one
pair have one overlap.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import rankdata

from borngap.experiments.study import read_study
from timing import table

BEHIND = {
    "gold's start probability": "base_gold_probability",
    "gold's end probability": "final_gold_probability",
    "logit gap": "base_logit_gap",
}
DRAWS = 2000


def residuals(values: np.ndarray, held: np.ndarray | None) -> np.ndarray:
    """Ranks less what a straight line in the ranks of another quantity explains."""
    ranks = rankdata(values) - (len(values) + 1) / 2
    if held is None:
        return ranks
    other = rankdata(held) - (len(held) + 1) / 2
    return ranks - other * (ranks @ other) / (other @ other)


def correlation(x: np.ndarray, y: np.ndarray, held: np.ndarray | None = None) -> float:
    """Spearman's rho, partial if something is held fixed; NaN where a side does not vary."""
    a, b = residuals(x, held), residuals(y, held)
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 1e-9 else float("nan")


def told(x: np.ndarray, y: np.ndarray, pairs: np.ndarray, held: np.ndarray | None = None) -> str:
    """Rho, p and interval, in a cell."""
    rng = np.random.default_rng(0)
    a, b = residuals(x, held), residuals(y, held)
    rho = correlation(x, y, held)
    chance = [rng.permutation(a) @ b / np.sqrt((a @ a) * (b @ b)) for _ in range(DRAWS)]
    p = (1 + sum(abs(value) >= abs(rho) - 1e-12 for value in chance)) / (1 + DRAWS)
    names, found = np.unique(pairs), []
    for _ in range(DRAWS):
        drawn = np.concatenate([np.flatnonzero(pairs == name) for name in rng.choice(names, len(names))])
        found.append(correlation(x[drawn], y[drawn], None if held is None else held[drawn]))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return f"{rho:.2f} ({low:.2f} to {high:.2f}), p {p:.3f}"


def rows_of(runs: pl.DataFrame, own: dict[int, float]) -> list[list[str]]:
    """One row a rate."""
    cells = []
    for (label,), part in runs.group_by("label", maintain_order=True):
        ratio, overlap, pairs = (part[name].to_numpy() for name in ("jump_ratio", "gold_overlap", "gold"))
        behind = {name: part[column].to_numpy() for name, column in BEHIND.items()}
        behind["rate over its own"] = part["rate"].to_numpy() / np.array([own[c] for c in part["context"]])
        row = [str(label), str(part.height), str(len(set(pairs))), told(overlap, ratio, pairs)]
        for values in behind.values():
            row += [told(values, ratio, pairs), told(overlap, ratio, pairs, values)]
        cells.append(row)
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("docs/results/gemma"))
    parser.add_argument("--method", default="lora")
    parser.add_argument("--labels", default="H=1.7")
    options = parser.parse_args()
    study = read_study(options.study)
    there = next((options.study / "models").iterdir())
    stored = json.loads((there / "critical" / f"{options.method}-rank-collocation.json").read_text(encoding="utf-8"))
    own = {study.contexts["context"][entry["context"]]: entry["critical_rate"] for entry in stored["entries"]}
    of_it = (pl.col("group") == options.method) & pl.col("label").is_in(options.labels.split(","))
    runs = study.runs.filter(of_it & pl.col("jump_ratio").is_not_null()).sort("rate", "context")
    heads = ["rate", "runs", "pairs", "overlap"]
    for name in (*BEHIND, "rate over its own"):
        heads += [name, f"overlap, {name} fixed"]
    print(table(heads, rows_of(runs, own)))


if __name__ == "__main__":
    main()
