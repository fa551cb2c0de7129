"""Schedules are transformers' own; doses are counted by hand."""

import pytest
import torch
from transformers import get_scheduler

from borngap.errors import UserError
from borngap.schedule import SCHEDULES, check_dose, dose_of, factors, share_of
from borngap.training import Training


def hosts(schedule, warmup, steps):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler, found = get_scheduler(name, optimiser, warmup, steps), []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (1, 7), (3, 7), (7, 7), (9, 7), (0, 1), (0, 0)])
def test_factors_are_the_hosts(schedule, warmup, steps):
    assert factors(schedule, warmup, steps) == pytest.approx(hosts(schedule, warmup, steps), abs=1e-15)


def test_doses_sum_the_factors():
    assert dose_of(2.5, [1.0, 0.5, 0.2]) == pytest.approx(1.6)
    assert dose_of(3.0, [1.0, 0.5, 0.2]) == pytest.approx(1.7)
    assert dose_of(0.0, [1.0]) == 0.0
    assert share_of(25, factors("linear", 0, 50)) == pytest.approx(sum(range(26, 51)) / sum(range(1, 51)))
    assert share_of(25, factors("constant", 10, 50)) == pytest.approx((4.5 + 15) / (4.5 + 40))


def test_a_run_that_moves_nothing_is_refused():
    check_dose([0.0, 0.1])
    with pytest.raises(UserError, match="no steps"):
        check_dose([])
    with pytest.raises(UserError, match="the warm-up never ends"):
        check_dose(factors("linear", 1, 1))


def test_other_schedules_are_refused():
    with pytest.raises(UserError, match=r"unknown schedule(.|\n)*one of constant, linear, cosine"):
        Training(schedule="polynomial")
