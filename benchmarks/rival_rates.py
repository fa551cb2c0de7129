"""Critical rates under losses on rivals: collocation against bisection, two miniatures, four contexts of docs10.

usage: python benchmarks/rival_rates.py
"""

from __future__ import annotations

import math
import statistics

import torch

import borngap
from borngap.training import Training

MODELS = ("docs-gpt2-s", "docs-llama")
CONTEXTS = (0, 4, 1, 2)
STEPS = 20
PLANS = (
    ("lora", "none"), ("lora", "margin:3,2"), ("lora", "unlikelihood:30"), ("lora", "logistic:3"),
    ("full", "margin:3,2"), ("full", "weight:10"),
)  # fmt: skip


def main() -> None:
    errors: list[float] = []
    for name in MODELS:
        for method, form in PLANS:
            training = Training(method=method, steps=STEPS, rival_loss=form)
            contexts = [borngap.read_contexts("docs10")[i] for i in CONTEXTS]
            ways = ("collocation", "bisect")
            mine, true = (borngap.critical_rates(borngap.load(name), contexts, training, by=by) for by in ways)
            rates = [(a.critical.rate, b.critical.rate) for a, b in zip(mine, true, strict=True)]
            found = [abs(math.log(a / b)) for a, b in rates if a is not None and b is not None]
            errors += [] if form == "none" else found
            print(name, method, form, [f"{a:.3g}" for a, _ in rates if a], [f"{x:.4f}" for x in found], flush=True)
    print(f"with a term: {len(errors)} rates, median error {statistics.median(errors):.4f}, largest {max(errors):.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
