"""Layouts as people have them: preferences, Alpaca, ShareGPT, messages in other spellings; chats without marks."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import pytest
from datasets import Dataset
from tests.test_scan_targets import CHATS, COMPLETIONS, MARKED, UNMARKED, ours, trl
from tests.tiny import tiny
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.data_utils import maybe_extract_prompt

from borngap.data import chats
from borngap.data.chats import Chats
from borngap.data.layout import Layout, known_layout
from borngap.data.messages import messages_of
from borngap.data.tokenised import IGNORED
from borngap.errors import UserError

SIDES = [
    {"prompt": "He felt", "chosen": " shame and guilt.", "rejected": " an error."},
    {"prompt": "He felt sha", "chosen": "me", "rejected": " nothing"},  # tokens merge across the boundary
    {"prompt": "He felt sha", "chosen": " nothing", "rejected": "me"},  # those of the other side do
    {"prompt": "She said that the", "chosen": " function returns<|endoftext|>", "rejected": " list"},
]
IMPLICIT = [
    {"chosen": "He felt shame and guilt.", "rejected": "He felt an error."},
    {"chosen": "Raise an error", "rejected": "Raise a list"},
    {"chosen": "the same", "rejected": "the same"},
    {"chosen": "the list of words", "rejected": "the list"},
]
TALKS = [{"chosen": chat, "rejected": [*chat[:-1], {"role": "assistant", "content": "an error"}]} for chat in CHATS]
ALPACA = (  # https://github.com/tatsu-lab/stanford_alpaca, README, "Data Release"
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nReturn a list\n\n### Input:\nof words\n\n"
    "### Response:"
)
ALPACA_BARE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nReturn a list\n\n### Response:"
)
FAMILIES = ["llama3", "qwen2_5", "gemma", "gemma3", "phi3", "cohere", "qwen3_instruct_2507", "lfm2"]


@pytest.fixture
def chatty(tokenizer):
    """Return a function that gives the tokenizer a chat template."""

    def made(template=MARKED):
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        other.bos_token = other.bos_token or "<|endoftext|>"
        return other

    return made


def pairs(examples):
    return [(example.ids, example.labels) for example in examples]


def dpo(tokenizer, rows, tmp_path):
    """The chosen side as DPOTrainer prepares it: ids and labels."""
    config = DPOConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False, save_strategy="no", max_length=None)
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = padded.eos_token
    trainer = DPOTrainer(
        tiny("gpt2", len(tokenizer)), tiny("gpt2", len(tokenizer)), args=config,
        train_dataset=Dataset.from_list(rows), processing_class=padded,
    )  # fmt: skip
    return [
        (r["prompt_ids"] + r["chosen_ids"], [IGNORED] * len(r["prompt_ids"]) + r["chosen_ids"])
        for r in trainer.train_dataset
    ]


@pytest.mark.parametrize("rows", [SIDES, IMPLICIT, TALKS], ids=["prompt", "implicit", "messages"])
def test_preferences_as_dpo_trainer(chatty, tmp_path, rows):
    tokenizer = chatty()
    assert pairs(ours(tokenizer, rows)) == dpo(tokenizer, rows, tmp_path)


def test_rated_completions_as_kto_trainer(chatty, tmp_path):
    tokenizer = chatty()
    rows = [row | {"label": at != 1} for at, row in enumerate(COMPLETIONS)]
    config = KTOConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False, max_length=None)
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = padded.eos_token
    trainer = KTOTrainer(
        tiny("gpt2", len(tokenizer)), tiny("gpt2", len(tokenizer)), args=config,
        train_dataset=Dataset.from_list(rows), processing_class=padded,
    )  # fmt: skip
    expected = [
        (r["prompt_ids"] + r["completion_ids"], [IGNORED] * len(r["prompt_ids"]) + r["completion_ids"])
        for r in trainer.train_dataset
    ]
    expected[1] = (expected[1][0], [IGNORED] * len(expected[1][0]))
    assert pairs(ours(tokenizer, rows)) == expected
    assert pairs(ours(tokenizer, [row | {"label": str(row["label"])} for row in rows])) == expected
    assert str(known_layout(COMPLETIONS[0] | {"label": 3})) == "prompt and completion (prompt, completion)"
    with pytest.raises(ValueError, match="label: true or false was expected, not 3"):
        known_layout(rows[0]).of(rows[0] | {"label": 3})


def test_prompts_of_preferences_are_never_supervised(tokenizer):
    with pytest.raises(UserError, match="the prompts of preferences are never supervised"):
        ours(tokenizer, SIDES, loss="all")


@pytest.mark.parametrize("row", [*SIDES, *IMPLICIT, *TALKS, {"prompt": "shame?", **TALKS[0]}])
def test_the_prompt_of_preferences_as_trl(row):
    expected = maybe_extract_prompt(copy.deepcopy(row))
    found = known_layout(row).of(row)
    assert (found["prompt"], found["completion"]) == (expected["prompt"], expected["chosen"])


def test_instructions_in_alpacas_prompt(tokenizer):
    rows = [
        {"instruction": "Return a list", "input": "of words", "output": "a list"},
        {"instruction": "Return a list", "input": "", "output": "a list"},
        {"instruction": "Return a list", "input": None, "output": "a list"},
    ]
    layout = known_layout(rows[0])
    assert str(layout) == "instructions in Alpaca's prompt (instruction, input, output)"
    assert [layout.of(row)["prompt"] for row in rows] == [ALPACA, ALPACA_BARE, ALPACA_BARE]
    assert (
        known_layout({"instruction": "x", "output": "y"}).of({"instruction": "x", "output": "y"})["completion"] == "y"
    )
    same = [{"prompt": prompt, "completion": "a list"} for prompt in (ALPACA, ALPACA_BARE, ALPACA_BARE)]
    assert pairs(ours(tokenizer, rows)) == pairs(ours(tokenizer, same))


def test_an_input_that_the_first_row_leaves_out_is_read(tokenizer):
    rows = [
        {"instruction": "Return a list", "output": "a list"},
        {"instruction": "Return a list", "input": "of words", "output": "a list"},
    ]
    assert pairs(ours(tokenizer, rows)) == pairs(ours(tokenizer, rows[::-1]))[::-1]
    assert known_layout(rows[0]).of(rows[1])["prompt"] == ALPACA


def shared(message):
    """A message as ShareGPT has it."""
    speaker = {"user": "human", "assistant": "gpt", "system": "system"}[message["role"]]
    return {"from": speaker, "value": message["content"]}


def test_spellings_of_messages(chatty):
    expected = pairs(ours(chatty(), [{"messages": chat} for chat in CHATS]))
    spellings = {
        "ShareGPT": [{"conversations": [shared(m) for m in chat]} for chat in CHATS],
        "role in conversations": [{"conversations": chat} for chat in CHATS],
        "JSON": [{"messages": json.dumps(chat)} for chat in CHATS],
        "the row itself": CHATS,
        "parts": [{"messages": [m | {"content": [{"type": "text", "text": m["content"]}]} for m in c]} for c in CHATS],
        "many parts": [{"messages": [m | {"content": list(m["content"])} for m in chat]} for chat in CHATS],
    }
    for name, rows in spellings.items():
        assert pairs(ours(chatty(), rows)) == expected, name


@pytest.mark.parametrize(("value", "reason"), [
    ("[{'role': 'user'}]", "a text that is no JSON .*; messages are a list of objects like"),
    ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "made of texts, found a part of type image"),
    ([{"role": "user", "content": "\ud83d"}], "half of a surrogate pair"),
    ([{"role": "user", "content": "x"}, "y"], "messages are a list of objects like"),
    ([{"role": ["user"], "content": "x"}], r"a role is a text, not \['user'\]"),
    ([{"content": "x"}], "a message without a role, with content"),
])  # fmt: skip
def test_messages_that_are_none(value, reason):
    with pytest.raises(ValueError, match=reason):
        messages_of(value)


def test_a_template_that_shows_parts_only(chatty):
    marks = "{% generation %}{{ part['text'] }}{% endgeneration %}"
    template = (
        "{% for m in messages %}{{ m['role'] + ':' }}{% for part in m['content'] %}{% if part['type'] == 'text' %}"
        "{% if m['role'] == 'assistant' %}" + marks + "{% else %}{{ part['text'] }}{% endif %}{% endif %}{% endfor %}"
        "{% endfor %}"
    )
    tokenizer = chatty(template)
    (example,) = ours(tokenizer, [{"messages": CHATS[0]}])
    assert tokenizer.decode(example.ids) == "user:shame?assistant:guilt"
    assert tokenizer.decode([i for i in example.labels if i != IGNORED]) == "guilt"


@pytest.mark.parametrize("template", [MARKED, UNMARKED], ids=["marked", "unmarked"])
def test_all_tokens_of_chats_as_sft_trainers_default(chatty, tmp_path, template):
    rows = [{"messages": chat} for chat in CHATS]
    expected = trl(chatty(template), rows, tmp_path)
    assert pairs(ours(chatty(template), rows, loss="all")) == expected


def test_all_tokens_of_completions_as_sft_trainer(chatty, tmp_path):
    expected = trl(chatty(), COMPLETIONS, tmp_path, completion_only_loss=False)
    assert pairs(ours(chatty(), COMPLETIONS, loss="all")) == expected


def template_of(name):
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_found_by_beginnings_are_those_that_trl_marks(chatty, monkeypatch, family):
    """On templates of well-known models; TRL's versions mark them, their own do not."""
    rows = [chat for chat in CHATS if family != "gemma" or chat[0]["role"] != "system"]
    marked, bare = chatty(template_of(f"{family}_training")), chatty(template_of(family))
    monkeypatch.setattr(chats, "_patched", lambda _: None)
    found = Chats(bare)
    assert found.way == "found by rendering each chat up to the answer and with it"
    for chat in rows:
        expected_ids, expected = Chats(marked).answers(chat)
        ids, mask = found.answers(chat)
        assert ids == expected_ids
        differing = [i for i, a, b in zip(ids, mask, expected, strict=True) if a != b]
        assert not bare.decode(differing).strip()  # the line end that the generation prompt ends with, in some
        assert len(differing) <= sum(message["role"] == "assistant" for message in chat)


def test_the_way_is_told(chatty):
    assert Chats(chatty()).way == "as the chat template marks them"
    assert Chats(chatty(template_of("llama3"))).way == "as TRL's version of the chat template marks them"


@pytest.mark.parametrize(("template", "message"), [
    ("{% for m in messages %}{{ m['content'] }}{% if loop.last and loop.index % 2 %} end{% endif %}{% endfor %}",
     "the chat template writes message 3 in another way when others follow; mark the answers .* or scan all tokens"),
    ("{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}think{% endif %}",
     "the chat template begins message 3 in another way than its generation prompt"),
    ("{{ raise_exception('roles must alternate') }}", "the chat template refuses it: roles must alternate"),
    ("{{ messages[0]['content'] + messages[9]['content'] }}", "the chat template refuses it: "),
])  # fmt: skip
def test_answers_that_cannot_be_told(chatty, template, message):
    with pytest.raises(ValueError, match=message):
        Chats(chatty(template)).answers(CHATS[1])


def test_a_chat_that_begins_with_the_assistant(chatty):
    with pytest.raises(ValueError, match=r"the chat begins with the assistant, before which .*; mark the answers"):
        Chats(chatty(UNMARKED)).answers(CHATS[0][1:])


def test_a_slow_tokenizer_does_not_tell_answers(chatty):
    class Slow:
        is_fast, chat_template = False, MARKED

        def apply_chat_template(self, *_, **__):
            return "borngap"

    with pytest.raises(ValueError, match=r"without a fast tokenizer; scan all tokens \(--loss all\)"):
        Chats(Slow()).answers(CHATS[0])


@pytest.mark.parametrize(("more", "reason"), [
    ({"tools": "["}, "tools: a text that is no JSON"),
    ({"chat_template_kwargs": "x"}, "chat_template_kwargs: an object was expected, not a str"),
    ({"chat_template_kwargs": {"add_generation_prompt": False, "tools": []}},
     "chat_template_kwargs: add_generation_prompt, tools can't be given by a row"),
])  # fmt: skip
def test_options_of_the_template_that_are_none(chatty, more, reason):
    with pytest.raises(ValueError, match=reason):
        ours(chatty(), [{"messages": CHATS[0], **more}])


def test_the_cause_of_a_row_is_named_truly(tokenizer, chatty):
    with pytest.raises(ValueError, match="text: half of a surrogate pair"):
        ours(tokenizer, [{"text": "fine"}, {"text": "\ud83d"}])
    with pytest.raises(UserError, match="the tokenizer has no chat template"):
        ours(tokenizer, [{"prompt": CHATS[0][:1], "completion": CHATS[0][1:]}])


@pytest.mark.parametrize(("value", "layout"), [
    ({"prompt": "a", "completion": "b", "messages": CHATS[0]}, "prompt and completion (prompt, completion)"),
    ({"prompt": "a", "chosen": "b", "rejected": "c", "messages": []},
     "preferences, their chosen side (prompt, chosen, rejected)"),
    ({"chosen": "b", "rejected": "c", "prompt": None}, "preferences, their chosen side (chosen, rejected)"),
    ({"instruction": "a", "output": "b", "text": "c"}, "plain text (text)"),
    ({"text": None, "messages": CHATS[0]}, "chat messages (messages)"),
    (CHATS[0], "chat messages (the row itself)"),
    ({"input_ids": [1], "labels": None, "attention_mask": [1], "token_type_ids": [0]},
     "token ids (input_ids, attention_mask)"),
])  # fmt: skip
def test_layouts_of_mixed_rows(value, layout):
    assert str(known_layout(value)) == layout
    assert known_layout({"body": "x"}) is None
    assert known_layout(["x"]) is None


def test_a_preference_without_a_side():
    layout = Layout("preference", (("chosen", "chosen"), ("rejected", "rejected")))
    with pytest.raises(ValueError, match="the field 'rejected' is missing"):
        layout.of({"chosen": "x"})
    with pytest.raises(ValueError, match="chosen and rejected are not empty"):
        layout.of({"chosen": "x", "rejected": ""})
    with pytest.raises(ValueError, match="chosen and rejected are all texts or all lists of messages"):
        layout.of({"chosen": "x", "rejected": CHATS[0]})
