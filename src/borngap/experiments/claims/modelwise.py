"""What claims about thresholds, forecasts and whole models measure: pure functions from a study to a quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from borngap.experiments.claims.quantities import averaged, columns_of
from borngap.experiments.parts.fields import errors, fields, sufficiency
from borngap.experiments.parts.geometries import laws
from borngap.experiments.parts.ratesweep import collapse, diagrams, near
from borngap.experiments.select import ERROR
from borngap.experiments.stats import (
    Columns,
    Quantity,
    mean_correlation,
    mean_over_models,
    nothing,
    over_models,
    rank_correlation,
    resampled,
    spearman,
    variation,
)
from borngap.experiments.study import Study
from borngap.sweep.phase import Phase


def kappa_tells(study: Study) -> Quantity:
    """Balanced accuracy of a cut on kappa on contexts it has not seen, mean over models, full fine-tuning."""
    held = [next(b.held_out for b in found.boundaries if b.by == "kappa") for found in _full(study)]
    return _over([value for value in held if value is not None], "no model has 3 catapults and 3 drifts of 3 contexts")


def kappa_beats(other: str) -> Callable[[Study], Quantity]:
    """Return the measure: share of points of unseen contexts told right by kappa less that by another candidate."""

    def measure(study: Study) -> Quantity:
        gains = [c.difference for found in _full(study) for c in found.comparisons if c.against == other]
        return _over([gain for gain in gains if gain is not None], "no model has catapults and drifts enough")

    return measure


def field_varies(criterion: str, method: str = "full") -> Callable[[Study], Quantity]:
    """Return the measure: coefficient of variation over models of H at the standard rate, by collocation."""

    def measure(study: Study) -> Quantity:
        rows = _fields(study, method, criterion)
        return over_models(lambda c: variation(c["H"]), {"H": rows["H"].to_numpy()})

    return measure


def field_at_standard(study: Study) -> Quantity:
    """Geometric mean over models of H at the standard rate of full fine-tuning, by collocation and the Born gap."""
    values = _fields(study, "full", "born")["H"].to_numpy()
    return mean_over_models(values.tolist(), log=True)


def overlap_collapses(study: Study) -> Quantity:
    """Variation of theta_i = eta_c * Gmax over contexts less that of eta_c itself, mean over models and methods."""
    rows = fields(study).filter(pl.col("by") == "collocation").drop_nulls(["cv_theta", "cv_rate"])
    each = rows.group_by("model", maintain_order=True).agg(
        (pl.col("cv_theta") - pl.col("cv_rate")).mean().alias("gain")
    )
    return mean_over_models(each["gain"].to_list())


def classes_separate(study: Study) -> Quantity:
    """Share of contexts that LoRA resolves at the standard rate: class B less class A, by rank."""
    rows = sufficiency(study).filter(pl.col("open_rank") > 0)
    rows = rows.with_columns((pl.col("resolved_rank") / pl.col("open_rank")).alias("share"))
    kinds = {kind: rows.filter(pl.col("class") == kind)["share"].to_numpy() for kind in ("A", "B")}
    if min(map(len, kinds.values())) == 0:
        counts = ", ".join(f"{len(values)} of class {kind}" for kind, values in kinds.items())
        return nothing(f"both classes are needed; there are {counts}", rows.height, "models")
    both = rows.filter(pl.col("class").is_in(["A", "B"]))
    columns = {"share": both["share"].to_numpy(), "b": (both["class"] == "B").to_numpy()}
    return over_models(_difference, columns)


def law(x: str, y: str) -> Callable[[Study], Quantity]:
    """Return the measure: Spearman over models of two columns of ``laws``, with a permutation p-value."""

    def measure(study: Study) -> Quantity:
        rows = laws(study).drop_nulls([x, y])
        columns = {x: rows[x].to_numpy(), y: rows[y].to_numpy()}
        found = over_models(lambda c: rank_correlation(c[x], c[y]), columns)
        _, p = spearman(columns[x].tolist(), columns[y].tolist())
        note = "; ".join(part for part in (found.note, "" if np.isnan(p) else f"permutation p {p:.3g}") if part)
        return Quantity(found.value, found.low, found.high, found.n, "models", note)

    return measure


def forecast_error(by: str, method: str) -> Callable[[Study], Quantity]:
    """Return the measure: median over contexts of the factor, less 1, by which a forecast rate misses bisection."""

    def measure(study: Study) -> Quantity:
        rows = errors(study).filter(
            (pl.col("by") == by) & (pl.col("method") == method) & (pl.col("criterion") == "born")
        )
        return averaged(rows.with_columns(ERROR), "error", np.median)

    return measure


def dose_error(method: str) -> Callable[[Study], Quantity]:
    """Return the measure: the same for one run's crossing dose, at 1.5 to 12 times the critical rate."""

    def measure(study: Study) -> Quantity:
        rows = near(collapse(study)).filter((pl.col("method") == method) & (pl.col("criterion") == "born"))
        return averaged(rows.with_columns(ERROR), "error", np.median)

    return measure


def outcomes_forecast(study: Study) -> Quantity:
    """Share of runs at H = 1.7 whose outcome collocation predicts, those left out in which a real run answered."""
    return averaged(misses(study), "equal")


def matrix_matters(study: Study) -> Quantity:
    """Crowding of the readout over that of the input matrix, geometric mean over models with a head of their own."""
    rows = study.models.filter(~pl.col("tied"))
    return mean_over_models((rows["readout_crowding"] / rows["input_crowding"]).to_list(), log=True)


def mean_vector_matters(study: Study) -> Quantity:
    """Crowding of the readout over that without its mean row, geometric mean over models."""
    quotient = study.models["readout_crowding"] / study.models["centered_crowding"]
    return mean_over_models(quotient.to_list(), log=True)


def harder_with_overlap(study: Study) -> Quantity:
    """Spearman of Gmax and the critical rate under full fine-tuning by rank, within models, by collocation."""
    rows = study.critical.filter(
        pl.col("method") == "full", pl.col("criterion") == "rank", pl.col("by") == "collocation"
    )
    columns = columns_of(rows.filter(pl.col("status") == "ok"), "gold_overlap", "critical_rate")
    return resampled(mean_correlation("gold_overlap", "critical_rate"), columns)


def misses(study: Study) -> pl.DataFrame:
    """Return forecast ends beside the runs they are of.

    Args:
        study: what is stored.

    Returns:
        ``model``, ``context``, ``group``, the outcome forecast and that of the run, ``equal`` (1 or 0); without those
        in which a real run had to answer.
    """
    runs = study.runs.filter(pl.col("seed") == 0).select(
        "model", "context", "group", "label", pl.col("outcome_born").alias("run")
    )
    solved = study.ends.filter(pl.col("by") == "collocation").select("model", "context", "group", "label", "outcome")
    joined = solved.join(runs, on=["model", "context", "group", "label"], maintain_order="left")
    return joined.with_columns((pl.col("outcome") == pl.col("run")).cast(pl.Float64).alias("equal"))


def _full(study: Study) -> list[Phase]:
    return [found for (_, method), found in diagrams(study).items() if method == "full"]


def _fields(study: Study, method: str, criterion: str) -> pl.DataFrame:
    rows = fields(study).filter(pl.col("method") == method, pl.col("criterion") == criterion)
    return rows.filter(pl.col("by") == "collocation").drop_nulls("H")


def _over(values: Sequence[float], why: str) -> Quantity:
    """Mean over models."""
    if not values:
        return nothing(why, unit="models")
    return mean_over_models(values)


def _difference(columns: Columns) -> float:
    b = columns["b"]
    return float(columns["share"][b].mean() - columns["share"][~b].mean()) if b.any() and not b.all() else np.nan
