"""The engine ``ray`` of a forecast: what the pilots of each rate come to elsewhere is what they come to here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.test_forecast_runs import ROWS, numbers, run
from tests.tiny import tiny

import borngap.pilot.ray
from borngap.errors import UserError
from borngap.model.load import load
from borngap.pilot.ray import RayPilots
from borngap.ray import answers
from borngap.train.finetune import weights_digest
from borngap.training import Training

RATES = (1e-4, 1e-3, 30.0)  # the last one leaves the stable range: it is tried again, then given up


@pytest.fixture(scope="module")
def stored(tokenizer, tmp_path_factory):
    """A model in a folder, as workers find it."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama-tied", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def foretold(folder, **options):
    loaded = load(str(folder))
    given = {"rates": RATES, "budget": 0.6, "name": str(folder)}
    return run(loaded.tokenizer, loaded.model, **given | options)


def here(sent):
    """Carry out tasks in this process, each read as it would cross to another one; what is sent is noted."""

    def answers(carry_out, setting, tasks, *_, **__):
        for task in tasks:
            sent.append(task[0])
            yield carry_out(setting, *task)

    return answers


def test_a_local_cluster_foretells_what_one_process_does(stored):
    pytest.importorskip("ray")
    lora = Training(method="lora", rate=1e-3, steps=40, batch_size=4, schedule="linear", lora_dropout=0.1, dropout=True)
    alone = foretold(stored, training=lora, rates=RATES[:2])
    spread = foretold(stored, training=lora, rates=RATES[:2], engine=RayPilots(workers=1))
    assert spread.places.equals(alone.places)
    assert numbers(spread) == numbers(alone)


def test_what_was_cut_off_goes_on_where_it_was(stored, tmp_path, monkeypatch):
    whole, sent = foretold(stored), []
    monkeypatch.setattr(borngap.pilot.ray, "answers", here(sent))

    def kill(state):
        if state.done == 1 and "pilots are done" in state.doing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        foretold(stored, out=tmp_path, engine=RayPilots(), on_progress=kill)
    kept = {path.name for path in (tmp_path / "pilots").iterdir()}
    assert {name[:2] for name in kept} == {"00"}
    found = foretold(stored, out=tmp_path, engine=RayPilots())
    assert sent == [0, 1, 2], "the first rate was not sent again"
    assert numbers(found) == numbers(whole)
    assert found.places.equals(whole.places)


def test_one_process_goes_on_with_what_a_cluster_began(stored, tmp_path, monkeypatch):
    whole, sent = foretold(stored, out=tmp_path), []
    monkeypatch.setattr(borngap.pilot.ray, "answers", here(sent))
    (tmp_path / "summary.json").unlink()
    (tmp_path / "pilots" / "01-0-0.json").unlink()
    assert numbers(foretold(stored, out=tmp_path, engine=RayPilots())) == numbers(whole)
    assert sent == [1]


def test_a_worker_that_finds_another_model_refuses(stored, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(borngap.pilot.ray, "answers", here([]))
    other = tiny("llama-tied", len(tokenizer), seed=1)
    with pytest.raises(UserError, match=r"(?s)a worker's model is another one.*loaded by its name"):
        run(tokenizer, other, name=str(stored), engine=RayPilots(), data=ROWS)


def test_ray_is_an_extra(stored, monkeypatch):
    monkeypatch.setattr("borngap.ray.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(UserError, match=r"(?s)Ray is not installed.*--engine process"):
        foretold(stored, engine=RayPilots())


def test_what_ray_prints_is_not_the_commands_output(monkeypatch, capsys):
    def wait(pending):
        print("(raylet) Task failed due to oom")
        return pending, []

    def get(done):
        return list(done)

    exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=OSError)
    ended = []
    fake = SimpleNamespace(
        init=lambda **_: None, put=lambda setting: setting, wait=wait, get=get, exceptions=exceptions,
        shutdown=lambda: ended.append(True),
        remote=lambda **_: lambda carry_out: SimpleNamespace(remote=carry_out),
    )  # fmt: skip
    monkeypatch.setattr("borngap.ray.import_module", lambda _: fake)
    assert list(answers(lambda setting, task: setting + task, 1, [(2,), (3,)], 1, None, instead="")) == [3, 4]
    print("{}")
    out, err = capsys.readouterr()
    assert (out, err, ended) == ("{}\n", "(raylet) Task failed due to oom\n", [True])


def test_workers_are_counted_from_one():
    with pytest.raises(UserError, match="workers is out of range"):
        RayPilots(workers=0)


def test_what_is_sent_holds_no_model(stored, monkeypatch):
    seen = []

    def look(_, setting, *__, **___):
        seen.append(setting)
        return iter(())

    monkeypatch.setattr(borngap.pilot.ray, "answers", look)
    foretold(stored, engine=RayPilots())
    job, work, digest, device = seen[0]
    assert (job.loaded.model, job.asked.held_out) == (None, None)
    assert (device, digest) == ("cpu", weights_digest(load(str(stored)).model))
    assert len(work.lookout.spots) > 3
