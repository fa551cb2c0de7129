"""Forecast rates by rank between two real runs, 1.5 % below and 1.5 % above, and against bisection between these."""

from __future__ import annotations

from functools import partial

import polars as pl

from borngap.experiments.select import ERROR
from borngap.experiments.stats import share
from borngap.experiments.study import Study
from borngap.results.tables import Table


def _end(holds: pl.Series, upper: bool) -> float | None:
    found = share(int(holds.sum()), len(holds))
    return found.high if upper else found.low


_ENDS = {"hold_low": partial(_end, upper=False), "hold_high": partial(_end, upper=True)}


def tables(study: Study) -> list[Table]:
    """Return how forecast rates compare with real runs, a row a model and method.

    Args:
        study: what is stored.

    Returns:
        One table.
    """
    ways = {"fail_below": "fails", "resolve_above": "resolves", "hold": "holds"}
    errors = {"error_median": pl.col("error").median(), "error_largest": pl.col("error").max()}
    rows = bracketed(study).group_by("model", "method", maintain_order=True).agg(
        pl.len().alias("contexts"),
        *(pl.col(column).mean().alias(name) for name, column in ways.items()),
        *(pl.col("holds").map_batches(how, pl.Float64, returns_scalar=True).alias(name) for name, how in _ENDS.items()),
        pl.col("error").count().alias("bisected"),
        *(how.alias(name) for name, how in errors.items()),
        pl.col("forecast_seconds").median(),
        pl.col("run_seconds").median(),
        pl.col("bisection_seconds").median(),
    )  # fmt: skip
    note = (
        "Two runs a context, 1.5 % below and 1.5 % above the rate that collocation forecasts by rank: shares of those "
        "of which the first fails, the second resolves, and both (with the exact 95 % interval). Some are then "
        "bisected between the two, to 0.5 %: errors of the forecast against the middle of that bracket. Seconds a "
        "context, medians: the forecast, the two runs, and the bisection besides; processor time on a CPU."
    )
    return [Table("brackets", "Forecast rates between two real runs", note, rows)]


def bracketed(study: Study) -> pl.DataFrame:
    """Return the forecasts that were held against runs, with ``holds`` and ``error`` (a factor, less 1).

    Args:
        study: what is stored.

    Returns:
        A row a model, method and context; ``error`` is null where there was no bisection.
    """
    rows = study.brackets.with_columns((pl.col("forecast") / pl.col("bisected")).alias("quotient"))
    return rows.with_columns(ERROR, (pl.col("fails") & pl.col("resolves")).alias("holds"))
