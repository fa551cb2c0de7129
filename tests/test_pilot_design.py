"""What a budget buys: pilots of how many steps, on how many rows a step."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from tests.test_pilot import toy_plan

from borngap.errors import UserError
from borngap.pilot.design import Design, design, look_tokens, shortened
from borngap.pilot.record import few_rows_notes
from borngap.training import Training


def test_what_a_budget_buys():
    plan = toy_plan([1] * 1600, 200, 8)
    assert design(plan, 0.1, 1) == Design(1, 40, 0.5)
    assert design(plan, 0.04, 1) == Design(1, 21, 0.375), "spans of ten steps at most, while there are rows"
    assert design(plan, 0.01, 1) == Design(1, 8, 0.25), "two rows at least"
    assert design(plan, 0.2, 2) == Design(2, 40, 0.5)
    assert design(plan, 0.8, 1) == Design(1, 200, 0.75), "whole rows"
    assert design(plan, 1.0, 1) == Design(1, 200, 1.0)
    adapters = replace(plan, training=Training(method="lora", rate=6e-3, steps=200, batch_size=8))
    assert design(adapters, 0.0625, 1) == Design(1, 100, 0.125), "one row at every second step"
    assert design(adapters, 0.2, 1) == Design(1, 106, 0.375), "spans of two at least"
    assert design(adapters, 1.0, 1) == Design(1, 200, 1.0)
    assert design(adapters.at(3e-3), 0.075, 1) == Design(1, 60, 0.25), "as long a span as a rate of 0.01 allows"
    assert design(adapters.at(1e-3), 0.0625, 1) == design(plan, 0.0625, 1) == Design(1, 25, 0.5)
    wide = replace(adapters, training=replace(adapters.training, rate=1.5e-3, lora_alpha=32.0))
    assert design(wide, 0.075, 1) == Design(1, 60, 0.25), "by the scale too"
    assert look_tokens(plan, 0.1, 2) == pytest.approx(0.05 * plan.tokens)
    with pytest.raises(UserError, match="the budget is too small for a pilot"):
        design(plan, 0.004, 1)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_larger_budget_is_never_too_small_where_a_smaller_one_was_not(method):
    """A short run at a low rate: half batches of long spans would leave fewer than four steps."""
    plan = toy_plan([1] * 244, 32, 8)
    plan = replace(plan, training=Training(method=method, rate=2e-5, steps=32, batch_size=8))
    bought = []
    for budget in range(10, 1000):
        with contextlib.suppress(UserError):
            bought.append((budget, design(plan, budget / 1000, 1)))
    assert [budget for budget, _ in bought] == list(range(bought[0][0], 1000))
    assert all(made.steps >= 4 for _, made in bought)
    assert all(made.steps * made.share <= 32 * budget / 1000 + 1e-6 for budget, made in bought)


def test_what_is_left_after_a_pilot_that_was_not_stable():
    plan = toy_plan([1] * 1600, 200, 8)
    assert shortened(plan, Design(1, 20, 0.5), 0.1) == Design(1, 40, 0.5)
    assert shortened(plan, Design(1, 20, 0.5), 0.05) == Design(1, 40, 0.25)
    assert shortened(plan, Design(1, 20, 0.5), 0.02) == Design(1, 32, 0.125), "one row a step"
    assert shortened(plan, Design(1, 20, 0.5), 0.015) is None
    assert shortened(plan, Design(1, 150, 0.5), 0.9) is None, "the run has no more steps"


def test_pilots_of_few_rows_say_that_their_intervals_may_be_too_narrow():
    few = {"right_expected": 0.9, "rate": 0.1, "pilot": {"pilots": 2, "rows": 20.0}}
    assert few_rows_notes(few, "full", 2)[0].startswith("at 0.1 all pilots read only 20 rows, so its")
    assert few_rows_notes(few, "lora", 1) == [], "there intervals of as few rows held"
    for sure in ({"pilot": {"pilots": 2, "rows": 21.0}}, {"right_expected": None}):
        assert few_rows_notes(few | sure, "full", 1) == []
