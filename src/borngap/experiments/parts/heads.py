"""Head ablation: is an untied head a second channel? LoRA, LoRA and readout, full, parts frozen, readout only."""

from __future__ import annotations

import polars as pl

from borngap.experiments.select import IS_CATAPULT, transitions
from borngap.experiments.study import Study
from borngap.results.tables import Table

PAIRS = (("lora-readout", "lora"), ("full", "full-readout"), ("full", "full-embeddings"))
_LABELS = ("H=1.7", "H=10")


def tables(study: Study) -> list[Table]:
    """Return what the ways of training differ in, run against run.

    Args:
        study: what is stored.

    Returns:
        One table.
    """
    rows = [part for more, less in PAIRS for part in _summary(paired(study, more, less), more, less)]
    schema = {
        "with": pl.String,
        "without": pl.String,
        "model": pl.String,
        "tied": pl.Boolean,
        "rate": pl.String,
        "pairs": pl.Int64,
        "catapults_with": pl.Int64,
        "catapults_without": pl.Int64,
        "resolved_with": pl.Int64,
        "resolved_without": pl.Int64,
        "median_quotient_of_ratios": pl.Float64,
        "largest_drift": pl.Float64,
        "rotation": pl.Float64,
    }
    note = (
        "The same contexts at the same rates, with a part trained and without. A tied "
        "head has no readout of its own: freezing the embeddings freezes it, and an "
        "adapter on it unties it. Drift and rotation are the largest with the part trained."
    )
    return [
        Table(
            "heads", "Is the head a second channel?", note, pl.DataFrame(rows, schema=schema), split=("with", "without")
        )
    ]


def paired(study: Study, more: str, less: str) -> pl.DataFrame:
    """Return runs that differ in one part that is trained.

    Args:
        study: what is stored.
        more: way of training with the part.
        less: without it.

    Returns:
        ``model``, ``tied``, ``context``, ``label``, and of both: ``ratio``, ``jumps`` (ratio 8 at least), ``resolved``.
    """
    sides = []
    for group, suffix in ((more, ""), (less, "_less")):
        rows = transitions(
            study.runs.filter((pl.col("group") == group) & (pl.col("seed") == 0) & pl.col("label").is_in(_LABELS))
        )
        rows = rows.filter(pl.col("jump_ratio").is_not_null())
        sides.append(
            rows.select(
                "model",
                "context",
                "label",
                *(["tied", "largest_drift", "rotation"] if not suffix else []),
                pl.col("jump_ratio").alias(f"ratio{suffix}"),
                IS_CATAPULT.alias(f"jumps{suffix}"),
                (pl.col("outcome_born") == "resolved").alias(f"resolved{suffix}"),
            )
        )
    return sides[0].join(sides[1], on=["model", "context", "label"], maintain_order="left")


def _summary(rows: pl.DataFrame, more: str, less: str) -> list[dict[str, object]]:
    found = []
    for (model, label), part in rows.group_by("model", "label", maintain_order=True):
        sums = {
            f"{new}_{side}": int(part[f"{name}{suffix}"].sum())
            for name, new in (("jumps", "catapults"), ("resolved", "resolved"))
            for side, suffix in (("with", ""), ("without", "_less"))
        }
        found.append(
            {
                "with": more,
                "without": less,
                "model": model,
                "tied": part["tied"][0],
                "rate": label,
                "pairs": part.height,
                **sums,
                "median_quotient_of_ratios": (part["ratio"] / part["ratio_less"]).median(),
                "largest_drift": part["largest_drift"].max(),
                "rotation": part["rotation"].max(),
            }
        )
    return found
