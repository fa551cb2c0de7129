"""The card of a bundled model: what it is, how it was made, what it measures; and the check that it still does."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from borngap.choices import KINDS
from borngap.files import write_whole
from borngap.model.load import Loaded, load, model_facts
from borngap.model.neighbours import nearest_tokens
from borngap.model.readout import geometry_of, observing
from borngap.zoo.recipe import CONTEXT

WORDS = ("argument", "error", "method", "list", "array", "value", "string", "returns", "compute", "model")
FILES = ("model.safetensors", "tokenizer.json", "config.json")
_CARD_TOLERANCE = 1e-4
_COMPARED_BULK = ("crowding", "anisotropy", "ks_gaussian", "ks_exponential")


def held_out_loss(model: Any, tokens: Tensor) -> float:
    """Return the mean next-token cross-entropy (nat) over consecutive windows of ``CONTEXT`` predictions.

    Args:
        model: the model.
        tokens: held-out token ids in one row, int64, shape (n,).

    Returns:
        Loss in nat a token, over the (n - 1) // CONTEXT whole windows.
    """
    count = (len(tokens) - 1) // CONTEXT
    rows = tokens[torch.arange(count)[:, None] * CONTEXT + torch.arange(CONTEXT + 1)]
    total = 0.0
    with observing(model):
        for batch in rows.split(16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits.flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum"))
    return total / (count * CONTEXT)


def measured(loaded: Loaded, held_out: Tensor | None) -> dict[str, Any]:
    """Return the numbers of a card that can be measured again: geometry, and loss where the corpus is at hand."""
    found: dict[str, Any] = {"geometry": {}}
    for kind in KINDS:
        bulk = geometry_of(loaded.model, kind, loaded.tokenizer).bulk()
        found["geometry"][kind] = asdict(bulk) | {"class": bulk.embedding_class}
    if held_out is not None:
        found["held_out_loss"] = held_out_loss(loaded.model, held_out)
    return found


def write_card(folder: Path, made: dict[str, Any], held_out: Tensor) -> dict[str, Any]:
    """Measure a finished model, and write ``card.json`` and ``README.md`` into its folder.

    Args:
        folder: the model's folder.
        made: how it was made: recipe, corpus, training.
        held_out: held-out token ids.

    Returns:
        The card.
    """
    loaded = load(str(folder))
    nearest = nearest_tokens(loaded.model, loaded.tokenizer, WORDS, k=5)
    card = {
        "schema": 1,
        "model": model_facts(loaded) | {"name": folder.name},
        **made,
        **measured(loaded, held_out),
        "neighbours": {w: [[r["token"], round(r["overlap"], 4)] for r in rows] for w, rows in nearest.items()},
        "sha256": checksums(folder),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
    }
    write_whole(folder / "README.md", _readme(card).encode())
    # last: a model that has a card is done
    write_whole(folder / "card.json", (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    return card


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a model's folder."""
    return json.loads((folder / "card.json").read_text(encoding="utf-8"))


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that makes up the model."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def verify(folder: Path, held_out: Tensor | None) -> list[tuple[str, str, str, bool]]:
    """Compare a model with its card.

    Args:
        folder: the model's folder.
        held_out: held-out token ids; None where the corpus is not at hand: then the loss is left out.

    Returns:
        Rows of (what, as the card says, as found, equal to 1e-4).
    """
    card = read_card(folder)
    rows = [
        (f"sha256 {name}", said[:12], found[:12], said == found)
        for (name, said), found in zip(card["sha256"].items(), checksums(folder).values(), strict=True)
    ]
    again = measured(load(str(folder)), held_out)
    for kind, bulk in again["geometry"].items():
        said = card["geometry"][kind]
        rows += [_compared(f"{kind} {key}", said[key], bulk[key]) for key in _COMPARED_BULK]
    if held_out is not None:
        rows.append(_compared("held-out loss", card["held_out_loss"], again["held_out_loss"]))
    return rows


def _compared(what: str, said: float, found: float) -> tuple[str, str, str, bool]:
    return what, f"{said:.6g}", f"{found:.6g}", abs(said - found) <= _CARD_TOLERANCE * max(1.0, abs(said))


def _readme(card: dict[str, Any]) -> str:
    model, corpus, recipe, training = card["model"], card["corpus"], card["recipe"], card["training"]
    geometry = "\n".join(
        f"| {kind} | {b['mean']:.4f} | {b['std']:.4f} | {b['mean_square']:.4f} | {b['crowding']:.2f} "
        f"| {b['anisotropy']:.2f} | {b['ks_gaussian']:.3f} | {b['ks_exponential']:.3f} | {b['class']} |"
        for kind, b in card["geometry"].items()
    )
    near = "\n".join(
        f"- **{w}**: " + ", ".join(f"`{token.strip()}` {overlap:.2f}" for token, overlap in rows)
        for w, rows in card["neighbours"].items()
    )
    packages = ", ".join(f"{name} {version}" for name, version in corpus["packages"].items())
    head = "tied" if model["tied"] else "untied"
    return f"""---
license: apache-2.0
library_name: transformers
---
# {model["name"]}

A miniature {model["family"]} language model for testing borngap: {model["parameters"]:,} parameters, width
{recipe["width"]}, {recipe["layers"]} layers, {head} head. It is not useful for anything else.

Held-out loss: **{card["held_out_loss"]:.4f} nat** a token, on {corpus["held_out_tokens"]:,} tokens of packages
not trained on.

Made by `borngap zoo train {model["name"]}`: {recipe["steps"]} steps of {recipe["batch"]} x {CONTEXT} tokens,
seed {recipe["seed"]}, AdamW {tuple(recipe["betas"])}, peak rate {recipe["peak_rate"]:g},
{training["seconds"] / 60:.0f} minutes on {training["threads"]} thread(s), torch {model["versions"]["torch"]},
transformers {model["versions"]["transformers"]}. Weights are stored in float16 and load as float32.

## Bulk geometry

| matrix | mean G | std G | mean G^2 | crowding | mu/sigma | KS normal | KS exponential | class |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{geometry}

## Nearest neighbours in the readout

{near}

## Corpus

English prose from the docstrings of {len(corpus["packages"])} packages ({corpus["train_tokens"]:,} training tokens);
held out, by package and without duplicates: {", ".join(corpus["held_out"])}.
SHA-256 of the text: `{corpus["sha256"]}`.

{packages}
"""
