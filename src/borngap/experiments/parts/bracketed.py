"""Forecast rates by rank between two real runs, 1.5 % below and 1.5 % above, and against bisection between these."""

from __future__ import annotations

import polars as pl

from borngap.experiments.select import ERROR
from borngap.experiments.study import Study
from borngap.results.tables import Table


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
        pl.col("error").count().alias("bisected"),
        *(how.alias(name) for name, how in errors.items()),
        pl.col("forecast_seconds").median(),
        pl.col("run_seconds").median(),
        pl.col("bisection_seconds").median(),
    )  # fmt: skip
    note = (
        "Two runs a context, 1.5 % below and 1.5 % above the rate that collocation forecasts by rank: shares of those "
        "of which the first fails, the second resolves, and both. Some are then bisected between the two, to 0.5 %: "
        "errors of the forecast against the middle of that bracket. Seconds a context, medians: the forecast, the two "
        "runs, and the bisection besides; processor time on a CPU."
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
