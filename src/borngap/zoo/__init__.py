"""The bundled models: small causal LMs trained on English docstring prose, with a card each."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"


def bundled_names() -> list[str]:
    """Return the names of the models in this installation."""
    return sorted(path.parent.name for path in MODELS.glob("*/config.json"))


def bundled_path(name: str) -> Path:
    """Return the folder of a bundled model, loadable by ``AutoModelForCausalLM.from_pretrained``."""
    return MODELS / name
