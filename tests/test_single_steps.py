"""Single steps against the rate: runs of which it is known where they move, and by how much."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from tests.studies import study

from borngap.errors import UserError
from borngap.experiments.parts import singlesteps
from borngap.experiments.study import pooled
from borngap.judge.trajectory import Trajectory
from borngap.sweep.sweepfolder import SWEEP_STEP_COLUMNS, Sweep

STEPS, NAT = 20, 0.3


def moved_by(count):
    """Rows of a run that moves evenly in its first ``count`` steps, 0.01 and 0.3 nat each, and then rests."""
    done = [min(step, count) for step in range(STEPS + 1)]
    rows = {"step": range(STEPS + 1), "born_gap": [-0.1 + 0.01 * d for d in done], "logit_gap": [NAT * d for d in done]}
    return pl.DataFrame(rows, strict=False)


def made(counts, rates, context=0):
    """A study of one model: a run a rate, each moving within so many steps; theta* is 1e-4, mean Gmax 0.5."""
    common = {"model": "m", "context": context, "group": "lora", "arm": "lora", "outcome_rank": "resolved"}
    runs = [common | {"run": i, "rate": rate, "label": f"{rate:g}"} for i, rate in enumerate(rates)]
    about = {"model": "m", "class": "A", "theta_lora": 1e-4}
    base = study(runs, [{"model": "m", "context": context, "gold_overlap": 0.5}], models=[about])
    parts = [moved_by(count).insert_column(0, pl.Series("run", [i] * (STEPS + 1))) for i, count in enumerate(counts)]
    steps = pl.concat(parts)
    empty = {name: pl.lit(None).cast(kind).alias(name) for name, kind in SWEEP_STEP_COLUMNS.items()}
    steps = steps.with_columns(column for name, column in empty.items() if name not in steps.columns)
    return replace(base, sweeps={("m", "lora"): Sweep(Path(), {}, {}, base.runs, steps, [])})


def test_a_run_that_is_over_early_has_a_ratio_that_counts_the_steps_after_it():
    rows = {row["label"]: row for row in singlesteps.single_steps(made((20, 4, 1), (1e-4, 1e-3, 4e-3))).to_dicts()}
    for label, moving, field in (("0.0001", 20, 0.5), ("0.001", 4, 5.0), ("0.004", 1, 20.0)):
        row = rows[label]
        assert row["H"] == pytest.approx(field)
        assert row["jump_ratio"] == pytest.approx(STEPS / moving)
        assert row["steps_that_carry"] == pytest.approx(moving)
        assert row["half_ratio"] == pytest.approx(max(1.0, STEPS / 2 / moving))
        assert row["quotient"] == pytest.approx(1.0 if moving == STEPS else 2.0)
        assert row["nats_a_step"] == pytest.approx(NAT * moving / STEPS)
        assert row["nats_at_jump"] == pytest.approx(NAT)
    (table,), (figure,) = singlesteps.tables(made((4,), (1e-3,))), singlesteps.figures(made((4,), (1e-3,)))
    assert table.rows.select("runs", "jump_ratio", "catapults").rows() == [(1, pytest.approx(5.0), 0.0)]
    assert sorted((row["panel"], round(row["value"], 9)) for row in figure.rows) == [
        ("m: jump ratio", 5.0), ("m: nat in the jumping step", NAT),
    ]  # fmt: skip


def test_a_run_that_never_moves_has_no_numbers_and_none_is_drawn():
    rest = made((0,), (1e-3,))
    assert singlesteps.single_steps(rest)["jump_ratio"].to_list() == [None]
    assert singlesteps.figures(rest)[0].rows == []


def test_a_run_read_up_to_a_step_is_the_run_that_ended_there():
    whole = Trajectory((0, 5, 10, 15), {"born_gap": (0.0, 0.1, 0.4, 0.5)})
    assert whole.until(12) == Trajectory((0, 5, 10), {"born_gap": (0.0, 0.1, 0.4)})
    assert whole.until(12).changes("born_gap") == pytest.approx([0.1, 0.3])


def test_studies_of_one_model_with_other_contexts_are_put_together():
    first = made((20, 4), (1e-4, 1e-3))
    second = replace(first, sweeps={}, runs=first.runs.clear())
    both = pooled([first, second, second])
    assert both.contexts["context"].to_list() == [0, 1, 2]
    assert (both.models.height, both.runs.height) == (1, 2)
    assert singlesteps.single_steps(both).equals(singlesteps.single_steps(first))
    with pytest.raises(UserError, match="runs of the same model"):
        pooled([first, first])
