"""What does a grid of 4 bits change? Small models are put on it, real ones are moved about within it.

Run ``.venv/bin/python benchmarks/grid.py --out FILE``; each model, way and seed is appended to FILE (JSON Lines) when
done; ``--table FILE`` prints the tables again. Ways, for the bundled models: ``file``, as the GGUF file of
smollm2-135m has it (matrices Q4_1, embeddings Q8_0; package gguf rounds as llama.cpp does); ``q5``, the matrices in
Q5_0; ``random``, the rounding errors of ``file`` shuffled within each matrix. For a GGUF file (``--gguf FILE``):
``box``, weights drawn at random from those that this file stands for, up to half a step from the stored ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import borngap
import stored
from borngap.context import Context
from borngap.critical.search import Searcher
from borngap.judge.trajectory import from_records
from borngap.judge.verdicts import outcome
from borngap.model.load import Loaded, quiet
from borngap.zoo.choose import unmeasurable
from timing import machine, table

SETS = ("docs40", "natural100")
H = 1.7


def on_grid(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """Return a matrix of rows as it comes back from a GGUF format."""
    from gguf import GGMLQuantizationType, quants

    number = GGMLQuantizationType[kind]
    rows = np.ascontiguousarray(weight.numpy(), dtype=np.float32)
    return torch.from_numpy(quants.dequantize(quants.quantize(rows, number), number).reshape(rows.shape).copy())


def change(model: Any, way: str, seed: int) -> float:
    """Change a small model's weights in place; return the root mean square change over that of the matrices."""
    noise, size = 0.0, 0.0
    draw = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim != 2 or "wpe" in name:
                continue
            across = "gpt2" in model.config.model_type and id(weight) not in embeddings  # Conv1D holds columns
            rows = weight.T if across else weight
            kind = "Q8_0" if id(weight) in embeddings else {"q5": "Q5_0"}.get(way, "Q4_1")
            error = on_grid(rows, kind) - rows
            if way == "random":
                error = error.flatten()[torch.randperm(error.numel(), generator=draw)].view_as(error)
            noise, size = noise + float(error.square().sum()), size + float(rows.square().sum())
            rows += error
    return (noise / size) ** 0.5


def boxes(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names of a GGUF file's matrices and, for each number in them, half of the step of its block."""
    import gguf

    heads = {"Q4_1": 20, "Q8_0": 34, "Q5_0": 22}  # bytes of a block of 32 numbers; its step comes first
    for tensor in gguf.GGUFReader(str(path)).tensors:
        kind = tensor.tensor_type.name
        if kind == "F32":
            continue
        if kind in heads:
            steps = tensor.data.reshape(-1, heads[kind])[:, :2].copy().view(np.float16).astype(np.float32)
            half = np.repeat(np.abs(steps.ravel()) / 2, 32)
        else:  # of nested blocks, the least distance of two of 16 neighbours
            values = np.sort(gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1, 16), axis=1)
            gaps = np.diff(values, axis=1)
            least = np.where(gaps > 1e-9, gaps, np.inf).min(axis=1)
            half = np.repeat(np.where(np.isfinite(least), least, 0) / 2, 16).astype(np.float32)
        yield tensor.name, half


def into_box(model: Any, path: Path, seed: int) -> float:
    """Move a real model's weights within what its GGUF file leaves open; return as ``change`` does."""
    draw, noise, size = np.random.default_rng(seed), 0.0, 0.0
    ours = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}
    for theirs, half in boxes(path):
        weight = ours[_our_name(theirs)]
        error = torch.from_numpy(half * draw.uniform(-1, 1, len(half)).astype(np.float32)).view_as(weight)
        if theirs.endswith(("attn_q.weight", "attn_k.weight")) and model.config.model_type == "llama":
            # llama.cpp holds the two halves of a head's rows in turn
            error = error.view(-1, model.config.head_dim // 2, 2, error.shape[1]).transpose(1, 2).reshape(weight.shape)
        noise, size = noise + float(error.square().sum()), size + float(weight.detach().square().sum())
        weight.data += error
    return (noise / size) ** 0.5


_PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate": "mlp.gate_proj",
}  # fmt: skip


def _our_name(theirs: str) -> str:
    if theirs == "token_embd.weight":
        return "model.embed_tokens.weight"
    _, layer, part, _ = theirs.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.weight"


def base(loaded: Loaded, contexts: Sequence[Context]) -> list[dict[str, Any]]:
    """Return both gaps of every context."""
    found = borngap.probe(loaded.model, loaded.tokenizer, contexts, only=("logit_gap", "born_gap", "gold_probability"))
    return found.select("logit_gap", "born_gap", "gold_probability").to_dicts()


def learnt(loaded: Loaded, contexts: Sequence[Context], method: str, rate: float | None) -> list[dict[str, Any]]:
    """Return critical rates by rank, and what becomes of runs at a rate or at ``H``; adapts the model."""
    searcher = Searcher(loaded, contexts, borngap.Training(method=method, steps=50, criterion="rank"))
    found = searcher.search()
    if rate is None:
        theta = statistics.mean(r.critical.rate * r.overlap for r in found if r.critical.rate)
        rate = H * theta / statistics.mean(r.overlap for r in found)
    rows = []
    for i, entry in enumerate(found):
        path = from_records([(step.step, step.records[i]) for step in searcher.tuner.alone(i, rate=rate)])
        ends = {criterion: outcome(path, criterion) for criterion in ("rank", "born")}
        rows.append({"critical": entry.critical.rate, "status": entry.critical.status, "rate": rate} | ends)
    return rows


def contexts_for(loaded: Loaded, names: Sequence[str]) -> list[Context]:
    """Return the contexts of some lists that a model's tokenizer tells apart, both words whole."""
    found = [c for name in names for c in borngap.read_contexts(name)]
    left_out = dict(unmeasurable(found, loaded.tokenizer, whole=True))
    return [c for i, c in enumerate(found) if i not in left_out]


def changed(name: str, way: str, seed: int, gguf: Path | None) -> tuple[Loaded, float]:
    """Load a model and change it in one way."""
    loaded = borngap.load(name)
    if way == "exact":
        return loaded, 0.0
    return loaded, into_box(loaded.model, gguf, seed) if gguf else change(loaded.model, way, seed)


def evaluate(name: str, way: str, seed: int, before: dict[str, Any] | None, options: Any) -> dict[str, Any]:
    """Measure one model, changed in one way."""
    loaded, size = changed(name, way, seed, options.gguf)
    contexts = contexts_for(loaded, options.sets.split(","))
    row: dict[str, Any] = {"model": name, "way": way, "seed": seed, "change": size, "base": base(loaded, contexts)}
    row["ahead"] = [i for i, r in enumerate((before or row)["base"]) if r["logit_gap"] < 0][: options.count]
    for method in filter(None, options.methods.split(",")):
        rate = before[method][0]["rate"] if before else None
        row[method] = learnt(loaded, [contexts[i] for i in row["ahead"]], method, rate)
        loaded, _ = changed(name, way, seed, options.gguf)
    return row


def compared(exact: dict[str, Any], row: dict[str, Any], methods: Sequence[str]) -> list[str]:
    """Return a row of the table."""
    pairs = list(zip(exact["base"], row["base"], strict=True))
    moved = sorted(abs(b["logit_gap"] - a["logit_gap"]) for a, b in pairs)
    size = statistics.median(abs(a["logit_gap"]) for a, _ in pairs)
    flips = [a for a, b in pairs if (a["logit_gap"] > 0) != (b["logit_gap"] > 0)]
    signs = sum((a["born_gap"] > 0) != (b["born_gap"] > 0) for a, b in pairs)
    near = max((abs(a["logit_gap"]) for a in flips), default=0.0)
    cells = [row["model"], f"{row['way']} {row['seed']}" if row["way"] in ("random", "box") else row["way"],
             f"{100 * row['change']:.1f} %", str(len(pairs)), f"{len(flips)}", f"{near:.2f}", f"{signs}", f"{size:.2f}",
             f"{statistics.median(moved):.3f}", f"{moved[int(0.9 * len(moved))]:.3f}"]  # fmt: skip
    for method in methods:
        both = list(zip(exact.get(method, ()), row.get(method, ()), strict=True))
        known = [b["critical"] / a["critical"] for a, b in both if a["critical"] and b["critical"]]
        ratios = sorted(known) or [float("nan")]
        cells += [f"{statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {len(known)} of {len(both)})"]
        cells += [f"{sum(a[c] != b[c] for a, b in both)}" for c in ("rank", "born")]
    return cells


def judged(rows: list[dict[str, Any]]) -> str:
    """Return every changed model against itself."""
    methods = [m for m in ("lora", "full") if any(m in r for r in rows)]
    heads = ["model", "way", "change of weights", "contexts", "orders changed", "largest gap of these, nat"]
    heads += ["signs of the Born gap changed", "median gap, nat", "gap moves by, nat: median", "90 %"]
    for method in methods:
        heads += [f"{method}: critical rate over exact", f"{method}: outcomes changed, rank", "born"]
    exact = {r["model"]: r for r in rows if r["way"] == "exact"}
    lines = [compared(exact[r["model"]], r, methods) for r in rows if r["way"] != "exact"]
    return table(heads, lines)


def main() -> None:
    """Evaluate what is not in the file yet; print the table."""
    parser = stored.parser(__doc__, ("docs-gpt2-s", "docs-llama"), ("lora", "full"), ("rank",))
    parser.add_argument("--gguf", type=Path, help="a real model's file")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument(
        "--count", type=int, default=16, help="contexts that are trained, of those with the rival ahead"
    )
    parser.add_argument("--seeds", type=int, default=2, help="draws of what is random")
    options = parser.parse_args()
    quiet()
    rows = stored.read(options.table or options.out)
    if not options.table:
        torch.set_num_threads(1)
        print(machine(), flush=True)
        ways = ("exact", "box") if options.gguf else ("exact", "file", "random", "q5")
        for name in options.models.split(","):
            for way, seed in ((w, s) for w in ways for s in range(options.seeds if w in ("random", "box") else 1)):
                if (name, way, seed) in {(r["model"], r["way"], r["seed"]) for r in rows}:
                    continue
                before = next((r for r in rows if (r["model"], r["way"]) == (name, "exact")), None)
                new = evaluate(name, way, seed, before, options)
                rows.append(new)
                stored.add(options.out, [new])
                print(f"{name} {way} {seed} done", flush=True)
    print(judged(rows))


if __name__ == "__main__":
    main()
