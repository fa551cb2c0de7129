"""Phase boundary, theta* and reduced field on data whose answer is known; no claim without a basis."""

import math

import numpy as np
import pytest

from borngap.schedule import factors
from borngap.sweep.boundary import boundary, compare_cuts, fit
from borngap.sweep.phase import Point, phase
from borngap.sweep.points import point_of

RATES = (1e-4, 2e-4, 4e-4, 8e-4)
OVERLAPS = (0.3, 0.45, 0.55, 0.65, 0.75, 0.9)


def points(theta=2e-4, jump=lambda rate, overlap: 20.0 if rate * overlap > 3e-4 else 2.0, seeds=(0,), **changes):
    """Return a sweep in which context i crosses from eta_c = theta / Gmax on, by a crossing dose that is constant."""
    found = []
    for context, overlap in enumerate(OVERLAPS):
        critical = theta / overlap
        for seed in seeds:
            for rate in RATES:
                flip = critical / rate if rate >= critical else None
                outcome = "unresolved" if flip is None else "resolved"
                one = {"outcome": outcome, "flip_share": flip, "jump_ratio": jump(rate, overlap)}
                found.append(Point(context, seed, rate, overlap, **one | changes))
    return found


def test_critical_rates_theta_and_reduced_fields_are_recovered():
    found = phase(points(), "rank")
    assert [entry.status for entry in found.critical] == ["ok"] * 6
    for entry in found.critical:
        assert entry.rate == pytest.approx(2e-4 / entry.gold_overlap)
        assert entry.low < entry.rate <= entry.high
        assert entry.theta == pytest.approx(2e-4)
    assert found.theta.value == pytest.approx(2e-4)
    assert found.theta.low <= found.theta.value * (1 + 1e-9)
    assert found.theta.high >= found.theta.value * (1 - 1e-9)
    mean = sum(OVERLAPS) / 6
    assert [field.rate for field in found.fields] == list(RATES)
    assert [field.mean for field in found.fields] == pytest.approx([rate * mean / 2e-4 for rate in RATES])
    assert found.fields[0].least == pytest.approx(1e-4 * 0.3 / 2e-4)


def test_the_crossing_dose_never_leaves_its_bracket():
    flips = {1e-4: None, 2e-4: None, 4e-4: 0.1, 8e-4: 0.1}
    late = [Point(0, 0, r, 0.5, "resolved" if f else "unresolved", f, 2.0) for r, f in flips.items()]
    entry = phase(late, "rank").critical[0]
    assert (entry.low, entry.high, entry.rate) == (2e-4, 4e-4, 2e-4)


def test_the_bracket_of_several_seeds_holds_all_of_theirs():
    """Seed 0 crosses from 1e-4 to 2e-4, seed 1 from 2e-4 to 4e-4: 1e-4 fails with both, 4e-4 suffices for both."""
    first = {0: 2e-4, 1: 4e-4}
    runs = [
        Point(0, seed, rate, 0.5, "resolved" if rate >= first[seed] else "unresolved",
              0.8 if rate >= first[seed] else None, 2.0)
        for seed in (0, 1) for rate in RATES
    ]  # fmt: skip
    entry = phase(runs, "rank").critical[0]
    assert (entry.low, entry.high) == (1e-4, 4e-4)
    assert entry.rate == pytest.approx(0.8 * math.sqrt(2e-4 * 4e-4))


def test_a_sweep_with_a_schedule_goes_by_the_dose():
    """After 25 of 50 steps of a linear fall 0.755 of the dose is given; by steps the rate came out at 0.66 of it."""
    row = {"context": 0, "seed": 0, "rate": 1e-3, "gold_overlap": 0.5, "jump_ratio": 2.0, "outcome_rank": "resolved"}
    point = point_of(row | {"flip_time_rank": 25.0}, "rank", factors("linear", 0, 50))
    assert point.flip_share == pytest.approx(sum(range(26, 51)) / sum(range(1, 51)))
    assert point_of(row | {"flip_time_rank": None}, "rank", factors("linear", 0, 50)).flip_share is None


def test_seeds_are_combined_by_their_geometric_mean():
    both = points(seeds=(0, 1))
    both = [
        p if p.seed == 0 or p.flip_share is None else Point(*list(vars(p).values())[:5], p.flip_share * 0.9, 2.0)
        for p in both
    ]
    entry = phase(both, "rank").critical[5]
    assert entry.rate == pytest.approx(2e-4 / 0.9 * math.sqrt(0.9))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"outcome": "pre-resolved", "flip_share": None}, "pre-resolved"),
        ({"outcome": "lost", "flip_share": None}, "pre-resolved"),
        ({"outcome": "unresolved", "flip_share": None}, "beyond"),
        ({"outcome": "diverged", "flip_share": None}, "diverged"),
        ({"outcome": "resolved", "flip_share": 0.02}, "below"),
    ],
)
def test_no_rate_is_invented(changes, status):
    found = phase(points(**changes), "rank")
    assert {entry.status for entry in found.critical} == {status}
    assert {(entry.rate, entry.theta) for entry in found.critical} == {(None, None)}
    assert (found.theta.value, found.theta.low, found.fields) == (None, None, [])
    assert "0 contexts cross within the rates tried, at least 3 are needed" in found.theta.reason
    low, high = {"beyond": (8e-4, None), "diverged": (8e-4, None), "below": (None, 1e-4)}.get(status, (None, None))
    assert {(entry.low, entry.high) for entry in found.critical} == {(low, high)}


def test_what_lies_beyond_the_rates_is_said():
    some = [p if p.context < 4 else Point(p.context, 0, p.rate, p.gold_overlap, "unresolved", None, 2.0)
            for p in points()]  # fmt: skip
    found = phase(some, "rank")
    assert found.theta.contexts == 4
    assert found.theta.reason.startswith("2 beyond the rates tried are left out")


def test_a_run_that_diverged_below_the_crossing_leaves_no_bracket():
    odd = [Point(0, 0, 1e-4, 0.5, "diverged", None, None), Point(0, 0, 2e-4, 0.5, "resolved", 0.18, 2.0)]
    assert phase(odd, "rank").critical[0].status == "diverged"


def test_the_boundary_of_separable_data():
    found = {b.by: b for b in phase(points(), "rank").boundaries}
    kappa = found["kappa"]
    assert (kappa.accuracy, kappa.separable, kappa.side) == (1.0, True, "above")
    products = sorted({rate * overlap for rate in RATES for overlap in OVERLAPS})
    below, above = max(k for k in products if k <= 3e-4), min(k for k in products if k > 3e-4)
    assert kappa.cut == pytest.approx((below + above) / 2)
    assert kappa.low <= below < kappa.cut < above <= kappa.high
    assert (kappa.catapults + kappa.drifts, kappa.contexts, kappa.reason) == (24, 6, "")
    assert found["rate"].accuracy < 1
    assert found["drive"].accuracy < found["kappa"].accuracy


def test_catapults_below_the_cut_are_found_and_named():
    reverse = points(jump=lambda rate, overlap: 2.0 if rate * overlap > 3e-4 else 20.0)
    kappa = phase(reverse, "rank").boundaries[0]
    assert (kappa.side, kappa.accuracy) == ("below", 1.0)


@pytest.mark.parametrize(("ratio", "kind"), [(2.0, "a drift"), (20.0, "a catapult")])
def test_one_kind_has_no_boundary(ratio, kind):
    kappa = phase(points(jump=lambda rate, overlap: ratio), "rank").boundaries[0]
    assert (kappa.cut, kappa.low, kappa.accuracy, kappa.held_out) == (None, None, None, None)
    assert f"every point is {kind}, with kappa from 3e-05 to 0.00072" in kappa.reason


def test_too_few_points_have_no_boundary():
    few = phase(points(jump=lambda rate, overlap: 20.0 if rate * overlap > 6.5e-4 else 2.0), "rank").boundaries[0]
    assert few.cut is None
    assert "1 catapults and 23 drifts of 6 contexts: at least 3 of each are needed" in few.reason
    two = phase([p for p in points() if p.context in {1, 5}], "rank")
    assert two.boundaries[0].cut is None
    assert {c.verdict for c in two.comparisons} == {"not known"}


def test_what_is_neither_is_left_out_and_counted():
    found = phase(points(jump=lambda rate, overlap: {1e-4: 5.5, 2e-4: 7.0, 4e-4: None}.get(rate, 2.0)), "rank")
    assert found.left_out == {"borderline": 6, "intermediate": 6, "no jump ratio": 6}
    assert found.boundaries[0].drifts == 6


def test_the_candidate_that_decides_is_found_better_and_only_then():
    by_kappa = {c.against: c for c in phase(points(), "rank").comparisons}
    by_rate = {
        c.against: c for c in phase(points(jump=lambda rate, _: 20.0 if rate > 3e-4 else 2.0), "rank").comparisons
    }
    assert by_kappa["rate"].difference > 0
    assert by_kappa["rate"].contexts == 6
    assert by_rate["rate"].difference < 0
    assert by_rate["rate"].verdict == "worse"
    noise = np.random.default_rng(1)
    random = {c.against: c for c in phase(points(jump=lambda *_: noise.choice([2.0, 20.0])), "rank").comparisons}
    assert random["rate"].verdict == "no difference seen"


def test_a_further_candidate_takes_part():
    sweep = points()
    found = phase(sweep, "rank", {"ray": [p.rate * p.gold_overlap for p in sweep]})
    assert found.boundaries[-1].by == "ray"
    assert found.comparisons[-1].difference == 0.0


def test_chance_is_reported_as_chance_on_unseen_contexts():
    noise = np.random.default_rng(0)
    contexts = np.repeat(np.arange(40), 5)
    found = boundary("noise", noise.normal(size=200), noise.integers(0, 2, 200).astype(float), contexts)
    assert found.accuracy > 0.5
    assert abs(found.held_out - 0.5) < 0.12


def test_fit_by_hand():
    x = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert fit(x, np.array([False, False, False, True, True])) == (3.5, True, 1.0)
    assert fit(x, np.array([False, True, True, False, False])) == (2.5, False, 1.0)
    cut, above, accuracy = fit(x, np.array([True, False, False, True, False]))
    assert (cut, above) == (2.5, True)
    assert accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert fit(np.ones(4), np.array([True, False, True, False])) == (1.0, True, 0.5)


def test_an_interval_of_the_cut_covers_it():
    """Logistic points in 30 contexts around a cut at 0: the interval holds it in about 95 % of repetitions."""
    held = 0
    for seed in range(8):
        noise = np.random.default_rng(seed)
        x = noise.normal(size=150)
        kind = (noise.random(150) < 1 / (1 + np.exp(-8 * x))).astype(float)
        found = boundary("x", x, kind, np.repeat(np.arange(30), 5), seed)
        held += found.low <= 0 <= found.high
    assert held >= 6


def test_json_has_no_nan():
    import json

    json.dumps(phase(points(outcome="diverged", flip_share=None, jump_ratio=None), "born").to_json(), allow_nan=False)


def test_candidates_are_compared_on_the_same_points():
    values = np.arange(12.0)
    missing = np.where(np.arange(12) < 4, np.nan, values)
    kind, contexts = np.tile([0.0, 1.0, 1.0, 0.0], 3), np.repeat(np.arange(6), 2)
    assert compare_cuts(("a", values), ("b", missing), kind, contexts).contexts == 4
