"""Which runs a table is about."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from borngap.experiments.study import Study

# the base model has it already, or the run broke: neither is a transition
NO_TRANSITION = ("pre-resolved", "lost", "diverged")


def chosen(study: Study, group: str, labels: Sequence[str] | None = None, seed: int | None = None) -> pl.DataFrame:
    """Return runs of a way of training, in order of model, rate, seed and context.

    Args:
        study: what is stored.
        group: way of training.
        labels: names of rates; all unless given.
        seed: seed of LoRA's initial matrices; all unless given.

    Returns:
        Rows of ``runs``.
    """
    rows = study.runs.filter(pl.col("group") == group)
    if labels is not None:
        rows = rows.filter(pl.col("label").is_in(list(labels)))
    if seed is not None:
        rows = rows.filter(pl.col("seed") == seed)
    order = {model: i for i, model in enumerate(study.models["model"])}
    place = pl.col("model").replace_strict(order, return_dtype=pl.Int64, default=len(order))
    return rows.sort(place, "rate", "seed", "context", maintain_order=True)


def transitions(rows: pl.DataFrame, criterion: str = "born") -> pl.DataFrame:
    """Return the runs that start with the rival ahead by a criterion and did not diverge."""
    return rows.filter(~pl.col(f"outcome_{criterion}").is_in(NO_TRANSITION))


def short(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a table with its words without their leading spaces."""
    words = [name for name in ("gold", "rival") if name in rows.columns]
    return rows.with_columns(pl.col(name).str.strip_chars() for name in words)
