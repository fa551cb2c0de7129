"""The paper's numbers and models, as facts: arXiv 2606.07559, by table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl

from borngap.errors import UserError


@dataclass(frozen=True)
class PaperModel:
    """One of the paper's models.

    Attributes:
        name: as the paper has it.
        hub: id on the Hugging Face hub.
        family: transformers' model type.
        lora_targets: modules that carry the paper's adapters.
        embedding_class: the paper's class, or None.
        tied: whether the head is tied, as its weights are published (the paper has it otherwise for two of them).
    """

    name: str
    hub: str
    family: str
    lora_targets: tuple[str, ...]
    embedding_class: str | None
    tied: bool


@cache
def facts() -> dict[str, Any]:
    """Return everything that ``paper.json`` holds."""
    held: dict[str, Any] = json.loads((files("borngap.experiments.claims") / "paper.json").read_text(encoding="utf-8"))
    return held


def paper_models() -> tuple[PaperModel, ...]:
    """Return the paper's eight models."""
    return tuple(
        PaperModel(m["name"], m["hub"], m["family"], tuple(m["lora_targets"]), m["class"], m["tied"])
        for m in facts()["models"]
    )


def paper_table(number: int) -> pl.DataFrame:
    """Return one of the paper's tables.

    Args:
        number: 1 to 7.

    Returns:
        What is left of it; null where a number was lost.

    Raises:
        UserError: there is no such table.
    """
    tables = facts()["tables"]
    if str(number) not in tables:
        raise UserError("the paper has no such table", rule="1 to 7", found=number)
    table = tables[str(number)]
    return pl.DataFrame(table["rows"], schema=table["columns"], orient="row", infer_schema_length=None)


def paper_number(name: str) -> float:
    """Return a single number of the paper by its name in ``paper.json``."""
    return float(facts()["numbers"][name])


def lora_targets(model: str) -> tuple[str, ...]:
    """Return the modules that carry LoRA's adapters in a reproduction.

    Args:
        model: bundled name, local folder, or hub id.

    Returns:
        The paper's for its own models; ``attention``, which stands for the architecture's usual ones, for others.
    """
    return next((m.lora_targets for m in paper_models() if model in {m.hub, m.name}), ("attention",))
