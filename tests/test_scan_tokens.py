"""Rows that are token ids: padded, masked and packed, exactly as the trainers' own collators and models take them."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from tests.test_scan_targets import ours, trl
from tests.tiny import tiny
from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq, DataCollatorWithFlattening
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as TrlCollator

from borngap import load, scan
from borngap.data.layout import Layout
from borngap.data.tokenised import IGNORED, Document, tokenised
from borngap.model.forward import Prompt, selected_logits
from borngap.model.load import new_model
from borngap.scanning.supervised import Supervision

TEXTS = [
    "Raise an error if the function returns a list.",
    "The old man felt shame",
    "She said that the argument was a dictionary of lists of words.",
]
PROSE = [
    "If the argument is missing, the method raises an exception.",
    "Return the list of all values that the function returns.",
    "Create a new file and build the parser.",
]


@pytest.fixture(params=["own", "end of text"])
def padding(request, tokenizer):
    """Return the tokenizer with a padding token: one of its own, or the end of text."""
    other = copy.deepcopy(tokenizer)
    if request.param == "own":
        other.add_special_tokens({"pad_token": "<pad>"})
    else:
        other.pad_token = other.eos_token
    return other


def padded(tokenizer, texts, side="right", length=32):
    """Texts as people map them: to a fixed length, with an end of text that is no padding."""
    tokenizer.padding_side = side
    whole = [text + tokenizer.eos_token for text in texts]
    return [dict(tokenizer(text, padding="max_length", max_length=length)) for text in whole]


def read(example):
    """The ids that are read, document by document."""
    return [example.ids[d.start : d.stop] for d in example.documents]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows_without_labels_as_trainers_collator(padding, side):
    rows = padded(padding, TEXTS, side)
    batch = DataCollatorForLanguageModeling(padding, mlm=False)([dict(row) for row in rows])
    for example, text, ids, labels in zip(ours(padding, rows), TEXTS, batch["input_ids"], batch["labels"], strict=True):
        unpadded = padding(text + padding.eos_token)["input_ids"]
        start = 0 if side == "right" else 32 - len(unpadded)
        expected = labels.tolist()
        expected[start] = IGNORED if start else expected[start]  # nothing precedes the first token of a text
        assert (example.ids, example.labels) == (ids.tolist(), expected)
        assert example.documents == (Document(start, start + len(unpadded), hidden=start),)
        assert read(example) == [unpadded]
        assert example.targets == len(unpadded) - 1 - (padding.pad_token == padding.eos_token)


def test_other_columns_do_not_count(tokenizer):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "tools": ["x"], "length": 3}]).with_format("torch")
    assert [e.labels for e in ours(tokenizer, rows)] == [[5, 6, 7]]


@pytest.mark.parametrize("name", ["labels", "attention_mask", "completion_mask", "position_ids"])
def test_a_column_that_the_first_row_lacks_is_refused(tokenizer, name):
    rows = [{"input_ids": [5, 6, 7], name: None}, {"input_ids": [5, 6, 7], name: [0, 1, 1]}]
    with pytest.raises(ValueError, match=f"the first row has no {name}: give it to all rows, or to none"):
        ours(tokenizer, rows)
    assert [e.labels for e in ours(tokenizer, rows[:1])] == [[5, 6, 7]]


def test_ids_alone_as_trainers_collator(padding):
    rows = [{"input_ids": row["input_ids"]} for row in padded(padding, TEXTS)]
    batch = DataCollatorForLanguageModeling(padding, mlm=False)([dict(row) for row in rows])
    assert [e.labels for e in ours(padding, rows)] == batch["labels"].tolist()


def test_labels_as_the_collator_for_seq2seq(padding):
    rows = [dict(padding(text)) for text in TEXTS]
    rows = [row | {"labels": [IGNORED] * 3 + row["input_ids"][3:]} for row in rows]
    for side in ("right", "left"):
        padding.padding_side = side
        batch = DataCollatorForSeq2Seq(padding)([dict(row) for row in rows])
        made = [{key: value[i].tolist() for key, value in batch.items()} for i in range(len(rows))]
        examples = ours(padding, made)
        assert [e.labels for e in examples] == batch["labels"].tolist()
        assert [read(e) for e in examples] == [[row["input_ids"]] for row in rows]


@pytest.mark.parametrize("only", [True, False])
@pytest.mark.parametrize(
    "columns", [("completion_mask",), ("assistant_masks",), ("completion_mask", "assistant_masks")]
)
def test_masks_as_sft_trainer(tokenizer, tmp_path, columns, only):
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS]
    for row in rows:
        size = len(row["input_ids"])
        masks = {"completion_mask": [0] * 2 + [1] * (size - 2), "assistant_masks": [0, 1, 0, 1] + [1, 0] * size}
        row |= {name: masks[name][:size] for name in columns}
    expected = trl(tokenizer, rows, tmp_path, completion_only_loss=only)
    assert [(e.ids, e.labels) for e in ours(tokenizer, rows, loss="answers" if only else "all")] == expected


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed_rows_as_sft_trainer(tokenizer, strategy):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token  # an end of text is learnt all the same
    rows = [{"input_ids": tokenizer(text + tokenizer.eos_token)["input_ids"]} for text in TEXTS * 3]
    if strategy == "wrapped":
        rows = [row | {"labels": row["input_ids"]} for row in rows]
    packed = list(pack_dataset(Dataset.from_list(rows), seq_length=24, strategy=strategy))
    collator = TrlCollator(tokenizer.eos_token_id, padding_free=strategy != "wrapped")
    assert any(len(row.get("seq_lengths", ())) > 1 for row in packed) == (strategy != "wrapped")
    for row, example in zip(packed, ours(tokenizer, packed), strict=True):
        batch = collator([row])
        assert example.ids == batch["input_ids"][0].tolist()
        assert example.labels[1:] == batch["labels"][0].tolist()[1:]
        ends = batch["cu_seq_lens_q"].tolist() if "cu_seq_lens_q" in batch else [0, len(example.ids)]
        assert example.documents == tuple(Document(a, b) for a, b in pairwise(ends))


def test_flattened_rows_as_their_collator(tokenizer):
    rows = [dict(tokenizer(text)) for text in TEXTS]
    batch = DataCollatorWithFlattening()([{"input_ids": row["input_ids"]} for row in rows])
    (example,) = ours(tokenizer, [{key: batch[key][0].tolist() for key in ("input_ids", "labels", "position_ids")}])
    assert example.labels == batch["labels"][0].tolist()
    assert read(example) == [row["input_ids"] for row in rows]
    del batch["labels"]
    (bare,) = ours(tokenizer, [{key: batch[key][0].tolist() for key in ("input_ids", "position_ids")}])
    assert bare.labels[1:] == example.labels[1:]


def test_position_ids_of_padding_on_the_left():
    mask = [0, 0, 1, 1, 1]
    row = {"input_ids": [9, 9, 5, 6, 7], "attention_mask": mask}
    assert tokenised(row, 9).documents == (Document(2, 5, hidden=2),)
    counted = [1, 1, 0, 1, 2]  # as generate() makes them
    assert tokenised(row | {"position_ids": counted}, 9).documents == (Document(2, 5),)
    assert tokenised(row | {"position_ids": [0, 1, 2, 3, 4]}, 9).documents == (Document(2, 5, position=2),)


@pytest.mark.parametrize(("columns", "message"), [
    ({"attention_mask": [1, 1]}, "5 ids, but 2 attention_mask"),
    ({"labels": [5, 6]}, "5 ids, but 2 labels"),
    ({"attention_mask": [1, 1, 2, 2, 2]}, r"attention_mask holds 0 and 1, found \[2\]"),
    ({"attention_mask": [1, 0, 1, 1, 1]}, "attention_mask hides token 1 between tokens that it shows"),
    ({"labels": [6, 7, 8, 9, -100]}, "labels have token 6 where input_ids have 5, at token 0: labels are the ids or"),
    ({"labels": [5, 6, 7, 8, 9], "attention_mask": [1, 1, 1, 0, 0]}, "labels supervise token 3, which attention_mask"),
    ({"completion_mask": [0, 1, 1, 1, 1], "attention_mask": [1, 1, 1, 0, 0]}, "a mask marks token 3 as supervised"),
    ({"labels": [-100, -100, 7, 8, 9], "completion_mask": [0, 1, 1, 1, 1]}, "labels and masks disagree on token 1"),
    ({"seq_lengths": [2, 2]}, "5 ids, but seq_lengths of 4 in all"),
    ({"seq_lengths": [5, 0]}, "5 ids, but seq_lengths of 5 in all, or not positive"),
    ({"seq_lengths": [3, 2], "position_ids": [0, 1, 0, 1, 2]}, "disagree on whether a document starts at token 2"),
    ({"input_ids": [0, 0, 5, 6, 7]}, "it starts with padding, and no attention_mask says that this is no text"),
])  # fmt: skip
def test_columns_that_contradict_each_other(columns, message):
    with pytest.raises(ValueError, match=message):
        tokenised({"input_ids": [5, 6, 7, 8, 9], **columns}, 0)


@pytest.mark.parametrize(("columns", "loss", "said"), [
    ([], "answers", "all tokens, padding left out"),
    (["labels", "completion_mask"], "all", "tokens whose label is not -100"),
    (["completion_mask", "assistant_masks"], "answers", "tokens marked by completion_mask and assistant_masks"),
    (["completion_mask", "assistant_masks"], "all", "tokens marked by assistant_masks"),
    (["completion_mask"], "all", "all tokens, padding left out"),
])  # fmt: skip
def test_what_is_supervised_is_said(tokenizer, columns, loss, said):
    layout = Layout("tokens", tuple((name, name) for name in ["input_ids", *columns]))
    assert Supervision(tokenizer, layout, loss=loss).supervised == said


def test_a_row_of_padding_has_no_text():
    found = tokenised({"input_ids": [0, 0, 0], "attention_mask": [0, 0, 0]}, 0)
    assert (found.documents, found.labels) == ((), [IGNORED] * 3)


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "gpt_neox", "gemma2", "phi", "bloom", "opt"])
def test_padding_on_the_left_is_not_looked_at(name):
    config = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 97,
              "word_embed_proj_dim": 32, "max_position_embeddings": 64}  # fmt: skip
    model = new_model("opt", config).eval() if name == "opt" else tiny(name)
    ids, mask = torch.tensor([[0, 0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15]]), torch.ones(2, 7, dtype=torch.long)
    mask[0, :3] = 0
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        prompts = [Prompt(ids[0].tolist(), hidden=3), Prompt(ids[1].tolist()[:5])]
        found = selected_logits(model, prompts, torch.tensor([0, 0, 1]), torch.tensor([3, 6, 4]))
        torch.testing.assert_close(found, expected[[0, 0, 1], [3, 6, 4]], rtol=1e-4, atol=1e-5)
        if name not in {"bloom", "opt"}:  # these count positions by the mask, or have none
            told = Prompt([5, 6, 7, 8], position=3)
            again = selected_logits(
                model, [told, Prompt([5, 6], position=3)], torch.tensor([0, 1]), torch.tensor([3, 1])
            )
            torch.testing.assert_close(again, expected[[0, 0], [6, 4]], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def llama():
    return load("docs-llama")


def numbers(found, drop=("row", "where", "offset", "start")):
    return found.positions.drop(drop)


def test_padded_and_packed_rows_are_read_as_their_texts(llama):
    tokenizer = copy.deepcopy(llama.tokenizer)
    alone = [dict(tokenizer(text)) for text in PROSE * 2]
    expected = scan(llama.model, tokenizer, PROSE * 2, percentile=90.0, bulk_pairs=20_000)
    lengths = [len(row["input_ids"]) for row in alone]
    flat = [i for row in alone for i in row["input_ids"]]
    shapes = {
        "right": padded_to(alone, 40, "right"),
        "left": padded_to(alone, 40, "left"),
        "packed": [{"input_ids": flat, "seq_lengths": lengths}],
        "positions": [{"input_ids": flat, "position_ids": [i for length in lengths for i in range(length)]}],
    }
    assert len(expected.positions) > 10
    for name, rows in shapes.items():
        found = scan(llama.model, tokenizer, rows, percentile=90.0, bulk_pairs=20_000)
        assert found.summary["counts"]["targets"] == sum(lengths) - len(lengths), name
        assert found.summary["counts"]["tokens"] == sum(lengths), name
        ours, wanted = numbers(found), numbers(expected)
        for column in wanted.columns:
            if wanted[column].dtype.is_float():
                torch.testing.assert_close(ours[column].to_torch(), wanted[column].to_torch(), rtol=1e-3, atol=1e-4)
            else:
                assert ours[column].to_list() == wanted[column].to_list(), (name, column)


def padded_to(rows, length, side):
    made = []
    for row in rows:
        size = length - len(row["input_ids"])
        ids, mask = row["input_ids"], [1] * len(row["input_ids"])
        pads, zeros = [0] * size, [0] * size
        made.append(
            {"input_ids": ids + pads, "attention_mask": mask + zeros}
            if side == "right"
            else {"input_ids": pads + ids, "attention_mask": zeros + mask}
        )
    return made


def test_the_next_document_does_not_go_on_with_a_word(llama):
    """The last word of a document is whole, whatever the next one begins with."""
    tokenizer = llama.tokenizer
    first, second = (tokenizer(text)["input_ids"] for text in ("Return the list", "s of values"))
    apart = scan(
        llama.model, tokenizer, [{"input_ids": first}, {"input_ids": second}], percentile=90.0, bulk_pairs=20_000
    )
    packed = [{"input_ids": first + second, "seq_lengths": [len(first), len(second)]}]
    together = scan(llama.model, tokenizer, packed, percentile=90.0, bulk_pairs=20_000)
    assert together.summary["counts"]["words"] == apart.summary["counts"]["words"]
    whole = scan(llama.model, tokenizer, [{"input_ids": first + second}], percentile=90.0, bulk_pairs=20_000)
    assert whole.summary["counts"]["words"] == apart.summary["counts"]["words"] - 1
