"""How each bundled model is made: architecture, size, seed and training settings."""

from __future__ import annotations

from dataclasses import dataclass

from borngap.errors import UserError

VOCABULARY = 8192
CONTEXT = 256
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """One bundled model.

    Attributes:
        name: bundled name.
        family: transformers ``model_type``.
        width: hidden size d.
        layers: number of transformer blocks.
        tied: whether the output matrix is the input matrix.
        seed: seeds the initial weights and the data order.
        steps: optimiser steps of ``batch`` windows of ``CONTEXT`` tokens.
        batch: windows a step.
        peak_rate: AdamW learning rate after ``warmup`` steps; cosine to 0 at the last step.
        warmup: steps of linear warm-up.
        betas: AdamW betas.
        weight_decay: AdamW decoupled weight decay, all parameters.
        clip: largest global gradient norm.
    """

    name: str
    family: str
    width: int
    layers: int
    tied: bool
    seed: int = 0
    steps: int = 1200
    batch: int = 16
    peak_rate: float = 2e-3
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0

    def config(self) -> dict[str, object]:
        """Return the keyword arguments of the family's transformers configuration."""
        return _CONFIGS[self.family](self) | _SHARED_CONFIG | {"tie_word_embeddings": self.tied}


_SHARED_CONFIG = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}


def _gpt2(r: Recipe) -> dict[str, object]:
    dropout: dict[str, object] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return {"n_embd": r.width, "n_layer": r.layers, "n_head": 4, "n_positions": CONTEXT, **dropout}


def _gpt_neo(r: Recipe) -> dict[str, object]:
    return {
        "hidden_size": r.width,
        "num_layers": r.layers,
        "num_heads": 4,
        "max_position_embeddings": CONTEXT,
        "attention_types": [[["global", "local"], r.layers // 2]],
        "window_size": CONTEXT // 2,
    }


def _gpt_neox(r: Recipe) -> dict[str, object]:
    return {
        "hidden_size": r.width,
        "num_hidden_layers": r.layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * r.width,
        "max_position_embeddings": CONTEXT,
    }


def _llama(r: Recipe) -> dict[str, object]:
    return {
        "hidden_size": r.width,
        "num_hidden_layers": r.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 11 * r.width // 4,
        "max_position_embeddings": CONTEXT,
    }


_CONFIGS = {"gpt2": _gpt2, "gpt_neo": _gpt_neo, "gpt_neox": _gpt_neox, "llama": _llama}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("docs-gpt2-s", "gpt2", 128, 4, tied=True),
        Recipe("docs-gpt2-m", "gpt2", 160, 5, tied=True, steps=800),
        Recipe("docs-llama", "llama", 128, 4, tied=True),
        Recipe("docs-gptneo", "gpt_neo", 128, 4, tied=True),
        Recipe("docs-neox-s", "gpt_neox", 128, 4, tied=False),
        Recipe("docs-neox-m", "gpt_neox", 160, 5, tied=False, steps=800),
        Recipe("docs-gpt2-s-untied", "gpt2", 128, 4, tied=False),
    )
}


def recipe_of(name: str) -> Recipe:
    """Return the recipe of a bundled model.

    Args:
        name: bundled name.

    Returns:
        Its recipe.

    Raises:
        UserError: there is no bundled model of that name.
    """
    if name not in RECIPES:
        raise UserError("unknown bundled model", found=name, fix=f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
