"""Signal and drag: outcomes, what a rival's removal gives, and what predicts a structural failure (tables 4 and 5)."""

from __future__ import annotations

import polars as pl

from borngap.experiments.arms import MAIN, STANDARD
from borngap.experiments.claims.paper import facts, paper_table
from borngap.experiments.select import HEAD, chosen, short, transitions
from borngap.experiments.study import Study
from borngap.results.tables import Table

_LABELS = (f"{STANDARD['lora']:g}", "H=1.7", "H=10")


def tables(study: Study) -> list[Table]:
    """Return tables 4 and 5, and what the base model tells of a failure.

    Args:
        study: what is stored.

    Returns:
        Three tables.
    """
    runs = short(chosen(study, "lora", _LABELS, seed=0))
    ends = [f"{end}_{name}" for name in ("signal", "drag", "born_gap", "logit_gap") for end in ("base", "final")]
    outcomes = runs.select(
        *HEAD,
        pl.col("outcome_born").alias("outcome"),
        "character",
        *ends,
        "early_drag",
        pl.col("outcome_rank").alias("outcome_by_rank"),
    )
    note = (
        "LoRA, seed 0. `early drag`: its change over the first five steps. "
        "Outcomes by the Born gap, as in the paper; by rank beside."
    )
    split = ("model", "label")
    fourth = Table(
        "table4",
        "Table 4. Outcomes, signal and drag",
        note,
        outcomes,
        paper_table(4),
        facts()["tables"]["4"]["title"],
        split,
        MAIN["lora"],
    )
    removed = runs.select(
        *HEAD,
        pl.col("gold_standard").alias("standard"),
        pl.col("gold_ablated").alias("ablated"),
        (pl.col("gold_ablated") / pl.col("gold_standard")).alias("ratio"),
        pl.col("base_geometric_efficiency").alias("eta_geo"),
    )
    note = "Gold's probability at the end of the run, and the same with the rival's set to 0 and the rest renormalised."
    fifth = Table(
        "table5",
        "Table 5. Rival ablation",
        note,
        removed,
        paper_table(5),
        facts()["tables"]["5"]["title"],
        split,
        MAIN["lora"],
    )
    return [fourth, fifth, _base(study)]


def failures(study: Study) -> pl.DataFrame:
    """Return LoRA and full runs that the Born gap calls structural or kinematic, or that resolved, seed 0.

    Args:
        study: what is stored.

    Returns:
        Rows of ``runs`` with a boolean ``structural``; those without an early slope are left out.
    """
    rows = transitions(study.runs.filter(pl.col("group").is_in(["full", "lora"]) & (pl.col("seed") == 0)))
    rows = rows.filter(pl.col("early_drag").is_not_null() & pl.col("base_born_rank").is_not_null())
    return rows.with_columns((pl.col("outcome_born") == "structural").alias("structural"))


def _base(study: Study) -> Table:
    rows = short(study.contexts).select(
        "model",
        "gold",
        "rival",
        pl.col("gold_overlap").alias("overlap"),
        "gold_rank",
        "born_rank",
        "burial_depth",
        "geometric_efficiency",
        "born_gap",
        "logit_gap",
        "drag",
        "pool_size",
        "fragment",
    )
    note = (
        "The base model. `gold rank` by probability, `born rank` by the Born score, "
        "over the whole vocabulary; `fragment`: a word is measured by a part of it."
    )
    return Table("base", "Before training: ranks and burial depth", note, rows, split=("model",))
