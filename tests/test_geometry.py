"""The geometry matrix: its bulk by hand, its neighbours by brute force, and the rows it refuses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from tests.cases import DEVICES, case

from borngap.choices import KINDS
from borngap.errors import UserError
from borngap.observables import geometry as module
from borngap.observables.bulk import Bulk
from borngap.observables.geometry import Geometry
from borngap.observables.topk import largest


def matrix(tokens=60, dimension=16, seed=0, common=0.7):
    return case(seed, vocabulary=tokens, dimension=dimension, common=common).matrix


def units(rows, kind="readout"):
    rows = rows.double().numpy()
    rows = rows - rows.mean(axis=0) if kind == "centered" else rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def all_overlaps(rows, ids):
    return np.array([rows[i] @ rows[j] for i, j in itertools.combinations(ids, 2)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_bulk_equals_numpy_and_scipy(kind):
    x = matrix()
    found = Geometry(x, kind).bulk()
    g = all_overlaps(units(x, kind), range(60))
    square = g**2
    normal = stats.kstest(square, "norm", args=(square.mean(), square.std()))
    exponential = stats.kstest(square, "expon", args=(0, square.mean()))
    assert found.pairs == 60 * 59 // 2 == len(g)
    assert (found.tokens, found.left_out, found.dimension) == (60, 0, 16)
    assert found.mean == pytest.approx(g.mean(), rel=1e-9)
    assert found.std == pytest.approx(g.std(), rel=1e-9)
    assert found.mean_square == pytest.approx(square.mean(), rel=1e-9)
    assert found.fraction_above == pytest.approx(np.mean(square > 0.1), rel=1e-12)
    assert found.isotropic == 1 / 16
    assert found.ks_gaussian == pytest.approx(normal.statistic, abs=1e-9)
    assert found.ks_exponential == pytest.approx(exponential.statistic, abs=1e-9)
    assert found.anisotropy == pytest.approx(g.mean() / g.std(), rel=1e-9)
    assert found.crowding == pytest.approx(16 * square.mean(), rel=1e-9)
    wanted = dict(zip(("50", "90", "95", "99", "99.9"), np.quantile(g, [0.5, 0.9, 0.95, 0.99, 0.999]), strict=True))
    assert found.overlap_percentiles == pytest.approx(wanted, rel=1e-9)


def test_the_bulk_of_three_rows_by_hand():
    rows = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 5.0]], dtype=torch.float64)
    found = Geometry(rows).bulk()  # overlaps 0.6, 0 and 0.8
    assert found.pairs == 3
    assert found.mean == pytest.approx(1.4 / 3)
    assert found.mean_square == pytest.approx((0.36 + 0.64) / 3)
    assert found.crowding == pytest.approx(2 / 3)
    assert found.fraction_above == pytest.approx(2 / 3)
    assert found.overlap_percentiles["50"] == pytest.approx(0.6)


def test_isotropic_rows_have_crowding_1():
    rows = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0))
    found = Geometry(rows).bulk(pairs=200_000)
    assert found.pairs == 200_000
    assert found.crowding == pytest.approx(1, abs=0.02)
    assert found.mean == pytest.approx(0, abs=0.005)
    assert found.embedding_class == "B"


def test_a_sample_of_pairs_is_seeded_and_near_the_whole():
    x = Geometry(matrix(400, 24))
    whole, sample, same, other = x.bulk(), x.bulk(20_000, seed=3), x.bulk(20_000, seed=3), x.bulk(20_000, seed=4)
    assert sample == same
    assert sample != other
    assert sample.pairs == 20_000
    assert whole.pairs == 400 * 399 // 2
    assert sample.mean == pytest.approx(whole.mean, abs=5 * whole.std / math.sqrt(20_000))


def test_pairs_are_distinct_and_evenly_spread():
    left, right = module._distinct_pairs(5, 9, seed=0)
    assert len(left) == len(right) == 9
    assert bool((left != right).all())
    count, pairs = 30, 430  # fewer than the 435 that exist: sampled
    seen = [module._distinct_pairs(count, pairs, seed) for seed in range(50)]
    left, right = (torch.cat(side) for side in zip(*seen, strict=True))
    assert bool((left != right).all())
    assert set(left.tolist()) == set(right.tolist()) == set(range(count))
    counts = torch.bincount(torch.cat([left, right]), minlength=count)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_all_pairs_are_taken_once_where_they_are_few():
    left, right = module._distinct_pairs(5, 10, seed=0)
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == list(itertools.combinations(range(5), 2))


def test_special_and_padding_rows_are_left_out_and_counted():
    x = matrix()
    x[50:] = 0
    special = frozenset({0, 7, 49, 55})
    found = Geometry(x, size=50, special=special).bulk()
    ids = [i for i in range(50) if i not in special]
    assert (found.tokens, found.left_out) == (47, 13)
    with np.errstate(invalid="ignore"):
        assert found.mean == pytest.approx(all_overlaps(units(x), ids).mean(), rel=1e-9)


@pytest.mark.parametrize(("crowding", "name"), [
    (6.0, "A"), (40.0, "A"), (5.999, "intermediate"), (4.001, "intermediate"), (4.0, "B"), (1.0, "B"),
])  # fmt: skip
def test_the_class_is_a_cut_of_the_crowding(crowding, name):
    squares = torch.tensor([0.25, 1.75], dtype=torch.float64) * crowding / 128
    found = Bulk.of(squares.sqrt(), dimension=128, tokens=3)
    assert found.crowding == pytest.approx(crowding, rel=1e-12)
    assert replace(found, crowding=crowding).embedding_class == name


def test_overlaps_all_alike_leave_shape_and_anisotropy_unknown():
    found = Geometry(torch.eye(5, dtype=torch.float64)).bulk()
    assert (found.mean, found.std, found.crowding, found.embedding_class) == (0, 0, 0, "B")
    assert math.isnan(found.anisotropy)
    assert math.isnan(found.ks_gaussian)
    assert math.isnan(found.ks_exponential)


def test_blocks_do_not_change_rows_means_or_statistics(monkeypatch):
    x = matrix().float()
    wholes = [Geometry(x, kind) for kind in KINDS]
    rows = [torch.cat([block for _, block in g.unit_blocks()]) for g in wholes]
    bulks = [g.bulk() for g in wholes]
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 7 * 4 * 16)
    for kind, whole, bulk in zip(KINDS, rows, bulks, strict=True):
        again = Geometry(x, kind)
        starts, blocks = zip(*again.unit_blocks(), strict=True)
        assert starts == tuple(range(0, 60, 7))
        torch.testing.assert_close(torch.cat(blocks), whole)
        assert again.bulk().overlap_percentiles == pytest.approx(bulk.overlap_percentiles, rel=1e-5)
        assert again.bulk().ks_gaussian == pytest.approx(bulk.ks_gaussian, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_rows_are_of_length_1_and_overlaps_their_cosines(dtype, kind, device):
    x = matrix().to(dtype)
    found = Geometry(x.to(device), kind)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    accuracy = 1e-12 if dtype == torch.float64 else 2e-6
    unit = found.unit(torch.arange(60)).cpu()
    assert unit.dtype == found.dtype
    np.testing.assert_allclose(unit.numpy(), units(x, kind), atol=accuracy)
    overlap = found.overlap(torch.arange(60)[:, None], torch.arange(60)[None]).cpu()
    np.testing.assert_allclose(overlap.numpy(), units(x, kind) @ units(x, kind).T, atol=2 * accuracy)


def brute_force(x, kind, tokens, k, left_out):
    rows, result = units(x, kind), []
    for token in tokens:
        overlaps = rows @ rows[token]
        overlaps[[token, *left_out]] = -np.inf
        result.append(np.argsort(-overlaps, kind="stable")[:k].tolist())
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "k"), [(500, 1), (500, 3), (500, 12), (70, 69), (64, 1), (65, 1), (130, 2)])
@pytest.mark.parametrize("device", DEVICES)
def test_neighbours_equal_brute_force(kind, tokens, k, device):
    x = matrix(tokens, 8)
    ids, overlaps = Geometry(x.to(device), kind).neighbours(k=k)
    wanted = brute_force(x, kind, range(tokens), k, ())
    assert ids.tolist() == wanted
    rows = units(x, kind)
    np.testing.assert_allclose(overlaps.numpy(), [rows[i] @ rows[w].T for i, w in enumerate(wanted)], atol=1e-12)
    assert bool((overlaps[:, :-1] >= overlaps[:, 1:]).all())


def test_neighbours_of_a_subset_in_any_order():
    x = matrix(300, 8)
    some = torch.tensor([299, 5, 5, 120])
    ids, overlaps = Geometry(x).neighbours(some, k=4)
    assert ids.tolist() == brute_force(x, "readout", some.tolist(), 4, ())
    assert ids.dtype == torch.int64
    assert overlaps.dtype == torch.float64


def test_neighbours_leave_special_and_padding_rows_out():
    x = matrix(300, 8)
    x[290:] = x[0] * 2  # padding: nearer to 0 than anything
    x[1] = x[0] * 3
    special = frozenset({1, 17, 200, 299})
    g = Geometry(x, size=290, special=special)
    left_out = special | set(range(290, 300))
    ordinary = [i for i in range(300) if i not in left_out]
    ids, overlaps = g.neighbours(k=5)
    assert ids.tolist() == brute_force(x, "readout", ordinary, 5, left_out)
    assert float(overlaps.max()) < 0.9999
    # a special token may ask; then the special ones among the answers are missing all the same
    asked = g.neighbours(torch.tensor([1, 17]), k=5)[0].tolist()
    assert asked == brute_force(x, "readout", [1, 17], 5, left_out)
    assert asked[0][0] == 0


@pytest.mark.parametrize("block", [1, 200, 5000])
def test_neighbours_do_not_depend_on_the_block(block, monkeypatch):
    g = Geometry(matrix(60 if block == 1 else 300, 8))
    some = torch.tensor([0, 59, 3])
    wholes = g.neighbours(k=6), g.neighbours(some, k=6)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", block)
    for whole, again in zip(wholes, (g.neighbours(k=6), g.neighbours(some, k=6)), strict=True):
        assert whole[0].tolist() == again[0].tolist()
        torch.testing.assert_close(whole[1], again[1], rtol=1e-12, atol=1e-15)
    assert wholes[0][0][some].tolist() == wholes[1][0].tolist()


def test_equal_rows_are_nearest_and_any_of_them_may_come_first():
    x = matrix(200, 8)
    x[[3, 40, 150]] = x[3].clone()
    ids, overlaps = Geometry(x).neighbours(torch.tensor([3, 40, 150]), k=2)
    assert [set(row) for row in ids.tolist()] == [{40, 150}, {3, 150}, {3, 40}]
    torch.testing.assert_close(overlaps, torch.ones_like(overlaps))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("columns", "k"), [(1, 1), (7, 7), (40, 3), (1000, 1), (1000, 3), (1001, 17), (999, 250)])
def test_the_largest_of_long_rows(columns, k, transposed):
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(columns, 5, generator=generator).T if transposed else torch.randn(5, columns, generator=generator)
    values, found = largest(x, k)
    wanted = x.topk(k, 1)
    assert torch.equal(values, wanted.values)
    assert torch.equal(found, wanted.indices)


def test_the_largest_with_ties_and_minus_infinity():
    x = torch.full((2, 200), -torch.inf)
    x[0, 190:] = 1.0
    x[1, ::7] = 2.0
    values, found = largest(x, 4)
    assert values.tolist() == [[1.0] * 4, [2.0] * 4]
    assert all(len(set(row)) == 4 for row in found.tolist())
    assert torch.equal(x.gather(1, found), values)


@pytest.mark.parametrize("k", [0, -1, 60, 61])
def test_k_is_checked(k):
    with pytest.raises(UserError, match=rf"k is out of range\n  rule: 1 <= k <= 59\n  found: {k}"):
        Geometry(matrix()).neighbours(k=k)


@pytest.mark.parametrize("token", [-1, 60])
def test_tokens_are_checked(token):
    with pytest.raises(UserError, match=rf"token id is out of range\n  rule: 0 <= id < 60\n  found: \[{token}\]"):
        Geometry(matrix()).neighbours(torch.tensor([3, token]))


def test_a_bulk_needs_pairs():
    with pytest.raises(UserError, match=r"number of pairs is out of range\n  rule: at least 1\n  found: 0"):
        Geometry(matrix()).bulk(0)
    with pytest.raises(UserError, match=r"too few tokens for a pair\n  rule: at least 2 .*\n  found: 1"):
        Geometry(matrix(3), special=frozenset({0, 2})).bulk()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rows_that_are_not_finite_are_named(value, dtype):
    x = matrix().to(dtype)
    x[[4, 31]] = value
    message = r"2 embedding rows are not finite\n.*\n  found: token ids \[4, 31\] \(readout geometry\)\n  fix: "
    with pytest.raises(UserError, match=message):
        Geometry(x)
    assert Geometry(x[5:31]).size == 26
    assert Geometry(x, holes=frozenset({4, 31})).blank == frozenset()
    x[10:40] = value
    with pytest.raises(UserError, match=r"31 embedding rows .*\n.*\n  found: .*\[4, 10, .*, 16\] \.\.\. \(input"):
        Geometry(x, "input")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("out", [{"blank": (4, 31, 59)}, {"holes": (0, 7, 40)}, {"blank": (4,), "holes": (2, 50)}])
def test_what_takes_no_part_might_as_well_not_be_there(kind, out):
    """Tokens without a direction and holes change nothing for the others: the same as a matrix without their rows."""
    x, holes = matrix(), frozenset(out.get("holes", ()))
    x[list(out.get("blank", ()))] = 0
    whole = Geometry(x, kind, holes=holes)
    left_out = {*out.get("blank", ()), *holes}
    kept = torch.tensor([i for i in range(60) if i not in left_out])
    alone = Geometry(x[kept], kind)
    assert (whole.blank, whole.left_out) == (frozenset(out.get("blank", ())), left_out)
    assert whole.ordinary().tolist() == kept.tolist()
    torch.testing.assert_close(whole.unit(kept), alone.unit(torch.arange(len(kept))), rtol=0, atol=1e-15)
    blocks = torch.cat([block for _, block in whole.unit_blocks()])
    torch.testing.assert_close(blocks[kept], alone.unit(torch.arange(len(kept))), rtol=0, atol=1e-15)
    assert float(blocks[sorted(left_out)].abs().max()) == 0
    ids, overlaps = whole.neighbours(k=4)
    expected = alone.neighbours(k=4)
    assert ids.tolist() == kept[expected[0]].tolist()
    torch.testing.assert_close(overlaps, expected[1], rtol=0, atol=1e-12)
    found, reference = whole.bulk(), alone.bulk()
    assert (found.tokens, found.left_out) == (len(kept), len(left_out))
    assert found.crowding == pytest.approx(reference.crowding, rel=1e-12)


def test_tokens_without_a_direction_have_none_to_ask_for():
    x = matrix()
    x[[4, 31]] = 0
    message = (
        r"token has no direction\n  rule: .*\n  found: token ids \[31\] \(readout geometry\)\n  fix: choose another"
    )
    with pytest.raises(UserError, match=message):
        Geometry(x).neighbours(torch.tensor([3, 31]))
    assert "2 tokens have embedding rows without a direction (ids [4, 31], readout geometry)" in Geometry(x).notes[0]
    assert "3 rows below the last token's belong to no token" in Geometry(x, holes=frozenset({1, 2, 3})).notes[-1]
    assert Geometry(matrix()).notes == ()


def test_blank_tokens_stay_out_when_their_rows_have_moved():
    x = matrix()
    x[4] = 0
    moved = replace(Geometry(x), matrix=matrix(seed=3))
    assert moved.blank == {4}
    assert float(moved.unit(torch.tensor(4)).abs().max()) == 0


def test_a_row_equal_to_the_mean_has_no_direction_when_centered():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, -2.0]]) + torch.tensor([4.0, 8.0])
    assert Geometry(x).blank == frozenset()
    assert Geometry(x, "centered").blank == {2}


def test_a_matrix_needs_directions():
    x = torch.zeros(5, 3)
    x[2] = 1
    with pytest.raises(
        UserError, match=r"embedding rows have no direction\n  rule: at least 2 .*\n  found: input geom"
    ):
        Geometry(x, "input")
    with pytest.raises(UserError, match=r"embedding rows have no direction\n  rule: .*\n  found: centered geometry"):
        Geometry(torch.ones(5, 3), "centered")


@pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 1), (2, 3, 4)])
def test_a_matrix_is_a_matrix(shape):
    with pytest.raises(UserError, match=r"the embedding matrix has a wrong shape\n  rule: \(tokens, d\).*\n  found: "):
        Geometry(torch.ones(shape))


def test_the_matrix_is_not_copied():
    x = matrix()
    assert Geometry(x).matrix is x
