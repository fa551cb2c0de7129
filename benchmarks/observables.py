"""`measure` against the formulas written down literally, and against the LM head's own product.

Run ``.venv/bin/python benchmarks/observables.py``; ``--small`` is a smoke test. Logits are random and normal, with a
standard deviation per context that spreads the nucleus (top_p 0.9) from a handful of tokens to some thousands; rows
share a common direction, as those of tied language models do.

Floor of a batch of contexts with pools of n tokens: every pair of the pool once, sum of n^2 d flops, and one reading of
the logits and of the pool's rows, 4 (contexts V + sum of n d) bytes. LM head: 2 contexts V d flops, 4 V d bytes.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from borngap import OBSERVABLES, Geometry, measure
from timing import interleaved, machine, ratio, table

SHAPES = ((50_257, 768), (128_256, 2048))
SPREADS = {"narrow": (4.2, 5.5), "mixed": (3.0, 5.5)}
WITHOUT_RANK = tuple(name for name in OBSERVABLES if name != "born_rank")
NAIVE_CONTEXTS = 4


@dataclass(frozen=True)
class Problem:
    """Contexts over one vocabulary."""

    logits: Tensor
    hidden: Tensor
    gold: Tensor
    rival: Tensor
    matrix: Tensor
    geometry: Geometry

    def part(self, index: Tensor) -> Problem:
        """Keep some contexts."""
        kept = (t[index] for t in (self.logits, self.hidden, self.gold, self.rival))
        return Problem(*kept, self.matrix, self.geometry)


def problem(contexts: int, vocabulary: int, dimension: int, spread: tuple[float, float]) -> Problem:
    """Make random contexts; gold and rival are among the ten most probable tokens."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(vocabulary, dimension, generator=generator)
    matrix += 0.5 * torch.randn(dimension, generator=generator)
    hidden = torch.randn(contexts, dimension, generator=generator)
    logits = torch.randn(contexts, vocabulary, generator=generator) * torch.linspace(*spread, contexts)[:, None]
    best = logits.topk(10, 1).indices
    return Problem(logits, hidden, best[:, 1], best[:, 4], matrix, Geometry(matrix))


def ours(x: Problem, only: tuple[str, ...] | None) -> dict[str, Tensor]:
    """Measure all contexts in one call."""
    with torch.no_grad():
        return measure(x.logits, x.geometry, x.gold, x.rival, hidden=x.hidden, only=only)


def naive(x: Problem, *, rank: bool) -> list[dict[str, float]]:
    """Evaluate the formulas of section 2 context by context, as they are written."""
    return [_naive_one(x, i, rank=rank) for i in range(len(x.logits))]


def _naive_one(x: Problem, i: int, *, rank: bool) -> dict[str, float]:
    unit = x.matrix / x.matrix.norm(dim=1, keepdim=True)
    probs = x.logits[i].softmax(0)
    order = probs.argsort(descending=True)
    count = int((probs[order].cumsum(0) < 0.9).sum()) + 1
    g, c = int(x.gold[i]), int(x.rival[i])
    pool = torch.tensor(sorted({*order[:count].tolist(), g, c}))
    p = probs[pool] / probs[pool].sum()
    rows = unit[pool]
    rho = rows.T @ torch.diag(p) @ rows
    overlaps = rows @ rows.T
    theta = overlaps.clamp(-1, 1).arccos().fill_diagonal_(0)
    values = {
        "born_gap": float(unit[g] @ rho @ unit[g] - unit[c] @ rho @ unit[c]),
        "purity": float((rho @ rho).trace()),
        "localisation_length": float((torch.outer(p, p) * theta**2).sum().sqrt()),
        "entropy": float(-(probs * probs.log()).sum()),
        "geometric_efficiency": float((unit[g] @ unit[c]) ** 2 / ((rows @ unit[g]) ** 2).sum().sub(1)),
    }
    if rank:
        born = ((unit @ rho) * unit).sum(1)
        values["born_rank"] = float(1 + (born > born[g]).sum())
    return values


def head(x: Problem) -> Tensor:
    """One LM-head product of the same contexts."""
    return x.hidden @ x.matrix.T


def check(x: Problem) -> None:
    """Both ways give the same numbers."""
    values = ours(x, None)
    for i, wanted in enumerate(naive(x, rank=True)):
        for name, value in wanted.items():
            found, slack = float(values[name][i]), 1 if name == "born_rank" else 1e-3 * abs(value) + 1e-4
            assert abs(found - value) <= slack, (name, found, value)


def report(contexts: int, vocabulary: int, dimension: int, kind: str, repetitions: int) -> list[list[str]]:
    """Time one shape; return the table's rows."""
    x = problem(contexts, vocabulary, dimension, SPREADS[kind])
    sizes = ours(x, ("pool_size",))["pool_size"]
    few = x.part(torch.linspace(0, contexts - 1, min(NAIVE_CONTEXTS, contexts)).long())
    scale = contexts / len(few.logits)
    one = x.part(torch.tensor([contexts // 2]))
    check(one)
    tasks = {
        "LM head": lambda: head(x),
        "measure": lambda: ours(x, WITHOUT_RANK),
        "measure, same few": lambda: ours(few, WITHOUT_RANK),
        "naive, few": lambda: naive(few, rank=False),
    }
    seconds = interleaved(tasks, repetitions)
    ranked = interleaved({
        "measure, born_rank": lambda: ours(one, None),
        "naive, born_rank": lambda: naive(one, rank=True),
    }, 1)  # fmt: skip
    shape = (
        f"{kind}, V {vocabulary:,}, d {dimension}, pools {int(sizes.min())}/{int(sizes.median())}/{int(sizes.max())}"
    )
    flops = float((sizes.double().square() * dimension).sum())
    traffic = 4 * (contexts * vocabulary + float(sizes.sum()) * dimension)
    times = {name: statistics.median(values) for name, values in seconds.items()}
    rank = {name: values[0] for name, values in ranked.items()}

    def row(what: str, per_context: float, against_head: float, note: str) -> list[str]:
        return [shape, what, f"{1e3 * per_context:.3g}", f"{against_head:.3g}", note]

    head_per_context = times["LM head"] / contexts
    return [
        row("LM head (floor)", head_per_context, 1, f"{2 * contexts * vocabulary * dimension / 1e9:.3g} GFLOP"),
        row("measure", times["measure"] / contexts, ratio(seconds["measure"], seconds["LM head"]),
            f"floor {flops / 1e9:.3g} GFLOP, {traffic / 1e6:.3g} MB"),
        row("naive", times["naive, few"] / len(few.logits), times["naive, few"] * scale / times["LM head"],
            f"{len(few.logits)} of {contexts} contexts, scaled; "
            f"{ratio(seconds['naive, few'], seconds['measure, same few']):.3g} times measure on the same"),
        row("measure with born_rank", rank["measure, born_rank"],
            rank["measure, born_rank"] * contexts / times["LM head"], "one context, one round, scaled"),
        row("naive with born_rank", rank["naive, born_rank"],
            rank["naive, born_rank"] * contexts / times["LM head"],
            f"{rank['naive, born_rank'] / rank['measure, born_rank']:.3g} times measure on the same"),
    ]  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a smoke test: few contexts, small vocabulary")
    options = parser.parse_args()
    shapes = ((5_000, 128),) if options.small else SHAPES
    contexts = 8 if options.small else options.contexts
    print(f"{machine()}; float32, {contexts} contexts, {options.repetitions} interleaved rounds, medians\n")
    rows = [row for v, d in shapes for kind in SPREADS for row in report(contexts, v, d, kind, options.repetitions)]
    headings = ["shape, pools (min/median/max)", "what", "ms per context", "times the LM head", "note"]
    print(table(headings, rows))


if __name__ == "__main__":
    main()
