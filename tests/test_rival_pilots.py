"""Pilots of runs under a loss on rivals: they lower what a Trainer with RivalLoss lowers, at the same places."""

from __future__ import annotations

import json

import pytest
import torch
from tests.hosts import TIED
from tests.rivaltraining import EPS, PAIRS, RATE, rows_of
from tests.test_forecast_hosts import padded, trainer_of  # noqa: F401  # a fixture
from tests.test_forecast_runs import HELD_OUT, ROWS, TERMS, numbers, run
from tests.test_rivalloss import trained
from tests.tiny import tiny

import borngap
from borngap import RivalLoss
from borngap.context import Context
from borngap.data.rows import of_objects
from borngap.data.tokenised import plain
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.pilot.draw import PilotSteps
from borngap.pilot.plan import run_plan
from borngap.pilot.prepare import asked_of, forecast_trainer, prepare_run
from borngap.pilot.run import Trainee, rival_row_loss, token_loss
from borngap.pilot.settings import Piloting
from borngap.rivals.fusedhead import join_fused_head, joined_loss
from borngap.training import Training
from borngap.usage.allowed import Allowed


@pytest.mark.parametrize("masked", [0, 1])
def test_a_pilot_with_a_span_of_one_is_a_trainers_run_with_the_same_loss(tmp_path, masked):
    loaded = borngap.load(TIED)
    rows = rows_of(loaded.tokenizer, masked)[:4]
    rows[0]["labels"] = [*rows[0]["labels"][:-1], -100]
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 1}
    host = trained(tmp_path, loaded.tokenizer, RivalLoss(PAIRS, weight=3, margin=2), rows, **options)
    training = Training(rate=RATE, eps=EPS, steps=3, batch_size=2)
    tokens = [plain(row["input_ids"], row["labels"]) for row in rows]
    plan = run_plan(tokens, training, Piloting(accumulation=2, order="sequential"))
    loss, whole = RivalLoss(PAIRS, loaded.tokenizer), PilotSteps(plan.steps, tuple(plan.rates), 1.0)
    course = Trainee(loaded.model, loss=rival_row_loss(loss)).train(plan, whole, 0)
    logged = [entry["loss"] for entry in host.state.log_history if "loss" in entry]
    # transformers divides by all labels, also by those of first tokens, which nothing predicts
    items = sum(label >= 0 for row in rows for label in row["labels"])
    targets = sum(label >= 0 for row in rows for label in row["labels"][1:])
    assert course.losses[0] == pytest.approx(logged[0] * items / targets, rel=1e-4)
    if items == targets:
        assert course.losses == pytest.approx(logged, rel=1e-4)
        for one, other in zip(loaded.model.parameters(), host.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert loss.numbers()["rival_loss/share"] > 0


def test_a_word_at_the_beginning_of_a_row_is_found_as_hosts_find_it():
    loaded = borngap.load(TIED)
    ids = loaded.tokenizer("Exceptions are raised")["input_ids"]
    assert loaded.tokenizer.convert_ids_to_tokens(ids)[:2] == ["Exception", "s"]
    loss = RivalLoss([("exceptions", "exceptional")], loaded.tokenizer, kind="weight")
    both = [plain(ids, ids), plain(ids, [-100, *ids[1:]])]
    whole, cut = ((rival_row_loss(loss)(loaded.model, [row]) - token_loss(loaded.model, [row])).item() for row in both)
    assert whole > 0, "its first token is supervised, if predicted by nothing: the word is known"
    assert cut == pytest.approx(0, abs=1e-4), "it begins before what is supervised"


def test_a_forecast_under_a_loss_on_rivals(tokenizer, tmp_path):
    training = Training(method="full", rate=1e-3, steps=80, batch_size=4, schedule="linear", rival_loss="margin:3,2")
    plain_run, found, again = (
        run(tokenizer), run(tokenizer, training=training, out=tmp_path / "out"),
        run(tokenizer, training=training, out=tmp_path / "out"),
    )  # fmt: skip
    assert numbers(found) == numbers(again)
    assert found.summary["run"]["training"]["rival_loss"] == "margin:3,2"
    head = json.loads((tmp_path / "out" / "forecast.json").read_text())
    assert head["plan"]["rivals"] == [["shame", "guilt"]]
    shares = [one.summary["all"]["ahead_after"] for one in (plain_run, found)]
    assert shares[1] > shares[0], "a margin does more than cross-entropy alone"
    first = [one.summary["all"]["held_out_loss_before"] for one in (plain_run, found)]
    assert first[0] == first[1]


def test_without_terms_the_rivals_are_the_models_own_and_contexts_have_none(tokenizer):
    loaded = Loaded("tiny", tiny("llama-tied", len(tokenizer)), tokenizer)
    training = Training(method="full", rate=1e-3, steps=4, batch_size=4, rival_loss="margin:3,2")
    asked = asked_of(HELD_OUT, None, None, Allowed())
    assert prepare_run(loaded, of_objects(ROWS), asked, training, Piloting()).rivals.words == "auto"
    asked = asked_of(None, None, [Context("He", " said", " felt")], Allowed())
    with pytest.raises(UserError, match="a loss on rivals can't be told from contexts"):
        prepare_run(loaded, of_objects(ROWS), asked, training, Piloting())


def test_words_that_stand_nowhere_are_one_error(tokenizer):
    training = Training(method="full", rival_loss="margin:3,2", steps=40, batch_size=4)
    rows = [row for row in ROWS if "shame" not in row["text"]]
    with pytest.raises(UserError, match=r"none of the words to use stands in .*\n.*\n  found: 'shame'"):
        run(tokenizer, training=training, data=rows)


def test_a_trainers_own_loss_is_forecast_and_another_is_refused(padded, tmp_path):  # noqa: F811
    given = {"terms": TERMS, "allowed_field": "right", "budget": 0.5}
    trainers = [trainer_of(padded, tmp_path / str(i), num_train_epochs=12) for i in range(3)]
    trainers[1].compute_loss_func = RivalLoss(TERMS, weight=3, margin=2)
    plain_run, found = (forecast_trainer(trainer, HELD_OUT, **given) for trainer in trainers[:2])
    assert found.summary["all"]["ahead_after"] > plain_run.summary["all"]["ahead_after"]
    assert trainers[1].compute_loss_func.numbers() == {}, "its own numbers are those of the training"
    trainers[2].compute_loss_func = lambda outputs, *_: outputs.logits.sum()
    with pytest.raises(UserError, match="a run with this compute_loss_func can't be forecast"):
        forecast_trainer(trainers[2], HELD_OUT, **given)


def test_a_loss_that_has_joined_a_chunked_head_is_known():
    model, loss = borngap.load(TIED).model, RivalLoss([(1, 2)])
    assert joined_loss(model) is None
    join_fused_head(model, loss)
    assert joined_loss(model) is loss
    assert joined_loss(model).alone(None).words == [[1, 2]]
