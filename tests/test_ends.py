"""The end of a watched run: what is measured then, on which weights, and what the user gets to see."""

import math

import pytest
import torch
from tests.hosts import CONTEXTS, TIED, same, trainer, weights
from tests.test_other_hosts import lightning_run
from transformers import TrainerCallback

import borngap
from borngap.runfolder import read_run
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.train.averaged import evaluated

EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}
SCHEDULE_FREE = {"optim": "schedule_free_adamw", "learning_rate": 1e-2, **EVALUATED}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def gaps(model, targets):
    """Logit gaps by the model's own forward."""
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([t.ids])).logits[0, -1] for t in targets]
    return [float(row[t.gold_id] - row[t.rival_id]) for row, t in zip(logits, targets, strict=True)]


class Witness(TrainerCallback):
    """Notes the mean logit gap of the very weights that the host evaluates, and the injected one."""

    def __init__(self, watcher):
        self.watcher, self.seen, self.modes = watcher, [], []

    def on_evaluate(self, args, state, control, model=None, metrics=None, **_):
        own = gaps(model, self.watcher.tracker.targets)
        self.seen.append((metrics["eval_born_gap/logit_gap"], sum(own) / len(own)))

    def on_step_end(self, args, state, control, optimizer=None, **_):
        self.modes += [group.get("train_mode") for group in optimizer.param_groups]


def test_schedule_free_weights_are_those_of_the_evaluation(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=1, out=tmp_path / "run")
    witness = Witness(watcher)
    host = trainer(tmp_path / "host", [watcher, witness], **SCHEDULE_FREE)
    host.train()
    assert [found for found, _ in witness.seen] == pytest.approx([own for _, own in witness.seen], abs=1e-5)
    assert len(witness.seen) == 3
    assert set(witness.modes) == {True}
    # the records between evaluations are of the same kind of weights: the last one is an evaluation's too
    last = read_run(tmp_path / "run").steps.filter(step=6)["logit_gap"].mean()
    assert last == pytest.approx(witness.seen[-1][1], abs=1e-5)
    host.optimizer.train()
    training = gaps(host.model.eval(), watcher.tracker.targets)
    assert abs(sum(training) / len(training) - last) > 1e-3


def test_schedule_free_training_is_the_same_bit_for_bit(tmp_path):
    found = []
    for callbacks in ([], [BornGapCallback(CONTEXTS, every=1)]):
        host = trainer(tmp_path, callbacks, optim="schedule_free_adamw", learning_rate=1e-2)
        host.train()
        found.append(weights(host.model))
    assert same(*found)


class Switching(torch.optim.SGD):
    """Two sets of weights, one twice the other, and no word about which is in place."""

    secret = False

    def train(self):
        self.turn(False, 0.5)

    def eval(self):
        self.turn(True, 2.0)

    def turn(self, evaluating, factor):
        if self.secret != evaluating:
            self.secret = evaluating
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(factor)


def test_both_modes_of_any_such_optimiser_are_left_as_they_were():
    parameter = torch.nn.Parameter(torch.full((3,), 0.25))
    optimizer = Switching([parameter])
    with evaluated(optimizer, None, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])):
        assert parameter.tolist() == [0.5] * 3
    assert (parameter.tolist(), optimizer.secret) == ([0.25] * 3, False)
    optimizer.eval()
    with evaluated(optimizer):
        assert parameter.tolist() == [0.5] * 3
    assert (parameter.tolist(), optimizer.secret) == ([0.5] * 3, True)


@pytest.mark.filterwarnings("ignore")
def test_lightning_with_an_optimiser_of_two_sets_of_weights(tmp_path, monkeypatch):
    from borngap.track.lightning import BornGapLightning

    watcher = BornGapLightning(CONTEXTS, borngap.load(TIED).tokenizer, every=1)
    monkeypatch.setattr(torch.optim, "AdamW", Switching)
    host, module = lightning_run(tmp_path, [watcher], max_steps=1)
    found = [record["logit_gap"] for record in watcher.tracker.records[-1][1].values()]
    module.lm.eval()
    training = gaps(module.lm, watcher.tracker.targets)
    host.optimizers[0].eval()
    assert found == pytest.approx(gaps(module.lm, watcher.tracker.targets), abs=1e-4)
    assert found != pytest.approx(training, abs=1e-2)


@pytest.mark.parametrize("options", [{"every": 100}, {"every": 4}, {"max_overhead": 1e-9}])
def test_a_short_run_logs_its_last_record_once(options, tmp_path):
    host = trainer(tmp_path, [BornGapCallback(CONTEXTS, **options)], max_steps=5, logging_steps=100)
    host.train()
    logged = [entry["step"] for entry in host.state.log_history if "born_gap/born_gap" in entry]
    assert logged[-1] == 5
    assert len(logged) == len(set(logged))


class Stopper(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == 3


def test_the_last_record_is_logged_where_another_callback_ends_the_training(tmp_path):
    host = trainer(tmp_path, [BornGapCallback(CONTEXTS, every=100), Stopper()], max_steps=5)
    host.train()
    assert [e["step"] for e in host.state.log_history if "born_gap/born_gap" in e] == [0, 3]


@pytest.mark.filterwarnings("ignore")
def test_lightning_logs_the_last_record_and_says_how_it_ended(tmp_path, caplog):
    from borngap.track.lightning import BornGapLightning

    watcher = BornGapLightning(CONTEXTS, borngap.load(TIED).tokenizer, every=100)
    with caplog.at_level("INFO"):
        host, _ = lightning_run(tmp_path, [watcher], max_steps=2)
    last = watcher.tracker.records[-1]
    assert last[0] == 2
    assert float(host.callback_metrics["born_gap/logit_gap"]) == pytest.approx(
        sum(record["logit_gap"] for record in last[1].values()) / 3
    )
    assert "borngap: after 2 steps gold is ahead of its rival in" in caplog.text


@pytest.mark.filterwarnings("ignore::borngap.track.tracker.BornGapWarning")
def test_the_end_is_measured_before_the_best_model_is_loaded(tmp_path):
    class Last(TrainerCallback):
        gap = None

        def on_step_end(self, args, state, control, model=None, **_):
            model.eval()
            Last.gap = gaps(model, watcher.tracker.targets)

    options = {
        "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True, "greater_is_better": False,
        "metric_for_best_model": "born_gap/embedding_rotation", **EVALUATED,
    }  # fmt: skip
    watcher = BornGapCallback(CONTEXTS, every=100, out=tmp_path / "run")
    host = trainer(tmp_path / "host", [watcher, Last()], **options)
    host.train()
    assert host.state.best_global_step == 2
    last = read_run(tmp_path / "run").steps.filter(step=6)
    assert last["logit_gap"].to_list() == pytest.approx(Last.gap, abs=1e-5)
    assert last["born_rank"].null_count() == 0
    best = gaps(host.model.eval(), watcher.tracker.targets)
    assert abs(best[0] - Last.gap[0]) > 1e-3
    # an evaluation after the training is of the model as it is then
    records = len(watcher.tracker.records)
    found = host.evaluate()
    assert found["eval_born_gap/logit_gap"] == pytest.approx(sum(best) / 3, abs=1e-5)
    assert len(watcher.tracker.records) == records


def test_what_a_user_of_a_trainer_sees(tmp_path, capsys):
    watcher = BornGapCallback(CONTEXTS, every=3, out=tmp_path / "run")
    host = trainer(tmp_path / "host", [watcher], disable_tqdm=False)
    host.train()
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if "born_gap/" in line]
    assert len(shown) == 2  # the bar is not there yet at the start
    # nothing is left to forecast at the last step
    assert [line.count("born_gap/") for line in shown] == [5, 4]
    assert all(len(line) < 195 for line in shown)
    assert sum(line.startswith("borngap: step 3 of 6: ") for line in lines) == 1
    logged = [entry for entry in host.state.log_history if "born_gap/born_gap" in entry]
    assert [sum(name.startswith("born_gap/") for name in entry) for entry in logged][1:] == [22, 17]
    said = (
        "borngap: after 6 steps gold is ahead of its rival in 2 of 3 contexts (1 learnt in this run, 1 ahead all along,"
    )
    assert lines[-2].startswith(said)
    assert lines[-1] == f"For pictures and reasons: borngap report {tmp_path / 'run'} -o report.html"
    assert watcher.tracker.cost.probes == 2
    assert math.isfinite(watcher.tracker.cost.share)


def test_the_terminal_gets_a_record_when_the_host_logs(tmp_path, capsys):
    host = trainer(tmp_path, [BornGapCallback(CONTEXTS, every=1)], max_steps=8, logging_steps=3)
    host.train()
    printed = capsys.readouterr().out.splitlines()
    kinds = [line.split()[0].strip("{:'").partition("/")[0] for line in printed[:9]]
    assert kinds == [
        "born_gap",
        "born_gap",
        "borngap",
        "loss",
        "born_gap",
        "borngap",
        "loss",
        "born_gap",
        "train_runtime",
    ]
    assert sum("born_gap/born_gap" in entry for entry in host.state.log_history) == 9


def test_without_a_folder_the_user_is_told_how_to_leave_one(tmp_path, capsys):
    trainer(tmp_path, [BornGapCallback(CONTEXTS, criterion="top1")], max_steps=1).train()
    said = capsys.readouterr().out
    assert "after 1 step gold is the model's first choice in " in said
    assert "with out='runs/mine' a folder is left for: borngap report runs/mine -o report.html" in said


def test_a_plain_loop_asks_for_the_sentence():
    loaded = borngap.load(TIED)
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS)
    tracker.finish()
    assert tracker.summary().startswith(
        "borngap: after 0 steps gold is ahead of its rival in 1 of 3 contexts (1 ahead all"
    )
    assert "watching took" not in tracker.summary()
