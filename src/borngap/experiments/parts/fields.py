"""Thresholds and reduced fields across models (tables 6 and 7, figure 7), and every forecast of them against runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from borngap.critical.record import class_mean
from borngap.experiments.arms import MAIN, STANDARD
from borngap.experiments.claims.paper import facts, paper_table
from borngap.experiments.select import chosen, missed
from borngap.experiments.study import Study
from borngap.resample import mean_interval
from borngap.results.figures import Figure
from borngap.results.tables import Table

_LEAST = 3
_FIELDS: dict[str, Any] = {
    "model": pl.String,
    "class": pl.String,
    "crowding": pl.Float64,
    "method": pl.String,
    "criterion": pl.String,
    "by": pl.String,
    "contexts": pl.Int64,
    "theta": pl.Float64,
    "H": pl.Float64,
    "H_low": pl.Float64,
    "H_high": pl.Float64,
    "H_least": pl.Float64,
    "H_largest": pl.Float64,
    "cv_theta": pl.Float64,
    "cv_rate": pl.Float64,
}


def tables(study: Study) -> list[Table]:
    """Return tables 6 and 7, and the forecasts against bisection.

    Args:
        study: what is stored.

    Returns:
        Three tables.
    """
    found = fields(study)
    note = (
        "H = standard rate x mean(Gmax) / theta*: how far the standard rate (LoRA 1e-4) is above the model's own "
        "threshold. theta*: mean of critical rate x Gmax over contexts that have one; 95 % intervals resample "
        "contexts. `H least`, `H largest`: of single contexts."
    )
    lora = found.filter(pl.col("method") == "lora").drop("method")
    sixth = Table(
        "table6",
        "Table 6. Reduced field under LoRA",
        note,
        lora,
        paper_table(6),
        facts()["tables"]["6"]["title"],
        ("criterion", "by"),
    )
    return [sixth, _seventh(study, found), _errors(study)]


def figures(study: Study) -> list[Figure]:
    """Return the data of figure 7.

    Args:
        study: what is stored.

    Returns:
        One figure.
    """
    rows = fields(study).filter(pl.col("by") == "collocation").to_dicts()
    note = (
        "Reduced field H at the standard rates (full 2e-5, LoRA 1e-4), by collocation; 1 is the model's own threshold."
    )
    return [
        Figure(
            "figure7",
            "Figure 7. The standard rate against each model's own threshold",
            note,
            "point",
            ("H", "reduced field H"),
            ("model", ""),
            rows,
            "method",
            "criterion",
            ("x",),
        )
    ]


def fields(study: Study) -> pl.DataFrame:
    """Return theta* and the reduced field of each model, method, criterion and way of finding critical rates.

    Args:
        study: what is stored.

    Returns:
        A row each; without theta* where fewer than 3 contexts have a critical rate.
    """
    overlaps = dict(study.contexts.group_by("model").agg(pl.col("gold_overlap").mean()).iter_rows())
    about = {row["model"]: row for row in study.models.to_dicts()}
    rows = []
    wanted = study.critical.filter(pl.col("method").is_in(["full", "lora"]))
    for key, part in wanted.group_by("model", "method", "criterion", "by", maintain_order=True):
        model, method, criterion, by = map(str, key)
        head = {"model": model, "class": about[model]["class"], "crowding": about[model]["readout_crowding"]}
        rows.append(
            head
            | {"method": method, "criterion": criterion, "by": by}
            | _field(part, overlaps[model], STANDARD[method])
        )
    return pl.DataFrame(rows, schema=_FIELDS)


def errors(study: Study) -> pl.DataFrame:
    """Return how far forecast critical rates miss the bisected ones.

    Args:
        study: what is stored.

    Returns:
        ``model``, ``context``, ``method``, ``criterion``, ``by`` (``collocation`` or ``class-mean``), ``quotient``
        (forecast over bisected).
    """
    truth = study.critical.filter((pl.col("by") == "bisect") & (pl.col("status") == "ok"))
    truth = truth.select("model", "context", "method", "criterion", pl.col("critical_rate").alias("true"))
    solved = study.critical.filter((pl.col("by") == "collocation") & (pl.col("status") == "ok"))
    ways = [solved.select("model", "context", "method", "criterion", "by", "critical_rate"), _class_means(study)]
    joined = pl.concat(ways).join(truth, on=["model", "context", "method", "criterion"], maintain_order="left")
    return joined.with_columns((pl.col("critical_rate") / pl.col("true")).alias("quotient")).drop(
        "critical_rate", "true"
    )


def sufficiency(study: Study) -> pl.DataFrame:
    """Return what LoRA at the standard rate resolves of what needs resolving, by rank and by the Born gap.

    Args:
        study: what is stored.

    Returns:
        A row a model: ``crowding``, ``class``, and for each criterion the runs and how many resolve.
    """
    runs = chosen(study, "lora", (f"{STANDARD['lora']:g}",), seed=0)
    counts = []
    for criterion in ("rank", "born"):
        outcome = pl.col(f"outcome_{criterion}")
        open_ = ~outcome.is_in(["pre-resolved", "lost"])
        counts += [open_.sum().alias(f"open_{criterion}"), (outcome == "resolved").sum().alias(f"resolved_{criterion}")]
    about = study.models.select("model", "class", pl.col("readout_crowding").alias("crowding"))
    return about.join(runs.group_by("model").agg(*counts), on="model", maintain_order="left")


def burial(study: Study, group: str = "lora") -> pl.DataFrame:
    """Return the mean burial depth before and after a way of training, a row a model and rate.

    Args:
        study: what is stored.
        group: way of training.

    Returns:
        ``model``, ``label``, ``B_before``, ``B_after``.
    """
    rows = chosen(study, group, seed=0)
    means = [pl.col("base_burial_depth").mean().alias("B_before"), pl.col("final_burial_depth").mean().alias("B_after")]
    return rows.group_by("model", "label", maintain_order=True).agg(*means)


def _field(part: pl.DataFrame, overlap: float, standard: float) -> dict[str, Any]:
    known = part.filter((pl.col("status") == "ok") & pl.col("critical_rate").is_not_null())
    rates, gmax = known["critical_rate"].to_numpy(), known["gold_overlap"].to_numpy()
    if len(rates) < _LEAST:
        return {"contexts": len(rates)}
    thetas = rates * gmax
    low, high = mean_interval(thetas)
    each = standard / rates
    middle = standard * overlap
    return {
        "contexts": len(rates),
        "theta": thetas.mean(),
        "H": middle / thetas.mean(),
        "H_low": _over(middle, high),
        "H_high": _over(middle, low),
        "H_least": each.min(),
        "H_largest": each.max(),
        "cv_theta": np.std(thetas) / np.mean(thetas),
        "cv_rate": np.std(rates) / np.mean(rates),
    }


def _over(product: float, theta: float | None) -> float | None:
    return product / theta if theta is not None and theta > 0 else None


def _seventh(study: Study, found: pl.DataFrame) -> Table:
    wide = found.filter(pl.col("by") == "collocation")
    rows = []
    after = {(row["model"], row["label"]): row for row in burial(study).to_dicts()}
    for (model, criterion), part in wide.group_by("model", "criterion", maintain_order=True):
        by = {row["method"]: row for row in part.to_dicts()}
        ends = {label: after.get((model, label), {}) for label in (f"{STANDARD['lora']:g}", MAIN["lora"], "H=10")}
        first = next(iter(by.values()))
        rows.append(
            {
                "criterion": criterion,
                "model": model,
                "class": first["class"],
                "crowding": first["crowding"],
                **{f"H_{method}": by.get(method, {}).get("H") for method in ("full", "lora")},
                "B_before": next(iter(ends.values())).get("B_before"),
                **{f"B_after_lora_{label}": end.get("B_after") for label, end in ends.items()},
            }
        )
    note = (
        "H at the standard rates, by collocation; B: mean burial depth "
        "over contexts, before and after LoRA at three rates."
    )
    schema = {
        "criterion": pl.String,
        "model": pl.String,
        "class": pl.String,
        "crowding": pl.Float64,
        "H_full": pl.Float64,
        "H_lora": pl.Float64,
        "B_before": pl.Float64,
    }
    schema |= {f"B_after_lora_{label}": pl.Float64 for label in (f"{STANDARD['lora']:g}", MAIN["lora"], "H=10")}
    return Table(
        "table7",
        "Table 7. Across models",
        note,
        pl.DataFrame(rows, schema=schema),
        paper_table(7),
        facts()["tables"]["7"]["title"],
        ("criterion",),
    )


def _errors(study: Study) -> Table:
    rows = missed(errors(study), "contexts", "by", "method", "criterion", "model")
    note = (
        "Forecast critical rate over the bisected one, per context. class-mean "
        "is the paper's blind rule (eq 22) with its own fields H, 1.70 and 10."
    )
    return Table(
        "forecasts", "Forecast critical rates against bisection", note, rows, split=("by", "method", "criterion")
    )


def _class_means(study: Study) -> pl.DataFrame:
    kinds = dict(study.models.select("model", "class").iter_rows())
    means = dict(study.contexts.group_by("model").agg(pl.col("gold_overlap").mean()).iter_rows())

    def each() -> Iterator[dict[str, Any]]:
        for row in study.critical.filter(
            (pl.col("by") == "bisect") & pl.col("method").is_in(["full", "lora"])
        ).to_dicts():
            rate = class_mean(row["gold_overlap"], means[row["model"]], kinds[row["model"]], STANDARD[row["method"]])
            if rate is not None and math.isfinite(rate):
                yield {key: row[key] for key in ("model", "context", "method", "criterion")} | {
                    "by": "class-mean",
                    "critical_rate": rate,
                }

    schema = {
        "model": pl.String,
        "context": pl.Int64,
        "method": pl.String,
        "criterion": pl.String,
        "by": pl.String,
        "critical_rate": pl.Float64,
    }
    return pl.DataFrame(list(each()), schema=schema)
