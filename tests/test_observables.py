"""`measure` against an independent float64 reference and QuTiP, in every dtype, batched, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import qutip
import torch
from tests.cases import DEVICES, case
from tests.reference import density_matrix, pool_of, reference, softmax, unit_rows

from borngap.choices import KINDS
from borngap.errors import UserError
from borngap.observables import density
from borngap.observables import predictions as observables
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES
from borngap.observables.geometry import Geometry
from borngap.observables.predictions import measure

SMALL_POOL = {"vocabulary": 30, "dimension": 40}
LARGE_POOL = {"vocabulary": 50, "dimension": 6}
DIFFERENTIABLE = ("born_gap", "signal", "drag", "logit_gap", "purity", "localisation_length")


def expected(x, index, **options):
    return reference(x.logits[index].double().numpy(), x.matrix.double().numpy(), int(x.gold[index]),
                     int(x.rival[index]), x.hidden[index].double().numpy(), **options)  # fmt: skip


def assert_equal(values, x, rtol, atol, **options):
    for index in range(len(x.gold)):
        wanted = expected(x, index, **options)
        assert set(wanted) == set(OBSERVABLES)
        for name, value in wanted.items():
            found = float(values[name][index])
            exact = name in INTEGER_IDS
            assert found == pytest.approx(value, rel=0 if exact else rtol, abs=0 if exact else atol), name


def evaluate(x, geometry=None, **options):
    geometry = x.matrix if geometry is None else geometry
    return measure(x.logits, geometry, x.gold, x.rival, hidden=x.hidden, **options)


@pytest.mark.parametrize("shape", [SMALL_POOL, LARGE_POOL], ids=["n<d", "n>d"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("device", DEVICES)
def test_float64_equals_the_reference(shape, kind, top_p, device):
    for seed in range(3):
        x = case(seed, **shape, spread=1.0)
        there = x.to(device)
        values = evaluate(there, Geometry(there.matrix, kind), top_p=top_p)
        if shape is SMALL_POOL:
            assert int(values["pool_size"].max()) < shape["dimension"]
        elif top_p == 1:
            assert int(values["pool_size"].min()) > shape["dimension"]
        assert_equal(values, x, 1e-6, 1e-9, top_p=top_p, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_rows_and_padded_logits_equal_the_reference(kind):
    x = case(5, vocabulary=33, spread=1.0)
    size = 27
    x = x._replace(gold=x.gold % 13, rival=13 + x.rival % 13)
    matrix = x.matrix.clone()
    matrix[size:] = 0  # a padding row needs no direction
    values = evaluate(x, Geometry(matrix, kind, size=size))
    assert_equal(values, x, 1e-6, 1e-9, kind=kind, size=size)


# float32 sums of d = 40 products carry an error of some 1e-7 each; bfloat16 inputs are upcast, so they lose no more
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [SMALL_POOL, LARGE_POOL], ids=["n<d", "n>d"])
@pytest.mark.parametrize("device", DEVICES)
def test_short_floats_equal_the_reference_on_the_same_numbers(dtype, shape, device):
    for seed in range(3):
        x = case(10 + seed, **shape).to(dtype)
        assert_equal(evaluate(x.to(device)), x, 1e-5, 2e-6)


def test_mixed_dtypes_are_upcast():
    x = case(2)
    mixed = x._replace(logits=x.logits.bfloat16(), matrix=x.matrix.float())
    assert_equal(evaluate(mixed), mixed, 1e-5, 2e-6)


@pytest.mark.parametrize("shape", [SMALL_POOL, LARGE_POOL], ids=["n<d", "n>d"])
@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_equals_qutip(shape, top_p):
    x = case(7, **shape)
    values = evaluate(x, top_p=top_p)
    rows = unit_rows(x.matrix.numpy(), "readout", len(x.matrix))
    for index in range(len(x.gold)):
        gold, rival = int(x.gold[index]), int(x.rival[index])
        probs, _ = pool_of(softmax(x.logits[index].numpy()), gold, rival, top_p)
        rho = sum(p * qutip.ket2dm(qutip.Qobj(rows[k])) for k, p in probs.items())
        projector = {t: qutip.ket2dm(qutip.Qobj(rows[t])) for t in (gold, rival)}
        born = {t: qutip.expect(projector[t], rho) for t in projector}
        assert rho.tr() == pytest.approx(1, abs=1e-12)
        assert float(values["purity"][index]) == pytest.approx(rho.purity(), rel=1e-6)
        assert float(values["gold_born_probability"][index]) == pytest.approx(born[gold], rel=1e-6)
        assert float(values["rival_born_probability"][index]) == pytest.approx(born[rival], rel=1e-6)
        assert float(values["born_gap"][index]) == pytest.approx(born[gold] - born[rival], rel=1e-6, abs=1e-9)
        assert np.allclose(rho.full(), density_matrix(probs, rows))


def test_a_batch_equals_its_predictions_one_by_one(monkeypatch):
    x = case(3, vocabulary=300, dimension=16, batch=6)
    scales = torch.tensor([0.01, 8, 0.5, 20, 2, 0.1], dtype=torch.float64)
    x = x._replace(logits=x.logits * scales[:, None])
    whole = evaluate(x)
    assert int(whole["pool_size"].min()) <= 4
    assert int(whole["pool_size"].max()) > 250
    for index in range(6):
        one = evaluate(type(x)(x.logits[index], x.matrix, x.gold[index], x.rival[index], x.hidden[index]))
        for name, value in one.items():
            assert value.shape == (1,)
            assert float(value) == pytest.approx(float(whole[name][index]), rel=1e-9, abs=1e-12), name
    monkeypatch.setattr(observables, "_CHUNK_ELEMENTS", 1)  # a part for each prediction, in order of size
    for name, value in evaluate(x).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-9, atol=1e-12)


def test_blocks_of_pairs_do_not_change_the_sums(monkeypatch):
    x = case(4, vocabulary=60, dimension=80, spread=0.5)
    names = ("purity", "localisation_length")
    whole = evaluate(x, top_p=1.0, only=names)
    monkeypatch.setattr(density, "_PAIR_ELEMENTS", 1)
    for name, value in evaluate(x, top_p=1.0, only=names).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-12, atol=0)


def test_blocks_of_near_pairs_do_not_change_the_angles(monkeypatch):
    x = case(4, vocabulary=30, dimension=8, common=20.0)
    assert float(Geometry(x.matrix).overlap(torch.arange(30)[:, None], torch.arange(30)).min()) > 0.9
    whole = evaluate(x, top_p=1.0, only=["localisation_length"])["localisation_length"]
    monkeypatch.setattr(density, "_PAIR_ELEMENTS", 1)
    again = evaluate(x, top_p=1.0, only=["localisation_length"])["localisation_length"]
    torch.testing.assert_close(again, whole, rtol=1e-12, atol=0)
    assert_equal(evaluate(x, top_p=1.0), x, 1e-6, 1e-9, top_p=1.0)


def test_purity_is_the_same_whichever_way_it_is_summed():
    for shape in (SMALL_POOL, LARGE_POOL):
        x = case(6, **shape)
        alone = evaluate(x, top_p=1.0, only=["purity"])["purity"]
        torch.testing.assert_close(alone, evaluate(x, top_p=1.0)["purity"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 9), (8, 4)], ids=["n<d", "n>d"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("only", [DIFFERENTIABLE, ("purity",)], ids=["all", "purity"])
def test_gradients_with_respect_to_logits_and_rows(kind, shape, device, only):
    x = case(1, vocabulary=shape[0], dimension=shape[1], batch=2, spread=0.5).to(device)
    logits, matrix = x.logits.requires_grad_(), x.matrix.requires_grad_()

    def function(logits, matrix):
        values = measure(logits, Geometry(matrix, kind), x.gold, x.rival, only=only)
        return tuple(values[name] for name in only)

    gradients = torch.autograd.grad(sum(v.sum() for v in function(logits, matrix)), (logits, matrix))
    assert all(float(g.norm()) > 0.01 for g in gradients)
    assert torch.autograd.gradcheck(function, (logits, matrix))


def test_values_have_the_promised_dtypes_and_shapes():
    x = case(0).to(torch.float32)
    for name, value in evaluate(x).items():
        assert value.dtype == (torch.int64 if name in INTEGER_IDS else torch.float64), name
        assert value.shape == (3,)


def test_only_the_wanted_observables_are_returned_in_their_order():
    x = case(0)
    assert list(evaluate(x, only=("purity", "born_gap"))) == ["purity", "born_gap"]
    assert list(evaluate(x)) == list(OBSERVABLES)


def test_one_id_serves_the_whole_batch():
    x = case(0)
    ones = torch.ones(3, dtype=torch.int64)
    assert measure(x.logits, x.matrix, 1, 0, only=["born_gap"])["born_gap"].tolist() == (
        measure(x.logits, x.matrix, ones, 0 * ones, only=["born_gap"])["born_gap"].tolist()
    )


def test_without_a_hidden_state_its_observables_are_nan():
    x = case(0)
    values = measure(x.logits, x.matrix, x.gold, x.rival)
    missing = {name for name, value in values.items() if bool(value.isnan().any())}
    assert missing == {"gold_alignment", "rival_alignment", "hidden_norm"}
    assert all(OBSERVABLES[name].absent for name in missing)


NAN = torch.eye(3, 40).masked_fill(torch.eye(3, 40) > 0, torch.nan)
SAME = {"gold": torch.tensor([1, 2, 3]), "rival": torch.tensor([0, 2, 3])}
LOGITS = r"logits have a wrong shape\n  rule: \(batch, at least 40\), batch at least 1\n  found: "
STATES = r"hidden states have a wrong shape\n  rule: \(batch, 12\), as wide as the geometry\n  found: "
NOT_FINITE = r"logits are NaN or infinite\n  rule: finite .*\n  found: predictions "
BAD = {
    "shape of logits": ({"logits": torch.zeros(2, 39)}, LOGITS + r"\(2, 39\)"),
    "dimensions of logits": ({"logits": torch.zeros(1, 1, 40)}, LOGITS + r"\(1, 1, 40\)"),
    "no prediction": ({"logits": torch.zeros(0, 40)}, LOGITS + r"\(0, 40\)"),
    "golds": ({"gold": torch.tensor([1, 2])}, r"gold ids do not fit the batch\n  rule: 1 or 3 ids\n  found: 2"),
    "rivals": ({"rival": torch.tensor([1, 2])}, r"rival ids do not fit the batch\n  rule: 1 or 3 ids"),
    "shape of hidden": ({"hidden": torch.zeros(3, 11)}, STATES + r"\(3, 11\)"),
    "number of hiddens": ({"hidden": torch.zeros(2, 12)}, STATES + r"\(2, 12\)"),
    "gold range": ({"gold": 40}, r"gold id is out of range\n  rule: 0 <= id < 40\n  found: \[40, 40, 40\]"),
    "rival range": ({"rival": -1}, r"rival id is out of range\n  rule: 0 <= id < 40\n  found: \[-1, -1"),
    "same": (SAME, r"gold and rival are the same token\n  rule: two tokens\n  found: predictions \[1, 2\]"),
    "nan": ({"logits": NAN}, NOT_FINITE + r"\[0, 1, 2\]"),
    "inf": ({"logits": torch.tensor([0.0, torch.inf]).repeat(3, 20)}, NOT_FINITE),
    "all -inf": ({"logits": torch.full((3, 40), -torch.inf)}, NOT_FINITE),
    "observable": ({"only": ["purity", "hue"]}, r"unknown observable\n  found: \['hue'\]\n  fix: choose among gold_bo"),
    "top_p zero": ({"top_p": 0}, r"top_p is out of range\n  rule: 0 < top_p <= 1\n  found: 0"),
    "top_p large": ({"top_p": 1.01}, r"top_p is out of range\n  rule: 0 < top_p <= 1\n  found: 1.01"),
    "top_p nan": ({"top_p": float("nan")}, r"top_p is out of range\n  rule: 0 < top_p <= 1\n  found: nan"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    changes, message = BAD[name]
    x = case(0)
    arguments = {"logits": x.logits, "geometry": x.matrix, "gold": 3, "rival": 5, **changes}
    with pytest.raises(UserError, match=message):
        measure(**arguments)
