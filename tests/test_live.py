"""Live forecasts: doses of a host's schedule, what looks tell of the end, stopping, checkpoints, stored forecasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.hosts import CONTEXTS, same, trainer, weights
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR
from transformers import get_scheduler

import borngap
from borngap.errors import UserError
from borngap.judge.watch import Watch
from borngap.live.doses import Doses, planned_rates
from borngap.live.outlook import FIRST_DOSE, NORMAL_90, POWER, Looks, Told, growth, outlook
from borngap.live.prior import HostRun, Prior
from borngap.pilot.prepare import forecast_run
from borngap.schedule import factors
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.train.methods import make_trainable, method_of
from borngap.training import Training

SCHEDULES = [
    lambda o: get_scheduler("cosine", o, 3, 20),
    lambda o: OneCycleLR(o, 1e-3, total_steps=20),
    lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), CosineAnnealingLR(o, 15)], [5]),
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("make", SCHEDULES)
def test_rates_to_come_are_those_that_the_host_will_take(make):
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=1e-3)
    scheduler, told, real = make(optimizer), [], []
    for step in range(20):
        if step in {0, 7}:
            told.append(planned_rates(optimizer, scheduler, 20 - step))
        real.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert told[0] == pytest.approx(real, abs=1e-12)
    assert told[1] == pytest.approx(real[7:], abs=1e-12)


def test_a_schedule_that_waits_for_a_loss_counts_as_constant_and_one_by_epochs_holds_for_an_epoch():
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.5)
    assert planned_rates(optimizer, ReduceLROnPlateau(optimizer), 3) == planned_rates(optimizer, None, 3) == [0.5] * 3
    halved = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    assert planned_rates(optimizer, halved, 5, every=2) == [0.5, 0.5, 0.25, 0.25, 0.125]


def test_doses_of_a_run_that_was_interrupted_go_on():
    whole = Doses([4.0, 3.0, 2.0, 1.0])
    rest = Doses([2.0, 1.0], 2, {0: 0.0, 1: 4.0, 2: 7.0})
    for step in (0, 1, 2, 3, 4):
        assert whole.share(step) == rest.share(step) == sum([4, 3, 2, 1][:step]) / 10


def power_law(power, shares, ends, base):
    return np.array([base + ends * x**power for x in shares])


def test_growth_finds_the_power_where_looks_lie_far_apart_and_keeps_to_the_prior_without_any():
    shares = np.array([0.001, 0.01, 0.2])
    means = shares[:, None] ** 0.9 * np.array([[2.0, -1.0]])
    found, spread = growth(shares, means)
    alone, wide = growth(shares[-1:], means[-1:])
    assert POWER < 0.8 < found < 0.9
    assert alone == pytest.approx(POWER)
    assert spread < 0.6 * wide


def test_the_end_of_places_that_all_grow_alike_is_found():
    shares, base = np.array([0.0, 0.001, 0.02, 0.3]), np.full(6, -1.0)
    gaps = power_law(0.8, shares, np.array([1.5] * 4 + [-0.5] * 2), base)
    found = outlook(Looks(shares, gaps, np.array([0, 0, 0, 0, 1, 1])))
    assert found.gaps[:4] == pytest.approx([0.04] * 4, abs=0.01), "short of 0.5: there is not much room"
    assert (np.sign(found.gaps - gaps[-1]) == [1] * 4 + [-1] * 2).all()
    wide = np.array([-20.0, 20.0] * 3)
    roomy = outlook(Looks(shares, power_law(0.8, shares, 1.5, wide), np.zeros(6, int)))
    assert np.mean(roomy.gaps - wide) == pytest.approx(1.5, abs=0.2)
    assert (np.diff(roomy.gaps - wide)[::2] < 0).all(), "what is behind is pushed more"
    far = outlook(Looks(shares, power_law(0.8, shares, 9.0, base), np.zeros(6, int)))
    assert far.gaps.max() < 9.0 - 1, "it has come further than there was room for"
    later_shares = np.array([*shares[:3], 0.9])
    later = outlook(Looks(later_shares, power_law(0.8, later_shares, 1.5, base), np.zeros(6, int)))
    assert (later.half < found.half).all(), "what is left of a run shrinks"


def test_a_stored_forecast_counts_by_its_precision():
    shares, base = np.array([0.0, 0.1, 0.3]), np.zeros(3)
    looks = Looks(shares, power_law(0.6, shares, 1.0, base), np.zeros(3, int))
    alone = outlook(looks)
    told = Told(np.array([5.0, 5.0, np.nan]), np.array([1e-6, 1e6, np.nan]))
    found = outlook(looks, told)
    assert found.gaps == pytest.approx([5.0, alone.gaps[1], alone.gaps[2]], abs=1e-4)
    assert found.half[0] < 0.01
    assert found.half[1:] == pytest.approx(alone.half[1:], rel=1e-4)


def test_a_trainers_log_its_bar_and_its_run_hold_the_forecasts_of_its_looks(tmp_path, capsys):
    found, watcher = [], BornGapCallback(CONTEXTS, every=2, out=tmp_path / "run")
    for callbacks in ([], [watcher]):
        options = {"max_steps": 12, "disable_tqdm": not callbacks, "lr_scheduler_type": "linear"}
        host = trainer(tmp_path / "host", callbacks, **options)
        host.train()
        found.append(weights(host.model))
    assert same(*found)
    logged = {e["step"]: e for e in host.state.log_history if "born_gap/forecast/ahead" in e}
    dose = np.cumsum(12 - np.arange(12)) / 78
    assert list(logged) == [step for step in (2, 4, 6, 8, 10) if dose[step - 1] >= FIRST_DOSE]
    run = borngap.read_run(tmp_path / "run")
    gaps = run.steps.pivot("context", index="step", values="logit_gap").sort("step").drop("step").to_numpy()
    shares = np.array([0.0, *dose[[1, 3, 5]]])
    slow = outlook(Looks(shares, gaps[:4], np.zeros(3, int)))
    told = run.forecasts.filter(run.forecasts["step"] == 6)
    assert told["gap"].to_list() == pytest.approx(slow.gaps.tolist())
    assert told["share"].to_list() == pytest.approx([shares[-1]] * 3)
    assert logged[6]["born_gap/forecast/ahead"] == pytest.approx((slow.draws > 0).mean())
    assert logged[6]["born_gap/forecast/behind"] == (slow.high <= 0).mean()
    shown = "".join(capsys.readouterr())
    assert "of 3 will lead]" in shown
    assert "of 3 watched words will lead at the end" in shown


def test_a_resumed_run_forecasts_as_if_it_had_not_stopped(tmp_path):
    told = []
    for name in ("whole", "cut"):
        options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "lr_scheduler_type": "linear"}
        watcher = BornGapCallback(CONTEXTS, every=1, out=tmp_path / f"{name}-run")
        host = trainer(tmp_path / name, [watcher], **options)
        if name == "whole":
            host.train()
        else:
            host.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
        told.append(borngap.read_run(tmp_path / f"{name}-run").forecasts)
    assert told[0].equals(told[1])
    assert told[0]["step"].unique().to_list() == [1, 2, 3, 4, 5, 6, 7]


def test_a_loop_without_known_rates_has_no_forecast():
    loaded = borngap.load("docs-gpt2-s")
    for rates, is_there in ((None, False), ([1e-3] * 4, True)):
        tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS, every=1, rates=rates)
        metrics = tracker.step(1)
        assert ("born_gap/forecast/ahead" in metrics) == (tracker.forecast is not None) == is_there


class Seen:
    def __init__(self, lagging, behind):
        self.lagging, self.behind = lagging, behind


def test_hopeless_waits_for_two_looks_at_which_enough_of_what_lags_will_stay_behind():
    watch = Watch("hopeless", fraction=0.75)
    reasons = []
    enough = Seen([0, 1, 2, 3], [1, 2, 3])
    for forecast in (Seen([0, 1, 2, 3], [1, 2]), enough, None, enough, Seen([0], [0, 5])):
        watch.foresee(forecast)
        reasons.append(watch.reason)
        twin = Watch("hopeless", fraction=0.75)
        twin.load(watch.state())
        assert twin.reason == watch.reason
    assert reasons == [None] * 4 + ["of 1 words that are behind 1 will stay there"]
    watch.foresee(Seen([], []))
    assert watch.reason is None, "nothing lags"
    assert "0 of 0 words that lag" in watch.account
    other = Watch("saturation")
    other.foresee(Seen([0], [0]))
    other.foresee(Seen([0], [0]))
    assert other.reason is None


@pytest.mark.parametrize("patience", [2, 3])
def test_a_run_that_moves_nothing_is_ended_at_the_first_looks_that_tell(tmp_path, patience, capsys):
    watcher = BornGapCallback(CONTEXTS, every=1, stop="hopeless", rule={"patience": patience})
    host = trainer(tmp_path, [watcher], max_steps=12, learning_rate=1e-9)
    host.train()
    # a fifth of the dose is done after step 3 of 12
    assert host.state.global_step == 2 + patience
    assert "Training was to end there: of 2 words that are behind 2 will stay there." in capsys.readouterr().out


ROWS = ["The function raises an error."] * 20
PLAN = Training(method="full", rate=1e-3, steps=24, batch_size=2)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder, loaded = tmp_path_factory.mktemp("stored") / "forecast", borngap.load("docs-gpt2-s")
    options = {"contexts": CONTEXTS, "training": PLAN, "rates": (1e-5, 1e-3), "budget": 1.0}
    forecast_run(loaded.model, loaded.tokenizer, ROWS, out=folder, **options)
    return folder


def test_a_stored_forecast_of_the_run_is_taken_in(tmp_path, stored):
    tokenizer, made = borngap.load("docs-gpt2-s").tokenizer, borngap.read_forecast(stored).places
    model = borngap.load("docs-gpt2-s").model
    tracker = Tracker(model, tokenizer, CONTEXTS, every=1, rates=[1e-3] * 24, forecast=stored)
    own = made.filter(made["rate"] == 1e-3)
    found = Prior(stored, tracker.targets, tokenizer, HostRun("full", 1e-3, (1e-3,) * 24))
    change = (own["forecast_gap"] - own["base_gap"]).to_list()
    assert found.told.changes == pytest.approx(change)
    with torch.no_grad():
        model.transformer.ln_f.bias += 3 * torch.randn(model.config.n_embd, generator=torch.manual_seed(0))
    tracker.step(6)
    gaps = np.array([[records[i]["logit_gap"] for i in range(3)] for _, records in tracker.records])
    looks = Looks(np.array([0, 0.25]), gaps, np.zeros(3, int))
    assert tracker.forecast.places.gaps == pytest.approx(outlook(looks, found.told).gaps)
    assert np.abs(outlook(looks, found.told).gaps - outlook(looks).gaps).max() > 0.01
    slower = Prior(stored, tracker.targets, tokenizer, HostRun("full", 1e-5, (1e-5,) * 24))
    ahead = (own["forecast_gap"] > 0).to_list()
    hint = slower.hint([[0], [1], [2]], own["base_gap"].to_numpy())
    assert hint == (f"at 1e+02 times the rate {sum(ahead)} of them would, by {stored}" if any(ahead) else "")
    assert any(ahead)
    assert slower.hint([], own["base_gap"].to_numpy()) == ""


@pytest.mark.parametrize("method", ["full", "lora", "readout-only"])
def test_the_method_of_a_host_is_seen_from_what_it_trains(method):
    for name in ("docs-gpt2-s", "docs-llama"):
        model, _ = make_trainable(borngap.load(name).model, Training(method=method))
        assert method_of(model) == method


def test_the_same_schedule_of_a_run_a_little_longer_is_taken(stored):
    tokenizer = borngap.load("docs-gpt2-s").tokenizer
    targets = Tracker(borngap.load("docs-gpt2-s").model, tokenizer, CONTEXTS).targets
    warm = tuple(1e-3 * factor for factor in factors("constant", 1, 26))
    assert np.isfinite(Prior(stored, targets, tokenizer, HostRun("full", 1e-3, warm)).told.changes).all()


def test_looks_that_fluctuate_make_the_end_unsure_and_ones_that_walk_do_not():
    random, shares = np.random.default_rng(0), np.linspace(0, 0.8, 17)
    walk = np.cumsum(random.standard_normal((17, 400)) * np.sqrt(0.05), 0)
    still = outlook(Looks(shares, walk - walk[0], np.zeros(400, int)))
    restless = walk - walk[0] + np.vstack([np.zeros(400), random.standard_normal((16, 400))])
    found = outlook(Looks(shares, restless, np.zeros(400, int)))
    spread = lambda o: np.median(o.half) / NORMAL_90  # noqa: E731
    # of the walk: 0.3 * 0.8 * 0.25, beside the mean's own; of the noise 2 * 1 and its part of the walk's
    assert 0.2 < spread(still) < 0.4
    assert 1.2 < spread(found) < 1.7
    inside = np.abs(found.draws - found.gaps) < found.half
    assert 0.88 < inside.mean() < 0.92, "draws keep to the 90 % interval"
    assert (np.abs(found.draws - found.gaps) > 2.5 * found.half).mean() > 2e-3, "a normal distribution has 4e-5"


def test_a_forecast_of_another_run_or_of_other_words_is_refused(stored):
    loaded = borngap.load("docs-gpt2-s")
    with pytest.raises(UserError, match="of other rates"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS, rates=[2e-3] * 24, forecast=stored)
    with pytest.raises(UserError, match="another length"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS, rates=[1e-3] * 30, forecast=stored)
    falling = [1e-3 * factor for factor in factors("linear", 0, 24)]
    with pytest.raises(UserError, match="another schedule"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS, rates=falling, forecast=stored)
    with pytest.raises(UserError, match="another schedule"):
        Prior(stored, [], loaded.tokenizer, HostRun("full", 1e-3, tuple(falling[12:]), 12))
    adapted, _ = make_trainable(borngap.load("docs-gpt2-s").model, Training(method="lora"))
    with pytest.raises(UserError, match="another method"):
        Tracker(adapted, loaded.tokenizer, CONTEXTS, rates=[1e-3] * 24, forecast=stored)
    larger = borngap.load("docs-gpt2-m")
    with pytest.raises(UserError, match="another model"):
        Tracker(larger.model, larger.tokenizer, CONTEXTS, rates=[1e-3] * 24, forecast=stored)
    other = [borngap.Context("Read the", " file", " folder")]
    with pytest.raises(UserError, match="tells nothing"):
        Tracker(loaded.model, loaded.tokenizer, other, rates=[1e-3] * 24, forecast=stored)
