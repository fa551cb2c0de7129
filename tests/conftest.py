"""What tests share: no network, a small tokenizer, and tiny models with random weights."""

from __future__ import annotations

import copy
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # as Ray spells it; its workers would wait for other tests
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers, and tables would be fitted to it

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from borngap.model import load as loading
from borngap.zoo import MODELS, fetched_names

PROSE = """The old man felt shame and guilt. A shameful act, a guilty mind. Raise an error, throw an exception.
He said that the method returns a list of words; she said that the function returns a dictionary of lists.
"""


def pytest_configure():
    """Read each bundled model and tokenizer once; every later load is a copy of it."""
    checkpoint, tokenizers_of, kept = loading._checkpoint, loading.AutoTokenizer, {}

    def model_of(name, source, revision, dtype, device):
        if Path(source).parent != MODELS or dtype or device.type != "cpu":
            return checkpoint(name, source, revision, dtype, device)
        if name not in kept:
            kept[name] = checkpoint(name, source, revision, dtype, device)
        return copy.deepcopy(kept[name])

    def tokenizer_of(place, **options):
        if Path(place).parent != MODELS:
            return tokenizers_of.from_pretrained(place, **options)
        if place not in kept:
            kept[place] = tokenizers_of.from_pretrained(place, **options)
        return copy.deepcopy(kept[place])

    loading._checkpoint = model_of
    loading.AutoTokenizer = SimpleNamespace(from_pretrained=tokenizer_of)


# real hosts, browsers, processes and searches: `make quick` leaves them out
SLOW = {
    "test_apart", "test_collocation", "test_compare_usage", "test_critical", "test_dtypes", "test_ends",
    "test_fetch", "test_finetune", "test_folders", "test_forecast", "test_forecast_command", "test_forecast_hosts",
    "test_fsdp", "test_methods", "test_report", "test_report_command", "test_report_forecasts", "test_report_page",
    "test_reproduce", "test_rival_training", "test_rivalloss", "test_rivalloss_sft", "test_run_plan", "test_sampling",
    "test_scan_ray", "test_stacked", "test_sweep_engines", "test_sweep_folder", "test_track_terms_hosts",
    "test_rival_pilots", "test_trainer", "test_writers", "test_zoo",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark the tests of slow files; skip those of pretrained models that are not fetched."""
    there = fetched_names()
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
        for mark in item.iter_markers("real"):
            if mark.args[0] not in there:
                item.add_marker(pytest.mark.skip(reason=f"not fetched: borngap zoo fetch {mark.args[0]}"))


@pytest.fixture(scope="session")
def tokenizer():
    """Return a byte-level BPE in which each word of PROSE is one token, with or without its leading space."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([PROSE], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run borngap with arguments; return (exit code, standard output, standard error)."""
    from borngap.cli import main

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["borngap", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call
