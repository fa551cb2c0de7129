"""Critical rates of bundled models, by every way, against real runs."""

import math

import pytest
import torch
from tests.searching import AHEAD, STEPS, ahead_within, contexts, searcher

import borngap
from borngap.cli import main
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.train.finetune import weights_digest
from borngap.training import Training


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "method"), [
    ("docs-gpt2-s", "lora"), ("docs-gpt2-s", "full"), ("docs-neox-s", "lora"), ("docs-neox-s", "full"),
])  # fmt: skip
def test_bisection_is_right(name, method):
    search = searcher(name, 1, method=method)
    (entry,) = search.search("bisect")
    rate = entry.critical.rate
    assert entry.critical.status == "ok"
    assert entry.critical.optimizer_steps > STEPS
    assert ahead_within(search.tuner, 0, rate)
    assert not ahead_within(search.tuner, 0, 0.98 * rate)


def test_dose_keeps_to_its_budget():
    search = searcher(count=2, steps=50)
    for entry, true in zip(search.search("dose"), search.search("bisect"), strict=True):
        assert 0 < entry.critical.optimizer_steps <= 50
        assert abs(math.log(entry.critical.rate / true.critical.rate)) < 0.1


def test_sign_paths_come_near():
    search = searcher(count=1, steps=50, method="full")
    true = search.search("bisect")[0].critical.rate
    ray, path = (search.search(by)[0].critical for by in ("ray", "path"))
    assert abs(math.log(path.rate / true)) < 0.1
    assert abs(math.log(ray.rate / true)) < 0.3
    assert (ray.optimizer_steps, path.optimizer_steps) == (0, 0)
    assert ray.forward_passes < path.forward_passes


def test_stacked_and_single_trials_agree():
    search = searcher(count=2)
    single = searcher(count=2, forward="labels")  # the stack knows one forward only: this one runs alone
    rates = [[e.critical.rate for e in s.search("grid", rates=[1e-4, 2e-4, 4e-4, 8e-4])] for s in (search, single)]
    assert rates[0] == rates[1]


def test_what_is_ahead_has_no_rate():
    search = Searcher(borngap.load("docs-gpt2-s"), [AHEAD], Training(method="lora", steps=5))
    for by in ("collocation", "dose", "ray", "bisect", "class-mean"):
        critical = search.search(by)[0].critical
        assert (critical.rate, critical.status, critical.optimizer_steps) == (None, "pre-resolved", 0)


@pytest.mark.parametrize("by", ["collocation", "bisect", "dose"])
def test_beyond_the_largest_rate(by):
    search = Searcher(borngap.load("docs-gpt2-s"), contexts(1), Training(method="lora", steps=10), limit=1e-5)
    critical = search.search(by)[0].critical
    assert (critical.rate, critical.status, critical.low) == (None, "beyond", 1e-5)


@pytest.mark.parametrize("by", ["collocation", "bisect", "dose"])
def test_divergence_is_recognised(by):
    loaded = borngap.load("docs-gpt2-s")
    search = Searcher(loaded, contexts(1), Training(method="full", steps=5), limit=1e-2)
    head = loaded.model.get_output_embeddings()
    base = search.land.base.clone()

    def broken(module, args, logits):  # any movement at all breaks the model
        return logits if torch.equal(search.land.parameters[0].flatten(), base[: 8192 * 128]) else logits * math.nan

    hook = head.register_forward_hook(broken)
    try:
        critical = search.search(by)[0].critical
    finally:
        hook.remove()
    assert (critical.rate, critical.status) == (None, "diverged")
    assert "finite" in critical.why


def test_the_weights_end_as_they_began():
    loaded = borngap.load("docs-gpt2-s")
    before = weights_digest(loaded.model)
    search = Searcher(loaded, contexts(1), Training(method="full", steps=5))
    for by in ("collocation", "dose", "path"):
        search.search(by)
    assert weights_digest(search.tuner.model) == before
    assert not any(p.grad is not None for p in search.tuner.model.parameters())


def test_a_joint_run_has_critical_rates():
    search = searcher(count=2, joint=True, batch_size=2)
    true, mine = search.search("bisect"), search.search("collocation")
    for a, b in zip(true, mine, strict=True):
        assert abs(math.log(a.critical.rate / b.critical.rate)) < 0.03
    split = searcher(count=2, joint=True, batch_size=1).search("collocation")[0].critical
    assert split.status == "abstained"
    assert "batches smaller" in split.why


def test_bad_searches():
    with pytest.raises(UserError, match="no rate is the smallest under dropout"):
        searcher(count=1, dropout=True)
    search = searcher(count=1)
    with pytest.raises(UserError, match="unknown way"):
        search.search("guess")
    with pytest.raises(UserError, match="only a grid takes them"):
        search.search("bisect", rates=[1e-4])
    with pytest.raises(UserError, match="do not increase"):
        search.search("grid", rates=[2e-4, 1e-4])
    with pytest.raises(UserError, match="largest rate is out of range"):
        Searcher(borngap.load("docs-gpt2-s"), contexts(1), Training(), limit=0.0)


@pytest.mark.parametrize(
    ("args", "message"),
    [(["critical", "--by", "grid", "--lrs", "3,2"], "rates do not increase"),
     (["critical", "--steps", "0"], "no steps"),
     (["critical", "--max-lr", "-1"], "largest rate is out of range"),
     (["forecast", "--seeds", "a"], "can't read the seeds"),
     (["forecast", "--by", "bisect"], "unknown value of --by")],
)  # fmt: skip
def test_bad_input_is_one_message(args, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["borngap", args[0], "-m", "docs-gpt2-s", *args[1:]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
