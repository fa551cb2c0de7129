"""DM-5c and DM-5d: step by step under full fine-tuning and LoRA (tables 2 and 3, figures 3 to 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from borngap.cuts import CATAPULT_LIKE, JUMP
from borngap.experiments.arms import MAIN, STANDARD
from borngap.experiments.claims.paper import facts, paper_table
from borngap.experiments.parts import singlesteps
from borngap.experiments.select import HEAD, IS_CATAPULT, chosen, short, transitions
from borngap.experiments.stats import spearman
from borngap.experiments.study import Study
from borngap.results.figures import Figure
from borngap.results.tables import Table

_SHOWN = {"full": "full fine-tuning", "lora": "LoRA"}
_FIELDS = ("H=1.7", "H=10")


def tables(study: Study) -> list[Table]:
    """Return tables 2 and 3, the rank correlations, how many catapults LoRA leaves, and what single steps come to.

    Args:
        study: what is stored.

    Returns:
        Five tables.
    """
    return [
        *(_steps(study, number, group) for number, group in ((2, "full"), (3, "lora"))),
        _correlations(study),
        _counts(study),
        *singlesteps.tables(study),
    ]


def figures(study: Study) -> list[Figure]:
    """Return the data of figures 3, 4 and 5, and of single steps against the rate.

    Args:
        study: what is stored.

    Returns:
        Four figures.
    """
    return [_born_gaps(study), _scatter(study), _alignment(study), *singlesteps.figures(study)]


def _labels(group: str) -> tuple[str, ...]:
    """The paper's rate for step-level runs, the method's standard one, and both fields."""
    return tuple(dict.fromkeys([f"{STANDARD['full']:g}", f"{STANDARD[group]:g}", *_FIELDS]))


def _steps(study: Study, number: int, group: str) -> Table:
    rows = chosen(study, group, _labels(group), seed=0).select(
        *HEAD[:2],
        "rate",
        *HEAD[2:],
        pl.col("flip_step_born").alias("flip_step"),
        "jump_ratio",
        "character",
        "amplification",
        "readout_share",
        pl.col("flip_step_rank").alias("flip_step_by_rank"),
    )
    note = (
        f"{_SHOWN[group][0].upper()}{_SHOWN[group][1:]}, one section a model and rate, "
        f"seed 0. Flip and character by the Born gap, as in the paper. "
        "`amplification`: how much sharper the Born gap moves at its jump than the logit gap. `readout share`: the "
        "share of the jump left with the geometry of step 0. Null: no flip, or no number."
    )
    title = f"Table {number}. Step by step under {_SHOWN[group]}"
    return Table(
        f"table{number}",
        title,
        note,
        short(rows),
        paper_table(number),
        facts()["tables"][str(number)]["title"],
        ("model", "label"),
        MAIN[group],
    )


def _correlations(study: Study) -> Table:
    rows = []
    for group in _SHOWN:
        for (model, label), part in chosen(study, group, seed=0).group_by("model", "label", maintain_order=True):
            known = part.filter(pl.col("jump_ratio").is_not_null())
            rho, p = spearman(known["gold_overlap"].to_list(), known["jump_ratio"].to_list())
            rows.append(
                {
                    "method": group,
                    "model": model,
                    "rate": label,
                    "n": known.height,
                    "spearman": _known(rho),
                    "p": _known(p),
                }
            )
    schema = {
        "method": pl.String,
        "model": pl.String,
        "rate": pl.String,
        "n": pl.Int64,
        "spearman": pl.Float64,
        "p": pl.Float64,
    }
    note = (
        "Rank correlation of Gmax and jump ratio over contexts; p by "
        "permutation, two-sided, not corrected for how many there are."
    )
    return Table(
        "spearman", "Does overlap predict the jump?", note, pl.DataFrame(rows, schema=schema), split=("method",)
    )


def _counts(study: Study) -> Table:
    jump = IS_CATAPULT.fill_null(False)
    rows = (
        transitions(study.runs)
        .group_by("model", "group", "label", maintain_order=True)
        .agg(
            pl.len().alias("runs"),
            jump.sum().alias("catapults"),
            pl.col("phantom").sum().alias("phantoms"),
            pl.col("jump_ratio").median().alias("median_ratio"),
            pl.col("largest_drift").max(),
            pl.col("rotation").max(),
        )
    )
    note = (
        "Runs that start with the rival ahead by the Born gap; catapults "
        f"have a jump ratio of {CATAPULT_LIKE:g} or more; phantoms have {JUMP:g} or more with the "
        "jump in the readout. `largest drift`: of the overlap of gold and rival; `rotation` of gold, rad."
    )
    return Table(
        "catapults", "How many catapults does each way of training leave?", note, rows, split=("group",), main="H=10"
    )


def _born_gaps(study: Study) -> Figure:
    rows = []
    for sharpest in _sharpest(study):
        same = pl.col("model").eq(sharpest["model"]) & pl.col("context").eq(sharpest["context"])
        for run in chosen(study, "full", _FIELDS).filter(same).to_dicts():
            steps = study.steps_of(run)
            rows += [
                {"step": s, "phi": p, "rate": run["label"], "model": f"{run['model']}"}
                for s, p in steps.select("step", "born_gap").iter_rows()
            ]
    note = (
        f"Full fine-tuning: for each model the context with the largest jump ratio at {MAIN['full']}, "
        f"there and at {_FIELDS[0]}."
    )
    return Figure(
        "figure3",
        "Figure 3. Catapult and drift",
        note,
        "line",
        ("step", "optimiser step"),
        ("phi", "Born gap"),
        rows,
        "rate",
        "model",
        zero=True,
    )


def _sharpest(study: Study) -> Iterator[dict[str, Any]]:
    """Of each model the full run with the largest jump ratio at the field of step-level runs."""
    rows = transitions(chosen(study, "full", (MAIN["full"],))).filter(pl.col("jump_ratio").is_not_null())
    for _, part in rows.group_by("model", maintain_order=True):
        yield part.sort("jump_ratio", descending=True).row(0, named=True)


def _scatter(study: Study) -> Figure:
    rows: Sequence[dict[str, Any]] = [
        {"overlap": run["gold_overlap"], "ratio": run["jump_ratio"], "method": _SHOWN[group], "model": run["model"]}
        for group in _SHOWN
        for run in transitions(chosen(study, group, ("H=10",), seed=0)).to_dicts()
        if run["jump_ratio"] is not None
    ]
    note = "Both at the mean reduced field 10 of their own threshold."
    return Figure(
        "figure4",
        "Figure 4. Jump ratio against overlap",
        note,
        "point",
        ("overlap", "overlap Gmax"),
        ("ratio", "jump ratio"),
        rows,
        "method",
        "model",
    )


def _alignment(study: Study) -> Figure:
    columns = {
        "gold_alignment": "ê·h of gold",
        "rival_alignment": "ê·h of the rival",
        "logit_gap": "logit gap / nat",
    }
    rows = []
    for run in _sharpest(study):
        steps = study.steps_of(run)
        rows += [
            {"step": row["step"], "alignment": row[column], "word": word, "model": run["model"]}
            for column, word in columns.items()
            for row in steps.select("step", column).to_dicts()
            if row[column] is not None
        ]
    note = (
        f"The run of figure 3 at {MAIN['full']}: projection of the hidden "
        "state on gold's and the rival's direction, in units of the model."
    )
    return Figure(
        "figure5",
        "Figure 5. The hidden state through the flip",
        note,
        "line",
        ("step", "optimiser step"),
        ("alignment", "model units; nat"),
        rows,
        "word",
        "model",
        free=("y",),
    )


def _known(value: float) -> float | None:
    return None if value != value else value
