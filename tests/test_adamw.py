"""The coarse AdamW against torch's own, on gradients that really are straight lines between nodes."""

from itertools import pairwise

import pytest
import torch

from borngap.critical.pieces import State, advance, piece
from borngap.schedule import factors


def coarse(gradients, nodes, *, beta1=0.9, beta2=0.999, eps=1e-8, schedule=None):
    state = State.zero(gradients[0])
    schedule = schedule or [1.0] * nodes[-1]
    for number, (first, last) in enumerate(pairwise(nodes)):
        part = piece(first, last, schedule, beta1, beta2)
        advance(state, gradients[number : number + 2], part, eps, state)
    return state


def stepped(gradients, nodes, *, beta1=0.9, beta2=0.999, eps=1e-8, schedule=None):
    """torch.optim.AdamW, one step at a time, in float64."""
    parameter = torch.nn.Parameter(torch.zeros(gradients.shape[1], dtype=torch.float64))
    optimiser = torch.optim.AdamW([parameter], lr=1.0, betas=(beta1, beta2), eps=eps, weight_decay=0.0)
    gradients = gradients.double()
    for number, (first, last) in enumerate(pairwise(nodes)):
        rates = schedule or [1.0] * nodes[-1]
        for done in range(first, last):
            share = sum(rates[first:done]) / sum(rates[first:last])
            parameter.grad = torch.lerp(gradients[number], gradients[number + 1], share)
            optimiser.param_groups[0]["lr"] = schedule[done] if schedule else 1.0
            optimiser.step()
    state = optimiser.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def smooth(count, nodes, seed=0):
    """Gradients that keep their sign and change by up to a factor of 3, some of them from zero as LoRA's do."""
    generator = torch.Generator().manual_seed(seed)
    sign = torch.randn(count, generator=generator).sign()
    size = 10.0 ** torch.empty(count).uniform_(-6, 0, generator=generator)
    end = torch.empty(count).uniform_(1 / 3, 3, generator=generator)
    line = torch.linspace(0, 1, len(nodes))[:, None]
    gradients = sign * size * (1 + (end - 1) * line)
    gradients[:, : count // 4] *= line
    return gradients


@pytest.mark.parametrize("nodes", [[0, 1], [0, 2, 3], [0, 3, 5, 8]])
def test_short_pieces_are_exact(nodes):
    gradients = torch.randn(len(nodes), 500, generator=torch.Generator().manual_seed(1))
    state = coarse(gradients, nodes)
    weights, mean, square = stepped(gradients, nodes)
    torch.testing.assert_close(state.displacement.double(), weights, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(state.mean.double(), mean, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(state.square.double(), square, atol=1e-9, rtol=1e-5)


@pytest.mark.parametrize(("steps", "pieces", "error"), [(50, 4, 2e-3), (50, 6, 2e-3), (500, 6, 5e-3), (5000, 6, 1e-2)])
def test_long_pieces_sum_the_updates(steps, pieces, error):
    nodes = [round(k * steps / pieces) for k in range(pieces + 1)]
    gradients = smooth(2000, nodes)
    state = coarse(gradients, nodes)
    weights, mean, square = stepped(gradients, nodes)
    assert float((state.displacement - weights).abs().max()) <= error * steps
    # moments are no quadrature: they are exact
    torch.testing.assert_close(state.mean.double(), mean, atol=1e-9, rtol=1e-4)
    torch.testing.assert_close(state.square.double(), square, atol=1e-12, rtol=1e-4)


def test_a_constant_gradient_moves_every_weight_by_one_rate_a_step():
    gradients = torch.tensor([[3.0, -1e-3], [3.0, -1e-3]])
    state = coarse(gradients, [0, 1000], eps=0.0)
    torch.testing.assert_close(state.displacement, torch.tensor([-1000.0, 1000.0]), rtol=1e-5, atol=0)


def test_schedules_and_betas_count():
    steps, nodes = 60, [0, 20, 40, 60]
    schedule = [min(1.0, (n + 1) / 10) * (1 - n / steps) for n in range(steps)]
    gradients = smooth(1000, nodes, seed=3)
    settings = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "schedule": schedule}
    weights, *_ = stepped(gradients, nodes, **settings)
    plain, *_ = stepped(gradients, nodes)
    state = coarse(gradients, nodes, **settings)
    error = float((state.displacement - weights).abs().max())
    assert error <= 0.01 * sum(schedule)
    assert float((plain - weights).abs().max()) > 20 * error


@pytest.mark.parametrize("warmup", [1, 5, 10, 25])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_and_gradients_that_grow_with_the_dose(schedule, warmup):
    """LoRA's A: its gradient is exactly zero until the first update with a rate, and then grows with the dose."""
    rates = factors(schedule, warmup, 50)
    doses = [sum(rates[:n]) / sum(rates) for n in range(51)]
    nodes = [0, *(min(range(51), key=lambda n: abs(doses[n] - k / 6)) for k in range(1, 6)), 50]
    gradients = torch.tensor([doses[n] for n in nodes])[:, None] * torch.tensor([[1.0, -1e-3]])
    weights, *_ = stepped(gradients, nodes, schedule=rates)
    state = coarse(gradients, nodes, schedule=rates)
    torch.testing.assert_close(state.displacement.double(), weights, rtol=2e-3, atol=0)


def test_in_place_equals_out_of_place():
    nodes, gradients = [0, 10], torch.randn(2, 40_000, generator=torch.Generator().manual_seed(2))
    first, out = State.zero(gradients[0]), State.zero(gradients[0])
    part = piece(0, 10, [1.0] * 10)
    advance(first, gradients, part, 1e-8, out)
    assert not bool(first.displacement.any())
    inside = coarse(gradients, nodes)
    assert torch.equal(out.displacement, inside.displacement)
    out.reset()
    assert not bool(out.displacement.any() or out.mean.any() or out.square.any())
