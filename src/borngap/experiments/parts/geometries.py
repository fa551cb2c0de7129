"""Bulk geometry: which matrix is read, and the common mean vector (figures 6 and 8)."""

from __future__ import annotations

from typing import Any

import polars as pl

from borngap.cuts import DENSE_CROWDING, SPARSE_CROWDING
from borngap.experiments.arms import MAIN
from borngap.experiments.parts.fields import burial, fields
from borngap.experiments.study import Study
from borngap.results.figures import Figure
from borngap.results.tables import Table

_KINDS = ("readout", "input", "centered")


def tables(study: Study) -> list[Table]:
    """Return the bulk of each model in each geometry, and the laws' numbers.

    Args:
        study: what is stored.

    Returns:
        Two tables.
    """
    rows = [
        {
            "model": row["model"],
            "tied": row["tied"],
            "geometry": kind,
            "class": row[f"{kind}_class"],
            **{
                name: row[f"{kind}_{name}"]
                for name in (
                    "crowding",
                    "mean_square",
                    "fraction_above",
                    "mean",
                    "anisotropy",
                    "ks_gaussian",
                    "ks_exponential",
                )
            },
        }
        for row in study.models.to_dicts()
        for kind in _KINDS
    ]
    schema: dict[str, Any] = {"model": pl.String, "tied": pl.Boolean, "geometry": pl.String, "class": pl.String}
    schema |= dict.fromkeys(
        ("crowding", "mean_square", "fraction_above", "mean", "anisotropy", "ks_gaussian", "ks_exponential"), pl.Float64
    )
    note = (
        "Random pairs of tokens. Crowding = d x mean of G², 1 for isotropic "
        f"rows; class A from {DENSE_CROWDING:g}, B up to {SPARSE_CROWDING:g}, a cut through a continuum. "
        "The paper: mean G² 0.045 to 0.097 in class A, 0.002 to 0.003 in class B."
    )
    bulk = Table("bulk", "Figure 6 in numbers. Bulk of the embeddings", note, pl.DataFrame(rows, schema=schema))
    note = "What figure 8 is drawn from: one row a model."
    return [bulk, Table("laws", "Figure 8 in numbers. Laws across models", note, laws(study))]


def figures(study: Study) -> list[Figure]:
    """Return the data of figures 6 and 8.

    Args:
        study: what is stored.

    Returns:
        Two figures.
    """
    rows = [
        {"overlap": overlap, "share": float(percentile) / 100, "geometry": kind, "model": model}
        for model, kinds in study.quantiles.items()
        for kind in _KINDS
        for percentile, overlap in sorted(kinds[kind].items(), key=lambda item: float(item[0]))
    ]
    note = "Cumulative distribution of the overlap of random pairs of tokens, in each geometry."
    sixth = Figure(
        "figure6",
        "Figure 6. Bulk of the embeddings",
        note,
        "line",
        ("overlap", "overlap G"),
        ("share", "share of pairs below"),
        rows,
        "geometry",
        "model",
    )
    long = laws(study).unpivot(
        ["crowding", "H_lora"], index=["model", "B_after"], variable_name="against", value_name="value"
    )
    eighth = Figure(
        "figure8",
        "Figure 8. Burial depth after LoRA",
        f"One point a model; LoRA at {MAIN['lora']}.",
        "point",
        ("value", "value"),
        ("B_after", "mean burial depth after LoRA"),
        long.to_dicts(),
        "model",
        "against",
        ("x",),
        free=("x",),
    )
    return [sixth, eighth]


def laws(study: Study) -> pl.DataFrame:
    """Return crowding, reduced field under LoRA and burial depth after LoRA, a row a model.

    Args:
        study: what is stored.

    Returns:
        ``model``, ``tied``, ``class``, ``crowding``, ``mean_square``, ``H_lora`` (by collocation and the Born gap),
        ``B_after``.
    """
    about = study.models.select(
        "model",
        "tied",
        "class",
        pl.col("readout_crowding").alias("crowding"),
        pl.col("readout_mean_square").alias("mean_square"),
    )
    own = fields(study).filter(
        (pl.col("method") == "lora") & (pl.col("criterion") == "born") & (pl.col("by") == "collocation")
    )
    ends = burial(study).filter(pl.col("label") == MAIN["lora"]).select("model", "B_after")
    joined = about.join(own.select("model", pl.col("H").alias("H_lora")), on="model", how="left", maintain_order="left")
    return joined.join(ends, on="model", how="left", maintain_order="left")
