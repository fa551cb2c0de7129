"""Contexts taken from a trainer's data, against the batches that the trainer itself reads (TRL's own, and Trainer)."""

import copy

import pytest
import torch
from datasets import Dataset
from tests.hosts import CONTEXTS, PROSE, arguments
from tests.tiny import tiny
from transformers import DataCollatorWithFlattening, Trainer, default_data_collator

import borngap
from borngap.errors import UserError
from borngap.track.callback import BornGapCallback
from borngap.track.sample import sample_targets

SETTINGS = {
    "report_to": "none", "save_strategy": "no", "use_cpu": True, "bf16": False, "max_steps": 1, "disable_tqdm": True,
    "per_device_train_batch_size": 12, "activation_checkpointing": False, "logging_steps": 100,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
PAIRS = [
    (" ".join(words[:3]), " " + " ".join(words[3:]), " " + " ".join(words[:2:-1])) for words in map(str.split, PROSE)
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer():
    return borngap.load("docs-gpt2-s").tokenizer


def table(names, rows):
    return Dataset.from_dict(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def texts():
    return Dataset.from_dict({"text": PROSE})


def completions():
    return table(["prompt", "completion"], [(prompt, good) for prompt, good, _ in PAIRS])


def preferences():
    return table(["prompt", "chosen", "rejected"], PAIRS)


def judged():
    rows = [(prompt, text, text is good) for prompt, good, bad in PAIRS for text in (good, bad)]
    return table(["prompt", "completion", "label"], rows)


def references():
    return table(["prompt", "chosen", "rejected", "reference"], [(*pair, pair[1]) for pair in PAIRS])


def chats():
    rows = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": good}] for prompt, good, _ in PAIRS]
    return Dataset.from_dict({"messages": rows})


def prompts():
    return table(["prompt"], [(prompt,) for prompt, *_ in PAIRS])


def trl_trainer(kind):
    import trl
    from trl.experimental import cpo, gkd, orpo, tpo

    homes = {"CPO": cpo, "ORPO": orpo, "TPO": tpo, "GKD": gkd}
    home = homes.get(kind, trl)
    return getattr(home, f"{kind}Trainer"), getattr(home, f"{kind}Config")


def host_of(folder, tokenizer, kind="SFT", data=texts, model=None, *, more=None, **options):
    """A trainer of TRL's on a tiny model."""
    trainer, config = trl_trainer(kind)
    model = tiny("llama-tied", len(tokenizer)) if model is None else model
    settings = config(output_dir=str(folder), **SETTINGS | options)
    return trainer(model=model, args=settings, train_dataset=data(), processing_class=tokenizer, **more or {})


def watched(host, **options):
    """The targets that the callback takes in a host, before the first step."""
    watcher = BornGapCallback(**{"sample": 3} | options)
    host.add_callback(watcher)
    host.callback_handler.train_dataloader = host.get_train_dataloader()
    host.callback_handler.on_train_begin(host.args, host.state, host.control)
    return watcher.tracker.targets


def taught(batch):
    """A batch as a model's inputs, with labels at the right next words that the host teaches (-100: none)."""
    if "chosen_input_ids" in batch:
        batch = {key.removeprefix("chosen_"): value for key, value in batch.items() if key.startswith("chosen_")}
    names = ("input_ids", "attention_mask", "position_ids")
    inputs = {key: batch[key] for key in names if key in batch}
    if "labels" in batch:
        return inputs, batch["labels"]
    rows = len(inputs["input_ids"])
    chosen = batch["label"] if "label" in batch else torch.arange(rows) < 12 // 2
    return inputs, torch.where(chosen[:, None] & batch["completion_mask"].bool(), inputs["input_ids"], -100)


def found_in(host, targets):
    """Whether each gold is taught in the host's batches after logits that equal those after the target's prefix."""
    model, places = host.model.eval(), []
    with torch.no_grad():
        for batch in host.get_train_dataloader():
            inputs, labels = taught(batch)
            logits = model(**inputs).logits
            where = (labels[:, 1:] != -100).nonzero().tolist()
            places += [(int(labels[row, position + 1]), logits[row, position]) for row, position in where]
        prefixes = [model(input_ids=torch.tensor([target.ids])).logits[0, -1] for target in targets]
    return [
        any(gold == target.gold_id and float((there - here).abs().max()) < 1e-4 for gold, there in places)
        for target, here in zip(targets, prefixes, strict=True)
    ]


PACKED = {"max_length": 48, "packing": True}
HOSTS = {
    "SFT": ("SFT", texts, {}),
    "SFT-completions": ("SFT", completions, {}),
    "SFT-chat": ("SFT", chats, {}),
    "SFT-bfd": ("SFT", texts, PACKED),
    "SFT-bfd_split": ("SFT", texts, {"max_length": 12, "packing": True, "packing_strategy": "bfd_split"}),
    "SFT-wrapped": ("SFT", texts, PACKED | {"packing_strategy": "wrapped"}),
    "SFT-padding_free": ("SFT", texts, {"padding_free": True, "max_length": None}),
    "DPO": ("DPO", preferences, {}),
    "KTO": ("KTO", judged, {}),
    "TPO": ("TPO", references, {}),
    "ORPO": ("ORPO", preferences, {"max_length": 64}),
    "CPO": ("CPO", preferences, {"max_length": 64}),
    "GKD": ("GKD", chats, {"max_length": 64}),
}


@pytest.mark.parametrize("name", HOSTS)
def test_targets_are_what_the_host_teaches_read_as_it_reads_them(name, tokenizer, tmp_path):
    kind, data, options = HOSTS[name]
    more = {}
    if kind in {"DPO", "KTO"}:
        more["ref_model"] = tiny("llama-tied", len(tokenizer))
    if kind == "GKD":
        more["teacher_model"] = tiny("llama-tied", len(tokenizer))
    if data is chats:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template, tokenizer.pad_token = TEMPLATE, tokenizer.eos_token
    host = host_of(tmp_path, tokenizer, kind, data, more=more, **options)
    targets = watched(host)
    assert found_in(host, targets) == [True] * len(targets)
    assert len(targets) == (2 if name == "SFT-wrapped" else 3)  # wrapped packing leaves two rows, each one document


def packed(parts):
    ids = [i for part in parts for i in part]
    return {"input_ids": ids, "labels": ids, "position_ids": [i for part in parts for i in range(len(part))]}


@pytest.mark.parametrize(("model", "use_cache"), [("gpt2", False), ("gpt2", True), ("bloom", False)])
def test_flattened_rows_of_a_trainer(model, use_cache, tokenizer, tmp_path):
    data = [packed([tokenizer(text)["input_ids"] for text in part]) for part in (PROSE[:3], PROSE[3:])]
    options = {"train_dataset": data, "data_collator": default_data_collator, "processing_class": tokenizer}
    host = Trainer(tiny(model, len(tokenizer)), arguments(tmp_path, use_cache=use_cache), **options)
    targets = watched(host, sample=6)
    assert found_in(host, targets) == [True] * len(targets)
    # Bloom reads no positions, and with a cache no model keeps documents apart: what is read as it stands in the row is
    # its first document
    assert len(targets) == (2 if use_cache or model == "bloom" else 6)


def test_a_mask_lets_documents_see_one_another(tokenizer, tmp_path):
    parts = [tokenizer(text)["input_ids"] for text in PROSE[:2]]
    row = packed(parts)
    row["attention_mask"] = [1] * len(row["input_ids"])
    for seed in range(4):
        (target,) = sample_targets([row], tokenizer, 2, seed=seed)
        assert target.ids == tuple(row["input_ids"][: len(target.ids)])
        assert len(target.ids) < len(parts[0])
    del row["attention_mask"]
    assert len(sample_targets([row], tokenizer, 2)) == 2


def test_rows_that_the_collator_flattens(tokenizer, tmp_path):
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in PROSE]
    options = {"train_dataset": rows, "data_collator": DataCollatorWithFlattening(), "processing_class": tokenizer}
    host = Trainer(tiny("gpt2", len(tokenizer)), arguments(tmp_path, per_device_train_batch_size=3), **options)
    assert found_in(host, watched(host, sample=6)) == [True] * 6


def test_padding_on_the_left_is_no_prefix(tokenizer):
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in PROSE]

    def padded(examples):
        ids = torch.tensor([[5, 5, 5, *example["input_ids"]] for example in examples])
        mask = torch.ones_like(ids)
        mask[:, :3] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask.bool(), ids, -100)}

    assert [t.ids for t in sample_targets(rows, tokenizer, 6, collate=padded)] == [
        t.ids for t in sample_targets(rows, tokenizer, 6)
    ]


def test_the_gold_is_the_label_where_a_host_teaches_another_word(tokenizer):
    ids = tokenizer("The function returns a list of keys.")["input_ids"]
    labels = [-100] * 4 + [ids[5]] + [-100] * (len(ids) - 5)
    (target,) = sample_targets([{"input_ids": ids, "labels": labels}], tokenizer, 1)
    assert (target.ids, target.gold_id) == (tuple(ids[:4]), ids[5])


def rewards(completions, **_):
    return [0.0] * len(completions)


def test_hosts_that_make_their_own_texts_ask_for_contexts(tokenizer, tmp_path):
    rollouts = {"more": {"reward_funcs": rewards}, "num_generations": 2, "max_completion_length": 2}
    hosts = {
        "GRPO": rollouts,
        "RLOO": rollouts | {"beta": 0.0},
        "Distillation": {"more": {"teacher_model": tiny("llama-tied", len(tokenizer))}},
    }
    for kind, options in hosts.items():
        host = host_of(tmp_path, tokenizer, kind, prompts, **options)
        with pytest.raises(UserError, match=r"no next-token targets(.|\n)*found: a list(.|\n)*fix: give contexts"):
            watched(host)


def test_grpo_is_watched_with_contexts(tokenizer, tmp_path):
    options = {"more": {"reward_funcs": rewards}, "num_generations": 2, "max_completion_length": 2}
    host = host_of(tmp_path, tokenizer, "GRPO", prompts, **options)
    watcher = BornGapCallback(CONTEXTS, every=1)
    host.add_callback(watcher)
    host.train()
    assert [entry["last_step"] for entry in watcher.verdicts] == [1] * len(CONTEXTS)


def test_a_reward_model_has_no_targets(tokenizer):
    from trl.trainer.reward_trainer import DataCollatorForPreference

    rows = [{"chosen_ids": [5, 6, 7], "rejected_ids": [5, 8]}]
    with pytest.raises(UserError, match="found: input_ids, attention_mask, but neither labels nor a completion_mask"):
        sample_targets(rows, tokenizer, collate=DataCollatorForPreference(0))
    scored = [{"input_ids": [5, 6, 7], "label": 1}]
    with pytest.raises(UserError, match=r"labels of shape \(1, 1\) for input_ids of shape \(1, 3\)"):
        sample_targets(scored, tokenizer, collate=default_data_collator)


def test_prompts_that_are_answered_while_training_have_no_targets(tokenizer):
    from trl.experimental.utils import DPODataCollatorWithPadding

    rows = [{"prompt_input_ids": [5, 6], "prompt_attention_mask": [1, 1]}]
    with pytest.raises(UserError, match="prompt_attention_mask, but no input_ids"):
        sample_targets(rows, tokenizer, collate=DPODataCollatorWithPadding(0))


def test_a_queue_that_the_training_waits_for_is_not_read(tokenizer, tmp_path):
    class RolloutQueueDataset(torch.utils.data.IterableDataset):
        __module__ = "trl.experimental.async_grpo.async_grpo_trainer"

        def __iter__(self):
            raise AssertionError("read")

    host = host_of(tmp_path, tokenizer)
    loader = torch.utils.data.DataLoader(RolloutQueueDataset(), collate_fn=host.data_collator)
    host.get_train_dataloader = lambda: loader
    with pytest.raises(UserError, match="found: a RolloutQueueDataset, filled while it trains"):
        watched(host)


def test_rows_with_images_are_passed_over(tokenizer):
    ids = tokenizer(PROSE[0])["input_ids"]
    row = {"input_ids": ids, "labels": ids}
    assert len(sample_targets([row, row | {"pixel_values": [0.0]}], tokenizer, 2)) == 1
    with pytest.raises(UserError, match="no images or sound"):
        sample_targets([row | {"pixel_values": [0.0]}], tokenizer)


def test_a_held_out_set_of_the_host(tokenizer, tmp_path):
    host = host_of(tmp_path, tokenizer)
    held_out = Dataset.from_dict({"input_ids": [tokenizer(PROSE[0])["input_ids"]], "text": PROSE[:1]})
    (target,) = watched(host, dataset=held_out)  # the text column, which the collator can't read, is left out
    assert target.ids == tuple(held_out[0]["input_ids"][: len(target.ids)])
    with pytest.raises(
        UserError, match=r"does not take an example(.|\n)*the example has text(.|\n)*trainer.eval_dataset"
    ):
        watched(host, dataset=[{"text": PROSE[0]}])
