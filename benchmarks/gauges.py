"""How sparse can a readout be made without changing what its model says? One vector and one scale a coordinate.

Run ``.venv/bin/python benchmarks/gauges.py [MODEL ...]``. Logits stay as they are, but for one number a position, when
a vector v is taken off every row of the readout, and when, under an untied head, its columns are stretched by e^s while
the last norm's gain and offset are shrunk by as much. LoRA's gradients stay as they are too. Both are chosen so that
the crowding is least. The new model is measured and trained beside the old one: docs/real-models.md.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn.functional import normalize

import borngap
from borngap.critical.search import critical_rates
from borngap.model.load import Loaded, quiet
from borngap.zoo.choose import keep
from timing import machine

ROUNDS, COUNT = 100, 8
USUAL = 1e-4  # the paper's rate of LoRA


def crowding(rows: Tensor) -> Tensor:
    """Return d times the mean squared overlap of all pairs of rows, shape (V, d); a scalar."""
    unit = normalize(rows, dim=1)
    count, width = unit.shape
    return width * ((unit.T @ unit).square().sum() - count) / (count * (count - 1))


def sparsest(rows: Tensor, stretch: bool) -> tuple[Tensor, Tensor]:
    """Return the vector and the logarithms of the scales that make rows least crowded, each of shape (d,)."""
    vector = rows.mean(0).clone().requires_grad_()
    scales = torch.zeros(rows.shape[1], requires_grad=stretch)
    groups = [{"params": [vector], "lr": 0.03 * float(rows.std())}, *([{"params": [scales], "lr": 0.03}] * stretch)]
    downhill = torch.optim.Adam(groups)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(downhill, ROUNDS)
    for _ in range(ROUNDS):
        downhill.zero_grad()
        crowding((rows - vector) * scales.exp()).backward()
        downhill.step()
        falling.step()
    return vector.detach(), scales.detach()


def regauged(loaded: Loaded) -> dict[str, float]:
    """Make a model's readout as sparse as can be; changes it. Returns the crowding before, centred, and after each."""
    model = loaded.model
    head = model.get_output_embeddings().weight
    norm = [m for name, m in model.base_model.named_children() if "norm" in name or name == "ln_f"][-1]
    untied = head is not model.get_input_embeddings().weight
    found = {"raw": float(crowding(head.detach())), "centred": float(crowding(head.detach() - head.detach().mean(0)))}
    vector, _ = sparsest(head.detach(), False)
    found["best vector"] = float(crowding(head.detach() - vector))
    if untied:
        vector, scales = sparsest(head.detach(), True)
        with torch.no_grad():
            head.sub_(vector).mul_(scales.exp())
            for value in norm.parameters():
                value.mul_((-scales).exp())
        found["and scales"] = float(crowding(head.detach()))
    return found


def main() -> None:
    """Print both models' numbers."""
    quiet()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    training = borngap.Training(method="lora", steps=50, criterion="rank")
    for name in sys.argv[1:] or ("docs-neox-s", "docs-gpt2-s-untied"):
        found = borngap.read_contexts("docs40")
        old, new = borngap.load(name), borngap.load(name)
        print(name, {key: round(value, 2) for key, value in regauged(new).items()}, flush=True)
        for loaded in (old, new):
            bulk = borngap.geometry_of(loaded.model, "readout", loaded.tokenizer).bulk()
            print(f"  class {bulk.embedding_class}, crowding {bulk.crowding:.2f}, anisotropy {bulk.anisotropy:.2f}")
        contexts = [found[i] for i in keep(old, found, "rival-ahead", COUNT)[0]]
        tables = [borngap.probe(m.model, m.tokenizer, contexts) for m in (old, new)]
        gaps, born = ([t[n].to_torch() for t in tables] for n in ("logit_gap", "born_gap"))
        apart, signs = float((gaps[0] - gaps[1]).abs().max()), int(((born[0] > 0) != (born[1] > 0)).sum())
        print(f"  logit gaps apart by at most {apart:.1e} nat; of {len(contexts)} Born gaps {signs} change sign")
        rates = [[r.critical.rate for r in critical_rates(m, contexts, training)] for m in (old, new)]
        apart = max(abs(a / b - 1) for a, b in zip(*rates, strict=True) if a and b)
        resolved = [sum(r is not None and r <= USUAL for r in each) for each in rates]
        print(f"  LoRA's critical rates apart by at most {apart:.1e}; at {USUAL:g} resolve {resolved}", flush=True)


if __name__ == "__main__":
    main()
