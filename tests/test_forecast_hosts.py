"""Forecasts from hosts' own arguments: TrainingArguments and SFTConfig as JSON, a Trainer, a Lightning loader."""

from __future__ import annotations

import copy

import lightning
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tests.test_forecast_runs import HELD_OUT, ROWS, TERMS, numbers
from tests.test_run_plan import OPTIONS, batches_of, documents, planned
from tests.tiny import tiny
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from borngap.data.rows import of_objects
from borngap.errors import UserError
from borngap.pilot.hostargs import of_arguments, of_loader, read_arguments, rows_of_loader
from borngap.pilot.plan import run_plan
from borngap.pilot.prepare import forecast_run, forecast_trainer
from borngap.pilot.rows import run_data
from borngap.pilot.settings import Piloting
from borngap.training import Training

ARGUMENTS = {
    "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_train_epochs": 2, "weight_decay": 0.01,
    "lr_scheduler_type": "cosine", "warmup_steps": 0.2, "adam_beta2": 0.99, "max_grad_norm": 0.7, "seed": 5,
}  # fmt: skip


@pytest.fixture
def padded(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"pad_token": "<pad>"})
    return other


def saved(arguments, folder):
    (folder / "args.json").write_text(arguments.to_json_string())
    return read_arguments(folder / "args.json")


def trainer_of(padded, folder, **options):
    rows = [{"input_ids": padded(row["text"])["input_ids"]} for row in ROWS[:40]]
    args = TrainingArguments(str(folder), **OPTIONS | ARGUMENTS | options)
    collate = DataCollatorForLanguageModeling(padded, mlm=False)
    model = tiny("llama-tied", len(padded))
    return Trainer(model, args, train_dataset=rows, data_collator=collate, processing_class=padded)


def test_saved_arguments_are_the_run(padded, tmp_path):
    trainer = trainer_of(padded, tmp_path)
    training, settings = of_arguments(saved(trainer.args, tmp_path), Training(), Piloting(), "text")
    expected, rates = batches_of(trainer)
    plan = run_plan(run_data(of_objects(ROWS[:40]), padded, settings, len(padded)).rows, training, settings)
    assert list(planned(plan, 3)) == [documents(batch) for batch in expected]
    assert plan.rates == pytest.approx(rates, rel=1e-12)
    assert (training.weight_decay, training.beta2, training.clip, training.dropout) == (0.01, 0.99, 0.7, True)
    assert training.warmup == 0
    assert plan.training.warmup == 3  # a fifth of 14 steps


def test_a_saved_sft_config_says_what_is_supervised(padded, tmp_path):
    config = SFTConfig(str(tmp_path), packing=True, max_length=32, max_steps=9, bf16=False, data_seed=4, **OPTIONS)
    values = saved(config, tmp_path)
    training, settings = of_arguments(values, Training(steps=3), Piloting(), "chat")
    assert (training.steps, training.seed, settings.epochs) == (9, 4, None)
    assert (settings.packing, settings.max_length, settings.end_of_text) == (True, 32, True)
    assert settings.loss == "all"
    assert of_arguments(values, Training(), Piloting(), "completion")[1].loss == "answers"
    values = saved(SFTConfig(str(tmp_path), assistant_only_loss=True, completion_only_loss=False, **OPTIONS), tmp_path)
    assert of_arguments(values, Training(), Piloting(), "chat")[1].loss == "answers"
    assert of_arguments(values, Training(), Piloting(), "completion")[1].loss == "all"


@pytest.mark.parametrize("argument", [
    {"optim": "adafactor"}, {"lr_scheduler_type": "polynomial"}, {"label_smoothing_factor": 0.1},
    {"train_sampling_strategy": "group_by_length"}, {"packing_strategy": "wrapped"}, {"loss_type": "dft"},
])  # fmt: skip
def test_what_a_host_does_otherwise_is_refused(argument):
    name = next(iter(argument))
    with pytest.raises(UserError, match=f"a run with {name} can't be forecast"):
        of_arguments({"learning_rate": 1e-3} | argument, Training(), Piloting(), "text")


@pytest.mark.parametrize(("content", "message"), [
    (b"\x80\x02}q", "is no text"), (b"[1]", "holds no arguments of a run"), (b'{"lr": 1}', "the fields lr"),
    (b"{", "holds no arguments"), (None, "can't read"),
])  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "args.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_arguments(path)


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_is_forecast_and_left_as_it_was(padded, tmp_path):
    config = SFTConfig(
        str(tmp_path), bf16=False, num_train_epochs=2, per_device_train_batch_size=4, max_length=64, **OPTIONS
    )
    rows = Dataset.from_list([{"text": row["text"]} for row in ROWS])
    trainers = [
        SFTTrainer(tiny("llama-tied", len(padded)), config, train_dataset=rows, processing_class=padded,
                   peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        for _ in range(2)
    ]  # fmt: skip
    for trainer in trainers:  # the same adapters, and none that are still zero
        torch.manual_seed(0)
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.01)
    found = forecast_trainer(trainers[0], HELD_OUT, terms=TERMS, allowed_field="right", budget=0.3)
    assert found.summary["run"]["steps"] == 120
    assert found.summary["run"]["training"]["method"] == "lora"
    assert found.summary["all"]["ahead_after"] is not None
    ends = []
    for trainer in trainers:
        trainer.train()
        ends.append({name: p.detach() for name, p in trainer.model.named_parameters()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_trainer_and_its_saved_arguments_foretell_the_same(padded, tmp_path):
    trainer = trainer_of(padded, tmp_path, num_train_epochs=12)
    by_trainer = forecast_trainer(trainer, HELD_OUT, terms=TERMS, allowed_field="right", budget=0.5)
    values = saved(trainer.args, tmp_path)
    training, settings = of_arguments(values, Training(method="full"), Piloting(budget=0.5), "text")
    by_file = forecast_run(
        tiny("llama-tied", len(padded)), padded, ROWS[:40], HELD_OUT, terms=TERMS, training=training, settings=settings,
        allowed_field="right",
    )  # fmt: skip
    one, other = numbers(by_trainer), numbers(by_file)
    assert one["all"] == other["all"]
    assert one["places"] == other["places"]


def test_a_trainer_without_a_tokenizer_is_refused(padded, tmp_path):
    trainer = trainer_of(padded, tmp_path)
    trainer.processing_class = None
    with pytest.raises(UserError, match="the Trainer has no tokenizer"):
        forecast_trainer(trainer, HELD_OUT)


class Module(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def training_step(self, batch, index):  # as the host calls it
        self.seen.append({name: value.clone() for name, value in batch.items()})
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.0)


def test_a_lightning_loader_is_read(padded, tmp_path):
    rows = [{"input_ids": padded(row["text"])["input_ids"]} for row in ROWS[:25]]
    collate = DataCollatorForLanguageModeling(padded, mlm=False)
    loader = torch.utils.data.DataLoader(rows, batch_size=4, collate_fn=collate, drop_last=True)
    module = Module(tiny("llama-tied", len(padded)))
    host = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip
    host.fit(module, loader)
    training, settings = of_loader(loader, Training(rate=1e-3), Piloting(epochs=2))
    plan = run_plan(rows_of_loader(loader)[0], training, settings)
    assert (settings.order, settings.drop_last, training.batch_size) == ("sequential", True, 4)
    assert list(planned(plan, 4)) == [documents(batch) for batch in module.seen]
    shuffled = torch.utils.data.DataLoader(rows, batch_size=4, collate_fn=collate, shuffle=True)
    assert of_loader(shuffled, Training(), Piloting())[1].order == "shuffled"
    found = forecast_run(
        tiny("llama-tied", len(padded)), padded, shuffled, HELD_OUT, terms=TERMS, epochs=20, budget=0.5,
        training=Training(method="full", rate=1e-3), allowed_field="right",
    )  # fmt: skip
    assert found.summary["run"]["steps"] == 140


def test_a_loader_of_something_else_is_refused():
    loader = torch.utils.data.DataLoader([torch.zeros(3)] * 4, batch_size=2)
    with pytest.raises(UserError, match="row 0 of the loader can't be trained on"):
        rows_of_loader(loader)
    odd = torch.utils.data.DataLoader([1, 2, 3], batch_sampler=[[0, 1], [2]])
    with pytest.raises(UserError, match="a run of this loader can't be forecast"):
        of_loader(odd, Training(), Piloting())
