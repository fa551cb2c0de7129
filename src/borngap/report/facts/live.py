"""Live forecasts of a run held against what happened."""

from __future__ import annotations

import statistics

import polars as pl

from borngap.errors import UserError
from borngap.report.records import LiveRecord, LiveRow
from borngap.report.text import count
from borngap.runfolder import Run

_ROWS = 40  # forecasts that are shown at most


def live_record(run: Run, number: int, label: str) -> LiveRecord | None:
    """Hold the live forecasts of a run against its end.

    Args:
        run: the run.
        number: its number in the report.
        label: its name there.

    Returns:
        A row a forecast, of contexts and of places where a wanted word is due; None where there is no forecast.
    """
    try:
        told = run.forecasts
    except UserError:
        return None
    right = [place["context"] for place in run.plan.get("places", ()) if not place["is_due"]]
    told = told.filter(~pl.col("context").is_in(right)).sort("step", "context")
    if told.is_empty() or run.steps.is_empty():
        return None
    last, planned = int(run.steps["step"].max()), int(told["steps"].max())  # type: ignore[arg-type]
    ends = run.steps.filter(pl.col("step") == last).select("context", pl.col("logit_gap").alias("end"))
    rows = [
        _row(own, known=last >= planned) for _, own in told.join(ends, "context").group_by("step", maintain_order=True)
    ]
    shown = [row for at, row in enumerate(rows) if at % -(-len(rows) // _ROWS) == 0]
    return {"run": number, "label": label, "rows": shown, "sentence": _sentence(shown[0], last, planned)}


def _row(told: pl.DataFrame, *, known: bool) -> LiveRow:
    """One forecast; what came of it is None where the run did not reach its end."""
    lead, behind, ahead = told["low"] > 0, told["high"] <= 0, told["end"] > 0
    open_ = ~(lead | behind)
    came = [int((part & ahead).sum()) if known else None for part in (lead, open_, behind)]
    error = statistics.median((told["gap"] - told["end"]).abs().to_list())
    inside = ((told["low"] < told["end"]) & (told["end"] < told["high"])).mean()
    return {
        "step": int(told["step"][0]), "share": float(told["share"][0]), "words": len(told),
        "lead": int(lead.sum()), "undecided": int(open_.sum()), "behind": int(behind.sum()),
        "lead_came": came[0], "undecided_came": came[1], "behind_came": came[2],
        "error": float(error) if known else None, "inside": float(inside or 0) if known else None,  # type: ignore[arg-type]
    }  # fmt: skip


def _sentence(row: LiveRow, last: int, planned: int) -> str:
    if last < planned:
        return f"The run ended at step {last} of {planned}: its live forecasts are of an end that it did not reach."
    kept = row["behind"] - (row["behind_came"] or 0)
    return (
        f"At step {row['step']} of {planned}, {100 * row['share']:.0f} % of the dose done, {row['lead']} of "
        f"{count(row['words'], 'watched word')} were to lead, and {row['lead_came']} do; {row['undecided']} were "
        f"undecided, of which {row['undecided_came']} lead; {row['behind']} were to stay behind, and {kept} do."
    )
