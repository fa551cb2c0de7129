"""By how much does AdamW's first step at a given rate move the logit gap? Base models, full fine-tuning; no speed.

Run ``.venv/bin/python benchmarks/first_step.py [MODEL:CONTEXTS:COUNT ...]``. The first step is the gradient's sign in
every parameter, so to first order the gap moves by the rate times the sum of all derivatives of the gap, each with the
sign of the loss's own: a sum over parameters, which a larger model has more of.
"""

from __future__ import annotations

import statistics
import sys

import torch

import borngap
from borngap.context import Context
from borngap.model.load import Loaded, quiet
from borngap.model.probe import named
from borngap.zoo.choose import keep
from timing import machine, table

EPS = 1e-8  # AdamW's
RATE = 2e-5  # the paper's
MODELS = ("docs-gpt2-s:docs40:8", "docs-gpt2-m:docs40:8", "docs-llama:docs40:8", "docs-neox-m:docs40:8")


def first_step(loaded: Loaded, context: Context) -> tuple[float, float]:
    """Return how far the first step moves the logit gap per unit rate, and by how much the rival leads, both in nat."""
    target, weights = named(context, loaded.tokenizer), list(loaded.model.parameters())
    logits = loaded.model(input_ids=torch.tensor([target.ids]), use_cache=False).logits[0, -1].float()
    gap = logits[target.gold_id] - logits[target.rival_id]
    down = torch.autograd.grad(-logits.log_softmax(0)[target.gold_id], weights, retain_graph=True)
    up = torch.autograd.grad(gap, weights)
    moved = sum(float((-(a / (a.abs() + EPS)) * b).sum()) for a, b in zip(down, up, strict=True))
    return moved, -float(gap.detach())


def main() -> None:
    """Print the table."""
    quiet()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    lines = []
    for name, contexts, count in (spec.split(":") for spec in sys.argv[1:] or MODELS):
        loaded, found = borngap.load(name), borngap.read_contexts(contexts)
        for weight in loaded.model.parameters():
            weight.requires_grad_()
        kept = keep(loaded, found, "rival-ahead", 12)[0][: int(count)]
        moved, gaps = zip(*(first_step(loaded, found[i]) for i in kept), strict=True)
        size, middle = sum(w.numel() for w in loaded.model.parameters()), statistics.median(moved)
        lines.append([
            name, f"{size / 1e6:.3g} M", str(len(kept)), f"{statistics.median(gaps):.2f}", f"{middle:.4g}",
            f"{middle / size:.2g}", f"{RATE * middle:.2f}",
        ])  # fmt: skip
    heads = ["model", "parameters", "contexts", "rival leads by, nat", "nat a unit of rate", "of them a parameter"]
    print(table([*heads, f"nat at {RATE:g}"], lines))


if __name__ == "__main__":
    main()
