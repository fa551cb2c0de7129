"""Terms in training: success and over-use on a fixed sample of places, against transformers' own logits."""

import json
import math
import types
from dataclasses import asdict

import polars as pl
import pytest
import torch
from datasets import Dataset
from tests.hosts import arguments, same, weights
from tests.test_terms import constant
from tests.tiny import tiny
from transformers import Trainer, TrainerCallback, default_data_collator, set_seed

import borngap.track.clock
import borngap.track.tracker
from borngap.errors import UserError
from borngap.judge.termshares import WatchedPlace, shares_of_terms
from borngap.model.readout import geometry_of
from borngap.runfolder import read_run
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import BornGapWarning, Tracker
from borngap.usage.asking import Asking
from borngap.usage.sampled import PlaceSampler
from borngap.usage.terms import terms
from borngap.words.term import Term
from borngap.words.termfile import terms_of

PAIRS = [("guilt", "shame"), ("exception", "error")]
# each ends with a word of a term; in the last two the word to avoid is right
HELD_OUT = [
    {"text": "The old man felt guilt", "allowed": False},
    {"text": "He said that a guilt", "allowed": False},
    {"text": "Raise an exception", "allowed": False},
    {"text": "He said that the method returns a list of shame", "allowed": True},
    {"text": "The function returns an error", "allowed": True},
]
ASKING = {"allowed_field": "allowed"}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def taught(tokenizer, words):
    """Return rows of one length that end with these words, and teach nothing else."""
    rows = [tokenizer(f"The old man felt {word}")["input_ids"] for word in words]
    return [{"input_ids": row, "labels": [-100] * (len(row) - 1) + row[-1:]} for row in rows]


def trainer(folder, tokenizer, callbacks, words=("guilt",) * 8, **options):
    """Return a Trainer on a tiny model, which reads its rows one by one in their order."""
    rows = taught(tokenizer, words)
    settings = {"max_steps": len(words), "learning_rate": 1e-2, "train_sampling_strategy": "sequential"} | options
    return Trainer(
        tiny("gpt2", len(tokenizer)), arguments(folder, **settings), train_dataset=rows, eval_dataset=rows[:1],
        data_collator=default_data_collator, processing_class=tokenizer, callbacks=callbacks,
    )  # fmt: skip


def watching(**options):
    return BornGapCallback(**{"terms": PAIRS, "dataset": HELD_OUT, "asking": ASKING, "every": 1} | options)


class ByHand(TrainerCallback):
    """Notes success, first and over-use after every step, from transformers' logits at the last token of each row."""

    def __init__(self):
        self.shares = {}

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **_):
        self.shares[state.global_step] = self.of(model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **_):
        self.shares[state.global_step] = self.of(model, processing_class)

    @staticmethod
    def of(model, tokenizer):
        mode, gaps, ranks = model.training, [], []
        model.eval()
        for row in HELD_OUT:
            ids = tokenizer(row["text"])["input_ids"]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0, -1]
            word = tokenizer.decode(ids[-1:])
            pair = next(pair for pair in PAIRS if word.strip() in pair)
            use, avoid = (tokenizer(f" {name}")["input_ids"][0] for name in pair)
            gaps.append(float(logits[use] - logits[avoid]))
            ranks.append(int((logits > logits[use]).sum()) + 1)
        model.train(mode)
        due, right = gaps[:3], gaps[3:]
        return sum(g > 0 for g in due) / 3, sum(r == 1 for r in ranks[:3]) / 3, sum(g > 0 for g in right) / 2


def series(host, name="born_gap/terms/success"):
    return {entry["step"]: entry[name] for entry in host.state.log_history if name in entry}


def test_what_a_trainer_logs_is_what_transformers_says(tokenizer, tmp_path):
    hand, watcher = ByHand(), watching(out=tmp_path / "run", per_context=True)
    host = trainer(tmp_path / "host", tokenizer, [hand, watcher])
    host.train()
    names = ("success", "first", "over_use")
    found = zip(*(series(host, f"born_gap/terms/{name}").values() for name in names), strict=True)
    assert dict(zip(series(host), map(pytest.approx, found), strict=True)) == hand.shares
    assert len({success for success, *_ in hand.shares.values()}) > 1, "nothing was learnt"
    last = watcher.tracker.metrics()
    assert last["born_gap/terms/guilt/success"] == 1.0
    assert {"born_gap/terms/exception/success", "born_gap/resolved"} <= last.keys()
    assert "of 3 places where it is due" in watcher.tracker.summary()
    run = read_run(tmp_path / "run")
    assert run.usage.columns == ["step", "success", "first", "over_use"]
    assert {row[0]: row[1:] for row in run.usage.rows()} == hand.shares
    # each place is in the RUN as a context is, but for what is expensive to measure
    assert run.steps.filter(pl.col("step") == 3)["logit_gap"].null_count() == 0
    assert run.steps["born_rank"].null_count() == len(run.steps)


def test_watching_terms_changes_no_bit(tokenizer, tmp_path):
    found = []
    for callbacks in ([], [watching()]):
        set_seed(0)
        host = trainer(tmp_path, tokenizer, callbacks)
        host.train()
        found.append((weights(host.model), torch.get_rng_state()))
    assert same(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_best_checkpoint_is_chosen_by_success(tokenizer, tmp_path):
    """First the wanted word is taught, then the other one."""
    hand = ByHand()
    host = trainer(
        tmp_path, tokenizer, [hand, watching(every=100)], ["guilt"] * 4 + ["shame"] * 6, **EVALUATED,
        load_best_model_at_end=True, metric_for_best_model="eval_born_gap/terms/success",
    )  # fmt: skip
    host.train()
    success = {step: shares[0] for step, shares in hand.shares.items() if step}
    best = max(success, key=success.get)
    assert success[best] > success[10], "there is nothing to choose"
    assert host.state.best_global_step == best
    assert host.state.best_metric == pytest.approx(success[best])
    assert ByHand.of(host.model, tokenizer)[0] == success[best]
    assert series(host, "eval_born_gap/terms/success") == pytest.approx(success)


def test_training_ends_when_the_right_word_leads_everywhere(tokenizer, tmp_path):
    due = [row for row in HELD_OUT if not row["allowed"]][:2]
    watcher = watching(dataset=due, asking=None, stop="resolved")
    host = trainer(tmp_path, tokenizer, [watcher], ["guilt"] * 40, eval_strategy="steps", eval_steps=2)
    with pytest.warns(BornGapWarning, match="over-use is not followed: nothing says where"):
        host.train()
    success = series(host, "eval_born_gap/terms/success")
    assert host.state.global_step < 40
    assert list(success.values())[-2:] == [1.0, 1.0]
    assert list(success.values()).count(1.0) == 2, "it could have ended before"
    assert series(host, "born_gap/terms/over_use") == {}


def test_a_resumed_run_goes_on_with_the_same_places(tokenizer, tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 4}
    whole = trainer(tmp_path / "whole", tokenizer, [watching(out=tmp_path / "a")], **saved)
    whole.train()
    trainer(tmp_path / "cut", tokenizer, [watching(out=tmp_path / "b")], **saved | {"max_steps": 4}).train()
    others = [{"text": "The old man felt shame and guilt", "allowed": False}] * 9
    again = trainer(tmp_path / "cut", tokenizer, [watching(out=tmp_path / "b", dataset=others)], **saved)
    again.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    a, b = read_run(tmp_path / "a"), read_run(tmp_path / "b")
    assert a.plan["places"] == b.plan["places"]
    assert a.usage.equals(b.usage)
    assert same(weights(whole.model), weights(again.model))
    other = trainer(tmp_path / "cut", tokenizer, [watching(terms=PAIRS[:1])], **saved)
    with pytest.raises(UserError, match=r"terms: .*'exception' instead of 'error'.* there, .*'shame'.* now"):
        other.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))


def test_the_host_restores_the_callback_with_its_terms(tokenizer, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "restore_callback_states_from_checkpoint": True}
    trainer(tmp_path, tokenizer, [watching()], max_steps=2, **options).train()
    host = trainer(tmp_path, tokenizer, [watching()], max_steps=3, **options)
    host.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert sorted(series(host)) == [0, 1, 2, 3]


def test_terms_that_do_not_occur_end_the_training_before_it_begins(tokenizer, tmp_path):
    (tmp_path / "style.csv").write_text("use,avoid\nClient,customer\nverb,noun\n")
    rows = [{"text": "Guilt of the Clientele"}]
    host = trainer(tmp_path, tokenizer, [watching(terms=tmp_path / "style.csv", dataset=rows, asking=None)])
    with pytest.raises(UserError, match="no word of the terms stands in data") as raised:
        host.train()
    assert raised.match("'Client' not, but 'Clientele' \\(1\\)")
    assert host.state.global_step == 0
    with pytest.raises(UserError, match="there is no data in which the terms are watched"):
        trainer(tmp_path, tokenizer, [watching(dataset=None)]).train()


@pytest.mark.parametrize(("options", "message"), [
    ({"terms": [("guilt", "guilt")]}, "a wanted word is the avoided one"),
    ({"terms": "nowhere.csv"}, "the terms can't be read"),
    ({"sample": 0}, "sample is out of range"),
    ({"asking": {"loss": "some"}}, "loss is out of range"),
])  # fmt: skip
def test_what_is_wrong_with_terms_is_told_at_once(options, message):
    with pytest.raises(UserError, match=message):
        watching(**options)


@pytest.mark.parametrize(("data", "message"), [
    (["The old man felt"], "no word of the terms stands in data"),
    (["The old man felt shame"], "no wanted word stands in data"),
    ([{"prompt": "He felt guilt", "completion": " and a list"}], "no place of the terms in data is supervised"),
    ([], "no rows in data"),
])  # fmt: skip
def test_data_that_tells_no_success(data, message, tokenizer):
    with pytest.raises(UserError, match=message):
        Tracker(tiny("gpt2", len(tokenizer)), tokenizer, terms=PAIRS, dataset=data)


def drawn(tokenizer, data, words, count, seed=0, **asking):
    model = tiny("gpt2", len(tokenizer))
    geometry = geometry_of(model, "readout", tokenizer)
    return PlaceSampler(model, tokenizer, geometry, terms_of(words), data, None, Asking(**asking)).draw(count, seed)


def test_places_are_spread_over_terms_and_kinds(tokenizer):
    """Of nine places a third is where the word to avoid is right; what a term lacks, the others give."""
    rows = [{"text": "He felt guilt", "allowed": False}] * 50 + [{"text": "Raise an exception", "allowed": False}] * 2
    rows += [{"text": "The old man felt shame", "allowed": True}] * 20 + [{"text": "an error", "allowed": False}] * 9
    sample = drawn(tokenizer, rows, PAIRS, 9, **ASKING)
    kinds = [(place.use, place.is_due) for place in sample.places]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("guilt", True): 4, ("exception", True): 2, ("guilt", False): 3
    }  # fmt: skip
    assert sample.no_over_use is None
    assert sample == drawn(tokenizer, rows, PAIRS, 9, **ASKING)
    assert sample != drawn(tokenizer, rows, PAIRS, 9, 1, **ASKING)
    assert len(drawn(tokenizer, rows, PAIRS, 1000, **ASKING).places) == 72
    few = [place.is_due for place in drawn(tokenizer, rows[50:], PAIRS, 9, **ASKING).places]
    assert (few.count(True), few.count(False)) == (2, 7)
    assert drawn(tokenizer, rows[:52], PAIRS, 9, **ASKING).no_over_use == (
        "no place of a word to avoid is marked as right"
    )


class MapStyle(torch.utils.data.Dataset):
    """A data set of torch, which can't be iterated as a list is."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_places_of_tokenised_rows_are_those_of_their_texts(tokenizer):
    texts = ["The old man felt guilt and shame", "He said that guilt returns a guilt"]
    model = tiny("gpt2", len(tokenizer))
    rows = [tokenizer(text, return_tensors="pt") for text in texts]
    rows = [{"input_ids": row["input_ids"][0]} for row in rows]
    kinds = (texts, rows, MapStyle(rows), [tokenizer(text) for text in texts], Dataset.from_list(rows))
    found = [[(t.ids, t.gold_id, t.rival_id) for t in drawn(tokenizer, data, PAIRS, 9).targets] for data in kinds]
    assert found == [found[0]] * len(kinds)
    gaps = {p["offset"]: p["logit_gap"] for p in terms(model, tokenizer, texts, PAIRS, leak=False).places.to_dicts()
            if p["kind"] == "due"}  # fmt: skip
    with pytest.warns(BornGapWarning, match="over-use"):
        tracker = Tracker(model, tokenizer, terms=PAIRS, dataset=rows)
    ((_, records),) = tracker.records
    assert len(gaps) == len(records) == 3
    assert {len(t.ids): records[i]["logit_gap"] for i, t in enumerate(tracker.targets)} == pytest.approx(gaps, abs=1e-5)


def test_a_row_longer_than_the_window_is_read_from_its_window_on(tokenizer):
    text = " ".join(["The old man felt a list of words"] * 12) + " guilt"
    (target,) = drawn(tokenizer, [text], PAIRS, 9, window=16).targets
    ids = tokenizer(text)["input_ids"]
    assert 4 <= len(target.ids) < 16
    assert list(target.ids) == ids[-1 - len(target.ids) : -1]


def test_a_place_with_several_rivals_counts_once(tokenizer):
    """guilt leads shame and stays behind error: no success at either of its two places."""
    model = constant(tokenizer, {" guilt": 2.0, " shame": 1.0, " error": 3.0})
    words = [asdict(Term("guilt", avoid, "line 1")) for avoid in ("shame", "error")]  # as a checkpoint keeps them
    with pytest.warns(BornGapWarning, match="over-use"):
        tracker = Tracker(model, tokenizer, terms=words, dataset=["He felt guilt and guilt"])
    assert [len(tracker.targets), tracker.metrics()["born_gap/terms/success"]] == [4, 0.0]
    assert tracker.metrics()["born_gap/resolved"] == 0.5, "of four pairs two lead"


def place(context, number, *, is_due=True):
    return WatchedPlace(context, number, 0, "use", "avoid", is_due, "row")


def test_shares_by_hand():
    places = [place(0, 0), place(1, 1), place(2, 2, is_due=False), place(3, 3, is_due=False), place(4, 3, is_due=False)]
    gaps = {0: 1.0, 1: 0.0, 2: -1.0, 3: 2.0, 4: 0.0}
    records = {i: {"logit_gap": gap, "gold_rank": 1 + i} for i, gap in gaps.items()}
    assert shares_of_terms(places, records) == {"success": 0.5, "first": 0.5, "over_use": 0.5}
    assert shares_of_terms(places, records | {4: {"logit_gap": -0.5}})["over_use"] == 1.0
    broken = shares_of_terms(places, {i: {"logit_gap": math.nan, "gold_rank": math.nan} for i in range(5)})
    assert (broken["success"], broken["first"], math.isnan(broken["over_use"])) == (0.0, 0.0, True)
    assert math.isnan(shares_of_terms(places[:2], records)["over_use"])
    assert math.isnan(shares_of_terms(places[2:], records)["success"])


def test_contexts_and_terms_are_watched_together(tokenizer):
    model = constant(tokenizer, {" guilt": 2.0, " shame": 1.0, " error": 3.0, " exception": 0.5})
    contexts = [borngap.Context("The old man felt", " shame", " guilt")]
    tracker = Tracker(model, tokenizer, contexts, terms=PAIRS, dataset=HELD_OUT, asking=ASKING, per_context=True)
    found = tracker.metrics()
    shares = [found[f"born_gap/terms/{name}"] for name in ("success", "over_use", "guilt/success", "exception/success")]
    assert shares == [pytest.approx(2 / 3), 0.5, 1.0, 0.0]
    # averages are those of contexts alone
    assert (found["born_gap/resolved"], found["born_gap/logit_gap"]) == (0.0, pytest.approx(-1.0))
    assert "born_gap/0_shame/logit_gap" in found
    assert "born_gap/1_guilt/logit_gap" not in found
    assert "in 0 of 1 contexts (1 unresolved); the wanted word leads at 2 of 3 places where it is due (2 before) and " \
        "at 1 of 2 places where the other is right (1 before)" in tracker.summary()  # fmt: skip
    again = Tracker(model, tokenizer, contexts, terms=PAIRS, state=json.loads(json.dumps(tracker.state())))
    assert again.targets == tracker.targets


def test_probes_of_terms_keep_to_the_budget(tokenizer, monkeypatch):
    """Steps of 1 s and probes of 5 s: at 5 % one in 128 steps, the next power of 2 over 100."""
    now = [0.0]
    monkeypatch.setattr(borngap.track.clock, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    measured = borngap.track.tracker.forward

    def slow(*args, **options):
        now[0] += 5.0
        return measured(*args, **options)

    monkeypatch.setattr(borngap.track.tracker, "forward", slow)
    tracker = Tracker(
        tiny("gpt2", len(tokenizer)), tokenizer, terms=PAIRS, dataset=HELD_OUT, asking=ASKING, max_overhead=0.05
    )
    seen = []
    for step in range(1, 600):
        now[0] += 1.0
        seen += [step] if "born_gap/terms/success" in tracker.step(step) else []
        assert tracker.cost.share <= 0.05
    assert seen == [128, 256, 384, 512]


def test_places_after_much_text_come_last(tokenizer, monkeypatch):
    monkeypatch.setattr("borngap.usage.sampled._LONG", 5)
    rows = (
        ["The old man felt a list of words and guilt"] * 20 + ["He felt guilt"] * 2 + ["Raise the list and exception"]
    )
    sample = drawn(tokenizer, rows, PAIRS, 4)
    assert sorted(len(target.ids) for target in sample.targets)[:-1] == [2, 2, 5]
    assert [place.use for place in sample.places].count("exception") == 1


def test_terms_come_back_from_a_checkpoint_as_they_were():
    """One entry that wants either of two words is no contradiction."""
    given = [
        Term("guilt", "shame", "line 1", exceptions=("in shame",)),
        Term("remorse", "shame", "line 1", whole=False),
    ]
    kept = json.loads(json.dumps([asdict(term) for term in given]))
    assert terms_of(kept).terms == terms_of(given).terms == tuple(given)
