"""Penalties on the output matrix: in our own training, in pilots, as remedies, and pasted into a Trainer."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from tests.hosts import TIED
from tests.rivaltraining import EPS, PAIRS, RATE, rows_of
from tests.searching import ahead_within, searcher
from tests.test_forecast_runs import HELD_OUT, ROWS, TERMS, TRAINING
from tests.test_remedies import planned, trial
from tests.test_rival_training import tuner
from tests.test_rivalloss import Ordered, trained
from tests.tiny import tiny

import borngap
from borngap.cli import main
from borngap.context import Context
from borngap.data.rows import of_objects
from borngap.data.tokenised import plain
from borngap.errors import UserError
from borngap.losses.crowding import decorrelation, pair_overlap, penalty_term
from borngap.losses.form import Penalty
from borngap.model.forward import last_logits
from borngap.model.load import Loaded
from borngap.pilot.draw import PilotSteps
from borngap.pilot.plan import run_plan
from borngap.pilot.prepare import asked_of, prepare_run
from borngap.pilot.run import Trainee, model_penalty
from borngap.pilot.settings import Piloting
from borngap.remedies.jobs import remedy_job
from borngap.remedies.outcomes import RemedyOutcome
from borngap.remedies.paste import NamedFiles, pasted
from borngap.remedies.remedy import read_remedies
from borngap.rivals.host import warn_of_missing
from borngap.rivals.pairs import token_pairs
from borngap.rivals.spots import TermSpots
from borngap.train.methods import make_trainable
from borngap.train.stacked import Lane, stacked
from borngap.training import Training
from borngap.usage.allowed import Allowed
from borngap.words.termfile import terms_of


@pytest.mark.parametrize(("kind", "settings"), [
    ("overlap", {}), ("decorrelation", {"method": "readout-only"}), ("overlap", {"joint": True, "batch_size": 2}),
    ("overlap", {"forward": "labels", "rival_loss": "logistic:1"}),
])  # fmt: skip
def test_a_run_adds_the_penaltys_gradient(kind, settings):
    with_it, without = (tuner(penalty=form, **settings) for form in (f"{kind}:50", "none"))
    gradients = []
    for one in (with_it, without):
        run_of_it = one.joint(observe="none") if one.training.joint else one.alone(1, observe="none")
        loss = next(iter(run_of_it)).loss
        logits, _ = last_logits(one.model, [one.targets[1].ids])
        trained = [p for p in one.model.parameters() if p.requires_grad]
        gradients.append((loss, dict(zip(trained, torch.autograd.grad(one.loss(logits, [1]), trained), strict=True))))
    matrix = with_it.model.get_output_embeddings().weight
    pairs = [(t.gold_id, t.rival_id) for t in (with_it.targets if with_it.training.joint else with_it.targets[1:2])]
    value = pair_overlap(matrix, *torch.tensor(pairs).T) if kind == "overlap" else decorrelation(matrix)
    (added,) = torch.autograd.grad(50 * value, [matrix])
    assert gradients[0][0] - gradients[1][0] == pytest.approx(50 * float(value.detach()), rel=1e-3)
    for (one, found), plain_one in zip(gradients[0][1].items(), gradients[1][1].values(), strict=True):
        torch.testing.assert_close(
            found - plain_one, added if one is matrix else torch.zeros_like(one), atol=2e-5, rtol=0
        )


def test_a_pair_that_is_there_twice_counts_once_in_whichever_order():
    matrix = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 2], [1, 3]])
    found = penalty_term(Penalty("overlap", 2), matrix, [(0, 1), (3, 2), (0, 1), (1, 0), (2, 3)])
    torch.testing.assert_close(found, 2 * pair_overlap(matrix, *ids))


def test_weight_0_is_a_run_without_a_penalty_bit_for_bit():
    ends = []
    for form in ("none", "overlap:0", "overlap:1"):
        one = tuner(penalty=form)
        list(one.alone(1, observe="none"))
        ends.append([p.detach().clone() for p in one.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends[:2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*ends[1:], strict=True))
    assert "penalty" not in Training().to_json()
    assert Training.from_json(Training(penalty="overlap:1").to_json()).penalty == "overlap:1"
    assert Training(penalty="overlap:1").under("lora").penalty == "none"


def test_collocation_finds_the_rate_under_a_penalty():
    search = searcher(count=1, method="readout-only", steps=4, penalty="overlap:30")  # a third of it without
    rate = search.search("collocation")[0].critical.rate
    assert [ahead_within(search.tuner, 0, factor * rate) for factor in (0.99, 1.01)] == [False, True]


def test_what_a_penalty_does_not_go_with_is_one_error():
    for settings in ({"method": "lora", "lora_targets": ("readout",)}, {"method": "ia3"}, {"freeze": ("readout",)}):
        with pytest.raises(
            UserError, match=r"the penalty would change nothing(.|\n)*fix: --method full or readout-only"
        ):
            Training(penalty="overlap:1", **settings)
    with pytest.raises(UserError, match=r"would change nothing(.|\n)*found: .*the head is tied: the readout is frozen"):
        tuner(penalty="overlap:1", freeze=("embeddings",))
    search = searcher(count=1, method="readout-only", penalty="overlap:1")
    with pytest.raises(UserError, match=r"--by class-mean is of the cross-entropy alone\n  found: overlap:1"):
        search.search("class-mean")
    assert search.class_rate(0) is None
    with pytest.raises(UserError, match=r"a stack can't do that(.|\n)*found: the penalty overlap:1"):
        next(stacked(search.tuner, [Lane(0, 1e-3)]))


def test_a_peft_configuration_has_a_penalty_where_it_trains_the_head(tmp_path):
    training = Training(method="peft", peft_config=str(tmp_path), penalty="overlap:1")
    for more in ({"modules_to_save": ["lm_head"]}, {}):
        LoraConfig(target_modules=["q_proj"], **more).save_pretrained(tmp_path)
        model = tiny("llama-untied")
        if more:
            assert make_trainable(model, training)[0].get_output_embeddings().weight.requires_grad
            continue
        with pytest.raises(UserError, match="the penalty would change nothing"):
            make_trainable(model, training)
        assert not any("lora" in name for name, _ in model.named_parameters()), "it is the plain model again"
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("kind", "settings"), [
    ("llama-tied", {"freeze": ("embeddings",), "penalty": "overlap:1"}), ("llama-tied", {"method": "bitfit"}),
    ("llama-tied", {"method": "lora", "lora_targets": ("nowhere",)}),
])  # fmt: skip
def test_a_refused_method_leaves_what_needs_gradients(kind, settings):
    model = tiny(kind)
    model.model.norm.weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(UserError):
        make_trainable(model, Training(**settings))
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


@pytest.mark.parametrize("form", ["overlap:-1", "overlap:nan", "overlap", "foo:1", "overlap:1,2", "decorrelation:"])
def test_a_bad_penalty_is_one_error_that_names_it(form, tmp_path, capsys, monkeypatch):
    command = ["borngap", "finetune", "-m", "docs-gpt2-s", "--penalty", form, "-o", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("error:"), "Traceback" in told) == (2, 1, False)
    assert f"found: {form}\n" in told
    assert "rule: overlap:WEIGHT or decorrelation:WEIGHT" in told
    assert not (tmp_path / "run").exists()


def test_pairs_are_those_of_a_loss_on_rivals_places():
    tokenizer = borngap.load(TIED).tokenizer
    rows = [row["labels"] for row in rows_of(tokenizer, 1)]

    def first(word):
        return tokenizer(word)["input_ids"][0]

    uses, avoids = (
        ["exception", "argument", "folder", "folders", "keyword"],
        ["error", "parameter", "directory", "directories", "option"],
    )
    wanted = {(first(f" {use}"), first(f" {avoid}")) for use, avoid in zip(uses, avoids, strict=True)}
    assert set(token_pairs(PAIRS, tokenizer, rows)) == wanted
    several = token_pairs([*PAIRS, ("argument", "setting")], tokenizer, rows)
    assert {(first(" argument"), first(f" {word}")) for word in ("parameter", "setting")} < set(several)
    assert len(several) == 6, "each once"
    words = [("full exception", "full argument"), ("whole argument", "whole exception")]
    both = token_pairs(words, tokenizer, [tokenizer("The full exception, the whole argument.")["input_ids"]])
    assert [set(pair) for pair in both] == [{first(" exception"), first(" argument")}]
    with pytest.raises(UserError, match="none of the words to use stands in the rows"):
        token_pairs([("zebra", "horse")], tokenizer, rows)


def test_pairs_are_of_what_prepared_rows_teach():
    tokenizer, text = borngap.load(TIED).tokenizer, "Which folder? It raises an exception."
    ids = tokenizer(text)["input_ids"]
    answer = ids.index(tokenizer(" It")["input_ids"][0])
    labels, mask = [-100] * answer + ids[answer:], [0] * answer + [1] * (len(ids) - answer)
    taught = [{"input_ids": ids, "labels": labels}, {"input_ids": ids, "completion_mask": mask}, labels]
    whole = [{"input_ids": ids}, ids]
    assert [len(token_pairs(PAIRS, tokenizer, [row])) for row in (*taught, *whole)] == [1, 1, 1, 2, 2]
    with pytest.raises(UserError, match=r"a row holds no tokens(.|\n)*found: \['text'\]"):
        token_pairs(PAIRS, tokenizer, [{"text": text}])


def test_pairs_are_looked_for_in_the_rows_that_a_loss_on_rivals_reads(monkeypatch):
    monkeypatch.setattr("borngap.rivals.host._ROWS", 3)
    tokenizer = borngap.load(TIED).tokenizer
    read = []

    class Rows(list):
        def __getitem__(self, number):
            read.append(number)
            return super().__getitem__(number)

    rows, zebra = Rows(rows_of(tokenizer, 1) * 4), [("zebra", "horse")]
    host = SimpleNamespace(train_dataset=rows, processing_class=tokenizer)
    finder, count = TermSpots(terms_of([*zebra, *PAIRS]), tokenizer), len(rows)
    token_pairs(PAIRS, tokenizer, rows)
    with pytest.warns(UserWarning, match="3 random rows.*zebra"):
        warn_of_missing(host, finder)
    assert (len(set(read)), read[:3]) == (3, read[3:])
    assert token_pairs(PAIRS, tokenizer, iter(rows)), "of a stream the first"
    with pytest.raises(UserError, match="none of the words to use stands in the first 3 of the rows"):
        token_pairs(zebra, tokenizer, iter(rows))
    # both look further before they say that a word stands nowhere
    with pytest.raises(UserError, match="none of the words to use stands in the rows"):
        token_pairs(zebra, tokenizer, rows)
    with pytest.raises(UserError, match="none of the words to use stands in the training data"):
        warn_of_missing(host, TermSpots(terms_of(zebra), tokenizer))
    unread = next(number for number in range(count) if number not in read[:3])
    rows[unread] = {"input_ids": tokenizer("It is a zebra.")["input_ids"]}
    assert len(token_pairs(zebra, tokenizer, rows)) == 1
    with pytest.warns(UserWarning, match="3 random rows.*zebra"):
        warn_of_missing(host, TermSpots(terms_of(zebra), tokenizer))


@pytest.mark.parametrize("name", ["overlap:5", "decorrelation:500"])
def test_a_pilot_as_long_as_the_run_is_a_trainers_run_with_the_pasted_lines(name, tmp_path):
    loaded = borngap.load(TIED)
    rows, (_, remedy) = rows_of(loaded.tokenizer, 1)[:4], read_remedies(name)
    rows[3]["labels"][:6] = [-100] * 6  # its keyword argument is not taught
    training = Training(rate=RATE, eps=EPS, steps=3, batch_size=2, clip=0.5, penalty=name)
    plan = run_plan([plain(row["input_ids"], row["labels"]) for row in rows], training,
                    Piloting(accumulation=2, order="sequential"))  # fmt: skip
    job = SimpleNamespace(plan=plan, settings=Piloting())
    lines = pasted(remedy, job, NamedFiles("m", "d", "w", "style.csv"), RemedyOutcome())
    code = "\n".join(lines).replace('"style.csv"', repr(PAIRS))

    class Pasted(Ordered):
        def train(self):
            exec(code, {"tokenizer": loaded.tokenizer, "trainer": self})
            return super().train()

    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}
    host = trained(tmp_path, loaded.tokenizer, None, rows, Pasted, **options).model
    pairs = token_pairs(PAIRS, loaded.tokenizer, [row["labels"] for row in rows])
    assert len(pairs) < len(token_pairs(PAIRS, loaded.tokenizer, [row["input_ids"] for row in rows]))
    whole, pilots = PilotSteps(plan.steps, tuple(plan.rates), 1.0), [loaded.model, borngap.load(TIED).model]
    penalties = [model_penalty(training.penalised, pairs), None]
    courses = [Trainee(one, penalty=p).train(plan, whole, 0) for one, p in zip(pilots, penalties, strict=True)]
    assert courses[0].losses[0] == courses[1].losses[0], "of tokens alone"
    heads = [model.get_output_embeddings().weight for model in (*pilots, host)]
    torch.testing.assert_close(heads[0], heads[2], atol=1e-5, rtol=1e-4)
    assert (heads[0] - heads[1]).abs().max() > 1e-4, "the penalty did something"


def test_a_penalty_on_overlaps_needs_words(tokenizer):
    loaded = Loaded("tiny", tiny("llama-tied", len(tokenizer)), tokenizer)
    for asked in (
        asked_of(HELD_OUT, None, None, Allowed()),
        asked_of(None, None, [Context("He", " said", " felt")], Allowed()),
    ):
        job = prepare_run(loaded, of_objects(ROWS), asked, Training(penalty="decorrelation:1"), Piloting())
        assert job.pairs == ()
        with pytest.raises(UserError, match=r"nothing says whose overlap(.|\n)*fix: --terms FILE, or"):
            prepare_run(loaded, of_objects(ROWS), asked, Training(penalty="overlap:1"), Piloting())


def test_penalties_are_remedies_where_they_are_named(tokenizer, tmp_path):
    tried = read_remedies("overlap:2,rate:2+decorrelation:3+margin:3,2")
    assert [one.name for one in tried] == ["none", "overlap:2", "margin:3,2+decorrelation:3+rate:2"]
    assert tried[1].words == "penalty on the overlap of each pair of words, weight 2"
    for bad in ("overlap:0", "overlap:-1", "overlap", "overlap:1+decorrelation:1"):
        with pytest.raises(UserError):
            read_remedies(bad)
    plain_run = planned(tokenizer)
    job = remedy_job(tried[1], plain_run, of_objects(ROWS))
    words = [tokenizer(f" {word}")["input_ids"][0] for word in TERMS[0]]
    assert (job.plan.training.penalty, job.pairs) == ("overlap:2", (tuple(words),))
    with pytest.raises(UserError, match=r"would change nothing(.|\n)*found: overlap:2 under --method lora"):
        remedy_job(tried[1], planned(tokenizer, Training(method="lora")), of_objects(ROWS))
    found = trial(tokenizer, remedies="overlap:100", training=replace(TRAINING, steps=40), out=tmp_path / "out")
    rows = {entry["remedy"]: entry for entry in found.summary["remedies"]}
    assert list(rows) == ["no training", "none", "overlap:100"]
    ends = [borngap.read_forecast(tmp_path / "out" / "tried" / name).places for name in ("none", "overlap-100")]
    assert ends[0]["forecast_gap"].to_list() != ends[1]["forecast_gap"].to_list(), "its pilot had the penalty"
    assert rows["overlap:100"]["lines"][-1] == "trainer.add_callback(Penalty())"
    kept = json.loads((tmp_path / "out" / "tried" / "overlap-100" / "forecast.json").read_text())
    assert kept["plan"]["training"]["penalty"] == "overlap:100"
