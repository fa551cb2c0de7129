"""What claims about single runs measure: pure functions from a study to a quantity with its interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from borngap.cuts import JUMP, PHANTOM_SHARES
from borngap.experiments.arms import AT_THRESHOLD, MAIN, STANDARD, WELL_ABOVE
from borngap.experiments.parts.bracketed import bracketed
from borngap.experiments.parts.dragging import failures
from borngap.experiments.parts.heads import paired
from borngap.experiments.select import IS_CATAPULT, chosen, transitions
from borngap.experiments.stats import (
    Columns,
    Quantity,
    area,
    mean_correlation,
    nothing,
    resampled,
    share,
)
from borngap.experiments.study import Study
from borngap.resample import Array

ABOVE, NEAR = f"H={WELL_ABOVE:g}", f"H={AT_THRESHOLD:g}"
COLLAPSE = 10.0  # a factor that counts as a collapse


def columns_of(rows: pl.DataFrame, *names: str) -> dict[str, Array]:
    """Return columns as arrays, with ``model`` and ``context``; rows with a missing value are left out."""
    known = rows.drop_nulls(list(names))
    return {name: known[name].to_numpy() for name in ("model", "context", *names)}


def averaged(rows: pl.DataFrame, name: str, how: Callable[[Array], float] = np.mean) -> Quantity:
    """Return the mean, or another statistic, of a column, models and contexts resampled.

    A share that is 0 or 1 in every run would resample to itself, whatever the number of runs: it gets the exact
    interval of its contexts instead.
    """
    columns = columns_of(rows, name)
    found = resampled(lambda c: float(how(c[name])) if len(c[name]) else np.nan, columns)
    if found.n and found.value in {0.0, 1.0} and found.low is not None and set(columns[name].tolist()) <= {0.0, 1.0}:
        exact = share(round(found.value * found.n), found.n)
        return Quantity(found.value, exact.low, exact.high, found.n, found.unit, found.note)
    return found


def cells_with(rows: pl.DataFrame, holds: pl.Expr) -> Quantity:
    """Return the share of contexts (of a model) of which at least one run has a property, with its exact interval."""
    cells = rows.group_by("model", "context").agg(holds.fill_null(value=False).any().alias("holds"))
    return share(int(cells["holds"].sum()), cells.height)


def silent_failures(study: Study) -> Quantity:
    """Share of contexts that fail silently at the paper's rate: the loss falls, the rival stays ahead."""
    # LoRA is also run at full's rate
    own = [(pl.col("group") == group) & (pl.col("label") == f"{rate:g}") for group, rate in STANDARD.items()]
    behind = study.runs.filter(pl.any_horizontal(own), pl.col("base_logit_gap") <= 0, pl.col("seed") == 0)
    return cells_with(behind, pl.col("silent"))


def sign_tells_rank(study: Study) -> Quantity:
    """Share of base models and ends of runs at which Born gap and logit gap have the same sign."""
    runs = study.runs.filter(pl.col("group").is_in(["full", "lora"]), pl.col("seed") == 0)
    ends = runs.select(
        "model", "context", pl.col("final_born_gap").alias("phi"), pl.col("final_logit_gap").alias("delta")
    )
    base = study.contexts.select(
        "model", "context", pl.col("born_gap").alias("phi"), pl.col("logit_gap").alias("delta")
    )
    both = pl.concat([ends, base]).drop_nulls()
    agree = both.with_columns(((pl.col("phi") > 0) == (pl.col("delta") > 0)).cast(pl.Float64).alias("agree"))
    return averaged(agree, "agree")


def overlap_predicts(group: str) -> Callable[[Study], Quantity]:
    """Return the measure: Spearman of Gmax and jump ratio within a model, averaged over models."""

    def measure(study: Study) -> Quantity:
        rows = chosen(study, group, (MAIN[group],), seed=0)
        return resampled(mean_correlation("gold_overlap", "jump_ratio"), columns_of(rows, "gold_overlap", "jump_ratio"))

    return measure


def phantom_jumps(study: Study) -> Quantity:
    """Share of contexts with a jump under LoRA, the embeddings exactly at rest, at any of its rates."""
    rows = transitions(chosen(study, "lora")).filter(pl.col("largest_drift") == 0)
    return cells_with(rows, pl.col("jump_ratio") >= JUMP)


def fewer_catapults(study: Study) -> Quantity:
    """Share of catapults under full less that under LoRA, at the mean reduced field 10 of each."""
    parts = []
    for group in ("full", "lora"):
        rows = transitions(chosen(study, group, (ABOVE,), seed=0)).drop_nulls("jump_ratio")
        parts.append(rows.select("model", "context", IS_CATAPULT.cast(pl.Float64).alias(group)))
    both = parts[0].join(parts[1], on=["model", "context"])
    return averaged(both.with_columns((pl.col("full") - pl.col("lora")).alias("difference")), "difference")


def geometry_moves(study: Study) -> Quantity:
    """Largest change of the overlap of gold and rival under full fine-tuning, median over runs."""
    return averaged(chosen(study, "full", (NEAR, ABOVE)), "largest_drift", np.median)


def jumps_in_readout(study: Study) -> Quantity:
    """Share of jumps under full fine-tuning that stay within 10 % when the geometry is held at step 0."""
    rows = transitions(chosen(study, "full")).filter(pl.col("jump_ratio") >= JUMP)
    inside = pl.col("readout_share").is_between(*PHANTOM_SHARES).cast(pl.Float64).alias("inside")
    return averaged(rows.with_columns(inside), "inside")


def logit_gap_smooth(study: Study) -> Quantity:
    """The logit gap's change at a jump of the Born gap over its mean change, median over runs with a jump."""
    rows = transitions(study.runs.filter(pl.col("group").is_in(["full", "lora"]), pl.col("jump_ratio") >= JUMP))
    return averaged(rows, "logit_step_at_jump", np.median)


def structural_exists(study: Study) -> Quantity:
    """Share of contexts that fail structurally in at least one run."""
    rows = transitions(study.runs.filter(pl.col("group").is_in(["full", "lora"]), pl.col("seed") == 0))
    return cells_with(rows, pl.col("outcome_born") == "structural")


def ablation_gains(study: Study) -> Quantity:
    """Share of contexts in which removing the rival adds at most 5 % to gold's probability, after LoRA."""
    rows = chosen(study, "lora", (MAIN["lora"],), seed=0).drop_nulls(["gold_standard", "gold_ablated"])
    small = ((pl.col("gold_ablated") / pl.col("gold_standard")) <= 1.055).cast(pl.Float64).alias("small")
    return averaged(rows.filter(pl.col("gold_standard") > 0).with_columns(small), "small")


def efficiency_predicts(study: Study) -> Quantity:
    """Spearman of geometric efficiency at the base model and what removing the rival gives, within models."""
    rows = chosen(study, "lora", (MAIN["lora"],), seed=0).filter(pl.col("gold_standard") > 0)
    rows = rows.with_columns((pl.col("gold_ablated") / pl.col("gold_standard")).alias("gain"))
    return resampled(
        mean_correlation("base_geometric_efficiency", "gain"), columns_of(rows, "base_geometric_efficiency", "gain")
    )


def early_drag_predicts(study: Study) -> Quantity:
    """Area under the curve: does a falling drag in the first 5 steps tell structural failures from other runs?"""
    rows = failures(study).with_columns((-pl.col("early_drag")).alias("score"))
    return _area(rows)


def born_rank_predicts(study: Study) -> Quantity:
    """Area under the curve: does a large Born rank at the base model tell structural failures from other runs?"""
    return _area(failures(study).with_columns(pl.col("base_born_rank").alias("score")))


def overlap_and_born_rank(study: Study) -> Quantity:
    """Spearman of Gmax and the Born rank at the base model, within models."""
    rows = study.contexts.with_columns(pl.col("born_rank").cast(pl.Float64))
    return resampled(mean_correlation("gold_overlap", "born_rank"), columns_of(rows, "gold_overlap", "born_rank"))


def born_rank_worse(study: Study) -> Quantity:
    """Share of contexts whose Born rank is worse than their rank by probability, at the base model."""
    worse = (pl.col("born_rank") > pl.col("gold_rank")).cast(pl.Float64).alias("worse")
    return averaged(study.contexts.with_columns(worse), "worse")


def buried_at_start(study: Study) -> Quantity:
    """Share of contexts with a burial depth above 1 at the base model."""
    buried = (pl.col("burial_depth") > 1).cast(pl.Float64).alias("buried")
    return averaged(study.contexts.with_columns(buried), "buried")


def collapse_factor(study: Study) -> Quantity:
    """Largest fall of the participation ratio within 5 steps, as a factor: geometric mean over runs that resolve."""
    # the ratio is 1 at least and can't fall by more than it is: runs that start below the cut tell nothing
    rows = study.runs.filter(
        pl.col("group").is_in(["full", "lora"]),
        pl.col("outcome_born") == "resolved",
        pl.col("label") == ABOVE,
        pl.col("seed") == 0,
        pl.col("collapse") > 0,
    ).drop_nulls("base_participation_ratio")
    able = rows.filter(pl.col("base_participation_ratio") >= COLLAPSE)
    if rows.height and not able.height:
        most, seen = (float(np.max(rows[name].to_numpy())) for name in ("base_participation_ratio", "collapse"))
        why = f"it starts at {most:.3g} at most here and can't fall by {COLLAPSE:g}; it falls by {seen:.3g} at most"
        return nothing(why, rows.n_unique(["model", "context"]), "contexts")
    return averaged(able, "collapse", lambda x: float(np.exp(np.mean(np.log(x)))))


def steps_saved(study: Study) -> Quantity:
    """Share of steps saved by stopping on saturation, over runs in which the rule fires, at H = 10."""
    rows = study.runs.filter(pl.col("group").is_in(["full", "lora"]), pl.col("label") == ABOVE, pl.col("seed") == 0)
    return averaged(rows.filter(pl.col("stop_born").is_not_null()), "saved_share")


def ranking_kept(study: Study) -> Quantity:
    """Share of saturated runs in which neither gold's rank nor the order changed between both stops."""
    rows = study.runs.filter(
        pl.col("group").is_in(["full", "lora"]), pl.col("stop_born").is_not_null(), pl.col("seed") == 0
    )
    rows = rows.drop_nulls(["changed_gold_rank", "changed_order"])
    kept = (~(pl.col("changed_gold_rank") | pl.col("changed_order"))).cast(pl.Float64).alias("kept")
    return averaged(rows.with_columns(kept), "kept")


def more_catapults(more: str, less: str) -> Callable[[Study], Quantity]:
    """Return the measure: share of catapults with a part trained less that without, on untied heads."""

    def measure(study: Study) -> Quantity:
        both = paired(study, more, less)
        if not both.height:
            return nothing("no such runs")
        rows = both.filter(~pl.col("tied"))
        if not rows.height:
            return nothing("no model with a head of its own")
        gain = (pl.col("jumps").cast(pl.Float64) - pl.col("jumps_less").cast(pl.Float64)).alias("gain")
        return averaged(rows.with_columns(gain), "gain")

    return measure


def _area(rows: pl.DataFrame) -> Quantity:
    columns = columns_of(rows, "score", "structural")

    def statistic(c: Columns) -> float:
        return area(c["score"].astype(float), c["structural"].astype(bool))

    return resampled(statistic, columns)


def brackets_hold(study: Study) -> Quantity:
    """Share of forecast rates by rank of which a run 1.5 % below fails and one 1.5 % above resolves."""
    return averaged(bracketed(study).with_columns(pl.col("holds").cast(pl.Float64)), "holds")


def bracketed_error(study: Study) -> Quantity:
    """Median factor, less 1, by which a forecast rate by rank misses the bisected one."""
    return averaged(bracketed(study), "error", np.median)
