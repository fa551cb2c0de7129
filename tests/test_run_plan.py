"""The plan of a run: rows, batches and rates are those that hosts' own loaders, collators and schedulers make."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from datasets import Dataset
from tests.test_scan_targets import CHATS, COMPLETIONS, MARKED
from tests.tiny import tiny
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from borngap.data.rows import of_objects
from borngap.data.tokenised import IGNORED, plain
from borngap.errors import UserError
from borngap.pilot.plan import run_plan
from borngap.pilot.rows import check_lengths, model_inputs, packed, run_data
from borngap.pilot.settings import Piloting
from borngap.training import Training

WORDS = ["shame", "guilt", "error", "exception", "list", "dictionary", "method", "function", "act", "mind"]
TEXTS = [{"text": " ".join(WORDS[: 2 + i % 7]) + "."} for i in range(13)]


@pytest.fixture
def padded(tokenizer):
    """Return a tokenizer with padding and a chat template that marks the assistant's tokens."""
    other = copy.deepcopy(tokenizer)
    other.pad_token, other.chat_template = other.eos_token, MARKED
    return other


class Seen(TrainerCallback):
    """Keeps the rate of every step."""

    def __init__(self):
        self.rates = []

    def on_step_begin(self, args, state, control, lr_scheduler, **host):
        self.rates.append(lr_scheduler.get_last_lr()[0])


def batches_of(trainer):
    """What a Trainer trains on: of each step ids and labels of its batches, and the rates."""
    batches, seen = [], Seen()
    plain_step = trainer.training_step

    def step(model, inputs, *rest, **more):
        batches.append({name: inputs[name].clone() for name in inputs if torch.is_tensor(inputs[name])})
        return plain_step(model, inputs, *rest, **more)

    trainer.training_step = step
    trainer.add_callback(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return batches, seen.rates


def documents(batch):
    """The sequences of a host's batch, padded or laid end to end, with their labels but the first."""
    found = []
    for row, (ids, labels) in enumerate(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)):
        if "attention_mask" in batch:
            stop = int(batch["attention_mask"][row].sum())
            parts = [(0, stop)]
        else:
            starts = [i for i, p in enumerate(batch["position_ids"][row].tolist()) if p == 0]
            parts = list(zip(starts, [*starts[1:], len(ids)], strict=True))
        found += [(ids[a:b], labels[a + 1 : b]) for a, b in parts]
    return found


def planned(plan, size):
    """The same of a plan, in the host's batches."""
    for step in plan.steps:
        for start in range(0, len(step), size):
            inputs = model_inputs([plan.rows[i] for i in step[start : start + size]])
            yield documents(inputs)


OPTIONS = {
    "report_to": "none", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-3,
    "logging_strategy": "no",
}  # fmt: skip


def check(trainer, padded, rows, training, settings):
    model = trainer.model
    expected, rates = batches_of(trainer)
    found = run_data(of_objects(rows), padded, settings, model.get_input_embeddings().weight.shape[0])
    plan = run_plan(found.rows, training, settings)
    assert list(planned(plan, training.batch_size)) == [documents(batch) for batch in expected]
    assert plan.rates == pytest.approx(rates, rel=1e-12)
    assert len(rates) == len(plan.steps)
    return plan


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 0), ("cosine", 3), ("constant", 0)])
def test_batches_and_rates_are_the_trainers(padded, tmp_path, schedule, warmup):
    rows = [{"input_ids": padded(row["text"])["input_ids"]} for row in TEXTS]
    other = copy.deepcopy(padded)
    other.add_special_tokens({"pad_token": "<pad>"})
    args = TrainingArguments(
        str(tmp_path), num_train_epochs=2.5, per_device_train_batch_size=3, gradient_accumulation_steps=2, seed=7,
        lr_scheduler_type=schedule, warmup_steps=warmup, **OPTIONS,
    )  # fmt: skip
    collate = DataCollatorForLanguageModeling(other, mlm=False)
    trainer = Trainer(tiny("gpt2", len(other)), args, train_dataset=rows, data_collator=collate)
    training = Training(rate=1e-3, batch_size=3, seed=7, schedule=schedule, warmup=warmup)
    plan = check(trainer, other, TEXTS, training, Piloting(epochs=2.5, accumulation=2))
    assert [len(step) for step in plan.steps] == [6, 6, 1, 6, 6, 1, 6, 6]


def test_steps_and_a_sequential_order_are_the_trainers(padded, tmp_path):
    rows = [{"input_ids": padded(row["text"])["input_ids"]} for row in TEXTS]
    other = copy.deepcopy(padded)
    other.add_special_tokens({"pad_token": "<pad>"})
    args = TrainingArguments(
        str(tmp_path), max_steps=7, per_device_train_batch_size=4, train_sampling_strategy="sequential",
        dataloader_drop_last=True, warmup_steps=0.3, **OPTIONS,
    )  # fmt: skip
    collate = DataCollatorForLanguageModeling(other, mlm=False)
    trainer = Trainer(tiny("gpt2", len(other)), args, train_dataset=rows, data_collator=collate)
    settings = Piloting(order="sequential", drop_last=True, warmup_ratio=0.3)
    plan = check(trainer, other, TEXTS, Training(rate=1e-3, steps=7, batch_size=4, schedule="linear"), settings)
    assert plan.steps[0] == plan.steps[3] == (0, 1, 2, 3)


SFT = {
    "completion": (COMPLETIONS, {}, {}),
    "cut": (COMPLETIONS, {"max_length": 5}, {"max_length": 5}),
    "all": (COMPLETIONS, {"completion_only_loss": False}, {"loss": "all"}),
    "assistant": ([{"messages": chat} for chat in CHATS], {"assistant_only_loss": True}, {}),
    "chat": ([{"messages": chat} for chat in CHATS], {}, {"loss": "all"}),
    "text": (TEXTS, {}, {"end_of_text": True}),
    "packed": (TEXTS, {"packing": True, "max_length": 16}, {"end_of_text": True, "packing": True, "max_length": 16}),
    "packed completions": (COMPLETIONS * 4, {"packing": True, "max_length": 24}, {"packing": True, "max_length": 24}),
}


@pytest.mark.parametrize("kind", SFT)
@pytest.mark.filterwarnings("ignore")
def test_batches_are_sft_trainers(padded, tmp_path, kind):
    rows, given, ours = SFT[kind]
    config = SFTConfig(
        str(tmp_path), bf16=False, num_train_epochs=2, per_device_train_batch_size=2, seed=3,
        **OPTIONS | {"max_length": None} | given,
    )  # fmt: skip
    trainer = SFTTrainer(
        tiny("gpt2", len(padded)), config, train_dataset=Dataset.from_list(rows), processing_class=padded
    )
    plan = check(trainer, padded, rows, Training(rate=1e-3, batch_size=2, seed=3, schedule="linear"),
                 Piloting(epochs=2, **ours))  # fmt: skip
    assert plan.passes == 2 * len(plan.rows)


def test_packing_is_best_fit_the_longest_first():
    rows = [plain([i] * n, [i] * n) for i, n in enumerate((3, 9, 4, 4, 2, 5, 1))]
    found = packed(rows, 8)
    assert [row.ids for row in found] == [[1] * 8, [5] * 5 + [0] * 3, [2] * 4 + [3] * 4, [4, 4, 6]]
    assert [[(d.start, d.stop) for d in row.documents] for row in found][1] == [(0, 5), (5, 8)]


def test_no_row_is_predicted_from_another():
    row = packed([plain([1, 2, 3], [1, 2, 3]), plain([4, 5], [IGNORED, 5])], 8)[0]
    inputs = model_inputs([row])
    assert inputs["input_ids"].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert inputs["labels"].tolist() == [[IGNORED, 2, 3], [IGNORED, 5, IGNORED]]


def test_rows_without_a_target_are_refused(padded):
    with pytest.raises(UserError, match="no supervised tokens"):
        run_data(of_objects(COMPLETIONS[:1]), padded, Piloting(max_length=2), 999)


def test_a_row_too_long_for_the_model_is_refused():
    rows = [plain(list(range(9)), list(range(9)))]
    check_lengths(rows, 9)
    with pytest.raises(UserError, match=r"(?s)too long to train on.*--max-length 8"):
        check_lengths(rows, 8)


@pytest.mark.parametrize("wrong", [
    {"budget": 0}, {"budget": 1.5}, {"epochs": 0}, {"accumulation": 0}, {"warmup_ratio": 1}, {"packing": True},
    {"order": "by length"}, {"places": 0}, {"pilots": 0},
])  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is out of range"):
        Piloting(**wrong)
