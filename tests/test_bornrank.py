"""The rank by Born probability: tokens that a few eigenvectors tell from gold are not worked out, and none is lost."""

import pytest
import torch
from tests.cases import case

from borngap.choices import KINDS
from borngap.observables import bornrank
from borngap.observables import geometry as geometry_module
from borngap.observables.geometry import Geometry


def literally(geometry, rows, probs, gold, apart=1e-9):
    """1 + number of tokens with sum_k p_k G_kt^2 larger than gold's, in float64."""
    every = geometry.unit(torch.arange(geometry.size), torch.float64)
    born = ((every @ rows.double().T).square() @ probs.double()).tolist()
    return 1 + sum(value > born[gold] * (1 + apart) for value in born)


def given(pool, dimension, dtype, tokens=900, tilt=1.0):
    """Rows that share a direction, as a model's do, and predictions of `pool` tokens whose probabilities fall off."""
    generator = torch.Generator().manual_seed(pool + dimension)
    rows = torch.randn(tokens, dimension, generator=generator, dtype=torch.float64)
    rows[:, 0] += tilt * dimension**0.5
    geometry = Geometry(rows.to(dtype))
    ids = torch.stack([torch.randperm(tokens, generator=generator)[:pool] for _ in range(4)])
    probs = torch.rand(4, pool, generator=generator, dtype=torch.float64) ** 6
    return geometry, ids, probs / probs.sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("pool", "dimension"), [(20, 64), (60, 64), (300, 64), (500, 300), (290, 300)])
def test_the_rank_is_that_of_all_probabilities(pool, dimension, dtype):
    geometry, ids, probs = given(pool, dimension, dtype)
    rows, apart = geometry.unit(ids), 1e-9 if dtype == torch.float64 else 1e-5  # float32 can't tell what is nearer
    for gold in (ids[:, 0], probs.argmax(1), ids[:, -1], torch.arange(4)):
        found = bornrank.born_rank(geometry, rows, probs, gold).tolist()
        for rank, r, p, g in zip(found, rows, probs, gold.tolist(), strict=True):
            assert literally(geometry, r, p, g, apart) <= rank <= literally(geometry, r, p, g, -apart) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_ties_and_tokens_without_a_direction_do_not_count(kind):
    geometry, ids, probs = given(60, 64, torch.float64)
    matrix = geometry.matrix.clone()
    matrix[500:520] = matrix[7]
    again = Geometry(matrix, kind)
    blank = Geometry(torch.cat([matrix, torch.zeros(30, 64)]), kind, holes=frozenset(range(900, 930)))
    gold = torch.full((4,), 7)
    for one in (again, blank):
        found = bornrank.born_rank(one, one.unit(ids), probs, gold)
        assert found.tolist() == [literally(again, r, p, 7) for r, p in zip(again.unit(ids), probs, strict=True)]


def test_few_tokens_are_worked_out(monkeypatch):
    """Of 900 tokens at most a tenth, where all were before."""
    geometry, ids, probs = given(500, 300, torch.float32)
    worked = []
    plain = bornrank._State.exactly
    monkeypatch.setattr(bornrank._State, "exactly", lambda self, rows: worked.append(len(rows)) or plain(self, rows))
    bornrank.born_rank(geometry, geometry.unit(ids), probs, probs.argmax(1))
    assert sum(worked) < 4 * 90


def test_few_rows_are_made_unit(monkeypatch):
    """Groups of pools of like size each make a pass over the matrix; none of them normalises it again."""
    plain, made = geometry_module._normalised, []
    geometry, ids, probs = given(500, 300, torch.float32)
    rows = geometry.unit(ids)
    monkeypatch.setattr(geometry_module, "_normalised", lambda rows: made.append(rows[..., 0].numel()) or plain(rows))
    for number in range(4):
        bornrank.born_rank(geometry, rows[number, None], probs[number, None], probs[number, None].argmax(1))
    assert sum(made) < 900


def test_measure_gives_it():
    from borngap import measure

    x = case(4, vocabulary=400, dimension=48, batch=3)
    values = measure(x.logits, x.matrix, x.gold, x.rival, top_p=1.0, only=["born_rank"])["born_rank"]
    geometry, probs = Geometry(x.matrix), x.logits.double().softmax(1)
    wanted = [
        literally(geometry, geometry.unit(torch.arange(400)), p, g) for p, g in zip(probs, x.gold.tolist(), strict=True)
    ]
    assert values.tolist() == wanted
