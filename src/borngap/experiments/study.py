"""Everything that a reproduction has stored, as tables: models, contexts, critical rates, runs and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from borngap.errors import UserError
from borngap.experiments.arms import ARMS
from borngap.experiments.campaign import rates, theta_by_collocation, undone
from borngap.experiments.folder import Plan, done, entries, files_of, home, read_plan
from borngap.files import checked
from borngap.runfolder import STEP_COLUMNS
from borngap.sweep.sweepfolder import SWEEP_FILE, Sweep, read_sweep

Kept = TypeVar("Kept")
EPOCH = 5  # steps of an epoch of one context (docs/track.md)
_F, _S, _I, _B = pl.Float64, pl.String, pl.Int64, pl.Boolean
MODEL_COLUMNS: dict[str, Any] = {
    "model": _S, "family": _S, "parameters": _I, "dimension": _I, "tied": _B, "class": _S,
    **{f"{kind}_{name}": _F for kind in ("readout", "input", "centered")
       for name in ("crowding", "mean", "mean_square", "anisotropy", "fraction_above", "ks_gaussian",
                    "ks_exponential")},
    **{f"{kind}_class": _S for kind in ("readout", "input", "centered")},
    **{f"theta_{method}": _F for method in ("full", "lora", "readout-only")},
    **{f"theta_{method}_by": _S for method in ("full", "lora", "readout-only")},
}  # fmt: skip
CRITICAL_COLUMNS: dict[str, Any] = {
    "model": _S, "method": _S, "criterion": _S, "by": _S, "seed": _I, "context": _I, "gold_overlap": _F,
    "critical_rate": _F, "low": _F, "high": _F, "status": _S, "optimizer_steps": _I, "forward_passes": _I,
    "seconds": _F,
}  # fmt: skip
BRACKET_COLUMNS: dict[str, Any] = {
    "model": _S, "method": _S, "criterion": _S, "seed": _I, "context": _I, "gold_overlap": _F, "forecast": _F,
    "below": _F, "above": _F, "below_flip": _F, "above_flip": _F, "fails": _B, "resolves": _B, "bisected": _F,
    "forecast_seconds": _F, "run_seconds": _F, "bisection_seconds": _F,
}  # fmt: skip
END_COLUMNS: dict[str, Any] = {
    "model": _S, "group": _S, "context": _I, "rate": _F, "label": _S, "outcome": _S, "by": _S,
    "final_born_gap": _F, "final_logit_gap": _F, "final_drag": _F, "final_gold_probability": _F,
}  # fmt: skip
BASE_COLUMNS: dict[str, Any] = {
    "model": _S, "context": _I, "gold": _S, "rival": _S, "fragment": _B,
    **{name: STEP_COLUMNS[name] for name in (
        "gold_overlap", "born_gap", "logit_gap", "signal", "drag", "gold_rank", "born_rank", "burial_depth",
        "geometric_efficiency", "participation_ratio", "pool_size", "gold_probability", "rival_probability",
        "drive", "cross_entropy", "entropy")},
}  # fmt: skip
RUN_COLUMNS: dict[str, Any] = {
    "model": _S, "tied": _B, "group": _S, "arm": _S, "method": _S, "label": _S, "rate": _F, "seed": _I,
    "context": _I, "run": _I, "gold": _S, "rival": _S, "gold_overlap": _F, "steps": _I, "last_step": _I,
    **{f"{what}_{name}": kind for name in ("rank", "top1", "born")
       for what, kind in (("outcome", _S), ("flip_step", _I), ("flip_time", _F))},
    "character": _S, "jump_ratio": _F, "jump_share": _F, "jump_step": _I, "amplification": _F, "readout_share": _F,
    "phantom": _B, "silent": _B, "disagrees": _B, "drag_worsened": _B,
    "stop_born": _I, "stop_loss": _I, "loss_fired": _B, "saved_share": _F,
    "changed_gold_rank": _B, "changed_order": _B,
    "gold_standard": _F, "gold_ablated": _F,
    **{f"{end}_{name}": _F for name in ("born_gap", "logit_gap", "drag", "signal", "gold_probability",
                                        "rival_probability", "cross_entropy", "participation_ratio",
                                        "burial_depth", "born_rank", "gold_rank", "geometric_efficiency")
       for end in ("base", "final")},
    "largest_drift": _F, "rotation": _F, "early_drag": _F, "collapse": _F, "logit_step_at_jump": _F,
    "cross_entropy_rise": _F,
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """What experiments and claims are made from.

    Attributes:
        models: a row a model: bulk of its three geometries, theta* by collocation.
        contexts: a row a model and context: observables of the base model.
        critical: a row a search and context.
        ends: a row a forecast end.
        runs: a row a run: outcome, movement, and what its steps amount to.
        sweeps: (model, arm) -> SWEEP, for figures that need single steps.
        quantiles: model -> geometry -> percentile -> overlap.
        plan: the plan; None for made-up studies.
        brackets: a row a forecast rate that was held against two real runs.
        undone: what is not stored yet, in words; models that lack nothing are left out.
        memo: what ``once`` has computed.
    """

    models: pl.DataFrame
    contexts: pl.DataFrame
    critical: pl.DataFrame
    ends: pl.DataFrame
    runs: pl.DataFrame
    sweeps: Mapping[tuple[str, str], Sweep]
    quantiles: Mapping[str, Mapping[str, Mapping[str, float]]]
    plan: Plan | None = None
    brackets: pl.DataFrame = field(default_factory=lambda: frame([], BRACKET_COLUMNS))
    undone: Sequence[str] = ()
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], Kept]) -> Kept:
        """Return what several tables and claims need, computed once."""
        if name not in self.memo:
            self.memo[name] = make()
        kept: Kept = self.memo[name]
        return kept

    def steps_of(self, run: Mapping[str, Any]) -> pl.DataFrame:
        """Return the steps of a row of ``runs``."""
        sweep = self.sweeps[run["model"], run["arm"]]
        return sweep.steps.filter(pl.col("run") == run["run"])


def read_study(folder: Path) -> Study:
    """Read a reproduction, complete or not.

    Args:
        folder: the reproduction.

    Returns:
        Its tables; models of which nothing is stored yet are missing.

    Raises:
        UserError: there is no reproduction, or a file is damaged.
    """
    plan, _ = read_plan(folder)
    parts = [_of_model(home(folder, model), model, plan) for model in plan.models]
    open_ = {model: ", ".join(undone(folder, model, plan)) for model in plan.models}
    parts = [part for part in parts if part]
    rows = {name: [row for part in parts for row in part[name]] for name in _TABLES}
    frames: dict[str, Any] = {name: frame(rows[name], columns) for name, columns in _TABLES.items()}
    sweeps = {key: sweep for part in parts for key, sweep in part["sweeps"].items()}
    quantiles = {part["model"]: part["quantiles"] for part in parts}
    told = [f"{model}: {what}" for model, what in open_.items() if what]
    return Study(**frames, sweeps=sweeps, quantiles=quantiles, plan=plan, undone=told)


def frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return rows as a table of given columns; what a row lacks, or is not a number there, is null."""
    data = {name: [row.get(name) for row in rows] for name in columns}
    made = pl.DataFrame({name: pl.Series(data[name], dtype=dtype, strict=False) for name, dtype in columns.items()})
    return made.with_columns(pl.col(pl.Float64).fill_nan(None))


_TABLES = {
    "models": MODEL_COLUMNS, "contexts": BASE_COLUMNS, "critical": CRITICAL_COLUMNS, "ends": END_COLUMNS,
    "runs": RUN_COLUMNS, "brackets": BRACKET_COLUMNS,
}  # fmt: skip


def _of_model(there: Path, model: str, plan: Plan) -> dict[str, Any]:
    if not (there / "base.json").is_file():
        return {}
    base = checked(there / "base.json")
    numbers = [row["context"] for row in base["contexts"]]
    runs, sweeps = [], {}
    for name in plan.scope.arms:
        path = there / "sweeps" / name
        if (path / SWEEP_FILE).is_file():
            sweeps[model, name] = read_sweep(path)
            labels = rates(there, plan, base, ARMS[name])
            runs += list(_runs(sweeps[model, name], name, labels, numbers, tied=base["model"]["tied"]))
    critical = [entry for path in files_of(there / "critical") for entry in done(path)]
    brackets = [entry for path in files_of(there / "brackets") for entry in done(path)]
    return {
        "model": model,
        "models": [_model_row(there, model, base)],
        "contexts": [{"model": model} | row for row in base["contexts"]],
        "critical": [{"model": model} | row | {"context": numbers[row["context"]]} for row in critical],
        "ends": list(_ends(there, model, plan, base, numbers)),
        "brackets": [{"model": model} | row | {"context": numbers[row["context"]]} for row in brackets],
        "runs": [{"model": model} | row for row in runs],
        "sweeps": sweeps,
        "quantiles": {kind: bulk["overlap_percentiles"] for kind, bulk in base["bulk"].items()},
    }


def _model_row(there: Path, model: str, base: Mapping[str, Any]) -> dict[str, Any]:
    about = {key: base["model"][key] for key in ("family", "parameters", "dimension", "tied")}
    row: dict[str, Any] = {"model": model, "class": base["bulk"]["readout"]["class"]} | about
    for kind, bulk in base["bulk"].items():
        row |= {f"{kind}_{key}": value for key, value in bulk.items()}
    for method in ("full", "lora", "readout-only"):
        row[f"theta_{method}"], row[f"theta_{method}_by"] = theta_by_collocation(there, method)
    return row


def _ends(there: Path, model: str, plan: Plan, base: dict[str, Any], numbers: Sequence[int]) -> Iterator[Any]:
    for path in sorted((there / "ends").glob("*.json")):
        arm = ARMS[path.stem]
        labels = rates(there, plan, base, arm)
        for row in entries([path]):
            place = {"model": model, "group": arm.group, "label": labels.get(row["rate"])}
            yield place | row | {"context": numbers[row["context"]]}


def _runs(
    sweep: Sweep, arm: str, labels: Mapping[float, str], numbers: Sequence[int], *, tied: bool
) -> Iterator[dict[str, Any]]:
    moves = {row["run"]: row for row in movements(sweep.steps).iter_rows(named=True)}
    plain = {row["run"]: row for row in sweep.runs.iter_rows(named=True)}
    for entry in sweep.entries:
        row = plain[entry["run"]] | moves[entry["run"]] | _of_entry(entry)
        place = {"tied": tied, "group": ARMS[arm].group, "arm": arm, "label": labels.get(entry["rate"])}
        yield row | place | {"context": numbers[entry["context"]]}


def _of_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    saving, ablation = entry["saving"], entry["ablation"] or (None, None)
    ratio, sharper = entry["jump_ratio"], entry["amplification"]
    return {
        "amplification": sharper,
        "readout_share": entry["readout_share"],
        "stop_born": saving["saturation_step"],
        "stop_loss": saving["patience_step"],
        "loss_fired": saving["patience_fired"],
        "saved_share": saving["saved_share"],
        "changed_gold_rank": saving["changed"]["gold_rank"],
        "changed_order": saving["changed"]["order"],
        "gold_standard": ablation[0],
        "gold_ablated": ablation[1],
        # the logit gap's change at the jump, over its mean change
        "logit_step_at_jump": None if not ratio or not sharper else ratio / sharper,
    }


def movements(steps: pl.DataFrame) -> pl.DataFrame:
    """Return what the steps of each run amount to.

    Args:
        steps: a row a run and step, with observables; every step recorded.

    Returns:
        A row a run: ``base_*`` and ``final_*`` of some observables; ``largest_drift``, the largest change of the
        overlap of gold and rival in size; ``rotation`` of gold at the end, unit rad; ``early_drag``, the drag's change
        over the first 5 steps; ``collapse``, the largest factor by which the participation ratio fell within 5 steps;
        ``cross_entropy_rise``, the largest rise of the loss in one step, unit nat (negative where it fell throughout).
    """
    names = ("signal", "rival_probability", "participation_ratio", "burial_depth", "born_rank", "gold_rank",
             "geometric_efficiency")  # fmt: skip
    ordered = steps.sort("run", "step")
    ends = [
        expression.cast(pl.Float64).alias(f"{end}_{name}")
        for name in names
        for end, expression in (("base", pl.col(name).first()), ("final", pl.col(name).last()))
    ]
    ratio = pl.col("participation_ratio")
    return ordered.group_by("run", maintain_order=True).agg(
        *ends,
        pl.col("overlap_drift").abs().max().alias("largest_drift"),
        pl.col("embedding_rotation").last().alias("rotation"),
        (pl.col("drag").filter(pl.col("step") == EPOCH).first() - pl.col("drag").first()).alias("early_drag"),
        (ratio.shift(EPOCH) / ratio).max().alias("collapse"),
        pl.col("cross_entropy").diff().max().alias("cross_entropy_rise"),
    )


def pooled(studies: Sequence[Study]) -> Study:
    """Put studies of the same models with other contexts together; one of them may hold a model's runs.

    Args:
        studies: at least one; contexts of each are others than those of the rest.

    Returns:
        One study, its contexts numbered anew; plan, theta* and bulk of a model are those of the first that has it.

    Raises:
        UserError: two hold runs of the same model, whose rates are not the same fields.
    """
    keys = [key for study in studies for key in study.sweeps]
    if len(set(keys)) < len(keys):
        raise UserError("two studies hold runs of the same model", rule="one a model", found=sorted(set(keys)))
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in _TABLES}
    first = 0
    for study in studies:
        for name in _TABLES:
            rows = getattr(study, name)
            moved = [pl.col("context") + first] if "context" in rows.columns else []
            frames[name].append(rows.with_columns(moved))
        first += 1 + max([-1, *study.contexts["context"]])
    tables: dict[str, Any] = {name: pl.concat(parts) for name, parts in frames.items()}
    tables["models"] = tables["models"].unique("model", keep="first", maintain_order=True)
    sweeps = {key: sweep for study in studies for key, sweep in study.sweeps.items()}
    quantiles = {model: found for study in reversed(studies) for model, found in study.quantiles.items()}
    told = [what for study in studies for what in study.undone]
    return Study(**tables, sweeps=sweeps, quantiles=quantiles, plan=studies[0].plan, undone=told)
