"""The rate sweep: which product of rate and overlap tells catapults from drifts (eq 21), and what dose does instead."""

from __future__ import annotations

from typing import Any

import polars as pl

from borngap.cuts import CATAPULT_LIKE, JUMP
from borngap.experiments.select import chosen, missed, short, transitions
from borngap.experiments.study import Study
from borngap.results.figures import Figure
from borngap.results.tables import Table
from borngap.schedule import factors
from borngap.sweep.phase import Phase, Point, phase
from borngap.sweep.points import point_of

_METHODS = ("full", "lora")
_NEAR = (1.5, 12.0)  # dose collapse is read between these multiples of the critical rate


def tables(study: Study) -> list[Table]:
    """Return the phase boundaries and the dose collapse.

    Args:
        study: what is stored.

    Returns:
        Two tables.
    """
    rows = [row for (model, method), found in diagrams(study).items() for row in _boundaries(model, method, found)]
    note = (
        f"Catapult: jump ratio from {CATAPULT_LIKE:g}; drift: below {JUMP:g}. `unseen` is the balanced "
        "accuracy on contexts left out of the fit. kappa = rate x Gmax "
        "is the paper's; dose = rate / the context's own critical rate. Cuts have 95 % intervals, contexts resampled."
    )
    schema = {
        "model": pl.String,
        "method": pl.String,
        "by": pl.String,
        "cut": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "side": pl.String,
        "accuracy": pl.Float64,
        "unseen": pl.Float64,
        "catapults": pl.Int64,
        "drifts": pl.Int64,
        "why_none": pl.String,
    }
    boundary = Table(
        "boundary",
        "Equation 21. What separates catapult from drift?",
        note,
        pl.DataFrame(rows, schema=schema),
        split=("method", "model"),
    )
    return [boundary, _doses(study)]


def figures(study: Study) -> list[Figure]:
    """Return the data of the phase diagram and of the dose collapse.

    Args:
        study: what is stored.

    Returns:
        Two figures.
    """
    rows: list[dict[str, Any]] = [
        {
            "kappa": run["rate"] * run["gold_overlap"],
            "ratio": run["jump_ratio"],
            "model": run["model"],
            "outcome": run["outcome_born"],
        }
        for run in transitions(chosen(study, "full")).to_dicts()
        if run["jump_ratio"] is not None
    ]
    first = Figure(
        "boundary",
        "Jump ratio against kappa",
        "Full fine-tuning, all rates, runs that start with the rival ahead; "
        f"catapults lie at {CATAPULT_LIKE:g} and above.",
        "point",
        ("kappa", "kappa = rate x Gmax"),
        ("ratio", "jump ratio"),
        rows,
        "outcome",
        "model",
        ("x",),
    )
    doses = collapse(study).with_columns((pl.col("method") + ", " + pl.col("criterion")).alias("what")).to_dicts()
    second = Figure(
        "dose",
        "Dose collapse",
        "Critical rate read off one run's crossing dose, over the bisected one; 1 is exact.",
        "point",
        ("multiple", "rate of the run / critical rate"),
        ("quotient", "read off / bisected"),
        doses,
        "what",
        "model",
        ("x",),
    )
    return [first, second]


def diagrams(study: Study) -> dict[tuple[str, str], Phase]:
    """Return the phase diagram by the Born gap of each model and method.

    Args:
        study: what is stored.

    Returns:
        (model, method) -> diagram.
    """
    return study.once("diagrams", lambda: _diagrams(study))


def _diagrams(study: Study) -> dict[tuple[str, str], Phase]:
    return {
        (str(model), method): phase(_points(part), "born")
        for method in _METHODS
        for (model,), part in chosen(study, method).group_by("model", maintain_order=True)
    }


def collapse(study: Study) -> pl.DataFrame:
    """Return what one run's crossing dose says of the critical rate, against bisection.

    ``rate * flip_time / N`` over the bisected rate; for runs at rates above it.

    Args:
        study: what is stored.

    Returns:
        ``model``, ``context``, ``method``, ``criterion``, ``multiple`` (rate over the bisected one), ``quotient``.
    """
    truth = study.critical.filter((pl.col("by") == "bisect") & (pl.col("status") == "ok"))
    truth = truth.select("model", "context", "method", "criterion", "critical_rate")
    parts = []
    for criterion in ("born", "rank"):
        runs = study.runs.filter(pl.col("group").is_in(_METHODS) & (pl.col("seed") == 0)).select(
            "model",
            "context",
            pl.col("group").alias("method"),
            "rate",
            "steps",
            pl.col(f"flip_time_{criterion}").alias("flip"),
        )
        parts.append(runs.with_columns(pl.lit(criterion).alias("criterion")))
    joined = pl.concat(parts).join(truth, on=["model", "context", "method", "criterion"], maintain_order="left")
    return (
        joined.filter(pl.col("flip").is_not_null())
        .with_columns(
            (pl.col("rate") / pl.col("critical_rate")).alias("multiple"),
            (pl.col("rate") * pl.col("flip") / pl.col("steps") / pl.col("critical_rate")).alias("quotient"),
        )
        .filter(pl.col("multiple") >= 1)
        .select("model", "context", "method", "criterion", "multiple", "quotient")
    )


def near(doses: pl.DataFrame) -> pl.DataFrame:
    """Return those rows of ``collapse`` whose run was 1.5 to 12 times above the critical rate."""
    return doses.filter(pl.col("multiple").is_between(*_NEAR))


def _doses(study: Study) -> Table:
    rows = missed(near(collapse(study)), "runs", "model", "method", "criterion")
    note = (
        "Runs at 1.5 to 12 times the context's bisected critical rate. "
        "`error`: by which factor, less 1, one run's dose misses it."
    )
    return Table("dose", "Dose collapse: a critical rate from one run", note, rows)


def _points(runs: pl.DataFrame) -> list[Point]:
    rows = short(runs).iter_rows(named=True)
    return [point_of(row, "born", factors("constant", 0, row["steps"])) for row in rows]


def _boundaries(model: str, method: str, found: Phase) -> list[dict[str, Any]]:
    return [
        {
            "model": model,
            "method": method,
            "by": b.by,
            "cut": b.cut,
            "low": b.low,
            "high": b.high,
            "side": b.side,
            "accuracy": b.accuracy,
            "unseen": b.held_out,
            "catapults": b.catapults,
            "drifts": b.drifts,
            "why_none": b.reason,
        }
        for b in found.boundaries
    ]
