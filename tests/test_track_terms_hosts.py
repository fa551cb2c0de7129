"""Terms watched in TRL's SFTTrainer and in Lightning."""

import pytest
import torch
from tests.hosts import TIED, same, weights
from tests.test_other_hosts import lightning_run

import borngap
from borngap.track.callback import BornGapCallback

PAIRS = [("exception", "error"), ("parameter", "argument")]
ROWS = [
    {"prompt": "What does it raise?", "completion": " The function raises an exception"},
    {"prompt": "What is given?", "completion": " The first parameter"},
    {"prompt": "What is it called in Go?", "completion": " The function returns an error", "right": True},
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def shares(model, tokenizer, texts):
    """Success over the first texts but one and over-use at the last, by transformers' logits before the last word."""
    gaps = []
    for text, (use, avoid) in zip(texts, [*PAIRS, PAIRS[0]], strict=True):
        pair = [tokenizer(f" {word}")["input_ids"] for word in (use, avoid)]
        assert [len(ids) for ids in pair] == [1, 1]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([tokenizer(text)["input_ids"][:-1]])).logits[0, -1]
        gaps.append(float(logits[pair[0]] - logits[pair[1]]))
    return sum(gap > 0 for gap in gaps[:-1]) / (len(gaps) - 1), float(gaps[-1] > 0)


def test_trl_sft_trainer(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    tokenizer, found = borngap.load(TIED).tokenizer, []
    due, right = {"prompt": "Raise", "completion": " an exception"}, [{"row": 2}]
    watcher = BornGapCallback(terms=PAIRS, dataset=Dataset.from_list(ROWS), allowed=right, every=2)
    for callbacks in ([], [watcher]):
        settings = SFTConfig(
            output_dir=str(tmp_path), report_to="none", save_strategy="no", use_cpu=True, max_steps=6, logging_steps=2,
            per_device_train_batch_size=2, learning_rate=1e-3, disable_tqdm=True, max_length=32, seed=1,
        )  # fmt: skip
        host = SFTTrainer(
            borngap.load(TIED).model, settings, train_dataset=Dataset.from_list([due] * 12),
            processing_class=tokenizer, callbacks=callbacks,
        )  # fmt: skip
        host.train()
        found.append(weights(host.model))
    assert same(*found)
    logged = {e["step"]: e for e in host.state.log_history if "born_gap/terms/success" in e}
    texts = [row["prompt"] + row["completion"] for row in ROWS]
    for step, model in ((0, borngap.load(TIED).model), (6, host.model)):
        told = [logged[step][f"born_gap/terms/{name}"] for name in ("success", "over_use")]
        assert tuple(told) == shares(model, tokenizer, texts)
    # 11 of the 21 sixths of the dose are done after step 2
    assert [step for step in logged if "born_gap/forecast/over_use" in logged[step]] == [2, 4]
    assert logged[0]["born_gap/terms/success"] < logged[6]["born_gap/terms/success"]


@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path):
    from borngap.track.lightning import BornGapLightning

    tokenizer = borngap.load(TIED).tokenizer
    texts = [row["prompt"] + row["completion"] for row in ROWS]
    watcher = BornGapLightning(
        None, tokenizer, terms=PAIRS, dataset=texts, allowed=[2], every=3, out=tmp_path / "run"
    )  # fmt: skip
    host, module = lightning_run(tmp_path / "host", [watcher])
    run = borngap.read_run(tmp_path / "run")
    assert run.forecasts["step"].unique().to_list() == [3]
    told = host.progress_bar_metrics["born_gap/forecast/ahead"]
    assert float(host.callback_metrics["born_gap/forecast/ahead"]) == pytest.approx(told)
    assert run.usage["step"].to_list() == [0, 3, 6]
    told = [float(host.callback_metrics[f"born_gap/terms/{name}"]) for name in ("success", "over_use")]
    assert tuple(told) == shares(module.lm, tokenizer, texts) == run.usage.select("success", "over_use").rows()[-1]
