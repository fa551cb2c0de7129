"""What rounding does to full fine-tuning at very small rates: runs in float32, in float64, and in between.

Run ``.venv/bin/python benchmarks/rounding.py --study docs/results/smollm2 --contexts 1,11``: contexts of a stored study
(their numbers there) are trained alone at the forecast critical rate times 0.985 and 1.015, 50 steps of AdamW. *apart*
computes in float32 like *float32*, but adds the updates up apart from the weights, so that none is lost to their
spacing. ``kept`` is the share of the summed updates that the weights went, and ``kept, gap`` what of the gap's change
that is, to first order at the end. Needs five (float64: eight) times the model's float32 size.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import borngap
from borngap.context import Context, Target, tokenize
from borngap.experiments.folder import PLAN_FILE, entries
from borngap.model.load import quiet
from timing import lacks, machine, table

ARMS = ("float32", "apart", "float64")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Case:
    """A context with its forecast critical rate."""

    number: int
    target: Target
    rate: float


class Run:
    """One run: the weights, AdamW's moments, and the sum of the updates."""

    def __init__(self, name: str, arm: str, rate: float) -> None:
        loaded = borngap.load(name)
        self.model = loaded.model.to(torch.float64 if arm == "float64" else torch.float32).eval().requires_grad_(True)
        self.arm, self.rate, self.step = arm, rate, 0
        self.weights = list(self.model.parameters())
        self.base = [] if arm == "float64" else [w.detach().clone() for w in self.weights]
        self.moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in self.weights]
        self.sums = [] if arm == "float64" else [torch.zeros_like(w) for w in self.weights]

    def gap(self, target: Target) -> tuple[Tensor, Tensor]:
        """The logits, shape (V,), and how far gold leads its rival, unit nat."""
        logits = self.model(torch.tensor([target.ids])).logits[0, -1]
        return logits, logits[target.gold_id] - logits[target.rival_id]

    def update(self, gradients: tuple[Tensor, ...]) -> None:
        """One step of AdamW without decay."""
        self.step += 1
        first, second = 1 - BETA1**self.step, 1 - BETA2**self.step
        with torch.no_grad():
            for k, (weight, gradient) in enumerate(zip(self.weights, gradients, strict=True)):
                mean, square = self.moments[k]
                mean.lerp_(gradient, 1 - BETA1)
                square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                change = mean / ((square / second).sqrt_().add_(EPS)) * (-self.rate / first)
                if self.sums:
                    self.sums[k] += change
                if self.arm == "apart":
                    torch.add(self.base[k], self.sums[k], out=weight)
                else:
                    weight.add_(change)

    def kept(self, target: Target) -> tuple[float, float]:
        """Share of the summed updates that the weights went, in all and as it moves the gap."""
        slopes = torch.autograd.grad(self.gap(target)[1], self.weights)
        went, all_, gap_went, gap_all = 0.0, 0.0, 0.0, 0.0
        with torch.no_grad():
            for weight, base, total, slope in zip(self.weights, self.base, self.sums, slopes, strict=True):
                moved = weight - base  # exact: they are near each other
                went += float((moved * total).sum(dtype=torch.float64))
                all_ += float((total * total).sum(dtype=torch.float64))
                gap_went += float((moved * slope).sum(dtype=torch.float64))
                gap_all += float((total * slope).sum(dtype=torch.float64))
        return went / all_, gap_went / gap_all


def done(name: str, arm: str, case: Case, factor: float, steps: int) -> list[str]:
    """Do a run and say how it went."""
    run, began = Run(name, arm, case.rate * factor), time.process_time()
    flip = ""
    for step in range(steps + 1):
        logits, gap = run.gap(case.target)
        value = float(gap.detach())
        if value > 0 and not flip:
            flip = str(step)
        if step < steps:
            loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([case.target.gold_id]))
            run.update(torch.autograd.grad(loss, run.weights))
    kept = [f"{share:.4f}" for share in run.kept(case.target)] if run.sums else ["", ""]
    seconds = f"{time.process_time() - began:.0f}"
    return [str(case.number), f"{case.rate:.4g}", arm, f"{factor:.4g}", f"{value:+.4f}", flip or "none", *kept, seconds]


def cases(study: Path, name: str, numbers: list[int]) -> list[Case]:
    """Contexts of a stored study, with what full fine-tuning was forecast to take."""
    there = study / "models" / name
    plan = json.loads((study / PLAN_FILE).read_text(encoding="utf-8"))["plan"]["contexts"]
    base = json.loads((there / "base.json").read_text(encoding="utf-8"))["contexts"]
    found = {entry["context"]: entry for entry in entries([there / "critical" / "full-rank-collocation.json"])}
    tokenizer = borngap.load(name).tokenizer
    return [
        Case(n, tokenize(Context(**plan[base[n]["context"]]), tokenizer), found[n]["critical_rate"]) for n in numbers
    ]


def main() -> None:
    """Print one line a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--study", type=Path, default=Path("docs/results/smollm2"))
    parser.add_argument("--contexts", default="1,11")
    parser.add_argument("--arms", default="float32,apart")
    parser.add_argument("--factors", default="0.985,1.015")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    if lacks(options.model):
        return
    quiet()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    heads = [
        "context",
        "forecast",
        "weights",
        "rate over it",
        "gap at the end, nat",
        "first ahead",
        "kept",
        "kept, gap",
        "s",
    ]
    for case in cases(options.study, options.model, [int(n) for n in options.contexts.split(",")]):
        for arm in options.arms.split(","):
            for factor in map(float, options.factors.split(",")):
                print(table(heads, [done(options.model, arm, case, factor, options.steps)]), flush=True)


if __name__ == "__main__":
    main()
