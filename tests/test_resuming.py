"""Going on from a checkpoint: with the contexts that a run began with, or not at all."""

import json

import pytest
import torch
from tests.hosts import CONTEXTS, TIED, example, trainer
from tests.test_other_hosts import lightning_run

import borngap
from borngap.context import Context
from borngap.errors import UserError
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker

OTHERS = [Context("Create a new", " list"), *CONTEXTS[1:]]
CHECKPOINTS = {"save_strategy": "steps", "save_steps": 2}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tracker(contexts, state=None, **options):
    loaded = borngap.load(TIED)
    return Tracker(loaded.model, loaded.tokenizer, contexts, state=state, **options)


@pytest.fixture(scope="module")
def state():
    torch.set_num_threads(1)
    return json.loads(json.dumps(tracker(CONTEXTS).state()))


def test_the_same_contexts_go_on_with_the_rivals_chosen_then(state):
    went_on = tracker(CONTEXTS, state)
    assert [t.rival_id for t in went_on.targets] == [t["rival_id"] for t in state["targets"]]
    given = [Context(c.prompt, c.gold, t["context"]["rival"]) for c, t in zip(CONTEXTS, state["targets"], strict=True)]
    assert [t.ids for t in tracker(given, state).targets] == [tuple(t["ids"]) for t in state["targets"]]


@pytest.mark.parametrize(("contexts", "found"), [
    (OTHERS, "0: ' error' over ' exception' after 'The function raises an' there, ' list' after 'Create a new' now"),
    ([CONTEXTS[0], Context(CONTEXTS[1].prompt, " dictionary", " set"), CONTEXTS[2]], "over ' set' after"),
    (CONTEXTS[:2], r"context 2: ' method' over .* there, none now$"),
    (CONTEXTS[::-1], "context 0: (.*); context 2: "),
    ([*CONTEXTS, *OTHERS, *OTHERS], "context 3: (.*); context 4: (.*); context 5: (.*); and 3 more"),
])  # fmt: skip
def test_other_contexts_are_refused_by_name(contexts, found, state):
    with pytest.raises(UserError, match="the checkpoint belongs to a run that watches something else") as raised:
        tracker(contexts, state)
    assert raised.match(f"(?m){found}")


@pytest.mark.parametrize(("name", "value"), [("top_p", 0.8), ("geometry", "centered"), ("criterion", "born")])
def test_other_settings_are_refused_by_name(name, value, state):
    with pytest.raises(UserError, match=f"found: {name}: .* there, {value} now"):
        tracker(CONTEXTS, state, **{name: value})


def test_a_trainer_is_not_resumed_on_other_contexts(tmp_path):
    trainer(tmp_path, [BornGapCallback(CONTEXTS, every=1)], max_steps=2, **CHECKPOINTS).train()
    other = trainer(tmp_path, [BornGapCallback(OTHERS, every=1)], max_steps=4, **CHECKPOINTS)
    with pytest.raises(UserError, match="context 0: ' error' over ' exception'"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.filterwarnings("ignore")
def test_lightning_is_not_resumed_on_other_contexts(tmp_path):
    from borngap.track.lightning import BornGapLightning

    tokenizer = borngap.load(TIED).tokenizer
    first, _ = lightning_run(tmp_path, [BornGapLightning(CONTEXTS, tokenizer)], max_steps=1)
    first.save_checkpoint(tmp_path / "cut.ckpt")
    with pytest.raises(UserError, match="context 0: ' error' over ' exception'"):
        lightning_run(tmp_path, [BornGapLightning(OTHERS, tokenizer)], max_steps=2, ckpt_path=tmp_path / "cut.ckpt")


def test_targets_taken_from_the_data_go_on_whatever_the_data_are_now(tmp_path):
    tokenizer = borngap.load(TIED).tokenizer
    first = BornGapCallback(sample=2, every=1)
    trainer(tmp_path, [first], max_steps=2, **CHECKPOINTS).train()
    other = BornGapCallback(sample=2, every=1)
    host = trainer(tmp_path, [other], data=[example(tokenizer, CONTEXTS[1])] * 4, max_steps=3, **CHECKPOINTS)
    host.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [e["prompt"] for e in other.verdicts] == [e["prompt"] for e in first.verdicts]
    assert other.verdicts[0]["last_step"] == 3


def test_each_of_two_callbacks_takes_up_its_own_state(tmp_path):
    def pair():
        return [BornGapCallback(CONTEXTS[:1], every=1), BornGapCallback(CONTEXTS[1:], every=1)]

    trainer(tmp_path, pair(), max_steps=4, **CHECKPOINTS).train()
    first, second = pair()
    host = trainer(tmp_path, [first, second], max_steps=5, **CHECKPOINTS)
    host.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [len(callback.verdicts) for callback in (first, second)] == [1, 2]
    assert [entry["step"] for entry in host.state.log_history if "born_gap/born_gap" in entry].count(4) == 2


def test_a_callback_that_was_used_before_goes_on_from_the_checkpoint(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=1)
    host = trainer(tmp_path, [watcher], max_steps=4, **CHECKPOINTS)
    host.train()
    host.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert watcher.verdicts[0]["last_step"] == 4
