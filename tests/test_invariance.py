"""Theorems: what must not change an observable, what must flip its sign, and the range of each, for any input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cases import Case, case

from borngap.observables import gap
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES
from borngap.observables.geometry import Geometry
from borngap.observables.predictions import measure

ANTISYMMETRIC = ("born_gap", "signal", "drag", "logit_gap")
KINDS = st.sampled_from(["readout", "centered"])
TOP_P = st.sampled_from([0.3, 0.9, 1.0])
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw):
    seed, vocabulary, dimension = (draw(st.integers(low, high)) for low, high in ((0, 10**6), (4, 60), (3, 24)))
    spread, common = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0])), draw(st.sampled_from([0.0, 1.0, 10.0]))
    return case(seed, vocabulary=vocabulary, dimension=dimension, spread=spread, common=common)


def evaluate(x: Case, kind="readout", top_p=0.9):
    return measure(x.logits, Geometry(x.matrix, kind), x.gold, x.rival, hidden=x.hidden, top_p=top_p)


def assert_same(left, right, leave_out=()):
    for name in OBSERVABLES.keys() - set(leave_out):
        exact = name in INTEGER_IDS
        torch.testing.assert_close(
            left[name], right[name], rtol=0 if exact else 1e-6, atol=0 if exact else 1e-9, equal_nan=True, msg=name
        )


def orthogonal(dimension, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))[0]


@many
@given(cases(), KINDS, TOP_P)
def test_gold_and_rival_exchanged_change_the_sign(x, kind, top_p):
    there = evaluate(x, kind, top_p)
    back = evaluate(x._replace(gold=x.rival, rival=x.gold), kind, top_p)
    for name in ANTISYMMETRIC:
        torch.testing.assert_close(there[name], -back[name], rtol=1e-9, atol=1e-12, msg=name)
    for name in ("purity", "localisation_length", "throttle", "gold_overlap", "burial_depth", "entropy", "pool_mass"):
        torch.testing.assert_close(there[name], back[name], rtol=1e-9, atol=1e-12, equal_nan=True, msg=name)
    for name in ("born_probability", "alignment", "rank", "probability"):
        torch.testing.assert_close(there[f"gold_{name}"], back[f"rival_{name}"], rtol=1e-9, atol=1e-12, msg=name)


@many
@given(cases(), KINDS, TOP_P, st.integers(0, 10**6))
def test_a_rotation_of_the_embedding_space_changes_nothing(x, kind, top_p, seed):
    turn = orthogonal(x.matrix.shape[1], seed)
    turned = x._replace(matrix=x.matrix @ turn, hidden=x.hidden @ turn)
    assert not torch.allclose(turned.matrix, x.matrix)
    assert_same(evaluate(x, kind, top_p), evaluate(turned, kind, top_p))


@many
@given(cases(), KINDS, TOP_P, st.integers(0, 10**6))
def test_other_names_for_the_tokens_change_nothing(x, kind, top_p, seed):
    order = torch.randperm(x.matrix.shape[0], generator=torch.Generator().manual_seed(seed))
    name = order.argsort()
    renamed = Case(x.logits[:, order], x.matrix[order], name[x.gold], name[x.rival], x.hidden)
    assert_same(evaluate(x, kind, top_p), evaluate(renamed, kind, top_p))


@many
@given(cases(), KINDS, TOP_P, st.floats(-1000, 1000))
def test_a_constant_added_to_the_logits_changes_nothing(x, kind, top_p, constant):
    # rounding to 2^-30 makes the sum exact, so that equal logits stay equal and no rank can move
    exact = x._replace(logits=(x.logits * 2**30).round() / 2**30)
    shifted = exact._replace(logits=exact.logits + round(constant))
    assert_same(evaluate(exact, kind, top_p), evaluate(shifted, kind, top_p))


@many
@given(cases(), TOP_P, st.floats(0.01, 100), st.floats(0.01, 100))
def test_lengths_of_rows_change_nothing(x, top_p, first, second):
    lengths = torch.linspace(first, second, x.matrix.shape[0], dtype=torch.float64)[:, None]
    assert_same(evaluate(x, top_p=top_p), evaluate(x._replace(matrix=x.matrix * lengths), top_p=top_p))


@many
@given(cases(), TOP_P, st.integers(0, 10**6), st.floats(0.1, 10))
def test_centered_observables_ignore_a_vector_added_to_every_row(x, top_p, seed, length):
    vector = length * orthogonal(x.matrix.shape[1], seed)[0]
    moved = x._replace(matrix=x.matrix + vector)
    assert_same(evaluate(x, "centered", top_p), evaluate(moved, "centered", top_p))


def test_raw_overlap_does_not_ignore_a_vector_added_to_every_row():
    rows = torch.eye(3, 4, dtype=torch.float64)
    x = Case(torch.zeros(1, 3, dtype=torch.float64), rows, *[torch.tensor([n]) for n in (0, 1)], rows[:1])
    moved = x._replace(matrix=rows + torch.ones(4, dtype=torch.float64))
    found = [evaluate(one)["gold_overlap"].item() for one in (x, moved)]
    # (e_i + 1)(e_j + 1) = 6 of squared length 7
    assert found == pytest.approx([0, 6 / 7])


@many
@given(cases(), KINDS, TOP_P, st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_every_observable_stays_within_its_range(x, kind, top_p, dtype):
    x = x.to(dtype)
    slack = 1e-9 if dtype == torch.float64 else 1e-5
    values = evaluate(x, kind, top_p)
    for name, o in OBSERVABLES.items():
        allowed = bool(o.absent)
        assert allowed or not bool(values[name].isnan().any()), name
        present = values[name][~values[name].isnan()].double()
        assert bool((present >= o.low - slack * max(1, abs(o.low))).all()), name
        assert bool((present <= o.high + (slack if math.isfinite(o.high) else 0)).all()), name


@many
@given(cases(), KINDS, TOP_P)
def test_inequalities_between_observables(x, kind, top_p):
    v = evaluate(x, kind, top_p)
    pool, dimension, slack = v["pool_size"].double(), x.matrix.shape[1], 1 + 1e-9
    assert bool((v["participation_ratio"] <= pool.clamp(max=dimension) * slack).all())
    assert bool((v["participation_ratio"] <= v["classical_participation_ratio"] * slack).all())
    assert bool((v["classical_participation_ratio"] <= pool * slack).all())
    assert bool((v["pool_mass"] >= v["gold_probability"] + v["rival_probability"] - 1e-9).all())
    assert bool((v["pool_mass"] >= top_p - 1e-9).all())
    assert bool(((v["gold_rank"] == 1) == (v["top1_margin"] >= 0)).all())
    assert bool(((v["logit_gap"] > 0) == (v["gold_rank"] < v["rival_rank"])).all())
    assert bool((v["entropy"] <= math.log(x.matrix.shape[0]) * slack).all())


@many
@given(cases())
def test_throttle_and_separation_follow_from_the_overlap(x):
    unit = Geometry(x.matrix).unit(torch.stack([x.gold, x.rival]))
    overlap = (unit[0] * unit[1]).sum(-1)
    torch.testing.assert_close(gap.throttle(*unit), 1 - overlap**2, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gap.separation(*unit), 1 - overlap, rtol=1e-6, atol=1e-9)


def test_the_drag_can_overrule_the_lead():
    rows = torch.tensor([[1, 0, 0], [0, 1, 0], [0.1, 0.9, 0.2]], dtype=torch.float64)
    values = measure(torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64).log(), rows, 0, 1, top_p=1.0)
    assert float(values["logit_gap"]) > 0 > float(values["born_gap"])
