"""Reports of RUNs that a callback or a tracker wrote: what the host told stands where a plan says nothing."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig, get_peft_model
from tests.fits import faults
from tests.hosts import CONTEXTS, LORA, TIED, trainer
from tests.runs import make_run

import borngap
from borngap.context import Context
from borngap.report.charts.pictures import pictures
from borngap.report.records import Summary
from borngap.report.report import report_of
from borngap.track.callback import BornGapCallback


def reported(folder, *, geometry=False):
    return report_of(folder, with_geometry=geometry)


def rewritten(folder, host):
    """A RUN without what only the reference loop's plan says, with another host."""
    path = folder / "run.json"
    head = json.loads(path.read_text())
    for key in ("model", "method", "rate", "schedule", "steps", "seed"):
        head["plan"].pop(key)
    head["plan"]["command"] = "track"
    head["environment"]["host"] = host
    path.write_text(json.dumps(head))
    return folder


def test_a_trainers_run_names_model_method_rate_and_steps(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=1, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], max_steps=2, lr_scheduler_type="linear", warmup_steps=1).train()
    made = reported(tmp_path / "run", geometry=True)
    told = made.summary["runs"][0]
    assert told["model"] == TIED
    assert made.summary["title"] == f"Full fine-tuning of {TIED}"
    assert told["dose"] == "2 steps at learning rate 1e−3 (linear schedule)"
    assert told["label"] == "full, rate 1e−3"
    assert f"{TIED}; full; rate 1e−3 (linear); watched in transformers.Trainer; 2 steps; seed 42" in told["made"]
    assert ["host: arguments: weight_decay", "0"] in told["environment"]
    assert ["host: model: class", "GPT2LMHeadModel"] in told["environment"]
    assert {c["used_rate"] for c in made.summary["contexts"]} == {1e-3}
    assert not any("not known" in c["needed"]["why"] for c in made.summary["contexts"])
    assert made.summary["geometry"][0]["matrices"], "its weights at the start were those of the bundled model"


def test_watched_contexts_that_stay_behind_get_one_sentence_that_helps(tmp_path):
    many = [Context(f"{CONTEXTS[1].prompt} {i}", " dictionary", " list") for i in range(6)]
    watcher = BornGapCallback([*many, CONTEXTS[0]], every=1, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], max_steps=1, learning_rate=1e-9).train()
    made = reported(tmp_path / "run")
    behind = [c for c in made.summary["contexts"] if c["outcome"] == "unresolved"]
    assert {(c["advice"], c["needed"]["why"]) for c in behind} == {("", "")}
    assert len(made.summary["contexts"]) > len(behind) > 2
    (said,) = made.summary["runs"][0]["notes"]
    assert said.startswith(f"{len(behind)} contexts stayed behind. A watched context is not trained on by itself")
    for remedy in ("more rows", "all linear layers", "full fine-tuning", "looks at the rival", "no damaged rows"):
        assert remedy in said
    for page in (made.markdown, made.html):
        assert page.count("What helps: more rows with these words") == page.count("stayed behind") >= 1
        assert "not known:" not in page
        assert "raise the rate" not in page
    assert made.markdown.count("What helps") == 1
    assert watcher.verdicts[0]["advice"].startswith("more rows with these words")
    assert watcher.verdicts[-1]["advice"] == "nothing to train: the base model already has it"


def test_a_lora_of_a_trainer_is_named_so(tmp_path):
    loaded = borngap.load(TIED)
    model = get_peft_model(loaded.model, LoraConfig(r=2, target_modules=LORA[TIED], fan_in_fan_out=True))
    watcher = BornGapCallback(CONTEXTS[:1], every=1, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], model=model, max_steps=1).train()
    made = reported(tmp_path / "run")
    assert made.summary["title"] == f"LoRA of {TIED}"
    assert made.summary["runs"][0]["dose"] == "1 step at learning rate 1e−3"


@pytest.mark.parametrize(("host", "title", "dose"), [
    ({}, "Training of a model that the run does not name", "50 steps"),
    ({"model": {"class": "GPT2LMHeadModel"}, "learning_rates": [1e-4, 1e-3]}, "Training of a GPT2LMHeadModel",
     "50 steps"),
    ({"arguments": {"learning_rate": 2e-5}, "model": {"name": "org/own", "parameters": 9, "trained_parameters": 3}},
     "Training of 3 of 9 parameters of org/own", "50 steps at learning rate 2e−5"),
    ({"arguments": "odd", "model": [1], "learning_rates": "x"}, "Training of a model that the run does not name",
     "50 steps"),
])  # fmt: skip
def test_what_a_host_did_not_tell_is_left_open(tmp_path, host, title, dose):
    made = reported(rewritten(make_run(tmp_path / "run", ["unresolved"]), host))
    assert made.summary["title"] == title
    assert made.summary["runs"][0]["dose"] == dose
    assert dose in made.summary["runs"][0]["verdict"]
    assert made.html
    assert made.markdown


def test_the_reference_loops_plan_stands(tmp_path):
    folder = make_run(tmp_path / "run", ["resolved"])
    path = folder / "run.json"
    head = json.loads(path.read_text())
    head["environment"]["host"] = {"learning_rates": [5.0], "model": {"name": "another"}}
    path.write_text(json.dumps(head))
    told = reported(folder).summary["runs"][0]
    assert (told["model"], told["label"]) == ("docs-gpt2-s", "full, rate 2e−4")


def test_terms_that_were_watched_get_a_sentence(tmp_path):
    texts = ["Call the method", "It returns a dictionary", "Raise an exception"]
    pairs = [("method", "function"), ("dictionary", "list"), ("error", "exception")]
    watcher = BornGapCallback(terms=pairs, dataset=texts, allowed=[2], every=1, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], max_steps=2).train()
    (made,) = reported(tmp_path / "run").summary["runs"]
    (said,) = [note for note in made["notes"] if note.startswith("Terms")]
    first, *_, last = borngap.read_run(tmp_path / "run").usage.rows(named=True)
    assert said.startswith("Terms from step 0 to 2: success ")
    assert f"over-use {first['over_use']:g} → {last['over_use']:g}; the largest success was " in said
    assert "places" not in {name for name, _ in made["settings"]}
    _check_chart(reported(tmp_path / "run"), borngap.read_run(tmp_path / "run").usage)
    path = tmp_path / "run" / "run.json"
    head = json.loads(path.read_text())
    head["plan"]["places"][0].pop("term")
    path.write_text(json.dumps(head))
    (damaged,) = reported(tmp_path / "run").summary["runs"]
    assert not any(note.startswith("Terms") for note in damaged["notes"])
    assert reported(tmp_path / "run").summary["terms"] == []
    assert 'id="terms"' not in reported(tmp_path / "run").html


def _check_chart(made, usage):
    """The chart of terms shows what the run recorded, on the page, as a picture and as a table."""
    assert list(faults(made.summary, Summary)) == []
    (terms,) = made.summary["terms"]
    assert (terms["run"], terms["series"]["step"]) == (0, usage["step"].to_list())
    for name in ("success", "first", "over_use"):
        assert terms["series"][name] == pytest.approx(usage[name].to_list(), abs=1e-4)
    assert 'id="still-terms-0"' in made.html
    assert "## Terms over the steps\n\n| step | success | first choice | over-use |" in made.markdown
    drawn = pictures(made.summary)["run-1-terms"]
    assert drawn.specification["datasets"]["series"][-1]["success"] == terms["series"]["success"][-1]
    assert all(name in drawn.svg for name in ("first choice", "over-use", "100%"))
