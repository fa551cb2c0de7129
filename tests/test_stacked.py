"""Stacked runs equal separate ones; faults stay in their lane; the model stays as it is."""

import math

import pytest
import torch
from tests.tiny import tiny

import borngap
from borngap.context import Context
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.train import stacked as engine
from borngap.train.finetune import FineTune
from borngap.train.rowwise import Rowwise
from borngap.train.stacked import Lane, pays, stacked
from borngap.training import Training

CONTEXTS = [
    Context("He said that the method returns a", " dictionary", " list"),
    Context("Raise an", " error", " exception"),
    Context("The old man felt", " shame", " guilt"),
]


@pytest.fixture
def prepare(tokenizer):
    """Return a function that makes a tuner of a tiny model."""
    torch.set_num_threads(1)

    def make(name="gpt2", **settings):
        settings = {"method": "lora", "rate": 1e-2, "steps": 5} | settings
        model = tiny(name, vocabulary=len(tokenizer) + 3)
        return FineTune(Loaded("tiny", model, tokenizer), CONTEXTS, Training(**settings))

    return make


def separate(tuner, lane, **options):
    return list(tuner.alone(lane.index, rate=lane.rate, **options))


def together(tuner, lanes, **options):
    seen = {number: [] for number in range(len(lanes))}
    for number, step in stacked(tuner, lanes, **options):
        seen[number].append(step)
    return list(seen.values())


def assert_same(left, right, index, tolerance=1e-5):
    """Two runs of one context: same steps, same keys, same numbers."""
    assert [s.step for s in left] == [s.step for s in right]
    assert [s.last for s in left] == [s.last for s in right]
    for a, b in zip(left, right, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=tolerance, nan_ok=True)
        one, other = a.records[index], b.records[index]
        assert one.keys() == other.keys()
        for key in one:
            if one[key] is None or other[key] is None:
                assert one[key] is other[key], key
            else:
                wide = 100 * tolerance if "participation" in key else tolerance
                assert one[key] == pytest.approx(other[key], rel=wide, abs=wide, nan_ok=True), (a.step, key)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", ["docs-gpt2-s", "docs-neox-s", "docs-llama"])
def test_twenty_mixed_lanes_equal_separate_runs(name, method):
    """Conv1D c_attn, fused query_key_value, q_proj with v_proj; tied and untied; prompts of 3 to 8 tokens, four rates.

    Of docs-llama a full run at 1e-4 is left out: its pool has a mass of 0.90000002, and rounding moves a token in.
    """
    torch.set_num_threads(1)
    steps = 16 if method == "lora" else 8
    tuner = FineTune(borngap.load(name), borngap.read_contexts("docs10")[3:8], Training(method=method, steps=steps))
    rates = (1e-4, 3e-4, 1e-3, 3e-3) if method == "lora" else (1e-5, 3e-5, 8e-5, 3e-4)
    lanes = [Lane(index, rate) for index in range(5) for rate in rates]
    assert len({len(target.ids) for target in tuner.targets}) >= 3
    stack = together(tuner, lanes, observe="margins")
    moved = 0.0
    for lane, steps in zip(lanes, stack, strict=True):
        for one, other in zip(separate(tuner, lane, observe="margins"), steps, strict=True):
            for key in ("born_gap", "logit_gap", "drag", "cross_entropy", "top1_margin"):
                tolerance = 1e-5 if key == "born_gap" else 1e-4
                assert other.records[lane.index][key] == pytest.approx(one.records[lane.index][key], abs=tolerance), key
        moved = max(moved, abs(steps[-1].records[lane.index]["born_gap"] - steps[0].records[lane.index]["born_gap"]))
    assert moved > 1e-2  # the tolerance is smaller than the effect


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("gpt2", ("attention",)),
        ("gpt_neox", ("attention", "dense_4h_to_h")),
        ("llama-untied", ("attention", "readout")),
        ("llama-tied", ("gate_proj", "readout")),
        ("gpt2", ("attention", "wte")),
        ("bloom", ("attention",)),
    ],
)
def test_every_observable_is_that_of_a_separate_run(prepare, name, targets):
    tuner = prepare(name, lora_targets=targets)
    assert Rowwise(tuner.model).shares == ("wte" not in targets)
    lanes = [Lane(0, 1e-2), Lane(2, 3e-3), Lane(0, 3e-2), Lane(1, 1e-2)]
    for lane, steps in zip(lanes, together(tuner, lanes), strict=True):
        assert_same(separate(tuner, lane), steps, lane.index)
        drift = steps[-1].records[lane.index]["overlap_drift"]
        assert (drift != 0.0) == ("readout" in targets)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gpt2", {"method": "full"}),
        ("gpt_neox", {"method": "full"}),
        ("llama-untied", {"method": "full", "freeze": ("readout",)}),
        ("llama-untied", {"method": "full", "freeze": ("embeddings",), "geometry": "input"}),
        ("gemma2", {"method": "full"}),
        ("phi", {"method": "readout-only"}),
        ("llama-tied", {"method": "readout-only"}),
    ],
)
def test_every_observable_is_that_of_a_separate_run_by_other_methods(prepare, name, settings):
    tuner = prepare(name, **settings)
    lanes = [Lane(0, 1e-3), Lane(2, 3e-4), Lane(0, 3e-3), Lane(1, 1e-3)]
    for lane, steps in zip(lanes, together(tuner, lanes), strict=True):
        assert_same(separate(tuner, lane), steps, lane.index, tolerance=3e-5)
        drift = steps[-1].records[lane.index]["overlap_drift"]
        assert (drift != 0.0) == ("freeze" not in settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine", "warmup": 2},
        {"schedule": "linear", "weight_decay": 0.3},
        {"clip": 1e-3, "lora_rank": 3, "lora_alpha": 7.0},
        {"beta1": 0.5, "beta2": 0.7, "eps": 1e-2},
        {"stop": "saturation", "steps": 40},
        {"method": "full", "clip": 1e-2, "schedule": "cosine", "warmup": 2, "weight_decay": 0.3},
    ],
)
def test_every_setting_takes_effect_as_in_a_separate_run(prepare, settings):
    tuner = prepare(**settings)
    lanes = [Lane(1, 2e-3), Lane(2, 5e-4)] if settings.get("method") == "full" else [Lane(1, 2e-2), Lane(2, 5e-3)]
    stack = together(tuner, lanes)
    for lane, steps in zip(lanes, stack, strict=True):
        assert_same(separate(tuner, lane), steps, lane.index, tolerance=1e-4)
    if "stop" in settings:
        assert min(len(steps) for steps in stack) < 41


def test_seeds_are_those_of_peft(prepare):
    tuner, other = prepare(), prepare(seed=7)
    lanes = [Lane(0, 1e-2), Lane(0, 1e-2, seed=7)]
    first, second = together(tuner, lanes)
    assert_same(separate(tuner, lanes[0]), first, 0)
    assert_same(separate(other, lanes[1]), second, 0)
    assert abs(first[-1].loss - second[-1].loss) > 1e-4


@pytest.mark.parametrize("settings", [{"lora_targets": ("attention", "readout")}, {"method": "full"}])
def test_the_model_is_left_as_it_was(prepare, settings):
    tuner = prepare("llama-untied", **settings)
    before = {name: value.clone() for name, value in tuner.model.state_dict().items()}
    ids = torch.tensor([[1, 2, 3]])
    logits = tuner.model(ids).logits.detach()
    running = stacked(tuner, [Lane(0, 1e-2), Lane(1, 1e-2, seed=3)])
    for _ in range(7):
        next(running)
        assert torch.equal(tuner.model(ids).logits, logits)  # whoever uses it between two steps sees the base model
    running.close()
    after = tuner.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any("forward" in module.__dict__ or module._forward_pre_hooks for module in tuner.model.modules())
    assert list(getattr(tuner.model, "peft_config", ["default"])) == ["default"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_lane_that_diverges_touches_no_other(prepare, method):
    tuner = prepare(method=method)
    rate = 1e-2 if method == "lora" else 1e-3
    lanes = [Lane(0, rate), Lane(1, 1e30), Lane(2, rate)]
    stack = together(tuner, lanes)
    broken = stack[1]
    assert broken[-1].last
    assert len(broken) < 6
    assert math.isnan(broken[-1].records[1]["born_gap"])
    assert tuner.entry(1, broken)["outcome"] == "diverged"
    for number in (0, 2):
        assert_same(separate(tuner, lanes[number]), stack[number], number)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_lane_leaves_when_told_to(prepare, method):
    """Of four lanes at three rates: one of two at a rate first, then one alone at its rate."""
    tuner = prepare(method=method)
    lanes = [Lane(0, 1e-3), Lane(2, 1e-3), Lane(1, 2e-3), Lane(0, 5e-4)]
    last = {0: 2, 2: 3}
    stack = together(tuner, lanes, stop=lambda number, step: step.step == last.get(number))
    assert [steps[-1].step for steps in stack] == [2, 5, 3, 5]
    for number, (lane, steps) in enumerate(zip(lanes, stack, strict=True)):
        assert steps[-1].last
        alone = separate(tuner, lane)[: last.get(number, 5) + 1]
        for one, other in zip(alone, steps, strict=True):
            assert other.loss == pytest.approx(one.loss, abs=1e-5)
            assert other.records[lane.index]["born_gap"] == pytest.approx(one.records[lane.index]["born_gap"], abs=1e-5)


def test_stopping_is_asked_after_every_step_but_the_last(prepare):
    tuner = prepare()
    asked = []

    def stop(number, step):
        asked.append((number, step.step))
        return number == 0 and step.step == 2

    first, second = together(tuner, [Lane(0, 1e-2), Lane(2, 1e-2)], stop=stop)
    assert [step.step for step in first] == [0, 1, 2]
    assert first[-1].last
    assert first[-1].records[0]["born_rank"] is not None
    assert [step.step for step in second] == [0, 1, 2, 3, 4, 5]
    assert (1, 5) not in asked
    assert_same(separate(tuner, Lane(2, 1e-2)), second, 2)


def test_memory_is_bounded_by_smaller_stacks(prepare, monkeypatch):
    tuner = prepare()
    lanes = [Lane(index, rate) for rate in (1e-3, 1e-2) for index in range(3)]
    whole = together(tuner, lanes)
    assert list(engine._split(tuner, lanes, 1 << 30)) == [[1, 4, 2, 5, 0, 3]]
    assert [len(stack) for stack in engine._split(tuner, lanes, 1)] == [1] * 6
    for lane, one, other in zip(lanes, whole, together(tuner, lanes, memory=1), strict=True):
        assert_same(one, other, lane.index)


def test_margins_are_a_part_of_all(prepare):
    tuner = prepare()
    (cheap,), (whole,) = (together(tuner, [Lane(1, 1e-2)], observe=level) for level in ("margins", "all"))
    for one, other in zip(cheap, whole, strict=True):
        for key, value in one.records[1].items():
            assert value == pytest.approx(other.records[1][key], abs=1e-6)
    assert tuner.entry(1, cheap)["outcomes"] == tuner.entry(1, whole)["outcomes"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": True}, r"a stack can't do that(.|\n)*dropout"),
        ({"forward": "labels"}, r"a stack can't do that(.|\n)*forward labels"),
        ({"joint": True}, r"a stack can't do that(.|\n)*joint"),
        ({"name": "bloom", "method": "full"}, r"this model's runs can't be stacked(.|\n)*engine sequential"),
    ],
)
def test_what_a_stack_refuses(prepare, settings, message):
    tuner = prepare(**settings)
    assert not pays(tuner)
    with pytest.raises(UserError, match=message):
        next(stacked(tuner, [Lane(0, 1e-2)]))


def test_where_a_stack_pays(prepare, monkeypatch):
    assert pays(prepare())
    assert pays(prepare(lora_targets=("wte",)))
    full, bloom = prepare(method="full"), prepare("bloom", method="full")
    assert not pays(full)
    for tuner in (full, bloom):  # as if it lay on an accelerator
        monkeypatch.setattr(type(tuner.model), "device", torch.device("xpu"))
    assert pays(full)
    assert not pays(bloom)
    monkeypatch.setattr(engine, "_MEMORY", 1 << 10)
    assert not pays(full)


@pytest.mark.parametrize("lane", [Lane(3, 1e-2), Lane(-1, 1e-2), Lane(0, 0.0), Lane(0, math.nan)])
def test_lanes_out_of_range(prepare, lane):
    with pytest.raises(UserError, match="a lane is out of range"):
        next(stacked(prepare(), [Lane(0, 1e-2), lane]))
