"""Which runs a table is about."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from borngap.cuts import CATAPULT_LIKE
from borngap.experiments.study import Study

# the base model has it already, or the run broke: neither is a transition
NO_TRANSITION = ("pre-resolved", "lost", "diverged")
# what a row of a table about single runs begins with
HEAD = ("model", "label", "gold", pl.col("gold_overlap").alias("overlap"))
IS_CATAPULT = pl.col("jump_ratio") >= CATAPULT_LIKE  # or one-like
# by which factor, less 1, a forecast misses
ERROR = (pl.col("quotient").log().abs().exp() - 1).alias("error")


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


def missed(rows: pl.DataFrame, counted: str, *by: str) -> pl.DataFrame:
    """Return how far forecasts miss, group by group.

    Args:
        rows: with ``quotient``, forecast over true.
        counted: name of the column that says how many there are.
        by: columns that tell groups apart.

    Returns:
        A row a group: how many, the median quotient, the median error and the worst.
    """
    return (
        rows.with_columns(ERROR)
        .group_by(*by, maintain_order=True)
        .agg(
            pl.len().alias(counted),
            pl.col("quotient").median().alias("median_quotient"),
            pl.col("error").median().alias("median_error"),
            pl.col("error").max().alias("worst_error"),
        )
    )
