"""Made-up studies with known answers: runs, contexts, critical rates and models in a few lines."""

from __future__ import annotations

from borngap.experiments.study import (
    BASE_COLUMNS,
    CRITICAL_COLUMNS,
    END_COLUMNS,
    MODEL_COLUMNS,
    RUN_COLUMNS,
    Study,
    frame,
)

RUN = {
    "group": "full", "arm": "full", "method": "full", "label": "H=10", "rate": 1e-3, "seed": 0, "gold": " right",
    "rival": " wrong", "gold_overlap": 0.7, "steps": 50, "last_step": 50, "outcome_born": "resolved",
    "outcome_rank": "resolved", "outcome_top1": "unresolved", "character": "drift", "jump_ratio": 3.0, "tied": True,
    "largest_drift": 0.0, "rotation": 0.0, "silent": False, "base_logit_gap": -1.0, "final_logit_gap": 1.0,
    "base_born_gap": -0.1, "final_born_gap": 0.1, "base_born_rank": 10.0, "early_drag": 0.01, "collapse": 2.0,
}  # fmt: skip


def study(runs=(), contexts=(), critical=(), ends=(), models=()):
    """Return a study; rows lack what is not given, runs take it from RUN."""
    return Study(
        models=frame(models, MODEL_COLUMNS),
        contexts=frame(contexts, BASE_COLUMNS),
        critical=frame(critical, CRITICAL_COLUMNS),
        ends=frame(ends, END_COLUMNS),
        runs=frame([RUN | run for run in runs], RUN_COLUMNS),
        sweeps={},
        quantiles={},
    )


def cells(models=6, contexts=6):
    """Yield every pair of a model's name and a context's number."""
    return [(f"m{m}", c) for m in range(models) for c in range(contexts)]
