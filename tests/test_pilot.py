"""Pilots: with a span of one they are the run; else they keep its dose and sample its rows evenly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from tests.test_pilot_draw import toy_plan
from tests.tiny import tiny

from borngap.data.rows import of_objects
from borngap.model.load import Loaded
from borngap.pilot.design import Design, noise_of
from borngap.pilot.draw import PilotSteps, counts_of, doses, pilot_steps, stretches
from borngap.pilot.estimates import foretell
from borngap.pilot.pilots import RatePilots
from borngap.pilot.plan import run_plan
from borngap.pilot.rows import run_data, taught
from borngap.pilot.run import Trainee, remember, token_loss
from borngap.pilot.settings import Piloting
from borngap.schedule import SCHEDULES
from borngap.train.methods import make_trainable
from borngap.train.optimiser import adamw
from borngap.training import Training
from borngap.zoo.rowtraining import train_on_rows

TEXTS = [
    "The old man felt shame and guilt.", "Raise an error, throw an exception.", "A shameful act, a guilty mind.",
    "He said that the method returns a list of words", "she said that the function returns a dictionary of lists.",
    "The function returns a list", "felt guilt", "Raise an exception", "the method returns", "a mind of lists",
]  # fmt: skip


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def still(tokenizer):
    """A model without dropout: a Trainer trains with it on, where there is any."""
    model = tiny("gpt2", len(tokenizer))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def planned(tokenizer, training, **settings):
    chosen = Piloting(max_length=128, **settings)
    return run_plan(run_data(of_objects(TEXTS), tokenizer, chosen, 999).rows, training, chosen)


@pytest.mark.parametrize(("method", "options"), [
    ("full", {"schedule": "constant"}),
    ("full", {"schedule": "constant", "weight_decay": 0.1}),
    ("lora", {"schedule": "cosine", "warmup": 2, "clip": 0.5}),
])  # fmt: skip
def test_a_pilot_with_a_span_of_one_is_the_run(tokenizer, tmp_path, method, options):
    training = Training(method=method, rate=3e-3, steps=6, batch_size=4, **options)
    run = train_on_rows(Loaded("tiny", still(tokenizer), tokenizer), TEXTS, TEXTS, training, tmp_path)
    plan = planned(tokenizer, training, order="sequential")
    pilot = pilot_steps(plan, 6, 1.0, counts_of(plan, [5]), 0)
    assert (pilot.rows, pilot.rates, pilot.span) == (plan.steps, tuple(plan.rates), 1)
    model, _ = make_trainable(still(tokenizer), training)
    trainee = Trainee(model)
    before = weights(model)
    course = trainee.train(plan, pilot, 0)
    assert (course.passes, course.tokens, course.is_stable) == (plan.passes, plan.tokens, True)
    after = weights(run.loaded.model)
    assert all(torch.equal(value, after[name]) for name, value in weights(model).items())
    assert not all(torch.equal(value, after[name]) for name, value in before.items())
    trainee.restore()
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_under_lora_plus_a_pilot_has_the_rates_of_pefts_own_optimiser(tokenizer, decay):
    training = Training(method="lora+", rate=3e-3, steps=6, batch_size=4, weight_decay=decay)
    plan = planned(tokenizer, training, order="sequential")
    pilot = pilot_steps(plan, 6, 1.0, counts_of(plan, [5]), 0)
    ours, hosts = (make_trainable(still(tokenizer), training)[0] for _ in range(2))
    Trainee(ours).train(plan, pilot, 0)
    optimiser = create_loraplus_optimizer(
        hosts, torch.optim.AdamW, lr=training.rate, loraplus_lr_ratio=16.0, loraplus_weight_decay=decay, fused=True
    )
    assert set(pilot.rates) == {training.rate}
    for indices in pilot.rows:
        rows = [plan.rows[i] for i in indices]
        (token_loss(hosts, rows) / sum(map(taught, rows))).backward()
        optimiser.step()
        optimiser.zero_grad()
    found, expected = weights(ours), weights(hosts)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_accumulated_batches_are_one_step(tokenizer):
    ends = []
    for size, accumulation in ((4, 1), (2, 2)):
        training = Training(rate=3e-3, steps=4, batch_size=size)
        plan = planned(tokenizer, training, accumulation=accumulation)
        model, _ = make_trainable(tiny("gpt2", len(tokenizer)), training)
        ends.append(Trainee(model).train(plan, pilot_steps(plan, 4, 1.0, counts_of(plan, []), 0), 0).losses)
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-6)


def test_memory_is_as_long_in_rows(tokenizer):
    """Moments and their bias corrections are those of AdamW with the betas of each span, done by hand."""
    training, weight = Training(rate=1e-3, steps=8, batch_size=2, beta1=0.8), torch.nn.Parameter(torch.zeros(3))
    optimiser = adamw([weight], 0.1, (0.9, 0.9), training.eps, 0.0)
    mean, square, place, behind = np.zeros(3), np.zeros(3), np.zeros(3), 0.0
    for span, gradient in ((1.0, [1.0, 2.0, 0.0]), (2.5, [1.0, -1.0, 3.0]), (4.0, [0.5, 0.0, 1.0])):
        remember(optimiser, training, span, behind)
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        behind += span
        mean = 0.8**span * mean + (1 - 0.8**span) * np.array(gradient)
        square = 0.999**span * square + (1 - 0.999**span) * np.array(gradient) ** 2
        corrected = mean / (1 - 0.8**behind), square / (1 - 0.999**behind)
        place -= 0.1 * corrected[0] / (np.sqrt(corrected[1]) + training.eps)
        assert weight.detach().numpy() == pytest.approx(place, rel=1e-3, abs=1e-7)


def test_spans_are_short_where_the_rate_is_high():
    falling = np.diff(stretches([1 - i / 100 for i in range(100)], 20))
    assert falling.sum() == pytest.approx(100)
    assert (falling > 0).all()
    middles = np.cumsum(falling) - falling / 2
    assert falling[:-1] * np.sqrt(1 - middles[:-1] / 100) == pytest.approx(3.36, rel=0.03)
    assert np.diff(stretches([1.0] * 100, 20)) == pytest.approx(5)
    assert np.diff(stretches([0.0, 1.0, 1.0, 0.0], 2)).sum() == 4, "steps without a rate have their place"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 7, 23])
def test_the_dose_is_the_runs(tokenizer, schedule, steps):
    training = Training(rate=2e-4, steps=23, batch_size=3, schedule=schedule, warmup=5)
    plan = planned(tokenizer, training)
    pilot = pilot_steps(plan, steps, 0.5, counts_of(plan, []), 0)
    assert sum(pilot.rates) == pytest.approx(sum(plan.rates), rel=1e-12)
    assert pilot.span * len(pilot.rates) == pytest.approx(23)
    # up to each of its steps it has had the dose of the run up to there
    edges = np.concatenate([[0], np.cumsum(pilot.spans)])
    whole = np.interp(edges, range(24), np.concatenate([[0], np.cumsum(plan.rates)]))
    assert np.cumsum(pilot.rates) == pytest.approx(whole[1:], rel=1e-9)


def test_doses_split_a_step():
    assert doses([1.0, 2.0, 4.0], [0, 1.5, 3]) == [2.0, 5.0]
    assert doses([1.0, 2.0, 4.0], [0, 3]) == [7.0]


def test_an_exploding_pilot_ends_early(tokenizer):
    plan = planned(tokenizer, Training(rate=1e3, steps=40, batch_size=4))
    model = tiny("gpt2", len(tokenizer))
    course = Trainee(model).train(plan, pilot_steps(plan, 20, 0.5, counts_of(plan, []), 0), 0)
    assert not course.is_stable
    assert len(course.losses) < 20
    assert course.passes == 2 * len(course.losses)


def test_a_pilot_whose_loss_rises_is_not_stable(tokenizer):
    plan = planned(tokenizer, Training(rate=0.05, steps=40, batch_size=4))
    model = tiny("gpt2", len(tokenizer))
    rows = tuple(step[:2] for step in plan.steps[:20])
    course = Trainee(model).train(plan, PilotSteps(rows, (-1e-3,) * 20, 2.0), 0)
    assert len(course.losses) <= 20
    assert course.losses[-1] > course.losses[0]
    assert not course.is_stable


def test_a_pilot_takes_the_loss_that_it_is_given(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    plan = planned(tokenizer, Training(rate=1e-3, steps=3, batch_size=2))
    drawn = pilot_steps(plan, 3, 1.0, counts_of(plan, []), 0)
    before, seen = weights(model), []

    def nothing(model, rows):
        seen.append(len(rows))
        return 0 * token_loss(model, rows)

    course = Trainee(model, loss=nothing).train(plan, drawn, 0)
    assert seen == [len(step) for step in drawn.rows]
    assert course.losses == (0, 0, 0)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    Trainee(model).train(plan, drawn, 0)
    assert not all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_losses_of_single_rows_that_scatter_are_no_sign_of_leaving_the_stable_range(monkeypatch, tokenizer):
    random = np.random.default_rng(0)
    plan = planned(tokenizer, Training(rate=1e-9, steps=32, batch_size=2))
    told = {"scatter": 0, "rise": 0}
    for name, rise in (("scatter", 0.0), ("rise", 3.5)):
        for _ in range(100):
            losses = iter(4.5 + random.standard_normal(16) + rise * np.linspace(0, 1, 16))
            trainee = Trainee(torch.nn.Linear(1, 1))
            monkeypatch.setattr(trainee, "_step", lambda *_, losses=losses: next(losses))
            steps = PilotSteps(tuple(step[:1] for step in plan.steps[:16]), (1e-9,) * 16, 2.0)
            told[name] += not trainee.train(plan, steps, 0).is_stable
    assert told["scatter"] <= 3
    assert told["rise"] >= 70
    steady = iter([4.5] * 8 + [5.6] * 8)  # the same without scatter: a rise by 24 %
    trainee = Trainee(torch.nn.Linear(1, 1))
    monkeypatch.setattr(trainee, "_step", lambda *_: next(steady))
    assert not trainee.train(plan, steps, 0).is_stable


def test_dropout_is_seeded(tokenizer):
    plan = planned(tokenizer, Training(rate=1e-3, steps=6, batch_size=2))
    pilot = pilot_steps(plan, 3, 1.0, counts_of(plan, []), 0)
    losses = []
    for dropout, seed in ((True, 0), (True, 0), (True, 1), (False, 0)):
        trainee = Trainee(tiny("gpt2", len(tokenizer)), dropout=dropout)
        before = torch.random.get_rng_state()
        losses.append(trainee.train(plan, pilot, seed).losses)
        assert torch.equal(before, torch.random.get_rng_state())
    assert losses[0] == losses[1]
    assert len({losses[0], losses[2], losses[3]}) == 3


def test_smaller_batches_move_less_and_what_they_move_is_lengthened():
    ends = [{"gaps": [2.0, -3.0], "midway": [[1.5, -2.0]]}]
    halves, whole = (RatePilots(Design(1, 4, share), ends, ends, "", []) for share in (0.5, 1.0))
    assert halves.gaps([1.0, -1.0], 1)[0] == pytest.approx([1 + 2**0.17, -1 - 2 * 2**0.17])
    assert halves.gaps([1.0, -1.0], 0)[0] == pytest.approx([1 + 0.5 * 2**0.17, -1 - 2**0.17])
    assert whole.gaps([0.1, -0.7], 1) == [[2.0, -3.0]], "bit for bit"


def test_estimate_by_hand():
    base = np.array([1.0, -1.0, -2.0, 0.5])
    ends = np.array([[2.0, 1.0, -2.5, 0.5], [1.0, 0.0, -2.5, -0.5]])
    found = foretell(base, ends, [7, 7, 7, 2])
    change = [0.5, 1.5, -0.5, -0.5]
    mean, pair = 0.25, 0.5
    own = [0.0, 1.0, -1.0]
    weight = 14 / 23
    expected = [b + mean + weight * (pair - mean) + 0.55 * o for b, o in zip(base[:3], own, strict=True)]
    expected.append(base[3] + mean + 12 / 21 * (change[3] - mean))
    assert found.gaps == pytest.approx(np.array(expected))
    scatter = (2 / 2) ** 0.5  # of two degrees of freedom: four places, two pairs
    moved = found.gaps - base
    assert found.half == pytest.approx(np.sqrt((1.4 * scatter) ** 2 + (0.3 * moved) ** 2))
    assert found.high - found.low == pytest.approx(2 * found.half)


def test_a_pilot_of_less_noise_is_taken_more_at_its_word():
    base, ends = np.zeros(3), np.array([[1.0, 3.0, -1.0]])
    found = foretell(base, ends, [0, 0, 1], noise=0.25)
    gaps = [1 + 13 / 15.75 * (2 - 1) - 0.8, 1 + 13 / 15.75 * (2 - 1) + 0.8, 1 + 12 / 14.75 * (-1 - 1)]
    assert found.gaps == pytest.approx(np.array(gaps))
    narrower = (0.5 / 1.25) / (math.sqrt(9 / 11) / (20 / 11))
    assert found.half == pytest.approx(np.hypot(1.4 * math.sqrt(2) * narrower, 0.3 * found.gaps))
    inside = (found.draws > found.low) & (found.draws < found.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)


def test_noise_grows_with_the_dose_of_an_adapter_and_falls_with_the_rows():
    halves, plan = Design(1, 5, 0.5), toy_plan([1] * 80, 20, 4)

    def noise(chosen=halves, **settings):
        return noise_of(replace(plan, training=replace(plan.training, method="lora", steps=20, **settings)), chosen)

    assert noise(rate=5e-4) == pytest.approx(290 * 10e-3 / 10)
    assert noise(Design(2, 5, 1.0), rate=1e-3) == pytest.approx(290 * 20e-3 / 40)
    assert noise(rate=1e-3, lora_alpha=8.0, lora_rank=8) == pytest.approx(290 * 10e-3 / 10), (
        "alpha over rank is 1, not 2"
    )
    assert noise(rate=1e-3, schedule="linear") == pytest.approx(290 * 10.5e-3 / 10, rel=0.06)
    assert noise(rate=1e-6) == 0.1
    assert noise(rate=1e-1) == 9 / 11
    assert noise_of(replace(plan, training=replace(plan.training, method="ia3", steps=20)), halves) == 9 / 11


def test_noise_of_all_weights_falls_with_the_rows_and_grows_as_the_root_of_the_dose():
    plan = toy_plan([1] * 4000, 1000, 4)
    assert plan.training.method == "full"

    def noise(chosen, rate):
        own = replace(plan, training=replace(plan.training, rate=rate, schedule="constant", warmup=0))
        return noise_of(own, chosen)

    assert noise(Design(1, 100, 0.5), 1e-5) == pytest.approx(620 * 0.1 / 200)
    assert noise(Design(1, 100, 0.5), 4e-5) == pytest.approx(620 * 0.2 / 200)
    assert noise(Design(2, 100, 0.5), 4e-5) == pytest.approx(620 * 0.2 / 400)
    assert noise(Design(1, 30, 1.0), 1e-5) == pytest.approx(620 * 0.1 / 120)
    assert noise(Design(1, 30, 1.0), 1e-3) == 9 / 11
    assert noise(Design(1, 1000, 1.0), 1e-7) == 0.1


def test_kinds_that_move_apart_have_a_mean_each():
    """Where the other word is right its lead falls as the wanted word's rises: neither tells of the other."""
    base, ends = np.zeros(4), np.array([[2.0, 3.0, -2.0, -3.0]])
    apart = foretell(base, ends, [0, 1, 2, 3], kinds=[0, 0, 1, 1])
    assert apart.gaps == pytest.approx(np.array([2.5 - 12 / 42, 2.5 + 12 / 42, -2.5 + 12 / 42, -2.5 - 12 / 42]))
    assert apart.half == pytest.approx(np.hypot(1.4 * 0.5, 0.3 * apart.gaps))
    together = foretell(base, ends, [0, 1, 2, 3])
    assert np.abs(together.gaps).max() < np.abs(apart.gaps).min()


def test_places_of_single_pairs_have_the_scatter_around_the_mean():
    found = foretell(np.zeros(3), np.array([[0.0, 1.0, 2.0]]), [0, 1, 2])
    assert found.gaps == pytest.approx(np.array([1 - 12 / 21, 1, 1 + 12 / 21]))
    assert found.half == pytest.approx(np.hypot(1.4 * np.std([0, 1, 2]), 0.3 * found.gaps))


def test_draws_have_the_spread_of_the_intervals_and_move_together():
    pairs = [0] * 50 + [1] * 50
    rng = np.random.default_rng(0)
    found = foretell(np.zeros(100), rng.normal(size=(1, 100)), pairs)
    inside = (found.draws > found.low) & (found.draws < found.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    errors = found.draws - found.gaps
    together = np.corrcoef(errors[:, 0], errors[:, 1])[0, 1]
    apart = np.corrcoef(errors[:, 0], errors[:, 99])[0, 1]
    assert together == pytest.approx((1 / 55 + 0.1) / (1.4 / 1.6449) ** 2, abs=0.1)
    assert abs(apart) < 0.1


@pytest.mark.parametrize("bias", [0.3, 0.6])
def test_all_changes_may_be_too_small_alike(bias):
    found = foretell(np.zeros(2), np.array([[10.0, 10.0]]), [0, 1], bias=bias)
    assert found.half == pytest.approx([10 * bias, 10 * bias])
    inside = (found.draws > found.low) & (found.draws < found.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.03)
    assert np.corrcoef(found.draws.T)[0, 1] == pytest.approx(1)


def test_prospects_and_shares():
    base = np.array([1.0, -1.0, -1.0, 1.0, 0.1])
    found = foretell(base, np.array([[3.0, 1.0, -3.0, -1.0, 0.1]]), [0, 1, 2, 3, 4])
    sure = type(found)(
        base, np.array([3.0, 1.0, -3.0, -1.0, 0.0]), np.full(5, 0.5), np.array([[3.0, 1, -3, -1, 0.1]] * 4)
    )
    assert sure.prospects == ["kept", "flips", "stays behind", "lost", "undecided"]
    assert sure.ahead(range(5)) == {"before": 0.6, "after": 0.6, "low": 0.6, "high": 0.6}
    assert sure.ahead([0, 2], is_behind=True) == {"before": 0.5, "after": 0.5, "low": 0.5, "high": 0.5}
    assert set(sure.ahead([]).values()) == {None}
    once = type(found)(np.array([-1.0]), np.array([-1.0]), np.ones(1), np.array([[-1.0]] * 99 + [[1.0]]))
    assert once.ahead([0]) == {"before": 0.0, "after": 0.01, "low": 0.0, "high": 0.01}, "the mean is in its interval"
    assert sure.right() == (0.8, 0.6)
    assert sure.matched() == 0
    even = type(found)(base[:1], np.array([-1.0]), np.ones(1), np.array([[-1.0], [-1.0], [1.0], [-1.0]]))
    assert even.matched() == 0.25, "one of four draws stays where it was"
