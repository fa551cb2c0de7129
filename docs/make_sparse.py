"""Train docs-gpt2-s-untied on, its head kept sparse by one recipe or another, and print how sparse it came out.

Run ``make corpus``, then ``.venv/bin/python docs/make_sparse.py OUT``: models that differ in what is done to the head
alone, in OUT/RECIPE; made ones are not made again, an interrupted one begins anew. ``--recipes`` names some,
``--steps`` says how long. They have the bundled models' tokenizer, so docs40 fits. What came of it:
docs/real-models.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

import borngap
from borngap.files import write_whole
from borngap.train.optimiser import adamw
from borngap.zoo.card import held_out_loss
from borngap.zoo.make import cached_corpus
from borngap.zoo.recipe import RECIPES, Recipe
from borngap.zoo.train import encode, learning_rate, loss_of, training_windows

BASE = "docs-gpt2-s-untied"
_DOCUMENTS = 12_000  # of the corpus, as docs/make_strangers.py


def crowding(rows: Tensor) -> Tensor:
    """Return d times the mean squared overlap of all pairs of rows, shape (V, d); a scalar."""
    unit = normalize(rows, dim=1)
    count, width = unit.shape
    return width * ((unit.T @ unit).square().sum() - count) / (count * (count - 1))


class Head:
    """How a head is trained, beside the rest of the model by AdamW.

    Attributes:
        decay: AdamW's decoupled weight decay of the head.
        coupled: whether all rows share the mean of their second moments ("Coupled Adam", arXiv 2502.08441): then, as
            the gradients of all rows sum to 0, the mean row stays where it is.
        penalty: weight of the crowding in the loss.
    """

    def __init__(self, decay: float = 0.01, coupled: bool = False, penalty: float = 0.0) -> None:
        """Keep the settings."""
        self.decay, self.coupled, self.penalty = decay, coupled, penalty
        self._moments: list[Tensor] = []

    def update(self, weight: Tensor, recipe: Recipe, step: int) -> None:
        """Do one update of the head from its gradient."""
        rate, (beta1, beta2) = learning_rate(recipe, step), recipe.betas
        if not self._moments:
            self._moments = [torch.zeros_like(weight), torch.zeros_like(weight)]
        mean, square = self._moments
        mean.lerp_(weight.grad, 1 - beta1)
        square.lerp_(weight.grad.square(), 1 - beta2)
        shown = square.mean(0, keepdim=True) if self.coupled else square
        scale = (shown / (1 - beta2 ** (step + 1))).sqrt() + 1e-8
        weight.mul_(1 - rate * self.decay).sub_(rate * (mean / (1 - beta1 ** (step + 1))) / scale)


HEADS: dict[str, Callable[[], Head]] = {
    "adam": Head,
    "decay": lambda: Head(decay=1.0),
    "coupled": lambda: Head(coupled=True),
    "penalty": lambda: Head(penalty=0.1),
}


def train(recipe: Recipe, head: Head, data: Tensor) -> Any:
    """Train a model; return it."""
    model = borngap.load(BASE).model.train()
    for parameter in model.parameters():
        parameter.requires_grad_()
    rows = model.get_output_embeddings().weight
    others = [p for p in model.parameters() if p is not rows]
    optimiser = adamw(others, recipe.peak_rate, recipe.betas, 1e-8, recipe.weight_decay)
    for step in range(recipe.steps):
        batch = data[(torch.arange(recipe.batch) + step * recipe.batch) % len(data)]
        loss = loss_of(model, batch)
        (loss + head.penalty * crowding(rows) if head.penalty else loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.param_groups[0]["lr"] = learning_rate(recipe, step)
        optimiser.step()
        with torch.no_grad():
            head.update(rows, recipe, step)
        model.zero_grad()
        if step % 20 == 0:
            print(f"  step {step}: {float(loss):.3f} nat, crowding {float(crowding(rows.detach())):.2f}", flush=True)
    return model.eval()


def facts(folder: Path) -> dict[str, Any]:
    """Return what is shown of a trained model, by the functions that measure every model."""
    loaded = borngap.load(str(folder))
    kinds = ("readout", "input", "centered")
    bulks = {kind: borngap.geometry_of(loaded.model, kind, loaded.tokenizer).bulk() for kind in kinds}
    kept = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    return kept | {kind: [round(b.crowding, 2), round(b.anisotropy, 2), b.embedding_class] for kind, b in bulks.items()}


def main() -> None:
    """Train what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", type=Path, default=Path(".corpus"))
    parser.add_argument("--work", type=Path, default=Path("zoo-work"))
    parser.add_argument("--recipes", default=",".join(HEADS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = borngap.load("docs-gpt2-s").tokenizer
    corpus = cached_corpus(options.work, options.site)
    recipe = replace(
        RECIPES[BASE], steps=options.steps, batch=options.batch, warmup=options.steps // 10, peak_rate=1e-3
    )
    data = training_windows(encode(tokenizer.backend_tokenizer, corpus.train[:_DOCUMENTS]), seed=1)
    held_out = encode(tokenizer.backend_tokenizer, corpus.held_out[:300])
    for name in options.recipes.split(","):
        folder, began = options.out / name, time.process_time()
        if not (folder / "made.json").exists():
            print(name, flush=True)
            model = train(recipe, HEADS[name](), data)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made = {"held_out_loss": held_out_loss(model, held_out), "seconds": time.process_time() - began}
            write_whole(folder / "made.json", json.dumps(made).encode())
        print(name, json.dumps(facts(folder)), flush=True)


if __name__ == "__main__":
    main()
