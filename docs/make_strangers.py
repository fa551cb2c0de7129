"""Train a small model of a family that is not bundled, to try forecasts on what they were not made on.

Run ``make corpus``, then ``.venv/bin/python docs/make_strangers.py gemma2 OUT`` (or ``qwen3``): three layers, 96 wide,
600 or 700 steps of ten windows, some seven minutes on one thread. It has the tokenizer of the bundled models, so docs10
fits: ``.venv/bin/python benchmarks/forecasts.py --models OUT --out FILE``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import borngap
from borngap.model.load import new_model
from borngap.zoo.make import cached_corpus
from borngap.zoo.recipe import CONTEXT, RECIPES, VOCABULARY
from borngap.zoo.train import encode, optimiser_of, training_windows, update

_SHARED = {
    "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "hidden_size": 96,
    "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 24, "max_position_embeddings": CONTEXT,
}  # fmt: skip
FAMILIES = {
    "gemma2": {
        "query_pre_attn_scalar": 24, "sliding_window": 128, "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    },
    "qwen3": {"tie_word_embeddings": False},
}  # fmt: skip
STEPS = {"gemma2": 700, "qwen3": 600}
_DOCUMENTS, _BATCH, _EVERY = 12_000, 10, 50


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", type=Path, default=Path(".corpus"))
    parser.add_argument("--work", type=Path, default=Path("zoo-work"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = borngap.load("docs-llama").tokenizer
    texts = cached_corpus(options.work, options.site).train[:_DOCUMENTS]
    data = training_windows(encode(tokenizer.backend_tokenizer, texts), seed=1)
    torch.manual_seed(5)
    model = new_model(options.family, _SHARED | FAMILIES[options.family]).train()
    recipe = replace(RECIPES["docs-gpt2-s"], steps=STEPS[options.family], batch=_BATCH)
    optimiser = optimiser_of(model, recipe)
    for step in range(recipe.steps):
        loss = update(model, optimiser, recipe, data, step)
        if step % _EVERY == 0:
            print(f"step {step}: {loss:.3f} nat", flush=True)
    model.eval().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"kept in {options.out}, {loss:.3f} nat")


if __name__ == "__main__":
    main()
