"""The tracker inside TRL, Lightning and a plain loop; the loss on rivals inside Lightning."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from tests.hosts import CONTEXTS, PROSE, TIED, prose, same, weights

import borngap
from borngap.errors import UserError
from borngap.runfolder import read_run
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
    from borngap.track.lightning import BornGapLightning

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

    from borngap.track.lightning import BornGapLightning

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


@pytest.mark.filterwarnings("ignore")
def test_the_loss_on_rivals_in_lightning_is_that_of_a_plain_loop(tmp_path):
    import lightning.pytorch as lightning
    from lightning.pytorch.loggers import CSVLogger
    from tests.rivaltraining import EPS, PAIRS, RATE, padded, plain_run, rows_of

    tokenizer = borngap.load(TIED).tokenizer
    loss = borngap.RivalLoss(PAIRS, tokenizer, weight=3, margin=2)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.lm = borngap.load(TIED).model

        def training_step(self, batch, _):
            self.lm.eval()  # no dropout, as in the plain loop
            out = self.lm(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            value = loss(out, batch["labels"])
            self.log_dict({"loss": value} | loss.numbers())
            return value

        def configure_optimizers(self):
            return torch.optim.AdamW(self.lm.parameters(), lr=RATE, weight_decay=0.0, eps=EPS)

    rows = rows_of(tokenizer, 1)
    batches = [padded(tokenizer, rows[:2]), padded(tokenizer, rows[2:4])]
    settings = {"max_steps": 4, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
                "enable_checkpointing": False, "log_every_n_steps": 1, "logger": CSVLogger(tmp_path)}  # fmt: skip
    host, module = lightning.Trainer(**settings), Module()
    host.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    seen = []

    def alone(*inputs):
        seen.append(borngap.RivalLoss(PAIRS, tokenizer, weight=3, margin=2)(*inputs))
        return seen[-1]

    plain = plain_run(borngap.load(TIED).model, [[batch] for batch in batches * 2], alone, 4)
    import polars as pl

    logged = pl.read_csv(Path(host.logger.log_dir) / "metrics.csv")
    assert logged["loss"].to_list() == pytest.approx([float(value) for value in seen], rel=1e-5)
    assert logged["rival_loss/share"].max() > 0.1
    for one, other in zip(module.lm.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_plain_loop_within_its_budget():
    loaded = borngap.load(TIED)
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], max_overhead=0.2)
    ticks = iter(float(i) for i in range(10_000))
    clock = tracker._clock
    # a host whose steps take 1 s, a probe 0.5 s: one probe in 2.5 steps is within 20 %, so one in 4
    clock.probe_seconds, clock._since = 0.5, next(ticks)
    import borngap.track.clock as module

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
