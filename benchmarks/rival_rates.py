"""Critical rates under losses on rivals and penalties: collocation against bisection, two miniatures, four contexts.

usage: python benchmarks/rival_rates.py [TERM...]
"""

from __future__ import annotations

import math
import statistics
import sys

import torch

import borngap
from borngap.losses.form import LOSS_KINDS
from borngap.training import Training

MODELS = ("docs-gpt2-s", "docs-llama")
CONTEXTS = (0, 4, 1, 2)
STEPS = 20
PLANS = (
    ("lora", "none"), ("lora", "margin:3,2"), ("lora", "unlikelihood:30"), ("lora", "logistic:3"),
    ("full", "margin:3,2"), ("full", "weight:10"), ("full", "none"), ("full", "overlap:1"), ("full", "overlap:10"),
    ("full", "decorrelation:1"),
)  # fmt: skip


def main() -> None:
    errors: list[float] = []
    for name in MODELS:
        for method, form in PLANS:
            if sys.argv[1:] and form not in sys.argv[1:]:
                continue
            option = "rival_loss" if form.partition(":")[0] in {*LOSS_KINDS, "none"} else "penalty"
            training = Training(method=method, steps=STEPS, **{option: form})
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
