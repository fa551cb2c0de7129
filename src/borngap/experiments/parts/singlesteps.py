"""Is a jump ratio a property of the run or of a step? It against the rate, over half of the steps, and in nat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from borngap.experiments.select import IS_CATAPULT, chosen, transitions
from borngap.experiments.study import Study
from borngap.judge.trajectory import Trajectory
from borngap.results.figures import Figure
from borngap.results.tables import Table

_METHODS = {"full": "full fine-tuning", "lora": "LoRA"}
RUN_STEPS: dict[str, Any] = {
    "model": pl.String, "method": pl.String, "label": pl.String, "rate": pl.Float64, "context": pl.Int64,
    "H": pl.Float64, "jump_ratio": pl.Float64, "half_ratio": pl.Float64, "quotient": pl.Float64,
    "steps_that_carry": pl.Float64, "jump_step": pl.Int64, "nats_a_step": pl.Float64, "nats_at_jump": pl.Float64,
}  # fmt: skip
_MEDIANS = ("jump_ratio", "half_ratio", "quotient", "steps_that_carry", "jump_step", "nats_a_step", "nats_at_jump")


def tables(study: Study) -> list[Table]:
    """Return what single steps amount to, a row a rate.

    Args:
        study: what is stored.

    Returns:
        One table.
    """
    rows = single_steps(study).group_by("model", "method", "label", maintain_order=True).agg(
        pl.col("H").first(), pl.len().alias("runs"), IS_CATAPULT.mean().alias("catapults"),
        *(pl.col(name).median() for name in _MEDIANS),
    )  # fmt: skip
    note = (
        "Runs that start with the rival more probable, seed 0; medians, but for the share of catapults. `H`: the rate "
        "over the model's own threshold. `half ratio`: the jump ratio of the same run, read after half of its steps; "
        "`quotient`: the whole run's over it. 1: where the run ends does not matter. 2: everything happens in the "
        "first half, and the ratio counts the steps that came after. `steps that carry`: steps over jump ratio, as "
        "many steps of the largest size as make the whole way. `nats a step`: mean change of the logit gap in size; "
        "`nats at jump`: its change in the jumping step."
    )
    return [Table("single-steps", "Do single steps decide?", note, rows, split=("model", "method"))]


def figures(study: Study) -> list[Figure]:
    """Return the data of two panels a model: jump ratio, and nat in the jumping step, against H.

    Args:
        study: what is stored.

    Returns:
        One figure.
    """
    kinds = {"jump_ratio": "jump ratio", "nats_at_jump": "nat in the jumping step"}
    rows = [
        {"H": run["H"], "value": run[name], "method": _METHODS[run["method"]], "panel": f"{run['model']}: {kind}"}
        for name, kind in kinds.items()
        for run in single_steps(study).drop_nulls(["H", name]).iter_rows(named=True)
        if run[name] > 0
    ]
    note = (
        "One point a run that starts with the rival more probable. H: the rate over the model's own threshold; 1 is "
        "the threshold itself."
    )
    title = "Jump ratio and size of the jumping step against the rate"
    return [Figure("single-steps", title, note, "point", ("H", "reduced field H"), ("value", ""), rows, "method",
                   "panel", ("x", "y"), ("y",), columns=2)]  # fmt: skip


def single_steps(study: Study) -> pl.DataFrame:
    """Return what the single steps of each run come to (docs/results.md#what-a-catapult-is).

    Args:
        study: what is stored.

    Returns:
        A row a full or LoRA run that starts with the rival more probable, seed 0, in order of model, method and rate:
        ``H = rate * mean(Gmax) / theta*``, unit 1; ``jump_ratio`` of all steps and ``half_ratio`` of the first half of
        them, ``quotient`` of both; ``steps_that_carry``, steps over jump ratio; ``nats_a_step`` and ``nats_at_jump``,
        changes of the logit gap in size, unit nat.
    """
    return study.once("single-steps", lambda: pl.DataFrame(list(_rows(study)), schema=RUN_STEPS))


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    middle = dict(study.contexts.group_by("model").agg(pl.col("gold_overlap").mean()).iter_rows())
    theta = {row["model"]: row for row in study.models.iter_rows(named=True)}
    for method in _METHODS:
        for run in transitions(chosen(study, method, seed=0), "rank").iter_rows(named=True):
            threshold = theta[run["model"]][f"theta_{method}"]
            field = run["rate"] * middle[run["model"]] / threshold if threshold else None
            head = {name: run[name] for name in ("model", "label", "rate", "context")} | {"method": method, "H": field}
            yield head | _of_run(Trajectory.of(study.steps_of(run).drop("run")))


def _of_run(trajectory: Trajectory) -> dict[str, Any]:
    jump, half = trajectory.jump, trajectory.until(trajectory.steps[-1] // 2).jump
    if jump is None:
        return {}
    moves = trajectory.changes("logit_gap")
    return {
        "jump_ratio": jump.ratio,
        "half_ratio": half and half.ratio,
        "quotient": half and jump.ratio / half.ratio,
        "steps_that_carry": 1 / jump.share,
        "jump_step": jump.step,
        "nats_a_step": sum(moves) / len(moves),
        "nats_at_jump": moves[jump.index - 1],
    }
