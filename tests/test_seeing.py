"""Models that see as well as read, their processors, and the length of a model's context under its many names."""

from __future__ import annotations

import json

import pytest
import torch
from tests.hosts import CONTEXTS as HOST_CONTEXTS
from tests.hosts import trainer
from tests.seeing import LEFT_TO_RIGHT, seeing
from tests.tiny import tiny
from transformers import AutoConfig, CLIPImageProcessor, LlavaProcessor
from typer.testing import CliRunner

import borngap
from borngap.cli import app
from borngap.context import Context
from borngap.errors import UserError
from borngap.model.length import context_length
from borngap.model.load import Loaded, load, load_tokenizer, new_model
from borngap.model.vocabulary import tokenizer_of
from borngap.train.finetune import FineTune
from borngap.training import Training

CONTEXTS = [Context("The old man felt", " guilt", " shame"), Context("He said that the", " method", " function")]


@pytest.fixture
def processor(tokenizer):
    """Return a processor around the small tokenizer."""
    return LlavaProcessor(CLIPImageProcessor(), tokenizer, patch_size=14, vision_feature_select_strategy="default")


@pytest.fixture
def folder(processor, tmp_path, request):
    """Return a folder with a model that sees, as its processor leaves it."""
    seeing(request.param, len(processor.tokenizer)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", LEFT_TO_RIGHT, indirect=True)
def test_a_wrapper_is_read_as_its_text_model(folder, request):
    loaded = load(str(folder))
    whole = seeing(request.node.callspec.params["folder"], 352)
    assert type(loaded.model) is type(whole)
    table = borngap.probe(loaded.model, loaded.tokenizer, CONTEXTS)
    for context, row in zip(CONTEXTS, table.to_dicts(), strict=True):
        ids = loaded.tokenizer(context.prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = whole(input_ids=ids).logits[0, -1]
        gap = float(logits[row["gold_id"]] - logits[row["rival_id"]])
        assert row["logit_gap"] == pytest.approx(gap, abs=1e-5)
        assert row["gold_rank"] == 1 + int((logits > logits[row["gold_id"]]).sum())
    assert context_length(loaded.model) == 64


@pytest.mark.parametrize("folder", ["qwen2_vl"], indirect=True)
def test_every_command_takes_a_wrapper(folder, tmp_path):
    contexts = tmp_path / "contexts.jsonl"
    contexts.write_text("".join(json.dumps(c.to_json()) + "\n" for c in CONTEXTS[:1]))
    data = tmp_path / "data.txt"
    data.write_text("She said that the method returns a list of words.\nThe old man felt guilt, and shame.\n")
    common = ["-m", str(folder), "-c", str(contexts)]
    for command in (
        ["probe", *common, "--json"],
        ["geometry", "-m", str(folder), "--json"],
        ["finetune", *common, "--steps", "2", "--method", "lora", "--lr", "1e-3", "--out", str(tmp_path / "run")],
        ["critical", *common, "--steps", "2", "--method", "lora", "--by", "ray", "--json"],
        ["scan", str(data), "-m", str(folder), "--percentile", "90", "--out", str(tmp_path / "scan")],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("folder", ["paligemma"], indirect=True)
def test_a_model_that_reads_ahead_is_refused(folder):
    """Within its prompt PaliGemma sees what comes later: a target read in the middle of a text would be known."""
    message = r"reads ahead within its prompt\n  rule: a causal language model: .*\n  found: model PaliGemmaFor"
    with pytest.raises(UserError, match=message):
        load(str(folder))


@pytest.mark.parametrize("kind", ["gemma3", "mistral3"])
def test_only_the_text_model_is_adapted(kind, tokenizer):
    run = FineTune(Loaded("x", seeing(kind, 352), tokenizer), CONTEXTS, Training(method="lora", rate=1e-2, steps=2))
    trained = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert len(trained) == 8
    assert all(".language_model.layers." in name for name in trained)
    before, *_, after = (step.records[0]["logit_gap"] for step in run.alone(0))
    assert before != after


def test_a_processor_stands_for_its_tokenizer(processor, tokenizer):
    model = tiny("llama-tied", 352)
    assert tokenizer_of(processor) is tokenizer
    assert tokenizer_of(tokenizer) is tokenizer
    assert Loaded("x", model, processor).tokenizer is tokenizer
    assert borngap.probe(model, processor, CONTEXTS).equals(borngap.probe(model, tokenizer, CONTEXTS))
    assert borngap.geometry_of(model, "readout", processor).special == {0}
    texts = ["She said that the method returns a list of words."]
    found = [borngap.scan(model, which, texts, percentile=90.0).positions for which in (processor, tokenizer)]
    assert found[0].equals(found[1])
    with pytest.raises(UserError, match=r"no tokenizer\n  rule: .*\n  found: CLIPImageProcessor.*\n  fix: give"):
        tokenizer_of(CLIPImageProcessor())


def test_a_processor_as_the_trainers(tmp_path):
    loaded = load("docs-gpt2-s")
    callback = borngap.BornGapCallback(HOST_CONTEXTS[:1])
    host = trainer(tmp_path, [callback], model=loaded.model)
    options = {"patch_size": 14, "vision_feature_select_strategy": "default"}
    host.processing_class = LlavaProcessor(CLIPImageProcessor(), loaded.tokenizer, **options)
    host.callback_handler.processing_class = host.processing_class
    host.train()
    assert callback.verdicts[0]["gold_id"] == loaded.tokenizer(" error")["input_ids"][0]


@pytest.mark.parametrize("folder", ["llava"], indirect=True)
def test_the_tokenizer_of_a_processors_folder(folder, tokenizer):
    assert load_tokenizer(str(folder)).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("folder", ["idefics"], indirect=True)
def test_a_model_that_needs_an_image_is_refused(folder):
    message = r"does not read text alone\n  rule: a model that takes text without .*\n  found: .*pixel_values"
    with pytest.raises(UserError, match=message):
        load(str(folder))


class Holder:
    def __init__(self, kind, **settings):
        self.config = AutoConfig.for_model(kind, **settings)


@pytest.mark.parametrize(("kind", "settings", "expected"), [
    ("llama", {"max_position_embeddings": 4096}, 4096),
    ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, 32768),
    ("gpt2", {"n_positions": 77}, 77),
    ("mpt", {"max_seq_len": 123}, 123),
    ("bloom", {"seq_length": 99}, 99),
    ("rwkv", {"context_length": 55}, 55),
    ("llama", {"max_position_embeddings": 10**9, "max_sequence_length": 500}, 500),
    ("bloom", {}, None),
    ("bloom", {"seq_length": None}, None),
    ("bloom", {"seq_length": 10**30}, None),
    ("bloom", {"seq_length": 0}, None),
    ("mamba", {}, None),
    ("llava", {"text_config": {"model_type": "llama", "max_position_embeddings": 66}}, 66),
    ("gemma3", {"text_config": {"max_position_embeddings": 88, "sliding_window": 16}}, 88),
    ("qwen2_vl", {"text_config": {"max_position_embeddings": 70}}, 70),
])  # fmt: skip
def test_the_length_of_a_context(kind, settings, expected):
    assert context_length(Holder(kind, **settings)) == expected


def test_positions_that_are_counted_from_the_padding(tokenizer):
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    lengths = {"max_position_embeddings": 20, "pad_token_id": 1, "is_decoder": True, "vocab_size": len(tokenizer)}
    model = new_model("roberta", config | lengths).eval()
    assert context_length(model) == 18
    with torch.no_grad():
        model(torch.full((1, 18), 5))
        with pytest.raises(RuntimeError, match="out of bounds"):
            model(torch.full((1, 19), 5))


def mpt(tokenizer):
    torch.manual_seed(0)
    config = {"d_model": 32, "n_heads": 2, "n_layers": 1, "max_seq_len": 16, "vocab_size": len(tokenizer)}
    return new_model("mpt", {**config, "pad_token_id": 0}).eval()


def test_a_limit_under_another_name_is_kept(tokenizer):
    model, long = mpt(tokenizer), "The old man felt shame and guilt. " * 3
    with pytest.raises(UserError, match=r"prompt too long\n  rule: at most 16 tokens, the model's context"):
        borngap.probe(model, tokenizer, [Context(long + "The", " method", " function")])
    found = borngap.scan(model, tokenizer, [long], percentile=90.0)
    assert found.summary["window"] == 16
