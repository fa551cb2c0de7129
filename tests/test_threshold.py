"""Critical rates: what is pure about them."""

import math

import pytest
import torch

from borngap import Training, load, read_contexts
from borngap.critical.brackets import Bracket, bisection, found, grid_search
from borngap.critical.record import CriticalRate, class_mean, combined, extrapolated, prospect, rounding_note
from borngap.critical.search import Searcher

STEPS = 50


def law(critical, power=1.0):
    """Runs that flip at ``N (critical / rate)^power``; says how many were done."""
    done = []

    def runs(wanted):
        done.extend(wanted)
        return [STEPS * (critical[i] / rate) ** power if rate >= critical[i] else None for i, rate in wanted]

    return runs, done


def share(time):
    return time / STEPS


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("critical", [3.1e-8, 2e-5, 4.4e-4, 0.09])
def test_bisection_brackets_the_rate(critical, power):
    runs, done = law({0: critical}, power)
    bracket = bisection([0], runs, {0: 2e-5}, 0.1, share)[0]
    assert bracket.low < critical <= bracket.high <= 1.01 * bracket.low
    assert len(done) <= 25


def test_bisection_takes_the_lowest_crossing():
    def runs(wanted):  # met in [1e-5, 2e-5], and again from 4e-5 on
        return [10.0 if 1e-5 <= rate <= 2e-5 or rate >= 4e-5 else None for _, rate in wanted]

    bracket = bisection([0], runs, {0: 5e-5}, 0.1, lambda time: 0.9)[0]
    assert bracket.low < 1e-5 <= bracket.high <= 1.01e-5


def test_many_contexts_share_rounds():
    runs, _ = law({0: 1e-5, 1: 3e-4, 2: 7e-3})
    rounds = []

    def counted(wanted):
        rounds.append(len(wanted))
        return runs(wanted)

    brackets = bisection([0, 1, 2], counted, dict.fromkeys(range(3), 2e-5), 0.1, share)
    assert [round(b.high / c, 1) for b, c in zip(brackets.values(), (1e-5, 3e-4, 7e-3), strict=True)] == [1.0, 1.0, 1.0]
    assert rounds[0] == 3


def test_a_rate_beyond_the_largest_is_not_invented():
    runs, _ = law({0: 1.0})
    result = found(bisection([0], runs, {0: 2e-5}, 0.1, share)[0], "bisect", 0.1)
    assert (result.rate, result.low, result.high, result.status) == (None, 0.1, None, "beyond")
    assert "0.1" in result.why


def test_divergence_is_told_from_failure():
    def runs(wanted):
        return [math.nan if rate > 1e-4 else None for _, rate in wanted]

    result = found(bisection([0], runs, {0: 2e-5}, 0.1, share)[0], "bisect", 0.1)
    assert result.status == "diverged"
    assert result.rate is None
    assert "ceased to be finite" in result.why


def test_a_rate_below_the_divergence_is_found():
    def runs(wanted):
        return [math.nan if rate > 1e-3 else STEPS * 3e-5 / rate if rate >= 3e-5 else None for _, rate in wanted]

    result = found(bisection([0], runs, {0: 1e-2}, 0.1, share)[0], "bisect", 0.1)
    assert result.status == "ok"
    assert result.low < 3e-5 <= result.high


def test_a_grid_gives_its_lowest_crossing_cell():
    runs, done = law({0: 3e-5, 1: 5.0})
    brackets = grid_search([0, 1], runs, [1e-5, 2e-5, 4e-5, 8e-5])
    assert (brackets[0].low, brackets[0].high) == (2e-5, 4e-5)
    assert found(brackets[1], "grid", 8e-5).status == "beyond"
    assert len(done) == 8


def test_prospects():
    known = CriticalRate(1e-4, 9e-5, 1.1e-4, "ok", "collocation")
    assert [prospect(known, rate) for rate in (8e-5, 9e-5, 1e-4, 1.1e-4, 1.2e-4)] == [
        "will fail", "at risk", "at risk", "at risk", "will resolve",
    ]  # fmt: skip
    beyond = CriticalRate(None, 1e-2, None, "beyond", "bisect")
    assert [prospect(beyond, rate) for rate in (1e-3, 1e-2, 2e-2)] == ["will fail", "will fail", "unknown"]
    assert prospect(CriticalRate(None, None, None, "pre-resolved", "bisect"), 1.0) == "pre-resolved"
    assert prospect(CriticalRate(None, None, None, "abstained", "ray"), 1.0) == "unknown"


def test_extrapolation_is_exact_for_a_power_law():
    critical, power = 1e-4, 1.2
    doses = [(rate, rate * (critical / rate) ** power) for rate in (2e-3, 1.2e-4)]
    assert extrapolated(*doses) == pytest.approx(critical, rel=1e-9)
    assert extrapolated((1e-3, 1e-4), (1e-3, 1.1e-4)) == pytest.approx(1.1e-4)


def test_class_mean_is_the_papers_rule():
    assert class_mean(0.8, 0.6, "A", 2e-5) == pytest.approx(2e-5 * 0.6 / (1.7 * 0.8))
    assert class_mean(0.8, 0.6, "B", 2e-5) == pytest.approx(2e-5 * 0.6 / (10 * 0.8))
    assert class_mean(0.8, 0.6, "intermediate", 2e-5) is None
    assert class_mean(-0.1, 0.6, "A", 2e-5) is None


def test_seeds_are_combined_with_their_spread():
    one = CriticalRate(1e-4, 9e-5, 1.1e-4, "ok", "collocation", optimizer_steps=1, forward_passes=10)
    two = CriticalRate(4e-4, 3.9e-4, 4.1e-4, "ok", "collocation", optimizer_steps=2, forward_passes=20)
    both = combined([one, two])
    assert (both.rate, both.low, both.high) == (pytest.approx(2e-4), 9e-5, 4.1e-4)
    assert (both.optimizer_steps, both.forward_passes) == (3, 30)
    lost = combined([one, CriticalRate(None, 0.1, None, "beyond", "collocation")])
    # one seed resolves at 1e-4: no rate above 9e-5 is sure to fail with all
    assert (lost.rate, lost.low, lost.high, lost.status) == (None, 9e-5, None, "beyond")
    assert [prospect(lost, rate) for rate in (8e-5, 2e-4, 0.2)] == ["will fail", "unknown", "unknown"]
    dark = combined([one, CriticalRate(None, None, None, "abstained", "collocation")])
    assert (dark.low, dark.status) == (None, "abstained")
    assert combined([one]) == one


def test_a_bracket_learns_a_lower_crossing():
    bracket = Bracket()
    for rate, time in ((1e-4, None), (2e-4, 40.0), (5e-5, 45.0)):
        bracket.learn(rate, time)
    assert (bracket.low, bracket.high) == (None, 5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_weights_keep_of_a_step_is_what_adding_it_does(dtype):
    """By hand in float64, for weights of every size; half a spacing and less is rounded away, just above it doubles."""
    loaded = load("docs-gpt2-s")
    searcher = Searcher(loaded, read_contexts("docs10")[:1], Training(method="full", steps=5))
    weights = (torch.linspace(0.06, 0.9, 1000, dtype=torch.float64)).to(dtype)
    searcher.land.base = weights
    spacing = torch.tensor([math.ulp(1.0) * 2.0 ** (52 - (23 if dtype == torch.float32 else 7))], dtype=torch.float64)
    for rate in (0.003 * float(spacing), 0.1 * float(spacing), 3.3 * float(spacing)):
        wanted = 0.0
        for weight in weights.double().tolist():
            for step in (rate, -rate):
                wanted += (float(torch.tensor(weight + step, dtype=torch.float64).to(dtype)) - weight) / step / 2000
        assert searcher.land.step_kept(rate) == pytest.approx(wanted, abs=2e-3)
    assert searcher.land.step_kept(1e-4 * float(spacing)) == 0
    assert searcher.land.step_kept(0.5) == pytest.approx(1, abs=0.01)


def test_a_rate_that_rounding_changes_is_told():
    def rate(kept):
        return CriticalRate(6e-8, 5.9e-8, 6.1e-8, "ok", "collocation", step_kept=kept)

    assert rounding_note([rate(0.995), rate(None)], "float32") is None
    told = rounding_note([rate(1.0), rate(0.975), rate(0.0), rate(1.04)], "bfloat16")
    assert "rates of 3 of 4 contexts" in told
    assert "bfloat16 weights" in told
    assert "2 (97.5 %), 3 (nothing), 4 (104.0 %)" in told
