"""Closed forms and exact values: numbers that a correct program must give to the last promised digit."""

from __future__ import annotations

import math

import pytest
import torch
from tests.cases import DEVICES, case

from borngap.observables import gap
from borngap.observables.catalogue import OBSERVABLES
from borngap.observables.density import angle, localisation_length
from borngap.observables.geometry import Geometry
from borngap.observables.pool import pools_of
from borngap.observables.predictions import measure
from borngap.observables.sorting import nucleus


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def pair(overlap, dtype=torch.float64):
    return double([[1, 0], [overlap, math.sqrt(1 - overlap**2)]]).to(dtype)


def one(probs, rows, **options):
    """Return the observables of one prediction, gold 0 and rival 1, as floats."""
    options = {"gold": 0, "rival": 1, "top_p": 1.0, **options}
    return {name: float(value) for name, value in measure(double(probs).log(), rows, **options).items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("device", DEVICES)
def test_two_even_words_at_overlap_085(dtype, device):
    values = one([0.5, 0.5], pair(0.85, dtype).to(device))
    accuracy = 1e-12 if dtype == torch.float64 else 1e-6
    assert values["purity"] == pytest.approx(0.86125, abs=accuracy)
    assert values["participation_ratio"] == pytest.approx(1 / 0.86125, abs=2 * accuracy)
    assert round(values["participation_ratio"], 4) == 1.1611
    assert values["localisation_length"] == pytest.approx(math.acos(0.85) / math.sqrt(2), abs=accuracy)
    assert values["burial_depth"] == pytest.approx(1 / math.sqrt(2), abs=2 * accuracy)
    assert values["born_gap"] == pytest.approx(0, abs=accuracy)


def test_an_orthogonal_pool_is_classical():
    probs = [0.4, 0.1, 0.3, 0.2]
    values = one(probs, torch.eye(4, dtype=torch.float64) * double([[3], [1], [0.1], [7]]))
    assert values["born_gap"] == pytest.approx(0.3, abs=1e-12)
    assert values["signal"] == pytest.approx(0.3, abs=1e-12)
    assert values["drag"] == 0
    assert values["participation_ratio"] == pytest.approx(1 / 0.3, abs=1e-12)
    assert values["classical_participation_ratio"] == pytest.approx(1 / 0.3, abs=1e-12)
    assert values["localisation_length"] == pytest.approx(math.pi / 2 * math.sqrt(0.7), abs=1e-12)
    assert values["drive"] == pytest.approx(1 - 0.4 + 0.1, abs=1e-12)
    assert values["burial_depth"] == pytest.approx(math.sqrt(0.7), abs=1e-12)
    assert math.isnan(values["geometric_efficiency"])  # nothing in the pool overlaps with gold


def test_the_born_gap_of_a_renormalised_nucleus():
    values = one([0.6, 0.3, 0.1], torch.eye(3, dtype=torch.float64), top_p=0.85)
    assert values["pool_size"] == 2
    assert values["pool_mass"] == pytest.approx(0.9, abs=1e-12)
    assert values["born_gap"] == pytest.approx(0.3 / 0.9, abs=1e-12)
    assert values["gold_probability"] == pytest.approx(0.6, abs=1e-12)
    assert values["cross_entropy"] == pytest.approx(-math.log(0.6), abs=1e-12)


@pytest.mark.parametrize(("overlap", "throttle"), [(0.847, 0.283), (0.303, 0.908)])
def test_the_throttle_of_the_papers_pairs(overlap, throttle):
    values = one([0.5, 0.5], pair(overlap))
    assert round(values["throttle"], 3) == throttle
    assert values["throttle"] == pytest.approx(1 - overlap**2, abs=1e-12)
    assert values["flat_drive"] == pytest.approx(1 - overlap, abs=1e-12)


def test_the_squared_distance_of_the_papers_pair():
    left, right = pair(0.847)
    assert round(float((left - right).square().sum()), 3) == 0.306
    assert float(2 * gap.separation(left, right)) == pytest.approx(0.306, abs=1e-12)


@pytest.mark.parametrize("tilt", [1e-2, 1e-5, 1e-8])
def test_the_throttle_vanishes_as_the_words_merge(tilt):
    rows = double([[1, 0], [math.cos(tilt), math.sin(tilt)]])
    values = one([0.3, 0.7], rows)
    assert values["throttle"] == pytest.approx(math.sin(tilt) ** 2, rel=1e-6)
    assert values["signal"] == pytest.approx(-0.4 * math.sin(tilt) ** 2, rel=1e-6)
    assert values["localisation_length"] == pytest.approx(math.sqrt(2 * 0.3 * 0.7) * tilt, rel=1e-6)
    assert values["burial_depth"] == pytest.approx(math.sqrt(2 * 0.3 * 0.7), rel=1e-6)


# 0.1, 1/3 ... are no round numbers: the norm of their row is rounded
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_equal_rows_are_exactly_at_angle_0(dtype, device):
    row = torch.linspace(0.1, 1 / 3, 7, dtype=torch.float64)
    rows = torch.stack([row, row, row, row.flip(0)]).to(device, dtype)
    values = one([0.5, 0.3, 0.2], rows[:3])
    assert values["throttle"] == 0
    assert values["signal"] == 0
    assert values["flat_drive"] == 0
    assert values["localisation_length"] == 0
    assert math.isnan(values["burial_depth"])
    assert values["born_gap"] == 0
    assert one([0.5, 0.3, 0.2, 0.0], rows)["localisation_length"] == 0  # what carries no probability does not count
    unit = Geometry(rows).unit(torch.tensor([0, 1]))
    assert float(angle(unit[0], unit[1])) == 0
    assert float(angle(unit[0], -unit[1])) == pytest.approx(math.pi, abs=1e-6)


@pytest.mark.parametrize("equal", [(0, 1), (1, 2), (0, 1, 2, 3, 4)])
def test_gradients_are_finite_at_equal_rows(equal):
    x = case(0, vocabulary=5, dimension=7, batch=1)
    matrix = x.matrix.clone()
    matrix[list(equal)] = x.matrix[equal[0]]
    matrix.requires_grad_()
    logits = x.logits.clone().requires_grad_()
    names = ("born_gap", "signal", "drag", "logit_gap", "purity", "localisation_length", "throttle", "drive")
    values = measure(logits, matrix, 0, 1, top_p=1.0, only=names)
    sum(values.values()).sum().backward()
    assert bool(logits.grad.isfinite().all())
    assert bool(matrix.grad.isfinite().all())
    assert float(logits.grad.norm()) > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_signal_and_drag_sum_to_the_born_gap(dtype, device):
    for seed in range(10):
        x = case(seed, vocabulary=200, dimension=32, spread=1.0, batch=4).to(dtype).to(device)
        v = measure(x.logits, x.matrix, x.gold, x.rival)
        assert float(v["drag"].abs().min()) > 1e-6
        torch.testing.assert_close(v["signal"] + v["drag"], v["born_gap"], rtol=0, atol=1e-7)
        difference = v["gold_born_probability"] - v["rival_born_probability"]
        torch.testing.assert_close(difference, v["born_gap"], rtol=0, atol=1e-7)


def test_the_throttle_is_the_derivative_by_the_gold_probability():
    probs, rows = double([0.4, 0.35, 0.25]).requires_grad_(), case(0, vocabulary=3, dimension=5).matrix
    rows = Geometry(rows).unit(torch.arange(3))
    overlaps = rows @ rows.T
    gap_of = (probs * (overlaps[0].square() - overlaps[1].square())).sum()
    (gradient,) = torch.autograd.grad(gap_of, probs)
    assert float(gradient[0]) == pytest.approx(float(gap.throttle(rows[0], rows[1])), abs=1e-12)


def test_the_drive_is_the_rate_of_the_logit_gap_under_gradient_flow():
    x = case(3, vocabulary=30, dimension=8, batch=1)
    unit, hidden = Geometry(x.matrix).unit(torch.arange(30)), x.hidden[0].clone().requires_grad_()
    logits = unit @ hidden
    (gradient,) = torch.autograd.grad(-logits.log_softmax(0)[4], hidden)
    rate = float((unit[4] - unit[9]) @ -gradient)
    assert abs(rate) > 0.1
    found = measure(logits.detach(), x.matrix, 4, 9, top_p=1.0, only=["drive"])["drive"]
    assert float(found) == pytest.approx(rate, rel=1e-9)


def test_geometric_efficiency_counts_the_whole_pool_but_gold():
    rows = double([[1, 0, 0], [0.6, 0.8, 0], [0.8, 0, 0.6]])
    assert one([0.5, 0.3, 0.2], rows)["geometric_efficiency"] == pytest.approx(0.36, abs=1e-12)
    assert one([0.5, 0.5], rows[:2])["geometric_efficiency"] == 1
    only_others = double([[1, 0, 0], [0, 1, 0], [0.8, 0, 0.6]])
    assert one([0.5, 0.3, 0.2], only_others)["geometric_efficiency"] == 0


def test_a_reason_is_given_for_every_number_that_can_be_missing():
    values = one([0.5, 0.5], torch.eye(2, dtype=torch.float64).repeat(1, 2))
    missing = {name for name, value in values.items() if math.isnan(value)}
    assert missing == {"geometric_efficiency", "gold_alignment", "rival_alignment", "hidden_norm"}
    assert {name for name, o in OBSERVABLES.items() if o.absent} == missing | {"burial_depth"}


@pytest.mark.parametrize(("probs", "top_p", "kept"), [
    ([0.5, 0.3, 0.2], 0.5, [0]),
    ([0.5, 0.3, 0.2], 0.51, [0, 1]),
    ([0.25, 0.25, 0.25, 0.25], 0.3, [0, 1, 2, 3]),
    ([0.4, 0.2, 0.2, 0.2], 0.5, [0, 1, 2, 3]),
    ([0.125, 0.375, 0.375, 0.125], 0.3, [1, 2]),
    ([0.125, 0.375, 0.375, 0.125], 0.75, [1, 2]),
    ([1.0, 0.0, 0.0], 0.999, [0]),
    ([1.0, 0.0, 0.0], 1, [0, 1, 2]),
    ([0.3, 0.3, 0.1], 0.9, [0, 1, 2]),  # the rest of the mass is on padding rows: top_p is out of reach
])  # fmt: skip
def test_the_nucleus(probs, top_p, kept):
    assert nucleus(double([probs]), top_p)[0].nonzero().flatten().tolist() == kept


def test_a_nucleus_of_many_tokens_is_found():
    probs = torch.full((2, 5000), 1 / 5000, dtype=torch.float64)
    probs[1] = torch.arange(1, 5001).flip(0).double() / (5000 * 5001 / 2)
    kept = nucleus(probs, 0.9).sum(1).tolist()
    cumulative = probs[1].cumsum(0)
    assert kept == [5000, 1 + int((cumulative < 0.9).sum())]
    assert 256 < kept[1] < 5000


def test_top_p_1_is_the_whole_vocabulary_even_where_nothing_is_left():
    values = one([1.0, 0.0, 0.0, 0.0], torch.eye(4, dtype=torch.float64), top_p=1)
    assert values["pool_size"] == 4
    assert values["pool_mass"] == 1
    assert values["born_gap"] == 1


def test_gold_and_rival_are_always_in_the_pool():
    probs = double([[0.9, 0.06, 0.03, 0.01], [0.9, 0.06, 0.03, 0.01]])
    found = pools_of(probs, torch.tensor([3, 0]), torch.tensor([1, 3]), 0.5)
    assert found.ids[found.mask].tolist() == [3, 1, 0, 0, 3]
    assert found.mask.tolist() == [[True, True, True], [True, True, False]]
    torch.testing.assert_close(found.probs, double([[0.01, 0.06, 0.9], [0.9, 0.01, 0]]) / double([[0.97], [0.91]]))
    torch.testing.assert_close(found.mass, double([0.97, 0.91]))


def test_padding_rows_count_in_the_softmax_alone():
    probs, eye = [0.2, 0.1, 0.3, 0.4], torch.eye(4, dtype=torch.float64)
    padded, full = (one(probs, Geometry(eye, size=size), top_p=1) for size in (3, 4))
    assert padded["gold_probability"] == full["gold_probability"]
    assert padded["cross_entropy"] == full["cross_entropy"]
    assert padded["entropy"] == pytest.approx(full["entropy"], abs=1e-12)
    assert (padded["gold_rank"], full["gold_rank"]) == (2, 3)
    assert (padded["rival_rank"], full["rival_rank"]) == (3, 4)
    assert (padded["born_rank"], full["born_rank"]) == (2, 3)
    assert (padded["pool_size"], full["pool_size"]) == (3, 4)
    assert padded["pool_mass"] == pytest.approx(0.6, abs=1e-12)
    assert padded["born_gap"] == pytest.approx(0.1 / 0.6, abs=1e-12)
    assert padded["top1_margin"] == pytest.approx(math.log(0.2 / 0.3), abs=1e-12)
    assert full["top1_margin"] == pytest.approx(math.log(0.2 / 0.4), abs=1e-12)


def test_more_logits_than_rows_are_padding():
    rows = torch.eye(3, dtype=torch.float64)
    padded = Geometry(torch.eye(4, 3, dtype=torch.float64), size=3)
    probs = [0.2, 0.1, 0.3, 0.4]
    assert one(probs, rows) == pytest.approx(one(probs, padded), nan_ok=True)
    assert one(probs, rows)["pool_mass"] == pytest.approx(0.6, abs=1e-12)


def test_minus_infinity_is_probability_0():
    rows = case(0, vocabulary=4, dimension=6).matrix
    masked, without = one([0.5, 0.2, 0.3, 0.0], rows, top_p=1), one([0.5, 0.2, 0.3], rows[:3], top_p=1)
    differing = {n for n in masked if masked[n] != pytest.approx(without[n], abs=1e-12, nan_ok=True)}
    assert differing == {"pool_size", "geometric_efficiency"}
    absent = {name for name in masked if not math.isfinite(masked[name])}
    assert absent == {"gold_alignment", "rival_alignment", "hidden_norm"}


def test_a_rival_at_minus_infinity():
    values = one([0.5, 0.0, 0.5], torch.eye(3, dtype=torch.float64))
    assert values["logit_gap"] == math.inf
    assert values["rival_probability"] == 0
    assert values["rival_rank"] == 3
    assert values["born_gap"] == pytest.approx(0.5, abs=1e-12)
    assert values["entropy"] == pytest.approx(math.log(2), abs=1e-12)


def test_ties_share_the_better_rank():
    values = one([0.25, 0.25, 0.5, 0.0], torch.eye(4, dtype=torch.float64))
    assert (values["gold_rank"], values["rival_rank"], values["born_rank"]) == (2, 2, 2)
    assert values["logit_gap"] == 0


def test_the_gap_of_large_logits_keeps_its_digits():
    logits = torch.tensor([30000.0, 29999.5, 0.0])
    values = measure(logits, torch.eye(3), 0, 1, only=["logit_gap", "cross_entropy"])
    assert float(values["logit_gap"]) == 0.5
    assert float(values["cross_entropy"]) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-2)


@pytest.mark.parametrize("near", [1e-3, 1e-4, 1e-6])
def test_angles_of_near_rows_keep_their_digits_in_float32(near):
    rows = torch.tensor([[1, 0], [math.cos(near), math.sin(near)]])
    xi = localisation_length(torch.tensor([0.5, 0.5]), rows)
    assert float(xi) == pytest.approx(near / math.sqrt(2), rel=1e-3)
