"""One update here is one of torch's AdamW with a host's schedule and torch's clipping, bit for bit."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from borngap.train.optimiser import RowUpdates, Updates, shrunk
from borngap.training import Training

SETTINGS = {"method": "lora", "steps": 6, "warmup": 2, "schedule": "cosine", "clip": 0.5, "weight_decay": 0.1}
SHAPES = [(3, 4), (5,)]


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def loss(parameters, index):
    """A bowl whose middle depends on the run, so that each run has gradients of its own."""
    return sum(((p - index) ** 2 * (1 + index)).sum() for p in parameters)


def hosts(parameters, rate, index, *, steps=6, beta1=0.9, beta2=0.999, eps=1e-8):
    """What Trainer does at each step."""
    optimiser = torch.optim.AdamW(
        parameters, lr=rate, betas=(beta1, beta2), eps=eps, weight_decay=SETTINGS["weight_decay"], fused=True
    )
    scheduler = get_scheduler("cosine", optimiser, num_warmup_steps=2, num_training_steps=6)
    for _ in range(steps):
        loss(parameters, index).backward()
        torch.nn.utils.clip_grad_norm_(parameters, SETTINGS["clip"])
        optimiser.step()
        scheduler.step()
        optimiser.zero_grad()
    return parameters


@pytest.mark.parametrize("others", [{}, {"beta1": 0.5, "beta2": 0.8, "eps": 1e-3}])
def test_updates_are_the_hosts(others):
    parameters = weights(0)
    updates = Updates(parameters, Training(**SETTINGS, rate=9.0, **others), 0.03)
    for _ in range(6):
        updates.take(loss(parameters, 2))
    for ours, theirs in zip(parameters, hosts(weights(0), 0.03, 2, **others), strict=True):
        assert torch.equal(ours, theirs)


def test_the_rate_of_the_settings_is_taken_unless_another_is_given():
    found = []
    for training, rate in ((Training(**SETTINGS, rate=0.03), None), (Training(**SETTINGS, rate=9.0), 0.03)):
        parameters = weights(0)
        updates = Updates(parameters, training, rate)
        for _ in range(6):
            updates.take(loss(parameters, 2))
        found.append(parameters[0])
    assert torch.equal(*found)


def test_rows_are_updated_as_runs_of_their_own_and_may_end_early():
    """Rates, clipping and moments are each row's own; what a row does is untouched by one that leaves."""
    rates, last = [0.01, 0.03, 0.03], [6, 3, 6]
    rows = {str(i): torch.stack([weights(seed)[i].detach() for seed in range(3)]) for i in range(len(SHAPES))}
    updates, places = RowUpdates(rows, rates, Training(**SETTINGS)), [0, 1, 2]
    ended = {}
    for step in range(6):
        leaves = [values.detach().requires_grad_() for values in updates.rows.values()]
        total = sum(loss([leaf[slot] for leaf in leaves], index) for slot, index in enumerate(places))
        updates.take(torch.autograd.grad(total, leaves))
        if step == 2:
            ended[1] = [values[1] for values in updates.rows.values()]
            updates.keep([0, 2])
            places = [0, 2]
    ended |= {index: [v[slot] for v in updates.rows.values()] for slot, index in enumerate(places)}
    for index, rate in enumerate(rates):
        alone = hosts(weights(index), rate, index, steps=last[index])
        for ours, theirs in zip(ended[index], alone, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_clipping_shrinks_what_is_too_long_alone():
    assert shrunk(torch.tensor([0.0, 0.5, 2.0]), 1.0).tolist() == [1.0, 1.0, pytest.approx(0.5, abs=1e-6)]
