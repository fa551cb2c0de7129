"""Supervised targets: exactly the labels that TRL's SFTTrainer and Trainer's collator build."""

from __future__ import annotations

import copy
import warnings

import pytest
from datasets import Dataset
from tests.chats import BOS, like_llama3
from tests.chats import CHATS as LONG_CHATS
from tests.tiny import tiny
from transformers import DataCollatorForLanguageModeling
from trl import SFTConfig, SFTTrainer

from borngap.data.recognise import layout_of
from borngap.data.rows import Row, of_objects
from borngap.data.tokenised import IGNORED, Document
from borngap.errors import UserError
from borngap.scanning.supervised import Example, Supervision, windows_of

MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ 'A:' }}{% generation %}{{ m['content'] + eos_token }}"
    "{% endgeneration %}{% else %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)
UNMARKED = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
TEXTS = [
    "The old man felt shame and guilt.",
    "Raise an error",
    "",
    "a <|endoftext|> b",
    "A shameful act, a guilty mind.",
]
COMPLETIONS = [
    {"prompt": "He felt", "completion": " shame and guilt."},
    {"prompt": "The method returns", "completion": " a list<|endoftext|>"},
    {"prompt": "He felt sha", "completion": "me"},  # tokens merge across the boundary
    {"prompt": "She said that ", "completion": "the function returns a dictionary of lists."},
]
CHATS = [
    [{"role": "user", "content": "shame?"}, {"role": "assistant", "content": "guilt"}],
    [
        {"role": "system", "content": "Raise"},
        {"role": "user", "content": "an error"},
        {"role": "assistant", "content": "A list of words"},
        {"role": "user", "content": "and"},
        {"role": "assistant", "content": "a dictionary"},
    ],
]


@pytest.fixture
def chatty(tokenizer):
    """Return the tokenizer with a chat template that marks the assistant's tokens."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = MARKED
    return other


def ours(tokenizer, rows, max_length=None, loss="answers", **fields):
    source = of_objects(rows)
    supervision = Supervision(tokenizer, layout_of(source, fields), max_length, loss)
    return [supervision.example(row) for row in source.rows()]


def trl(tokenizer, rows, tmp_path, **settings):
    """What SFTTrainer feeds to the model: ids and labels, one pair a row."""
    config = SFTConfig(
        str(tmp_path), report_to="none", use_cpu=True, bf16=False, save_strategy="no",
        max_length=settings.pop("max_length", None), **settings,
    )  # fmt: skip
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = padded.eos_token
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = SFTTrainer(
            tiny("gpt2", len(tokenizer)), config, train_dataset=Dataset.from_list(rows),
            processing_class=padded,
        )  # fmt: skip
    batches = [trainer.data_collator([row]) for row in trainer.train_dataset]
    return [(b["input_ids"][0].tolist(), b["labels"][0].tolist()) for b in batches]


def pairs(examples):
    return [(example.ids, example.labels) for example in examples]


def test_prompt_and_completion_as_sft_trainer(tokenizer, tmp_path):
    expected = trl(tokenizer, COMPLETIONS, tmp_path)
    assert pairs(ours(tokenizer, COMPLETIONS)) == expected
    assert any(IGNORED in labels for _, labels in expected)
    assert [ids[-1] for ids, _ in expected] == [tokenizer.eos_token_id] * len(COMPLETIONS)


def test_prompt_and_completion_of_other_names(tokenizer):
    rows = [{"question": row["prompt"], "answer": row["completion"], "id": 3} for row in COMPLETIONS]
    fields = {"prompt": "question", "completion": "answer"}
    assert pairs(ours(tokenizer, rows, **fields)) == pairs(ours(tokenizer, COMPLETIONS))


def test_truncated_as_sft_trainer(tokenizer, tmp_path):
    expected = trl(tokenizer, COMPLETIONS, tmp_path, max_length=5)
    kept = [e for e in ours(tokenizer, COMPLETIONS, max_length=5) if any(i != IGNORED for i in e.labels)]
    assert pairs(kept) == expected
    assert max(len(ids) for ids, _ in expected) == 5


def test_chat_as_sft_trainer(chatty, tmp_path):
    rows = [{"messages": messages} for messages in CHATS]
    expected = trl(chatty, rows, tmp_path, assistant_only_loss=True)
    assert pairs(ours(chatty, rows)) == expected
    said = [chatty.decode([i for i in labels if i != IGNORED]) for _, labels in expected]
    assert said == ["guilt<|endoftext|>", "A list of words<|endoftext|>a dictionary<|endoftext|>"]


def test_chat_in_the_other_spelling(chatty):
    rows = [{"conversations": [{"from": m["role"], "value": m["content"]} for m in chat]} for chat in CHATS]
    assert pairs(ours(chatty, rows)) == pairs(ours(chatty, [{"messages": chat} for chat in CHATS]))


def test_conversational_prompt_and_completion_as_sft_trainer(chatty, tmp_path):
    rows = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in CHATS]
    assert pairs(ours(chatty, rows)) == trl(chatty, rows, tmp_path)


def test_start_tokens_as_sft_trainer(tokenizer, tmp_path):
    llama3 = like_llama3(tokenizer)
    rows = [{"messages": chat} for chat in LONG_CHATS]
    expected = trl(llama3, rows, tmp_path, assistant_only_loss=True)
    assert pairs(ours(llama3, rows)) == expected
    assert {ids.count(llama3.bos_token_id) for ids, _ in expected} == {1}, "the template's own"
    texts = [{"text": text} for text in ("He felt shame", f"{BOS}He felt shame")]
    whole = [ids[:-1] for ids, _ in trl(llama3, texts, tmp_path)]  # without the end that SFTTrainer appends
    assert [example.ids for example in ours(llama3, texts)] == whole
    assert [ids.count(llama3.bos_token_id) for ids in whole] == [1, 2], "the text's and the trainer's"
    rendered = [{"prompt": f"{BOS}He felt", "completion": " shame"}]
    assert pairs(ours(llama3, rendered)) == trl(llama3, rendered, tmp_path)


def test_text_as_trainers_collator(tokenizer):
    for padding in (None, "<|endoftext|>"):
        other = copy.deepcopy(tokenizer)
        other.pad_token = padding
        texts = [text for text in TEXTS if text]
        found = ours(other, [{"text": text} for text in texts])
        if padding is None:
            assert all(example.labels == example.ids for example in found)
        else:
            collator = DataCollatorForLanguageModeling(other, mlm=False)
            batch = collator([other(text) for text in texts])
            for example, ids, labels in zip(found, batch["input_ids"], batch["labels"], strict=True):
                size = len(example.ids)
                assert (example.ids, example.labels) == (ids[:size].tolist(), labels[:size].tolist())
                assert (labels[size:] == IGNORED).all()


def test_token_ids_keep_their_labels(tokenizer):
    (example,) = ours(tokenizer, [{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, IGNORED]}])
    assert (example.ids, example.labels, example.targets) == ([5, 6, 7], [IGNORED, 6, IGNORED], 1)
    with pytest.raises(ValueError, match="3 ids, but 2 labels"):
        ours(tokenizer, [{"input_ids": [5, 6, 7], "labels": [5, 6]}])


def test_chat_without_a_template(tokenizer):
    with pytest.raises(UserError, match=r"the tokenizer has no chat template\n  rule: chat messages need one"):
        ours(tokenizer, [{"messages": CHATS[0]}])


def test_a_chat_that_the_template_refuses(chatty):
    chatty.chat_template = "{{ raise_exception('roles must alternate') }}" + MARKED
    with pytest.raises(ValueError, match="the chat template refuses it: roles must alternate"):
        ours(chatty, [{"messages": CHATS[0]}])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 14, 15, 40])
def test_windows_measure_each_position_once_after_a_quarter(size):
    document = Document(0, size)
    example = Example(Row(0, "x", None), list(range(size)), list(range(size)), (document,))
    seen = []
    for window in windows_of(example, document, 8):
        assert 0 < window.stop - window.start <= 8
        measured = range(window.first, window.stop)
        assert all(at - window.start >= min(at, 2) for at in measured)
        seen += measured
    assert seen == list(range(1, size))
