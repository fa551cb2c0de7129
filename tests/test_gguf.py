"""GGUF files: weights and tokenizer are those of the file, whatever lies beside it, and trouble is one message."""

from __future__ import annotations

import importlib.util
import sys

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from tests.conftest import PROSE
from tests.ggufs import model_of, write_gguf
from transformers import modeling_gguf_pytorch_utils
from transformers.integrations.ggml import _gguf_parse_value

from borngap.cli import main
from borngap.errors import UserError
from borngap.model.gguffile import _quick
from borngap.model.load import load, model_facts

IDS = torch.tensor([[5, 40, 300, 7]])


@pytest.fixture(scope="module")
def stored(tmp_path_factory, tokenizer):
    """Return a model of 8-bit blocks, and its GGUF file."""
    model = model_of(tokenizer)
    return model, write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", tokenizer, model)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_weights_and_tokenizer_are_those_of_the_file(stored, tokenizer):
    model, path = stored
    loaded = load(str(path))
    assert torch.equal(logits(loaded.model), logits(model))
    assert loaded.tokenizer(PROSE).input_ids == tokenizer(PROSE).input_ids
    assert loaded.tokenizer.eos_token == tokenizer.eos_token
    facts = model_facts(loaded)
    assert (facts["stored_dtype"], facts["dtype"]) == ("Q8_0", "float32")
    assert "the weights are dequantised from Q8_0: they are not those of the model before that" in facts["notes"]


def test_a_saved_model_is_an_ordinary_one_that_says_where_it_comes_from(stored, tmp_path):
    loaded = load(str(stored[1]))
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert torch.equal(logits(again.model), logits(stored[0]))
    assert again.stored == "Q8_0"
    assert not any(hasattr(again.model.config, name) for name in ("quantization_config", "gguf_file"))


def test_an_adapter_finds_its_base_in_the_file(stored, tmp_path):
    from peft import LoraConfig, get_peft_model

    loaded = load(str(stored[1]))
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert torch.equal(logits(again.model), logits(adapted))
    assert again.stored == "Q8_0"


def test_nothing_beside_the_file_is_read(stored, tokenizer, tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(stored[1].read_bytes())
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json"):
        (tmp_path / name).write_text('{"model_type": "bert", "tokenizer_class": "BertTokenizer", "auto_map": {}}')
    loaded = load(str(path))
    assert torch.equal(logits(loaded.model), logits(stored[0]))
    assert loaded.tokenizer(PROSE).input_ids == tokenizer(PROSE).input_ids


def test_plain_floats_are_not_called_dequantised(tokenizer, tmp_path):
    loaded = load(str(write_gguf(tmp_path / "half.gguf", tokenizer, kind=Kind.F16)))
    assert loaded.stored == "float16"
    assert "the weights are stored in float16 and were read into float32" in model_facts(loaded)["notes"]


def test_digits_stand_alone_where_the_file_says_so(stored, tokenizer, tmp_path):
    path = write_gguf(tmp_path / "small.gguf", tokenizer, stored[0], split="smollm")
    for file, parts in ((stored[1], ["list", "Ġ", "Ġ2024"]), (path, ["list", "ĠĠ", "2", "0", "2", "4"])):
        split = load(str(file)).tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("list  2024")
        assert [part for part, _ in split] == parts


def test_an_unknown_way_of_splitting_is_noted(stored, tokenizer, tmp_path):
    path = write_gguf(tmp_path / "small.gguf", tokenizer, stored[0], split="of-tomorrow")
    assert [note for note in load(str(path)).notes if "split" in note] == [
        "text is split before tokens are looked for as by GPT-2: the file says 'of-tomorrow', which is not known"
    ]
    assert load(str(stored[1])).notes == ()


# read sooner, but the same


def test_the_quick_reader_reads_what_gguf_reads(stored):
    slow = gguf.GGUFReader(stored[1])
    with _quick():
        quick = gguf.GGUFReader(stored[1])
    assert type(slow) is not type(quick)
    assert list(slow.fields) == list(quick.fields)
    for key, field in slow.fields.items():
        again = quick.fields[key]
        assert (again.data, again.types, again.contents()) == (field.data, field.types, field.contents())
        assert [part.tolist() for part in again.parts] == [part.tolist() for part in field.parts]
        with _quick():
            values = [_gguf_parse_value(again.parts[i], again.types) for i in again.data]
            quick_values = [
                modeling_gguf_pytorch_utils._gguf_parse_value(again.parts[i], again.types) for i in again.data
            ]
        assert values == quick_values
        assert list(map(type, values)) == list(map(type, quick_values))
    for tensor, again in zip(slow.tensors, quick.tensors, strict=True):
        assert (again.name, again.tensor_type, again.data_offset) == (
            tensor.name,
            tensor.tensor_type,
            tensor.data_offset,
        )
        assert np.array_equal(again.data, tensor.data)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q8_0, Kind.Q4_K, Kind.Q6_K, Kind.F16, Kind.F32])
@pytest.mark.parametrize("rows", [1, 7, 64, 250])
def test_longer_rows_unpack_to_the_same(kind, rows):
    _, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(rows)
    data = random.standard_normal((rows, 8)).astype({Kind.F16: np.float16}.get(kind, np.float32))
    if kind not in {Kind.F16, Kind.F32}:
        data = random.integers(0, 60, (rows, 3 * size), dtype=np.uint8)
    expected = gguf.dequantize(data, kind)
    with _quick():
        found = gguf.dequantize(data, kind)
    assert np.array_equal(found, expected)
    assert found.shape == expected.shape


# trouble


def test_other_architectures_are_refused(tokenizer, tmp_path):
    path = write_gguf(tmp_path / "eye.gguf", tokenizer, architecture="clip")
    with pytest.raises(UserError, match=r"(?s)can't load the model.*reads from GGUF.*architecture clip"):
        load(str(path))


@pytest.mark.parametrize(("name", "more"), [("m-00002-of-00003.gguf", {}), ("m.gguf", {"split__count": 3})])
def test_a_part_of_a_model_is_refused(stored, tokenizer, tmp_path, name, more):
    path = write_gguf(tmp_path / name, tokenizer, stored[0], **more)
    with pytest.raises(UserError, match=r"(?s)one part of a GGUF model.*llama-gguf-split --merge"):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "a whole GGUF file"), (b"PK\x03\x04" * 30, "a whole GGUF file"), (None, "a whole GGUF file")],
)
def test_a_damaged_file_is_one_message(stored, tmp_path, monkeypatch, capsys, content, said):
    path = tmp_path / "bad.gguf"
    path.write_bytes(stored[1].read_bytes()[:-2000] if content is None else content)
    monkeypatch.setattr(sys, "argv", ["borngap", "probe", "--model", str(path), "--contexts", "docs10"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: can't load the model")
    assert said in told


def test_a_missing_file_is_no_name_of_the_hub(tmp_path):
    for name in ("gone.gguf", str(tmp_path / "gone.gguf")):
        with pytest.raises(UserError, match=r"(?s)no model there.*or a GGUF file"):
            load(name)


def test_without_package_gguf_one_error_names_it(stored, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("borngap.model.gguffile.find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(UserError, match=r"(?s)need the package gguf.*pip install 'borngap\[gguf\]'"):
        load(str(stored[1]))
