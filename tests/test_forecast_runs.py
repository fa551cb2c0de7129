"""Forecasts of runs on data sets: from rows and terms to shares, resumed, repeated, within their budget."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tiny import tiny

import borngap
from borngap.data.rows import of_objects
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.pilot.design import Design, look_tokens
from borngap.pilot.draw import counts_of, pilot_steps
from borngap.pilot.pilotfolder import read_forecast
from borngap.pilot.pilots import RatePilots
from borngap.pilot.places.watched import find
from borngap.pilot.plan import run_plan
from borngap.pilot.prepare import asked_of, forecast_run, prepare_run, with_passes
from borngap.pilot.record import best_entry, idle_notes, with_rates
from borngap.pilot.rows import rows_with, run_data
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import prepared
from borngap.training import Training
from borngap.usage.allowed import Allowed

BEFORE = ["He said that she felt", "The old man felt", "A mind of", "she said that he felt", "The method returns"]
ROWS = [{"text": f"{BEFORE[i % 5]} {('shame', 'guilt')[i % 3 == 2]} and an act {i % 4}.", "right": i % 3 == 2}
        for i in range(240)]  # fmt: skip
HELD_OUT = ROWS[5:65]
TERMS = [("shame", "guilt")]
TRAINING = Training(method="full", rate=1e-3, steps=80, batch_size=4, schedule="linear")


def run(tokenizer, model=None, data=ROWS, watch=HELD_OUT, **options):
    model = tiny("llama-tied", len(tokenizer)) if model is None else model
    given = {"terms": TERMS, "training": TRAINING, "name": "tiny", "allowed_field": "right", "budget": 0.3}
    return forecast_run(model, tokenizer, data, watch, **given | options)


def numbers(found):
    """All that a forecast says but when and how fast."""
    summary = json.loads(json.dumps(found.to_dict()))
    summary.pop("environment")
    summary["cost"].pop("seconds")
    return summary


def test_a_forecast_of_terms(tokenizer):
    model = tiny("llama-tied", len(tokenizer))
    before = [p.detach().clone() for p in model.parameters()]
    found = run(tokenizer, model)
    entry, cost = found.summary["all"], found.summary["cost"]
    kinds = found.places["kind"].to_list()
    assert (entry["places"], entry["right_avoid"]) == (kinds.count("due"), kinds.count("right"))
    assert min(entry["places"], entry["right_avoid"]) > 3
    assert 0 <= entry["low"] <= entry["ahead_after"] <= entry["high"] <= 1
    counts = [entry[name] for name in ("kept", "flips", "stays_behind", "lost", "undecided")]
    assert sum(counts) == entry["places"]
    (term,) = found.summary["terms"]
    assert term["places"] == entry["places"]
    assert term["rows"] == sum("shame" in row["text"] for row in ROWS) == 160, "the run goes through all of them"
    assert term["half_at"] is None, "one rate"
    assert 0.15 < cost["of_run"] <= 0.3
    assert cost["gradients"] == 2 * entry["pilot"]["steps"]
    assert entry["held_out_loss"] is None, "a pilot's loss is no forecast of the run's"
    assert entry["pilot_loss"] != entry["held_out_loss_before"]
    first = found.summary["places"][0]
    assert {"row", "offset", "gold", "rival", "base_gap", "forecast_gap", "low", "high", "prospect"} <= first.keys()
    assert first["low"] < first["forecast_gap"] < first["high"]
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert "places:" in repr(found)


def test_rows_with_a_word_are_those_of_the_run_in_which_it_is_taught(tokenizer):
    few = run(tokenizer, order="sequential", training=replace(TRAINING, steps=20), budget=1)
    assert few.summary["terms"][0]["rows"] == sum("shame" in row["text"] for row in ROWS[:80])
    said = [
        {"prompt": "the shame of an act", "completion": " the guilt"},
        {"prompt": "the guilt", "completion": " the Shame of shame and an act"},
    ]
    terms = asked_of(HELD_OUT, [*TERMS, ("act", "deed")], None, Allowed()).terms.terms
    for packing in (False, True):
        settings = Piloting(max_length=32, packing=packing)
        rows = run_data(of_objects(said), tokenizer, settings, len(tokenizer)).rows
        assert len(rows) == (1 if packing else 2)
        assert rows_with(rows, terms, tokenizer) == [1, 1]


def test_a_term_is_told_from_which_rate_on_it_leads_at_half_of_its_places():
    shares = {1e-4: (None, 0.2), 1e-3: (0.4, 0.5), 1e-2: (0.7, 0.1)}
    curve = [
        {
            "rate": rate,
            "terms": [{"where": i, "ahead_before": 0.1, "ahead_after": share} for i, share in enumerate(own)],
        }
        for rate, own in shares.items()
    ]
    assert [term["half_at"] for term in with_rates(curve, curve[0]["terms"])] == [1e-2, 1e-3]
    assert [term["half_at"] for term in with_rates(curve[2:], curve[2]["terms"])] == [None, None]
    led = [term | {"ahead_before": 0.5} for term in curve[0]["terms"]]
    assert [term["half_at"] for term in with_rates(curve, led)] == [None, None], "they led before"


def test_base_gaps_are_the_models_own(tokenizer):
    model = tiny("llama-tied", len(tokenizer))
    found = run(tokenizer, model)
    for place in found.summary["places"][:6]:
        ids = tokenizer(HELD_OUT[place["row"]]["text"])["input_ids"]
        logits = model(input_ids=torch.tensor([ids])).logits.detach()[0, place["offset"] - 1]
        gold, rival = (tokenizer(f" {place[side]}")["input_ids"][0] for side in ("gold", "rival"))
        assert ids[place["offset"]] == gold
        assert place["base_gap"] == pytest.approx(float(logits[gold] - logits[rival]), abs=1e-4)
    texts = {place["before"][-4:] for place in found.summary["places"]}
    assert texts <= {"felt", "d of", "urns"}


def test_it_foretells_what_the_run_does(tokenizer):
    """Words that the data teaches come ahead; the run itself, in the same order, agrees on most places."""
    from borngap.pilot.draw import PilotSteps
    from borngap.pilot.run import Trainee

    model = tiny("llama-tied", len(tokenizer))
    found = run(tokenizer, model, budget=0.5)
    loaded = Loaded("tiny", model, tokenizer)
    asked = asked_of(HELD_OUT, TERMS, None, Allowed(None, "right"))
    job = prepare_run(loaded, of_objects(ROWS), asked, TRAINING, Piloting(allowed_field="right"))
    lookout = find(loaded, asked, TRAINING, job.settings, 1e9).lookout
    trainee = Trainee(model)
    trainee.train(job.plan, PilotSteps(job.plan.steps, tuple(job.plan.rates), 1.0), 0)
    truth = {
        (s.example.row.number, s.offset): gap for s, gap in zip(lookout.spots, lookout.look(model).gaps, strict=True)
    }
    trainee.restore()
    places = found.summary["places"]
    ended = np.array([truth[place["row"], place["offset"]] for place in places])
    moved = ended - [place["base_gap"] for place in places]
    foretold = np.array([place["forecast_gap"] - place["base_gap"] for place in places])
    assert np.abs(moved).mean() > 0.3
    assert np.corrcoef(moved, foretold)[0, 1] > 0.8
    right = np.array([place["kind"] == "right" for place in places])
    assert moved[right].mean() < 0 < moved[~right].mean()
    assert np.abs(foretold[right].mean() / moved[right].mean() - 1) < 0.4
    assert np.abs(foretold[~right].mean() / moved[~right].mean() - 1) < 0.4
    assert np.abs(moved - foretold).mean() < 0.5 * np.abs(moved).mean()
    held = [place["low"] < end < place["high"] for place, end in zip(places, ended, strict=True)]
    assert np.mean(held) > 0.7


def test_the_same_seed_gives_the_same_forecast(tokenizer):
    model = tiny("llama-tied", len(tokenizer))
    first, again = run(tokenizer, model), run(tokenizer, model)
    assert numbers(first) == numbers(again)
    other = run(tokenizer, model, training=Training(**vars(TRAINING) | {"seed": 1}))
    assert numbers(other)["all"] != numbers(first)["all"]


class Killed(BaseException):
    """Ends a forecast at any moment, as a signal would."""


@pytest.mark.parametrize("moment", [("looking", None), ("pilot 1", 3), ("pilot 2", 1)])
def test_what_was_cut_off_goes_on(tokenizer, tmp_path, moment):
    whole = run(tokenizer, pilots=2, out=tmp_path / "whole")
    seen = []

    def kill(state):
        if state.doing.startswith(moment[0]) and state.done == moment[1]:
            raise Killed

    model = tiny("llama-tied", len(tokenizer))
    with pytest.raises(Killed):
        run(tokenizer, model, pilots=2, out=tmp_path / "cut", on_progress=kill)
    assert not (tmp_path / "cut" / "summary.json").exists()
    with pytest.raises(UserError, match="not finished"):
        read_forecast(tmp_path / "cut")
    found = run(tokenizer, model, pilots=2, out=tmp_path / "cut", on_progress=seen.append)
    assert numbers(found) == numbers(whole)
    assert found.places.equals(whole.places)
    trained = {state.doing.split(" of ")[0] for state in seen if state.doing.startswith("pilot")}
    assert trained == ({"pilot 2"} if moment[0] == "pilot 2" else {"pilot 1", "pilot 2"})


def test_a_finished_forecast_is_read_and_another_plan_refused(tokenizer, tmp_path):
    first = run(tokenizer, out=tmp_path)
    seen = []
    assert numbers(run(tokenizer, out=tmp_path, on_progress=seen.append)) == numbers(first)
    assert seen == []
    assert borngap.read_forecast(tmp_path).summary["all"] == first.summary["all"]
    with pytest.raises(UserError, match=r"(?s)holds a run of another plan.*settings"):
        run(tokenizer, out=tmp_path, budget=0.4)


def test_contexts_are_watched(tokenizer):
    contexts = [
        borngap.Context("The old man felt", " shame", " guilt"),
        borngap.Context("A mind of", " guilt", " shame"),
    ]
    found = run(tokenizer, watch=None, terms=None, contexts=contexts)
    assert [(p["gold"], p["rival"], p["kind"]) for p in found.summary["places"]] == [
        (" shame", " guilt", "context"), (" guilt", " shame", "context"),
    ]  # fmt: skip
    assert found.summary["all"]["held_out_loss_before"] is None
    logits = tiny("llama-tied", len(tokenizer))(
        input_ids=torch.tensor([tokenizer("A mind of")["input_ids"]])
    ).logits.detach()
    gold, rival = (tokenizer(word)["input_ids"][0] for word in (" guilt", " shame"))
    gap = float(logits[0, -1, gold] - logits[0, -1, rival])
    assert found.summary["places"][1]["base_gap"] == pytest.approx(gap, abs=1e-4)


def test_lora_leaves_a_plain_model(tokenizer):
    model = tiny("llama-tied", len(tokenizer))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = Training(method="lora", rate=3e-3, steps=80, batch_size=4, dropout=True, lora_dropout=0.1)
    found = run(tokenizer, model, training=training)
    assert found.summary["all"]["ahead_after"] is not None
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_rate_that_no_pilot_bears_abstains(tokenizer):
    found = run(tokenizer, training=Training(**vars(TRAINING) | {"rate": 30.0, "schedule": "constant"}))
    entry = found.summary["all"]
    assert entry["ahead_after"] is None
    assert "leaves the stable range" in entry["why"]
    assert "budget buys no shorter span" in entry["why"]
    assert entry["ahead_before"] is not None
    assert {place["prospect"] for place in found.summary["places"]} == {None}
    assert "none; at the rate 30" in repr(found)


def test_a_shorter_span_where_the_first_is_not_stable(tokenizer, monkeypatch):
    from borngap.pilot import run as pilot_run

    fired = []

    def explodes(losses):  # the first pilot, at its fourth step
        fired.extend([losses] if len(losses) == 4 and len(fired) < 2 else [])
        return len(losses) == 4 and len(fired) <= 2 and fired[-1] is losses

    plain = run(tokenizer).summary["all"]
    monkeypatch.setattr(pilot_run, "_explodes", explodes)
    found = run(tokenizer)
    entry, notes = found.summary["all"], found.summary["notes"]
    assert len(fired) == 2
    assert entry["ahead_after"] is not None
    assert any("done again with" in note for note in notes)
    assert entry["pilot"]["span"] < 0.7 * plain["pilot"]["span"]
    assert found.summary["cost"]["of_run"] <= 0.3


def test_rates_share_the_budget(tokenizer):
    found = run(tokenizer, rates=(1e-4, 1e-3, 30.0), budget=0.6)
    curve = found.summary["curve"]
    assert [entry["rate"] for entry in curve] == [1e-4, 1e-3, 30.0]
    assert curve[2]["ahead_after"] is None
    assert found.summary["cost"]["of_run"] <= 0.6
    assert found.summary["rate_to_use"] == found.summary["all"]["rate"]
    assert len(found.places) == 3 * len(found.summary["places"])


def entry(rate, ahead, over=None):
    return {"rate": rate, "ahead_after": ahead, "over_use_after": over}


def test_the_rate_to_use():
    assert best_entry([entry(1, 0.5), entry(2, 0.8), entry(3, 0.805)])["rate"] == 2
    assert best_entry([entry(1, 0.5, 0.1), entry(2, 0.8, 0.7)])["rate"] == 1, "over-use counts against it"
    assert best_entry([entry(1, None), entry(2, 0.2)])["rate"] == 2
    assert best_entry([entry(1, None)]) is None


@pytest.mark.parametrize(("schedule", "is_beginning"), [("constant", True), ("linear", False)])
def test_a_run_of_fewer_epochs_is_the_beginning_of_a_longer_one_where_the_rate_is_constant(
    tokenizer, schedule, is_beginning
):
    loaded = Loaded("tiny", tiny("llama-tied", len(tokenizer)), tokenizer)
    training, settings = Training(**vars(TRAINING) | {"schedule": schedule}), Piloting(epochs=4.0, budget=0.3)
    asked = asked_of(of_objects(HELD_OUT), TERMS, None, Allowed())
    job = with_passes(prepare_run(loaded, of_objects(ROWS), asked, training, settings), (1.0, 2.0, 4.0))
    short = run_plan(job.plan.rows, training, Piloting(epochs=2.0))
    count = len(short.steps)
    assert short.steps == job.plan.steps[:count]
    assert (short.rates == job.plan.rates[:count]) == is_beginning
    assert [epochs for epochs, _ in job.stops] == [1, 2, 4]
    assert [share for _, share in job.stops] == pytest.approx([0.25, 0.5, 1], abs=0.01)
    assert with_passes(job, (4.0,)).stops == job.stops


def cut_short(tokenizer, model, training, pilot):
    """Gaps after the steps of the same pilot up to a quarter of its dose."""
    settings = Piloting(epochs=4.0, budget=0.5, allowed_field="right")
    asked = asked_of(of_objects(HELD_OUT), TERMS, None, Allowed(None, "right"))
    job = prepare_run(Loaded("tiny", model, tokenizer), of_objects(ROWS), asked, training, settings)
    lookout = find(job.loaded, asked, training, job.settings, look_tokens(job.plan, 0.5, 5)).lookout
    counts = counts_of(job.plan, {spot.gold_id for spot in lookout.spots})
    whole = pilot_steps(job.plan, pilot["steps"], pilot["share"], counts, 0)
    count = next(k for k in range(1, pilot["steps"]) if sum(whole.rates[:k]) >= sum(whole.rates) / 4 - 1e-12)
    part = replace(whole, rows=whole.rows[:count], rates=whole.rates[:count], spans=whole.spans[:count])
    with prepared(job) as trainee:
        trainee.train(job.plan, part, 0)
        return lookout.look(trainee.model).gaps.tolist()


def test_epochs_are_told_by_one_pilot_read_where_their_dose_is_done(tokenizer, tmp_path):
    model, plan = tiny("llama-tied", len(tokenizer)), Training(**vars(TRAINING) | {"schedule": "constant"})
    options = {"training": plan, "budget": 0.5}
    found = run(tokenizer, model, passes=(1, 2, 4), out=tmp_path / "a", **options).summary
    stored = json.loads((tmp_path / "a" / "pilots" / "00-0-0.json").read_text())
    looked = json.loads((tmp_path / "a" / "base.json").read_text())["looked"]
    assert [entry["epochs"] for entry in found["curve"]] == [1, 2, 4]
    assert found["all"] in found["curve"]
    assert found["epochs_to_use"] == found["all"]["epochs"]
    assert stored["looked"] == 3 * looked
    assert stored["midway"][0] == pytest.approx(cut_short(tokenizer, model, plan, found["all"]["pilot"]))
    places = read_forecast(tmp_path / "a").places
    assert places["epochs"].unique().sort().to_list() == [1, 2, 4]
    alone = run(tokenizer, model, epochs=4.0, **options).summary["all"]
    last = found["curve"][-1]
    assert last["pilot"]["steps"] <= alone["pilot"]["steps"], "looks on the way cost"
    with pytest.raises(UserError, match="out of range"):
        run(tokenizer, model, passes=(2, 1))


def test_a_forecast_no_better_than_none_says_so(tokenizer):
    small = run(tokenizer, training=Training(**vars(TRAINING) | {"rate": 1e-7}))
    moving = run(tokenizer, budget=0.5).summary
    assert '"nothing changes" is as good a forecast' in small.summary["notes"][0]
    assert (small.summary["all"]["no_better"], moving["all"]["no_better"]) == (True, False)
    assert moving["all"]["right_expected"] - moving["all"]["right_if_nothing_changes"] > 0.02
    assert not any("is as good a forecast" in note for note in moving["notes"])
    told = {"rate": 0.1, "right_expected": 0.95, "matched_by_nothing_changes": 0.6,
            "held_out_loss_before": 4.0, "pilot_loss": 3.9}  # fmt: skip
    assert idle_notes(told, "lora", 2)[0].startswith("at 0.1 too little moves")
    assert idle_notes(told | {"right_expected": None}, "lora", 1) == []
    better = told | {"matched_by_nothing_changes": 0.4}
    assert idle_notes(better, "lora", 1) == []
    lost = better | {"pilot_loss": 4.1}
    assert "rises from 4.00 to 4.10" in idle_notes(lost, "lora", 1)[0]
    assert idle_notes(lost, "full", 1) == [], "of all weights that is noise"
    assert idle_notes(lost | {"held_out_loss_before": None}, "lora", 1) == []
    brief = run(tokenizer, training=Training(**vars(TRAINING) | {"steps": 16})).summary
    assert any("the pilot reads only" in note for note in brief["notes"])


def test_a_pilot_that_knows_far_less_than_before_tells_nothing(tokenizer, monkeypatch):
    ends = [{"loss": 5.0}, {"loss": 5.8}]
    pilots = RatePilots(Design(2, 7, 0.5), ends, ends, "", [])
    assert pilots.judged(5.1) is pilots
    assert pilots.judged(None) is pilots
    fallen = pilots.judged(5.0)
    assert (fallen.ends, fallen.made) == ([], ends), "their cost counts"
    assert "a pilot of 7 steps rises from 5.00 to 5.80" in fallen.why
    monkeypatch.setattr("borngap.pilot.pilots._WORSE", 0.5)
    found = run(tokenizer).summary
    assert (found["all"]["ahead_after"], found["all"]["places"] > 3) == (None, True)
    assert "has left the stable range" in found["all"]["why"]
    assert {place["forecast_gap"] for place in found["places"]} == {None}


@pytest.mark.parametrize(("options", "message"), [
    ({"watch": None}, "nothing to watch"),
    ({"contexts": [borngap.Context("The", " shame", " guilt")]}, "terms and contexts are both given"),
    ({"terms": [("horse", "cow")]}, "no word of the terms stands in"),
    ({"budget": 0.001}, "the budget"),
    ({"data": []}, "no rows|recognise|empty|no data"),
    ({"rates": (1e-3, 1e-4)}, "do not increase"),
    ({"training": Training(**vars(TRAINING) | {"steps": 0})}, "no steps"),
])  # fmt: skip
def test_what_can_not_be_forecast_is_refused(tokenizer, options, message):
    with pytest.raises(UserError, match=message):
        run(tokenizer, **options)


def test_terms_that_stand_nowhere_and_watched_rows_that_are_trained_on_are_named(tokenizer):
    terms = [*TERMS, ("zebra", "horse"), ("mind", "soul")]
    held = [{"text": f"A soul of a {i} felt shame in it.", "right": False} for i in range(9)]
    train = [row for row in ROWS if "mind" not in row["text"]]
    notes = run(tokenizer, terms=terms, watch=held, data=train).summary["notes"]
    (absent,) = (note for note in notes if "neither word" in note)
    assert absent.endswith("held-out rows, 1 of 3: 'zebra' instead of 'horse'")
    (untaught,) = (note for note in notes if "no row that the run trains on" in note)
    assert untaught.endswith("2 of 3: 'zebra', 'mind'")
    assert not any("watched texts" in note for note in notes)
    rows = [*held, *train]
    told = run(tokenizer, watch=rows, data=train, end_of_text=True, packing=True, max_length=32).summary
    (taught,) = (note for note in told["notes"] if "texts that the run trains on" in note)
    watched = {rows[place["row"]]["text"] for place in told["places"]}
    same = watched & {row["text"] for row in train}
    assert 0 < len(same) < len(watched)
    assert taught.startswith(f"{len(same)} of {len(watched)} watched texts are")
