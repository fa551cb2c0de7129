"""Remedies tried as pilots: what each changes, what it gains and costs, which to take; resumed, and refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.test_forecast_runs import HELD_OUT, ROWS, TERMS, TRAINING, numbers
from tests.tiny import tiny

import borngap
from borngap.data.rows import of_objects
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.pilot.estimates import PlaceForecasts
from borngap.pilot.places.look import BIASES
from borngap.pilot.places.watched import find
from borngap.pilot.prepare import asked_of, prepare_run
from borngap.pilot.settings import Piloting
from borngap.remedies.choice import UNKNOWN_OVER_USE, Candidate, Evidence, remedy_choice
from borngap.remedies.jobs import remedy_job
from borngap.remedies.outcomes import Ended, Measure, PlainRun, RemedyOutcome
from borngap.remedies.paste import NamedFiles, pasted, reading_options
from borngap.remedies.remedy import Remedy, read_remedies
from borngap.remedies.settings import Remedying
from borngap.training import Training
from borngap.usage.allowed import Allowed

GIVEN = {"terms": TERMS, "training": TRAINING, "name": "tiny", "allowed_field": "right", "budget": 0.3}


def trial(tokenizer, model=None, **options):
    model = tiny("llama-tied", len(tokenizer)) if model is None else model
    return borngap.remedy_search(model, tokenizer, ROWS, HELD_OUT, **GIVEN | options)


def planned(tokenizer, training=TRAINING, **settings):
    loaded = Loaded("tiny", tiny("llama-tied", len(tokenizer)), tokenizer)
    asked = asked_of(HELD_OUT, TERMS, None, Allowed(None, "right"))
    return prepare_run(loaded, of_objects(ROWS), asked, training, Piloting(**settings))


@pytest.mark.parametrize(("text", "names"), [
    ("margin:3,2,weight:10", ["margin:3,2", "weight:10"]),
    (" none , rate:2 ,epochs:0.5,bias", ["rate:2", "epochs:0.5", "bias"]),
    ("margin:3,2+head,upsample:4+rate:2", ["head+margin:3,2", "rate:2+upsample:4"]),
    (("margin:3,2", "head"), ["margin:3,2", "head"]),
])  # fmt: skip
def test_remedies_are_read(text, names):
    assert [remedy.name for remedy in read_remedies(text)] == ["none", *names]


@pytest.mark.parametrize(("text", "message"), [
    ("", "can't read the remedy"), ("none", "these remedies can't be tried"), ("dpo", "can't read the remedy"),
    ("margin:3", "can't read the loss on rivals"), ("margin:-1,2", "the weight is out of range"),
    ("weight:0", "a remedy changes nothing"), ("rate:1", "rate is out of range"), ("rate:inf", "rate is out of range"),
    ("epochs:x", "epochs is out of range"), ("upsample:1.5", "upsample is out of range"), ("rate:nan", "rate is out"),
    ("head,head", "these remedies can't be tried"), ("rate:2+rate:3", "changes one thing twice"),
    ("bias+head", "can't read the remedy"), ("margin:3,2+head,head+margin:3,2", "these remedies can't be tried"),
])  # fmt: skip
def test_what_is_no_remedy_is_one_error(text, message):
    with pytest.raises(UserError, match=message):
        Remedying(remedies=text)


def test_pilots_of_another_rate_or_with_the_head_are_noisier():
    told = {
        remedy.name: remedy.is_as_noisy for remedy in read_remedies("weight:3,rate:2,head,head+weight:3,upsample:2")
    }
    assert told == {"none": True, "weight:3": True, "rate:2": False, "head": False, "head+weight:3": False,
                    "upsample:2": True}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), [
    ({"max_loss": -0.1}, "max_loss"), ({"max_over_use": 101}, "max_over_use"), ({"budget": 0}, "budget"),
])  # fmt: skip
def test_limits_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message.replace("_", "."), check=lambda e: "out of range" in str(e)):
        Remedying(**options)


def test_each_remedy_changes_what_it_says(tokenizer):
    plain = planned(tokenizer, Training(method="lora", rate=1e-3, steps=40, batch_size=4, schedule="linear"))
    jobs = {
        remedy.name: remedy_job(remedy, plain, of_objects(ROWS))
        for remedy in read_remedies("margin:3,2,rate:2,epochs:2,upsample:3,head+weight:4")
    }
    trained = {name: job.plan.training for name, job in jobs.items()}
    assert trained["none"] == plain.plan.training
    assert str(jobs["margin:3,2"].rivals.form) == "margin:3,2"
    assert jobs["none"].rivals is None
    assert jobs["margin:3,2"].plan.steps == jobs["none"].plan.steps, "the same rows in the same order"
    assert trained["rate:2"].rate == 2e-3
    assert len(jobs["epochs:2"].plan.steps) == 80
    assert trained["head+weight:4"].lora_targets == ("attention", "readout")
    assert str(jobs["head+weight:4"].rivals.form) == "weight:4"
    more = jobs["upsample:3"].plan
    assert len(more.steps) == 40, "as many steps as without"
    assert len(more.rows) == len(ROWS) + 2 * sum("shame" in row["text"] for row in ROWS)
    by_epochs = planned(tokenizer, epochs=2)
    assert len(remedy_job(Remedy("epochs:1.5", epochs=1.5), by_epochs, of_objects(ROWS)).plan.steps) == 180
    upsampled = remedy_job(Remedy("upsample:2", upsample=2), by_epochs, of_objects(ROWS))
    assert len(upsampled.plan.steps) == len(by_epochs.plan.steps) == 120
    with pytest.raises(UserError, match="the head can't be a target"):
        remedy_job(Remedy("head", head=True), by_epochs, of_objects(ROWS))
    with pytest.raises(UserError, match="the head is a target already"):
        remedy_job(Remedy("head", head=True), jobs["head+weight:4"], of_objects(ROWS))


def test_a_look_knows_the_loss_under_a_bias(tokenizer):
    plain = planned(tokenizer)
    model = plain.loaded.model
    lookout = find(plain.loaded, plain.asked, TRAINING, plain.settings, 1e9, 0.5).lookout
    rows = lookout.look(model).rows
    shame, guilt = (tokenizer(word)["input_ids"][0] for word in (" shame", " guilt"))
    assert {(s.gold_id, s.rival_id) for s in lookout.spots} == {(shame, guilt), (guilt, shame)}
    expected = np.zeros_like(rows)
    for number, (example, row) in enumerate(zip(lookout.held_out, expected, strict=True)):
        logits = model(input_ids=torch.tensor([example.ids])).logits.detach()[0, :-1].double()
        gold = torch.tensor(example.ids[1:])
        losses = []
        for bias in (0.0, *BIASES):
            moved = logits.clone()
            moved[:, guilt] -= bias
            losses.append(float(torch.nn.functional.cross_entropy(moved, gold, reduction="sum")))
        expected[number] = [len(gold), *losses]
        assert row is not None
    assert rows == pytest.approx(expected, rel=1e-5)
    assert rows[:, 0].sum() == sum(len(example.ids) - 1 for example in lookout.held_out)


class At:
    """A watched place, as far as an outcome asks."""

    def __init__(self, kind):
        self.kind = kind


def ended(draws, rows):
    draws = np.array(draws, dtype=float)
    return Ended(PlaceForecasts(draws[0] - 1, draws.mean(0), np.ones(draws.shape[1]), draws), np.array(rows, float))


def test_a_bias_gives_a_runs_over_use_and_its_price_is_that_of_the_look():
    random = np.random.default_rng(3)
    spots = [At("due")] * 40 + [At("right")] * 30
    columns = np.array([0.0, 0.01, 0.03, 0.08, 0.15, 0.4, 0.9, 2.0])
    rows = [[10, *(30 + 10 * columns)], [30, *(60 + 30 * columns)]]
    plain = ended(random.normal(0, 1, (500, 70)), rows)
    other = ended(
        random.normal(0.5, 1, (500, 70)) * np.where(np.arange(70) < 40, 1, -1), np.array(rows) + (np.arange(9) > 0) * 4
    )
    held = PlainRun(spots, plain)
    found = held.of(other)
    due, right = plain.places.draws[:, :40], plain.places.draws[:, 40:]
    assert found.gain.value == pytest.approx((other.places.draws[:, :40] > 0).mean() - (due > 0).mean())
    assert found.loss.value == pytest.approx(8 / 40)
    assert found.loss.low <= found.loss.value <= found.loss.high
    shares = [(one.places.draws[:, :40] > 0).mean(1) for one in (other, plain)]
    apart = found.gain.high - found.gain.low
    assert apart == pytest.approx(2 * 1.645 * np.hypot(*(share.std() for share in shares)), rel=0.15), (
        "independent errors"
    )
    assert held.of(other, knows_loss=False).loss is None
    beside = found.bias
    assert (right - beside.nat < 0).mean() == pytest.approx(found.over_use.value, abs=1e-3)
    assert beside.success == pytest.approx((due + beside.nat > 0).mean())
    assert beside.loss == pytest.approx(np.interp(beside.nat, (0, *BIASES), columns))
    sure = PlainRun(spots, ended(np.repeat(np.where(np.arange(70) < 60, 0.05, -3.0)[None], 9, 0), rows))
    assert (sure.beside(1 / 3).nat, sure.beside(1 / 3).loss) == (0.0, 0.0), "its own over-use: no bias"
    assert (sure.beside(0.3).nat, sure.beside(1.0).nat) == (-3.0, pytest.approx(0.05))
    biased, bias = held.biased(0.02, 1.0)
    assert bias == pytest.approx(0.75, abs=0.01), "half way between two biases of 0.01 and 0.03 nat"
    assert biased.loss.value == pytest.approx(0.02, abs=1e-3)
    biased, bias = held.biased(10, 0.1)
    assert (right - bias < 0).mean() == pytest.approx((right < 0).mean() + 0.1, abs=0.01)
    assert biased.over_use_more.value == pytest.approx(0.1, abs=0.01)
    assert biased.gain.value == pytest.approx((due + bias > 0).mean() - (due > 0).mean())
    alone = PlainRun(spots[:40], ended(due, rows))
    assert alone.biased(0.02, 1.0) is None
    assert alone.of(ended(due + 1, rows)).over_use is None


def test_an_added_loss_is_no_surer_than_its_pilots():
    spots, draws = [At("due")] * 4, np.ones((9, 4))
    rows = np.array([[10, 30, *[30] * len(BIASES)], [30, 60, *[60] * len(BIASES)]], dtype=float)
    dearer = rows + (np.arange(rows.shape[1]) == 1) * 0.1 * rows[:, :1]
    loss = PlainRun(spots, ended(draws, rows)).of(ended(draws, dearer)).loss
    half = np.hypot(0.4 * 0.1, 0.02)
    assert (loss.value, loss.low, loss.high) == pytest.approx((0.1, 0.1 - half, 0.1 + half)), "all rows add alike"


def candidate(name, gain, loss, over, cost=1.0, low=None):
    share = None if over is None else Measure(0.3 + over)
    outcome = RemedyOutcome(
        Measure(0.5 + gain), Measure(gain, gain / 2 if low is None else low, 2 * gain), share,
        None if over is None else Measure(over), Measure(loss),
    )  # fmt: skip
    return Candidate(Remedy(name), outcome, cost)


def chosen(tried, max_loss, max_over_use):
    return remedy_choice(tried, max_loss, max_over_use, Evidence(9, "more held-out rows", "a larger --budget"))


def test_the_most_success_within_the_limits_is_taken_and_of_near_equals_the_cheaper():
    plain = Candidate(Remedy("none"), RemedyOutcome(Measure(0.5), over_use=Measure(0.3)), 1.0)
    strong, mild = candidate("weight:10", 0.3, 0.09, 0.2), candidate("margin:1,2", 0.1, 0.01, 0.019)
    bias, longer = candidate("bias", 0.095, 0.0, 0.02), candidate("epochs:2", 0.105, -0.01, 0.01, 2.0)
    assert chosen([plain, strong, mild], 0.02, 2).remedy == "margin:1,2"
    assert chosen([plain, strong, mild], 0.1, 20).remedy == "weight:10"
    choice = chosen([plain, strong, longer, mild, bias], 0.02, 2)
    assert (choice.remedy, "2 others within a point" in choice.why) == ("bias", True)
    assert chosen([plain, longer, mild], 0.02, 2).remedy == "margin:1,2", "its run costs half"
    unknown = Candidate(Remedy("rate:2"), replace(mild.outcome, loss=None), 1.0)
    assert chosen([plain, unknown], 0.02, 2).remedy is None, "what its loss is nobody knows"
    none = chosen([plain, strong, unknown, mild], 0.005, 1)
    assert (none.remedy, "nearest: margin:1,2" in none.why) == (None, True)
    unsure = chosen([plain, candidate("margin:1,2", 0.05, 0.0, 0.0, low=-0.01)], 0.02, 2).why
    assert unsure.endswith("not sure (its interval holds 0): a larger --budget would tell")
    unsure = chosen([plain, candidate("bias", 0.05, 0.0, 0.0, low=0.0)], 0.02, 2).why
    assert unsure.endswith("not sure (its interval holds 0): more held-out rows would tell"), "a bias has no pilot"
    both = replace(mild.outcome, over_use_more=Measure(0.0, -0.1, 0.3))
    assert chosen([plain, Candidate(mild.remedy, both, 1.0)], 0.02, 2).why.endswith(
        "right): a larger --budget or more held-out rows would tell"
    )
    dear = replace(mild.outcome, loss=Measure(0.01, -0.01, 0.03))
    dear_why = chosen([plain, Candidate(mild.remedy, dear, 1.0)], 0.02, 2).why
    assert "its held-out loss may be above that limit (-0.010 to +0.030 nat): a larger --budget would" in dear_why
    assert "held-out loss may" not in chosen([plain, Candidate(bias.remedy, dear, 1.0)], 0.02, 2).why, "no pilot"
    over = replace(bias.outcome, over_use_more=Measure(0.02, 0.0, 0.11))
    assert chosen([plain, Candidate(bias.remedy, over, 1.0)], 0.02, 2).why.endswith(
        "its over-use may be above that limit (0 to +11 points, on 9 places where the other word is right): more "
        "held-out rows would tell"
    )
    assert chosen([plain, candidate("rate:2", -0.05, 0.0, 0.0)], 0.02, 2).remedy is None
    blind = [Candidate(one.remedy, RemedyOutcome(one.outcome.success, one.outcome.gain), 1.0) for one in (mild, longer)]
    assert chosen(blind, 0.02, 2) == chosen(blind, 1, 100)
    assert chosen(blind, 0.02, 2).why == UNKNOWN_OVER_USE


def test_the_lines_to_paste_are_the_remedy(tokenizer):
    plain = planned(tokenizer, Training(method="lora", rate=1e-3, steps=40, batch_size=4))
    read = reading_options(Piloting(text_field="body", max_length=32, limit=9), "test", None)
    named = NamedFiles("tiny", "my rows.jsonl", "held.jsonl", "style.csv", ("--allowed-field", "right"), read)

    def lines(text):
        remedy = read_remedies(text)[1]
        return pasted(remedy, remedy_job(remedy, plain, of_objects(ROWS)), named, RemedyOutcome())

    loss = next(line for line in lines("margin:3,1.5") if line.startswith("loss"))
    with pytest.raises(UserError, match=r"style\.csv"):
        eval(loss.removeprefix("loss = "))  # what is pasted is run
    made = eval(loss.removeprefix("loss = ").replace('"style.csv"', "[('shame', 'guilt')]"))
    assert str(made.form) == "margin:3,1.5"
    assert lines("rate:2") == ["args = TrainingArguments(..., learning_rate=0.002)"]
    assert lines("epochs:2+rate:0.5") == ["args = TrainingArguments(..., learning_rate=0.0005, max_steps=80)"]
    assert lines("head") == ["config = LoraConfig(..., target_modules=['lm_head', 'q_proj', 'v_proj'])"]
    command, *rest = lines("upsample:4")
    options = "--text-field body --max-length 32 --limit 9 --split test"
    assert command == f"$ borngap terms 'my rows.jsonl' -m tiny -t style.csv {options} " + (
        "--export-rows upsampled.jsonl --rows-times 4"
    )
    assert reading_options(Piloting(max_length=32, packing=True), "train", "en") == ("--language", "en")
    assert rest[-1] == "args = TrainingArguments(..., max_steps=40)"
    outcome = RemedyOutcome(over_use=Measure(0.2), over_use_more=Measure(0.015))
    bias = pasted(Remedy("bias"), plain, named, outcome)
    assert f"{options} --allowed-field right --export-bias bias.json --bias-over-use 0.015" in bias[0]
    assert pasted(Remedy("none"), plain, named, outcome) == []


def test_under_adapters_changes_may_be_further_off(tokenizer, monkeypatch):
    training = replace(TRAINING, method="lora", rate=1e-2)
    made = []
    for own in (0.3, 0.6):
        monkeypatch.setattr("borngap.remedies.trying._ADAPTER_BIAS", own)
        made.append(trial(tokenizer, training=training, remedies="margin:3,2").summary["remedies"][2]["success"])
    narrow, wide = (one["high"] - one["low"] for one in made)
    assert narrow < wide


def test_a_search_tries_tells_and_goes_on(tokenizer, tmp_path):
    model = tiny("llama-tied", len(tokenizer))
    before = [p.detach().clone() for p in model.parameters()]
    seen = []

    def end(state):
        seen.append(state.doing)
        if state.doing.startswith("margin") and state.done == 3:
            raise KeyboardInterrupt

    options = {"remedies": "margin:3,2,bias", "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        trial(tokenizer, model, on_progress=end, **options)
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))
    with pytest.raises(UserError, match="is not finished"):
        borngap.read_remedy_search(tmp_path / "out")
    kept = (tmp_path / "out" / "tried" / "none" / "summary.json").stat().st_mtime_ns
    found, alone = trial(tokenizer, model, **options), trial(tokenizer, remedies="margin:3,2,bias")
    assert numbers(found) == numbers(alone), "cut off and gone on with it is the same, in memory too"
    assert found.summary == borngap.read_remedy_search(tmp_path / "out").summary
    assert "hardly moves" not in "".join(found.summary["notes"])
    assert (tmp_path / "out" / "tried" / "none" / "summary.json").stat().st_mtime_ns == kept
    assert any(doing.startswith("margin:3,2 (2 of 2): pilot 1 of 1") for doing in seen)
    more = trial(tokenizer, model, remedies="margin:3,2,rate:2,bias", out=tmp_path / "out")
    assert [e for e in more.summary["remedies"] if e["remedy"] == "margin:3,2"] == [
        e for e in found.summary["remedies"] if e["remedy"] == "margin:3,2"
    ]
    entries = {entry["remedy"]: entry for entry in more.summary["remedies"]}
    assert list(entries) == ["no training", "none", "margin:3,2", "rate:2", "bias"]
    assert entries["none"]["gain"] is entries["none"]["loss"] is entries["no training"]["loss"] is None
    margin = entries["margin:3,2"]
    assert margin["gain"]["value"] == pytest.approx(margin["success"]["value"] - entries["none"]["success"]["value"])
    assert margin["gain"]["value"] > 0
    assert (margin["loss"] is None, entries["rate:2"]["loss"], entries["rate:2"]["meets"]) == (False, None, False)
    assert any(note.startswith("rate:2: no pilot tells what it does") for note in more.summary["notes"])
    assert margin["bias"]["success"] == pytest.approx(margin["success"]["value"], abs=0.5)
    assert entries["bias"]["over_use_more"]["value"] <= 0.02 + 1e-9
    assert entries["bias"]["meets"] in {True, False}
    assert {entries[name]["run_cost"] for name in ("none", "margin:3,2", "rate:2", "bias")} == {1.0}
    assert 0.5 < more.summary["cost"]["of_run"] < 3 * 0.3 + 0.1
    forecast = borngap.read_forecast(tmp_path / "out" / "tried" / "margin-3-2").summary
    assert forecast["all"]["ahead_after"] == pytest.approx(margin["success"]["value"])
    assert forecast["run"]["training"]["rival_loss"] == "margin:3,2"
    assert {row["remedy"] for row in more.figure.rows} == {"no training", "none", "margin:3,2", "rate:2", "logit bias"}
    assert "RemedySearch" in repr(more)


def test_without_places_for_over_use_nothing_is_recommended(tokenizer):
    idle = replace(TRAINING, rate=1e-9)
    found = trial(tokenizer, allowed_field=None, training=idle, remedies="margin:3,2,bias").summary
    assert (found["take"], found["why"], found["over_use_why"]) == (None, UNKNOWN_OVER_USE, UNKNOWN_OVER_USE)
    assert [entry["remedy"] for entry in found["remedies"]] == ["no training", "none", "margin:3,2"]
    assert found["notes"][0].startswith("the planned run hardly moves a word: at 100 % of the places")
    assert found["notes"].count("bias: not tried, since over-use is not known") == 1
    assert all(entry["over_use"] is entry["meets"] is entry["bias"] is None for entry in found["remedies"])


def test_a_pilot_that_goes_too_far_tells_nothing(tokenizer, monkeypatch):
    monkeypatch.setattr("borngap.pilot.pilots._WORSE", 0.01)
    found = trial(tokenizer, remedies="rate:2,bias").summary
    entries = {entry["remedy"]: entry for entry in found["remedies"]}
    assert list(entries) == ["no training", "none", "rate:2"]
    for name in ("none", "rate:2"):
        assert "the held-out loss of a pilot of" in entries[name]["why"]
        assert entries[name]["success"] is entries[name]["gain"] is entries[name]["loss"] is None
    assert (found["take"], found["why"], found["bias_curve"]) == (None, entries["none"]["why"], [])
    assert "bias: not tried, since no pilot of the planned run was fit for a forecast" in found["notes"]


def test_another_plan_in_the_folder_and_too_small_a_budget_are_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"the budget is too small for a pilot(.|\n)*fix: --budget [\d.]+ or more; so "):
        trial(tokenizer, budget=0.01, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    trial(tokenizer, remedies="rate:2", out=tmp_path / "out")
    with pytest.raises(UserError, match=r"another plan(.|\n)*found: settings.places: 300 there, 7 now\n"):
        trial(tokenizer, remedies="rate:2", out=tmp_path / "out", places=7)
    with pytest.raises(UserError, match="is a REMEDIES, the result of an earlier command"):
        borngap.forecast_run(tiny("gpt2", len(tokenizer)), tokenizer, tmp_path / "out", HELD_OUT)


def test_the_command_prints_and_keeps_what_the_search_says(run, tmp_path):
    for name, rows in (("train", ROWS), ("held", HELD_OUT)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "style.csv").write_text("use,avoid\nshame,guilt\n")
    command = ["remedy", "-m", "docs-gpt2-s", "--data", tmp_path / "train.jsonl", "--watch", tmp_path / "held.jsonl",
               "-t", tmp_path / "style.csv", "--method", "full", "--lr", "1e-3", "--steps", "30", "--batch-size", "4",
               "--budget", "0.5", "--remedies", "margin:3,2,bias", "--out", tmp_path / "out"]  # fmt: skip
    code, text, errors = run(*command, "--allowed-field", "right")
    assert code == 0, errors
    assert text.startswith(("Take ", "No remedy is recommended: "))
    for part in ("held-out places of your words", "What each gains, in", "What each costs, in", "no training",
                 "bias instead", "of the planned run", "remedies.svg"):  # fmt: skip
        assert part in text, part
    assert (tmp_path / "out" / "remedies.svg").read_text().startswith("<svg")
    told, made = borngap.read_remedy_search(tmp_path / "out").summary, borngap.report_of(tmp_path / "out").summary
    gains = [None if e["gain"] is None else round(e["gain"]["value"], 3) for e in told["remedies"]]
    assert [r["gain"]["value"] and round(r["gain"]["value"], 3) for r in made["remedies"]] == gains
    code, again, _ = run(*command, "--allowed-field", "right", "--json")
    assert (code, json.loads(again)) == (0, borngap.read_remedy_search(tmp_path / "out").summary)
    for steps in ("30", "50"):  # that the default is given too
        code, _, errors = run(*command, "--epochs", "2", "--steps", steps)
        assert (code, errors.count("error:")) == (2, 1)
        assert "--epochs and --steps are given" in errors
    code, _, errors = run(*command, "--optimizer", "sgd")
    assert (code, "No such option" in errors) == (2, True)
