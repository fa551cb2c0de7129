"""The reference loop against Trainer and PEFT, and the tracker inside real hosts, on bundled models."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

import borngap
from borngap.context import Context
from borngap.errors import UserError
from borngap.hf.callback import BornGapCallback
from borngap.hf.finetune import FineTune
from borngap.hf.sample import sample_targets
from borngap.hf.tracker import BornGapWarning, Tracker
from borngap.store import read_run
from borngap.training import Training

CONTEXTS = [
    Context("The function raises an", " error", " exception"),
    Context("If the key is missing from the", " dictionary", " list"),
    Context("Call this", " method"),
]
PROSE = [
    "The function returns a list of the keys of the dictionary.",
    "If the argument is not a string, an error is raised.",
    "Return the value of the parameter, or the default.",
    "The method is called once for each item of the list.",
    "Read the file and return its lines as a list of strings.",
    "The name of the module is given as a string.",
]
TIED, UNTIED = "docs-gpt2-s", "docs-gpt2-s-untied"
LORA = {TIED: ["c_attn"], UNTIED: ["c_attn"]}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def example(tokenizer, context):
    prompt = tokenizer(context.prompt)["input_ids"]
    gold = tokenizer(context.gold)["input_ids"]
    return {
        "input_ids": prompt + gold,
        "labels": [-100] * len(prompt) + gold,
        "attention_mask": [1] * (len(prompt) + 1),
    }


def prose(tokenizer):
    rows = [tokenizer(text)["input_ids"][:9] for text in PROSE]
    return [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows if len(row) == 9]


def arguments(folder, **options):
    plain = {
        "output_dir": str(folder), "report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True,
        "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "learning_rate": 1e-3, "per_device_train_batch_size": 1,
        "max_steps": 6, "logging_steps": 2, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(**plain | options)


def trainer(folder, callbacks=(), *, name=TIED, model=None, data=None, kind=Trainer, **options):
    loaded = borngap.load(name)
    model = loaded.model if model is None else model
    return kind(
        model=model,
        args=arguments(folder, **options),
        train_dataset=prose(loaded.tokenizer) if data is None else data,
        eval_dataset=prose(loaded.tokenizer)[:2],
        data_collator=default_data_collator,
        processing_class=loaded.tokenizer,
        callbacks=list(callbacks),
    )


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def last_logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0, -1]


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
    watcher = BornGapCallback(CONTEXTS, every=2, out=tmp_path / "run")
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


@pytest.mark.filterwarnings("ignore::borngap.hf.tracker.BornGapWarning")
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
    with pytest.warns(BornGapWarning, match="trained parameters are torch.bfloat16"):
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


@pytest.mark.parametrize("lora", [False, True])
def test_trl_sft_trainer(lora, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    loaded = borngap.load(TIED)
    config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM") if lora else None
    histories = []
    for callbacks in ([], [BornGapCallback(CONTEXTS, every=1)]):
        settings = SFTConfig(
            output_dir=str(tmp_path), report_to="none", save_strategy="no", use_cpu=True, max_steps=4, logging_steps=2,
            per_device_train_batch_size=2, learning_rate=1e-3, disable_tqdm=True, max_length=32, seed=1,
        )  # fmt: skip
        host = SFTTrainer(
            borngap.load(TIED).model, settings, train_dataset=Dataset.from_dict({"text": PROSE}),
            processing_class=loaded.tokenizer, callbacks=callbacks, peft_config=config,
        )  # fmt: skip
        host.train()
        histories.append((weights(host.model), host.state.log_history, callbacks))
    (bare, logs, _), (watched, logs_too, (watcher,)) = histories
    assert same(bare, watched)
    # TRL averages its own metrics between its logs: ours must not flush them
    own = [{k: v for k, v in e.items() if "runtime" not in k and "second" not in k} for e in logs if "loss" in e]
    own_too = [
        {k: v for k, v in e.items() if "runtime" not in k and "second" not in k} for e in logs_too if "loss" in e
    ]
    assert own == own_too
    assert [entry["step"] for entry in logs_too if "born_gap/born_gap" in entry] == [0, 1, 2, 3, 4]
    assert watcher.verdicts[0]["last_step"] == 4
    seen = borngap.probe(host.model, loaded.tokenizer, CONTEXTS)
    last = [entry for entry in logs_too if "born_gap/born_gap" in entry][-1]
    assert last["born_gap/born_gap"] == pytest.approx(seen["born_gap"].mean(), abs=1e-6)


def lightning_run(folder, callbacks, **options):
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import CSVLogger

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.lm = borngap.load(TIED).model

        def training_step(self, batch, _):
            loss = self.lm(input_ids=batch, labels=batch).loss
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.lm.parameters(), lr=1e-3)

    pl.seed_everything(0, verbose=False)
    rows = torch.tensor([row["input_ids"] for row in prose(borngap.load(TIED).tokenizer)])
    settings = {"max_steps": 6, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"logger": CSVLogger(folder), "log_every_n_steps": 2, "enable_checkpointing": False}
    checkpoint = options.pop("ckpt_path", None)
    host = pl.Trainer(callbacks=callbacks, **settings | options)
    module = Module()
    host.fit(module, torch.utils.data.DataLoader(rows, batch_size=1), ckpt_path=checkpoint)
    return host, module


@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path):
    from borngap.hf.lightning import BornGapLightning

    tokenizer = borngap.load(TIED).tokenizer
    watcher = BornGapLightning(CONTEXTS, tokenizer, every=3, out=tmp_path / "run")
    _, bare = lightning_run(tmp_path / "a", [])
    host, watched = lightning_run(tmp_path / "b", [watcher], accumulate_grad_batches=1)
    assert same(weights(bare.lm), weights(watched.lm))
    import polars as pl

    logged = pl.read_csv(Path(host.logger.log_dir) / "metrics.csv")
    ours = logged.filter(pl.col("born_gap/born_gap").is_not_null())
    assert ours["step"].to_list() == [0, 3, 6]
    assert logged["loss"].is_not_null().sum() == 3
    run = read_run(tmp_path / "run")
    assert run.steps["step"].unique().sort().to_list() == [0, 3, 6]
    assert float(host.callback_metrics["born_gap/born_gap"]) == pytest.approx(
        run.steps.filter(step=6)["born_gap"].mean()
    )


@pytest.mark.filterwarnings("ignore")
def test_lightning_resumes_accumulates_and_stops(tmp_path):
    from lightning.pytorch.callbacks import EarlyStopping

    from borngap.hf.lightning import BornGapLightning

    tokenizer = borngap.load(TIED).tokenizer

    def watcher():
        return BornGapLightning(CONTEXTS, tokenizer, every=1, out=tmp_path / "run")

    first, _ = lightning_run(tmp_path, [watcher()], max_steps=2, accumulate_grad_batches=2)
    first.save_checkpoint(tmp_path / "cut.ckpt")
    lightning_run(tmp_path, [watcher()], max_steps=4, accumulate_grad_batches=2, ckpt_path=tmp_path / "cut.ckpt")
    assert read_run(tmp_path / "run").steps["step"].unique().sort().to_list() == [0, 1, 2, 3, 4]
    stop = EarlyStopping("born_gap/embedding_rotation", mode="min", patience=1, check_on_train_epoch_end=True)
    host, _ = lightning_run(tmp_path, [BornGapLightning(CONTEXTS, tokenizer, every=1), stop], max_steps=100)
    assert host.global_step < 100


def test_a_plain_loop_within_its_budget():
    loaded = borngap.load(TIED)
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], max_overhead=0.2)
    ticks = iter(float(i) for i in range(10_000))
    clock = tracker._clock
    # a host whose steps take 1 s, a probe 0.5 s: one probe in 2.5 steps is within 20 %, so one in 4
    clock.probe_seconds, clock._since = 0.5, next(ticks)
    import borngap.hf.clock as module

    original, module.time = module.time, type("Time", (), {"perf_counter": staticmethod(lambda: next(ticks))})
    try:
        tracker.step(1)
        assert tracker.cost.spacing == 4
        assert tracker.step(2) == {}
    finally:
        module.time = original


def test_steps_of_a_plain_loop_do_not_go_back():
    loaded = borngap.load(TIED)
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1])
    assert tracker.step(0) == {}
    tracker.step(3, force=True)
    with pytest.raises(UserError, match="steps went back"):
        tracker.step(2)
    (entry,) = tracker.finish()
    assert entry["last_step"] == 3
    assert entry["saving"]["patience_step"] == 3


def test_settings_of_a_tracker_out_of_range():
    loaded = borngap.load(TIED)
    with pytest.raises(UserError, match="max_overhead is out of range"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS, max_overhead=0)
    with pytest.raises(UserError, match="every is out of range"):
        Tracker(loaded.model, loaded.tokenizer, CONTEXTS, every=0)


LOOP = """
import sys, torch, torch.distributed as dist
from pathlib import Path
import borngap
from borngap.context import Context
from borngap.hf.tracker import Tracker
from torch.distributed.fsdp import fully_shard

def run(name, out, shard):
    loaded = borngap.load(name)
    model = shard(loaded.model)
    contexts = [Context("The function raises an", " error", " exception"), Context("Call this", " method", " function")]
    tracker = Tracker(model, loaded.tokenizer, contexts, every=1, out=Path(out) / name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    row = torch.tensor([loaded.tokenizer("The function returns a list of keys.")["input_ids"]])
    for step in range(1, 4):
        model(input_ids=row, labels=row).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        tracker.step(step)
    tracker.finish()
    assert borngap.readout_of(model).tied == (not name.endswith("untied"))

def shard(model):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    for block in model.base_model.h:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in sys.argv[2:]:
        run(name, sys.argv[1], shard)
    dist.destroy_process_group()
"""


def test_fsdp2_in_two_processes_gives_the_observables_of_the_unsharded_run(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(LOOP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(script), str(tmp_path / "sharded"), TIED, UNTIED]
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen(command, env=shared | {"RANK": str(rank)}, stderr=subprocess.PIPE) for rank in range(2)]
    space = {"__name__": "loop"}
    exec(LOOP, space)
    for name in (TIED, UNTIED):
        space["run"](name, tmp_path / "whole", lambda model: model)
    for process in ranks:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()[-3000:]
    for name in (TIED, UNTIED):
        sharded, whole = read_run(tmp_path / "sharded" / name), read_run(tmp_path / "whole" / name)
        assert sharded.steps["step"].to_list() == whole.steps["step"].to_list() == [0, 1, 2, 3] * 2
        assert abs(whole.steps["overlap_drift"][3]) > 1e-5
        for column in sharded.steps.columns[2:]:
            a, b = sharded.steps[column].to_list(), whole.steps[column].to_list()
            assert [x is None for x in a] == [x is None for x in b], column
            a, b = ([x for x in xs if x is not None] for xs in (a, b))
            assert a == pytest.approx(b, rel=2e-4, abs=2e-5), column
        assert [e["outcomes"] for e in sharded.verdicts] == [e["outcomes"] for e in whole.verdicts]
