"""DM-3 and DM-4: two regimes, and what stopping on saturation saves (table 1)."""

from __future__ import annotations

import polars as pl

from borngap.experiments.arms import MAIN
from borngap.experiments.claims.paper import facts, paper_table
from borngap.experiments.select import chosen, short
from borngap.experiments.study import EPOCH, Study
from borngap.results.tables import Table


def tables(study: Study) -> list[Table]:
    """Return table 1: when each rule would have stopped, in epochs of five steps.

    Args:
        study: what is stored.

    Returns:
        One table; a section a model and rate.
    """
    runs = chosen(study, "lora", seed=0)
    epochs = [
        (pl.col(name) / EPOCH).alias(f"{short}_stop")
        for name, short in (("stop_loss", "ce"), ("stop_born", "born_gap"))
    ]
    rows = runs.select(
        "model",
        "label",
        "gold",
        *epochs,
        pl.col("saved_share").alias("saved"),
        _change().alias("ranking_change"),
        pl.col("outcome_born").alias("outcome"),
        pl.col("collapse").alias("pr_collapse"),
        "silent",
    )
    note = (
        "LoRA; an epoch is 5 steps of one context. `ce stop`: cross-entropy patience, or the end of the run where it "
        "never ran out. `born gap stop`: saturation with gold ahead, judged every epoch. `pr collapse`: the largest "
        "factor by which the participation ratio fell within one epoch."
    )
    title = "Table 1. Stopping by the Born gap"
    return [
        Table(
            "table1",
            title,
            note,
            short(rows),
            paper_table(1),
            facts()["tables"]["1"]["title"],
            ("model", "label"),
            MAIN["lora"],
        )
    ]


def stopping(study: Study, group: str = "full") -> pl.DataFrame:
    """Return the runs in which the saturation rule fired, at the group's main field.

    Args:
        study: what is stored.
        group: way of training.

    Returns:
        Rows of ``runs``.
    """
    return chosen(study, group, (MAIN[group],)).filter(pl.col("stop_born").is_not_null())


def _change() -> pl.Expr:
    """What changed in the ranking between both stops, in the paper's words."""
    fired = pl.col("stop_born").is_not_null()
    changed = pl.col("changed_gold_rank").fill_null(False) | pl.col("changed_order").fill_null(False)
    unresolved = (
        pl.when(pl.col("outcome_born") == "structural")
        .then(pl.lit("structural failure"))
        .otherwise(pl.lit("not saturated"))
    )
    return pl.when(fired & changed).then(pl.lit("changed")).when(fired).then(pl.lit("none")).otherwise(unresolved)
