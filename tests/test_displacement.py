"""The right word falls too: by hand, in a run of TRL's DPOTrainer on one-word pairs, and in the report of that run."""

from __future__ import annotations

import math
import warnings

import pytest
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import borngap
from borngap.context import contexts_of
from borngap.judge.displacement import displaced, right_words
from borngap.judge.termshares import WatchedPlace
from borngap.report.report import report_of
from borngap.track.hostfacts import BornGapWarning


def record(probability, gap):
    return {"cross_entropy": -math.log(probability), "logit_gap": gap}


START = (0, {0: record(0.2, -1.0), 1: record(0.1, 0.5), 2: record(0.5, 3.0)})


def at(*records):
    return 8, dict(enumerate(records))


def test_the_mean_over_right_words_by_hand():
    found = displaced(START, at(record(0.1, 1.0), record(0.1, 0.5), record(0.01, -9.0)), [0, 1])
    assert (found.step, found.words) == (8, 2)
    assert found.log_probability == pytest.approx(math.log(0.5) / 2)
    assert found.logit_gap == pytest.approx(1.0)
    assert "at step 8 the right word falls too" in str(found)
    assert "0.71 times what it was" in str(found)
    assert "1.00 nat" in str(found)


@pytest.mark.parametrize("now", [
    at(record(0.19, 1.0), record(0.1, 0.5)),  # hardly fallen
    at(record(0.1, -0.9), record(0.05, 0.5)),  # both fell together
    at(record(0.4, 1.0), record(0.1, 0.9)),  # what a run is for
    at({"cross_entropy": math.nan, "logit_gap": 9.0}, {"cross_entropy": None, "logit_gap": 2.0}),
    at(),
])  # fmt: skip
def test_no_displacement(now):
    assert displaced(START, now, [0, 1]) is None


def test_what_is_broken_is_left_out():
    found = displaced(START, at(record(0.1, 1.0), {"cross_entropy": math.inf, "logit_gap": 1.0}), [0, 1])
    assert (found.words, found.logit_gap) == (1, 2.0)


def test_words_whose_rival_is_right_need_not_rise():
    places = [WatchedPlace(c, c, 0, "use", "avoid", is_due=due, where="row 1") for c, due in ((2, True), (3, False))]
    assert right_words(4, places) == [0, 1, 2]


@pytest.fixture(scope="module")
def preferring(tmp_path_factory):
    """A run that prefers one word to another, and what was warned of."""
    folder, contexts = tmp_path_factory.mktemp("dpo"), contexts_of("docs10")
    loaded = borngap.load("docs-gpt2-s")
    pairs = [{"prompt": c.prompt, "chosen": c.gold, "rejected": c.rival} for c in contexts]
    settings = DPOConfig(
        str(folder / "host"), max_steps=4, per_device_train_batch_size=5, learning_rate=1e-3, report_to="none",
        lr_scheduler_type="constant", use_cpu=True, bf16=False, save_strategy="no", gradient_checkpointing=False,
        disable_tqdm=True,
    )  # fmt: skip
    watcher = borngap.BornGapCallback(contexts, every=1, out=folder / "run")
    host = DPOTrainer(
        loaded.model, args=settings, train_dataset=Dataset.from_list(pairs), processing_class=loaded.tokenizer,
        callbacks=[watcher],
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        host.train()
    said = [str(w.message) for w in caught if issubclass(w.category, BornGapWarning)]
    return watcher.tracker.records, [text for text in said if "falls too" in text], folder / "run"


def test_preferences_of_one_word_lower_the_right_word_too_and_it_is_said_once(preferring):
    records, said, _ = preferring
    means = [
        [sum(r[name] for r in moment.values()) / len(moment) for name in ("cross_entropy", "logit_gap")]
        for _, moment in records
    ]
    first = next(i for i, (loss, gap) in enumerate(means) if loss > means[0][0] + 0.1 and gap > means[0][1] + 0.1)
    assert means[-1][0] > means[0][0] + 0.1  # it is still so at the end
    assert len(said) == 1
    assert f"at step {records[first][0]} the right word falls too" in said[0]


def test_the_report_says_it(preferring):
    _, said, folder = preferring
    notes = report_of(folder, with_geometry=False).summary["runs"][0]["notes"]
    assert [note for note in notes if note.lower().startswith(said[0].partition(":")[0])]
