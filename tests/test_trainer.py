"""The reference loop against Trainer and PEFT, and the callback inside a Trainer, on bundled models."""

import math
import os

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.hosts import (
    CONTEXTS,
    LORA,
    TIED,
    UNTIED,
    example,
    last_logits,
    prose,
    same,
    trainer,
    weights,
)
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    set_seed,
)

import borngap
from borngap.errors import UserError
from borngap.runfolder import read_run
from borngap.track.callback import BornGapCallback
from borngap.track.sample import sample_targets
from borngap.track.tracker import BornGapWarning, Tracker
from borngap.train.finetune import FineTune
from borngap.training import Training


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", [TIED, UNTIED])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_reference_loop_equals_trainer_and_peft(name, method, tmp_path):
    rate, context = {"full": 2e-4, "lora": 2e-3}[method], CONTEXTS[1]
    loaded = borngap.load(name)
    model = loaded.model
    if method == "lora":
        set_seed(3)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=LORA[name], fan_in_fan_out=True, task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
    host = trainer(
        tmp_path, name=name, model=model, data=[example(loaded.tokenizer, context)], max_steps=50, learning_rate=rate
    )
    host.train()
    runs = {}
    for forward in ("labels", "last"):
        run = FineTune(borngap.load(name), [context], Training(method=method, rate=rate, seed=3, forward=forward))
        list(run.alone(0))
        runs[forward] = run
    assert same(weights(host.model), weights(runs["labels"].model))
    ids = loaded.tokenizer(context.prompt)["input_ids"]
    expected, found = last_logits(host.model, ids), last_logits(runs["last"].model, ids)
    assert float((expected - found).abs().max()) < 1e-4
    assert float((last_logits(borngap.load(name).model, ids) - expected).abs().max()) > 1


def test_the_callback_changes_no_bit_and_leaves_nothing(tmp_path):
    class Modes(TrainerCallback):
        seen = None

        def on_step_end(self, args, state, control, model=None, **_):
            Modes.seen = (torch.get_rng_state().clone(), {m.training for m in model.modules()})

    results = []
    for callbacks in ([], [BornGapCallback(CONTEXTS, every=1)]):
        set_seed(0)
        host = trainer(tmp_path, [*callbacks, Modes()])
        host.train()
        results.append((weights(host.model), *Modes.seen, host.state.log_history))
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in host.model.modules())
    (bare, rng, modes, logs), (watched, rng_too, modes_too, logs_too) = results
    assert same(bare, watched)
    assert torch.equal(rng, rng_too)
    assert modes == modes_too == {True}

    def losses(history):
        return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]

    assert losses(logs) == losses(logs_too)
    assert [step for step, _ in losses(logs)] == [2, 4, 6]


def test_metrics_reach_the_hosts_log_with_averages_and_contexts(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=2, out=tmp_path / "run", per_context=True)
    host = trainer(tmp_path / "host", [watcher])
    host.train()
    ours = {entry["step"]: entry for entry in host.state.log_history if "born_gap/born_gap" in entry}
    assert sorted(ours) == [0, 2, 4, 6]
    run = read_run(tmp_path / "run")
    steps = run.steps.filter(step=4)
    assert ours[4]["born_gap/born_gap"] == pytest.approx(steps["born_gap"].mean())
    assert ours[4]["born_gap/worst_logit_gap"] == pytest.approx(steps["logit_gap"].min())
    assert ours[4]["born_gap/resolved"] == pytest.approx((steps["logit_gap"] > 0).mean())
    assert ours[4]["born_gap/0_error/born_gap"] == steps["born_gap"][0]
    assert all(math.isfinite(value) for value in ours[4].values())
    assert not any("loss" in entry for entry in ours.values())
    assert [entry["outcome"] for entry in watcher.verdicts] == [entry["outcome"] for entry in run.verdicts]
    assert run.plan["command"] == "track"
    assert run.environment["host"]["arguments"]["learning_rate"] == 1e-3
    assert run.steps["born_rank"].is_not_null().sum() >= 6


def test_the_last_record_is_the_probe_of_the_trained_model(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=4, out=tmp_path / "run")
    host = trainer(tmp_path / "host", [watcher])
    host.train()
    last = read_run(tmp_path / "run").steps.filter(step=6)
    seen = borngap.probe(host.model, host.processing_class, CONTEXTS)
    for name in ("born_gap", "logit_gap", "born_rank", "drag"):
        assert last[name].to_list() == pytest.approx(seen[name].to_list(), abs=1e-6)


def test_gradient_accumulation_counts_optimiser_steps(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=1, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], gradient_accumulation_steps=2, max_steps=3).train()
    assert read_run(tmp_path / "run").steps["step"].unique().sort().to_list() == [0, 1, 2, 3]


def test_tensorboard_files_hold_the_series(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(tmp_path / "tb")
    try:
        trainer(tmp_path / "host", [BornGapCallback(CONTEXTS, every=3)], report_to="tensorboard").train()
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]
    files = EventAccumulator(str(next((tmp_path / "tb").rglob("events.*")).parent)).Reload()
    series = files.Scalars("train/born_gap/born_gap")
    assert [event.step for event in series] == [0, 3, 6]
    assert [event.step for event in files.Scalars("train/loss")] == [2, 4, 6]


@pytest.mark.filterwarnings("ignore:.*the right word falls too")  # other prose is trained, and it does
def test_resuming_from_a_checkpoint_goes_on_with_the_same_start(tmp_path):
    def build(folder, steps):
        set_seed(0)
        watcher = BornGapCallback(CONTEXTS, every=1, out=folder / "run")
        return trainer(folder / "host", [watcher], max_steps=steps, save_strategy="steps", save_steps=3, seed=0)

    whole = build(tmp_path / "whole", 6)
    whole.train()
    build(tmp_path / "cut", 3).train()
    cut = build(tmp_path / "cut", 6)
    cut.train(resume_from_checkpoint=str(tmp_path / "cut" / "host" / "checkpoint-3"))
    assert same(weights(whole.model), weights(cut.model))
    a, b = read_run(tmp_path / "whole" / "run"), read_run(tmp_path / "cut" / "run")
    assert a.steps["step"].to_list() == b.steps["step"].to_list()
    for name in ("born_gap", "overlap_drift", "embedding_rotation", "logit_gap"):
        assert a.steps[name].to_list() == pytest.approx(b.steps[name].to_list(), abs=1e-9)
    assert [e["outcomes"] for e in a.verdicts] == [e["outcomes"] for e in b.verdicts]
    # the geometry of the start is not kept in a checkpoint, so its Born gap is unknown after the cut, not 0
    assert b.steps.filter(step=2)["frozen_born_gap"].null_count() == 0
    assert b.steps.filter(step=4)["frozen_born_gap"].null_count() == 3


def test_state_is_restored_the_way_transformers_does_it(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3, "restore_callback_states_from_checkpoint": True}
    trainer(tmp_path, [BornGapCallback(CONTEXTS, every=1)], max_steps=3, **options).train()
    host = trainer(tmp_path, [BornGapCallback(CONTEXTS, every=1)], max_steps=5, **options)
    host.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    watcher = next(c for c in host.callback_handler.callbacks if isinstance(c, BornGapCallback))
    assert watcher.verdicts[0]["last_step"] == 5
    assert [entry["step"] for entry in host.state.log_history if "born_gap/born_gap" in entry] == [0, 1, 2, 3, 4, 5]


def test_a_run_is_not_overwritten(tmp_path):
    trainer(tmp_path / "a", [BornGapCallback(CONTEXTS, every=1, out=tmp_path / "run")], max_steps=1).train()
    before = (tmp_path / "run" / "verdicts.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already"):
        trainer(tmp_path / "b", [BornGapCallback(CONTEXTS, every=1, out=tmp_path / "run")], max_steps=1).train()
    assert (tmp_path / "run" / "verdicts.json").read_bytes() == before


@pytest.mark.filterwarnings("ignore::borngap.track.tracker.BornGapWarning")
def test_early_stopping_is_driven_by_the_injected_metric(tmp_path):
    options = {
        "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 8,
        "load_best_model_at_end": True, "metric_for_best_model": "born_gap/embedding_rotation",
        "greater_is_better": False,
    }  # fmt: skip
    watcher = BornGapCallback(CONTEXTS)
    host = trainer(tmp_path, [watcher, EarlyStoppingCallback(early_stopping_patience=2)], **options)
    host.train()
    # the rotation only grows, so the first evaluation is the best and two more exhaust the patience
    assert host.state.global_step == 3
    assert host.state.best_global_step == 1
    logged = [entry["step"] for entry in host.state.log_history if "eval_born_gap/embedding_rotation" in entry]
    assert logged == [1, 2, 3]


def test_it_ends_the_training_when_the_born_gap_is_saturated(tmp_path):
    context = CONTEXTS[1]
    loaded = borngap.load(TIED)
    watcher = BornGapCallback([context], every=5, stop="saturation")
    data = [example(loaded.tokenizer, context)]
    host = trainer(tmp_path, [watcher], data=data, max_steps=200, learning_rate=2e-4)
    host.train()
    assert host.state.global_step == watcher.verdicts[0]["saving"]["saturation_step"]
    assert host.state.global_step < 200
    assert watcher.verdicts[0]["outcome"] == "resolved"


def test_structural_failure_warns(tmp_path):
    loaded = borngap.load(TIED)
    watcher = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], every=1)
    watcher._follower.watch.saturation.clear()

    def evaluate(i):
        watcher._keep(5 * i, {0: {"born_gap": -0.5, "logit_gap": i - 3.0, "drag": -0.01 * i, "cross_entropy": 3.0}})
        watcher._evaluate(5 * i)

    evaluate(0)
    evaluate(1)
    with pytest.warns(BornGapWarning, match="structural failure at step 10: the drag of ' error' against ' exception'"):
        evaluate(2)


def test_low_precision_warns():
    loaded = borngap.load(TIED, dtype="bfloat16")
    with pytest.warns(BornGapWarning, match="trained parameters are bfloat16"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS)


def test_targets_from_the_training_data(tmp_path):
    watcher = BornGapCallback(sample=3, every=2)
    host = trainer(tmp_path, [watcher])
    host.train()
    assert len(watcher.verdicts) == 3
    rows = [row["input_ids"] for row in prose(host.processing_class)]
    for target in sample_targets(prose(host.processing_class), host.processing_class, 3):
        length = len(target.ids)
        assert any(tuple(row[:length]) == target.ids and row[length] == target.gold_id for row in rows)
        assert target.context.gold.startswith(" ")
    golds = {entry["gold_id"] for entry in watcher.verdicts}
    assert golds == {t.gold_id for t in sample_targets(prose(host.processing_class), host.processing_class, 3)}


def test_only_positions_that_are_learnt_are_taken():
    tokenizer = borngap.load(TIED).tokenizer
    row = tokenizer("The function returns a list of keys.")["input_ids"]
    masked = {"input_ids": row, "labels": [-100] * 4 + row[4:5] + [-100] * (len(row) - 5)}
    (target,) = sample_targets([masked] * 3, tokenizer, 1)
    assert (target.ids, target.gold_id) == (tuple(row[:4]), row[4])
    with pytest.raises(UserError, match="no targets"):
        sample_targets([{"input_ids": row, "labels": [-100] * len(row)}], tokenizer)
    assert sample_targets(iter([masked]), tokenizer, 5)[0].gold_id == row[4]


def test_targets_from_a_held_out_set(tmp_path):
    held_out = prose(borngap.load(TIED).tokenizer)[3:]
    watcher = BornGapCallback(sample=2, every=2, dataset=held_out)
    host = trainer(tmp_path, [watcher], data=prose(borngap.load(TIED).tokenizer)[:3])
    host.train()
    seen = {(entry["prompt"], entry["gold_id"]) for entry in watcher.verdicts}
    rows = [tuple(row["input_ids"]) for row in held_out]
    ids = [tuple(host.processing_class(prompt)["input_ids"]) for prompt, _ in seen]
    assert len(seen) == 2
    assert all(
        any(row[: len(i)] == i and row[len(i)] == gold for row in rows) for i, (_, gold) in zip(ids, seen, strict=True)
    )
