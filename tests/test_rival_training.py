"""Our own training with a loss on rivals: every engine lowers the same loss; critical rates are those of its runs."""

import json
import math
import sys

import pytest
import torch
from tests.searching import searcher
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

import borngap
from borngap.cli import app, main
from borngap.context import Context
from borngap.losses.formulae import row_loss
from borngap.model.forward import last_logits
from borngap.sweep.plan import SweepPlan, plan_sweep
from borngap.train.finetune import FineTune
from borngap.train.stacked import Lane, stacked
from borngap.training import Training

FORMS = ("margin:3,2", "logistic:3", "unlikelihood:30", "weight:10")
CONTEXTS = [
    Context("If the key is missing from the", " dictionary", " list"),
    Context("Call this", " method", " function"),
    Context("Use this helper to", " build", " create"),
]
STEPS = 3


def tuner(**settings):
    torch.set_num_threads(1)
    return FineTune(borngap.load("docs-gpt2-s"), CONTEXTS, Training(**{"rate": 1e-3, "steps": STEPS} | settings))


def by_hand(run, batch):
    """Losses and last logits of a loop of torch's own, the mean over a batch."""
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=run.training.learning_rate, weight_decay=0.0)
    run.restore()
    targets, losses = [run.targets[i] for i in batch], []
    for step in range(STEPS + 1):
        logits, _ = last_logits(run.model, [t.ids for t in targets])
        gold = torch.tensor([t.gold_id for t in targets])
        rival = torch.tensor([t.rival_id for t in targets])
        loss = cross_entropy(logits, gold) + row_loss(run.training.added, logits, gold, rival).mean()
        losses.append(float(loss.detach()))
        if step < STEPS:
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return losses, logits.detach()


@pytest.mark.parametrize(("form", "settings"), [
    *((form, {}) for form in FORMS), ("margin:3,2", {"method": "lora", "rate": 1e-2}),
    ("weight:10", {"forward": "labels"}), ("logistic:3", {"joint": True}),
])  # fmt: skip
def test_a_run_lowers_cross_entropy_and_term(form, settings):
    run = tuner(rival_loss=form, **settings)
    batch = [0, 1, 2] if settings.get("joint") else [1]
    entries = list(run.joint() if settings.get("joint") else run.alone(1))
    after, _ = last_logits(run.model, [run.targets[i].ids for i in batch])
    losses, logits = by_hand(run, batch)
    assert [entry.loss for entry in entries] == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(after, logits, atol=2e-4, rtol=1e-5)
    words = run.targets[batch[0]]
    assert entries[-1].records[batch[0]]["logit_gap"] == pytest.approx(
        float(after[0, words.gold_id] - after[0, words.rival_id]), abs=1e-4
    )


def test_weight_0_is_a_run_without_a_term_bit_for_bit():
    runs = [tuner(rival_loss=form) for form in ("none", "margin:0,2")]
    ends = []
    for run in runs:
        list(run.alone(1))
        ends.append([p.detach().clone() for p in run.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_stack_is_separate_runs():
    run = tuner(method="lora", rival_loss="margin:3,2")
    lanes = [Lane(0, 1e-2), Lane(1, 1e-2), Lane(1, 3e-3)]
    together = [[] for _ in lanes]
    for number, entry in stacked(run, lanes):
        together[number].append(entry)
    for lane, steps in zip(lanes, together, strict=True):
        alone = list(run.alone(lane.index, rate=lane.rate))
        assert [s.loss for s in steps] == pytest.approx([s.loss for s in alone], abs=1e-4)


@pytest.mark.parametrize(("name", "method", "form"), [
    ("docs-gpt2-s", "lora", "margin:3,2"), ("docs-gpt2-s-untied", "full", "unlikelihood:30"),
])  # fmt: skip
def test_collocation_meets_bisection_under_a_term(name, method, form):
    found = {}
    for asked in ("none", form):
        search = searcher(name, count=2, method=method, rival_loss=asked)
        for by in ("bisect", "collocation"):
            entries = [entry.critical for entry in search.search(by)]
            assert [entry.status for entry in entries] == ["ok", "ok"]
            found[asked, by] = [entry.rate for entry in entries]
    for asked in ("none", form):
        pairs = zip(found[asked, "collocation"], found[asked, "bisect"], strict=True)
        assert max(abs(math.log(mine / true)) for mine, true in pairs) < 0.03
    # the term makes a difference far beyond that
    moved = zip(found[form, "collocation"], found["none", "collocation"], strict=True)
    assert max(abs(math.log(with_it / without)) for with_it, without in moved) > 0.1


def test_plans_without_a_term_are_what_they_were():
    assert "rival_loss" not in Training().to_json()
    assert Training(rival_loss="weight:2").to_json()["rival_loss"] == "weight:2"
    for form in ("none", "logistic:3"):
        plan = plan_sweep("docs-gpt2-s", CONTEXTS, [1e-3], training=Training(rival_loss=form))
        assert SweepPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_command(tmp_path):
    command = ["finetune", "-m", "docs-gpt2-s", "-c", "docs10", "--steps", "1", "--rival-loss", "margin:3,2"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "cross-entropy + margin:3,2" in done.output
    assert borngap.read_run(tmp_path / "run").plan["rival_loss"] == "margin:3,2"


@pytest.mark.parametrize("form", ["hinge:3", "margin:3", "weight:-1", "logistic:nan"])
def test_a_bad_term_is_one_error(form, tmp_path, capsys, monkeypatch):
    command = ["borngap", "finetune", "-m", "docs-gpt2-s", "--rival-loss", form, "-o", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
