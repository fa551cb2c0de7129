"""Optimisers other than AdamW: as Trainer has them, their critical rates by runs, and what is refused."""

import copy
import json
import sys

import peft
import pytest
import torch
from peft import get_peft_model
from tests.hosts import CONTEXTS, example, last_logits, trainer
from transformers import set_seed

import borngap
from borngap.context import read_contexts
from borngap.critical.dose import dose_share
from borngap.critical.forecast import forecast
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.pilot.prepare import forecast_run
from borngap.train.finetune import FineTune
from borngap.train.otheroptimisers import hidden_matrices
from borngap.train.stacked import Lane, stacked
from borngap.training import Training

GPT, LLAMA = "docs-gpt2-s", "docs-llama"
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def by_hand(name, parameters, rate):
    """What has no name in TrainingArguments, or needs bitsandbytes there: Lion's two lines, and torch's Muon."""
    if name == "muon":
        return torch.optim.Muon(parameters, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    class Lion(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    mean = self.state[p].get("mean", torch.zeros_like(p))
                    p -= group["lr"] * torch.sign(0.9 * mean + 0.1 * p.grad)
                    self.state[p]["mean"] = 0.999 * mean + 0.001 * p.grad

    return Lion(parameters, {"lr": rate})


HOSTED = {
    "sgd": ({"optim": "sgd", "optim_args": "momentum=0.9"}, 5e-2),
    "adafactor": ({"optim": "adafactor"}, 1e-3),
    "lion": (None, 1e-3),
    "muon": (None, 1e-2),
    "schedule_free_adamw": ({"optim": "schedule_free_adamw"}, 2e-3),
    "adamw_8bit": ({"optim": "adamw_8bit"}, 1e-4),
    "lion of bitsandbytes": ({"optim": "lion_32bit"}, 1e-3),
}


@pytest.mark.parametrize("case", HOSTED)
def test_the_loop_equals_trainer(case, tmp_path):
    (options, rate), name = HOSTED[case], case.partition(" ")[0]
    if name == "adamw_8bit" or name != case:
        pytest.importorskip("bitsandbytes", reason="the extra `optimizers`")
    loaded, context, method = borngap.load(GPT), CONTEXTS[1], "full" if name == "adamw_8bit" else "lora"
    set_seed(3)
    model = loaded.model if method == "full" else get_peft_model(loaded.model, copy.deepcopy(peft.LoraConfig(**LORA)))
    data = [example(loaded.tokenizer, context)]
    host = trainer(tmp_path, model=model, data=data, max_steps=20, learning_rate=rate, **options or {})
    if options is None:
        host.optimizer = by_hand(name, [p for p in model.parameters() if p.requires_grad], rate)
    ids = loaded.tokenizer(context.prompt)["input_ids"]
    before = last_logits(model, ids)
    model.train()
    host.train()
    if name == "schedule_free_adamw":
        host.optimizer.eval()
    # Muon rounds to bfloat16, so that the forward must be the host's to the bit
    forward = "labels" if name == "muon" else "last"
    training = Training(method=method, rate=rate, seed=3, steps=20, optimizer=name, forward=forward)
    run = FineTune(borngap.load(GPT), [context], training)
    *_, last = run.alone(0)
    expected = last_logits(host.model, ids)
    assert float((expected - last_logits(run.model, ids)).abs().max()) < 1e-4
    assert float((expected - before).abs().max()) > 0.3
    gold = run.targets[0].gold_id
    assert last.records[0]["cross_entropy"] == pytest.approx(float(-expected.log_softmax(0)[gold]), abs=1e-3)


def test_muon_leaves_embeddings_head_and_vectors_to_adamw():
    for model in (borngap.load(name).model for name in (GPT, LLAMA)):
        model.requires_grad_(True)
        found = hidden_matrices(model)
        names = {name for name, p in model.named_parameters() if id(p) in found}
        blocks = {name for name, p in model.named_parameters() if p.ndim == 2 and (".h." in name or ".layers." in name)}
        assert names == blocks
    tuner = FineTune(borngap.load(GPT), CONTEXTS[:1], Training(method="full", optimizer="muon", rate=1e-3, steps=1))
    before = {name: p.detach().clone() for name, p in tuner.model.named_parameters()}
    list(tuner.alone(0, observe="none"))
    after = dict(tuner.model.named_parameters())
    moved = {name: after[name].detach() - p for name, p in before.items()}
    norm = next(name for name in moved if "ln_f.weight" in name)
    assert float(moved[norm].abs().max()) == pytest.approx(1e-3, rel=1e-2)  # AdamW's first step
    matrix = moved[next(name for name in moved if "mlp.c_fc.weight" in name)]
    lengths = torch.linalg.svdvals(matrix) / (1e-3 * 0.2 * max(matrix.shape) ** 0.5)
    assert 0.5 < float(lengths.max()) < 1.4  # about as far in each of the gradient's directions
    assert float((lengths > 0.5).sum()) > 2


@pytest.mark.parametrize("name", ["sgd", "schedule_free_adamw"])
def test_runs_find_the_rate_and_the_forecast_says_by_what(name):
    contexts = read_contexts("docs10")[1:2]
    training = Training(method="lora", optimizer=name, steps=4, rate=1e-4)
    searcher = Searcher(borngap.load(GPT), contexts, training)
    (entry,) = searcher.search()
    rate = entry.critical
    assert (rate.status, rate.by) == ("ok", "bisect")
    margins = [list(searcher.tuner.alone(0, rate=at, observe="margins"))[-1].records[0]["logit_gap"]
               for at in (rate.low, rate.high)]  # fmt: skip
    assert margins[0] < 0 < margins[1]
    (dose,) = searcher.search("dose")
    assert 0.5 < dose.critical.rate / rate.rate < 2  # of four steps; of fifty docs/methods.md says how near
    (told,) = forecast(borngap.load(GPT), contexts, training)
    assert told.critical.rate == pytest.approx(rate.rate, rel=0.02)
    assert (told.critical.by, told.outcome_by) == ("bisect", "run")
    with pytest.raises(UserError, match="follows AdamW's updates alone"):
        searcher.search("collocation")


@pytest.mark.parametrize(("settings", "words"), [
    ({"optimizer": "adam"}, "unknown optimizer"),
    ({"optimizer": "sgd", "beta2": 0.9}, "SGD with momentum has no beta2"),
    ({"optimizer": "adafactor", "eps": 1e-6}, "Adafactor has no eps"),
    ({"optimizer": "schedule_free_adamw", "schedule": "linear"}, "has no schedule"),
    ({"method": "lora", "virtual_tokens": 30}, "lora has no virtual tokens"),
    ({"method": "ia3", "rate_ratio": 2.0}, "ia3 has no rate ratio"),
])  # fmt: skip
def test_settings_that_would_be_ignored_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Training(**settings)


def test_settings_go_over_to_another_method_without_what_is_anothers():
    prompt = Training(method="prompt", virtual_tokens=30, seed=4)
    assert prompt.under("lora") == Training(method="lora", seed=4)
    assert prompt.under("prefix").virtual_tokens == 30
    assert Training(method="full", freeze=("embeddings",)).under("full").freeze == ("embeddings",)


def test_what_an_optimiser_can_not_do_is_one_error(monkeypatch):
    contexts = CONTEXTS[:1]
    with pytest.raises(UserError, match="Muon has nothing to train here"):
        FineTune(borngap.load(GPT), contexts, Training(method="bitfit", optimizer="muon"))
    tuner = FineTune(borngap.load(GPT), contexts, Training(method="lora", optimizer="sgd"))
    with pytest.raises(UserError, match="a stack can't do that"):
        next(stacked(tuner, [Lane(0, 1.0)]))
    loaded = borngap.load(GPT)
    with pytest.raises(UserError, match="a run with this optimiser can't be forecast"):
        forecast_run(loaded.model, loaded.tokenizer, ["a text of words"] * 40, contexts=contexts,
                     training=Training(method="lora", optimizer="lion"))  # fmt: skip
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(UserError, match="schedule-free AdamW needs schedulefree"):
        FineTune(borngap.load(GPT), contexts, Training(method="lora", optimizer="schedule_free_adamw"))


def test_the_dose_of_momentum_builds_up():
    plain = Training(optimizer="sgd", steps=20, beta1=0.9)
    shares = [dose_share(n, plain) for n in range(21)]
    # a gradient that stays the same moves the weight by this share of the whole way
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser, way = torch.optim.SGD([weight], lr=1.0, momentum=0.9), [0.0]
    for _ in range(20):
        weight.grad = torch.ones(1)
        optimiser.step()
        way.append(-float(weight.detach()))
    assert shares == pytest.approx([x / way[-1] for x in way], rel=1e-5)
    assert dose_share(5, Training(steps=20)) == 0.25
    free = Training(method="full", optimizer="schedule_free_adamw", steps=50)
    assert [dose_share(n, free) for n in (1, 3, 50)] == pytest.approx([2 / 51, 4 / 51, 1])


def test_the_dose_of_schedule_free_adamw_is_how_far_its_own_mean_goes():
    """Under a constant gradient each update has one length: the mean of the weights is where the dose says."""
    schedulefree = pytest.importorskip("schedulefree", reason="the extra `optimizers`")
    training = Training(method="full", optimizer="schedule_free_adamw", steps=12, warmup=4)
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    steps = schedulefree.AdamWScheduleFree([weight], lr=1e-3, weight_decay=0.0, eps=0.0, warmup_steps=training.warmup)
    gone = []
    for _ in range(training.steps):
        steps.train()
        weight.grad = torch.ones_like(weight)
        steps.step()
        steps.eval()
        gone.append(-float(weight.detach()))
    shares = [dose_share(n, training) for n in range(1, 13)]
    assert [way / gone[-1] for way in gone] == pytest.approx(shares)


def test_a_rate_that_is_adamws_is_noted():
    (note,) = FineTune(borngap.load(GPT), CONTEXTS[:1], Training(method="lora", optimizer="sgd")).notes
    assert "AdamW's usual one" in note
    assert not FineTune(borngap.load(GPT), CONTEXTS[:1], Training(method="lora", optimizer="sgd", rate=1e-2)).notes


def test_stored_settings_without_an_optimiser_are_adamw():
    stored = Training(method="lora").to_json()
    assert "optimizer" not in stored
    assert Training.from_json(stored).optimizer == "adamw"
    assert Training.from_json(Training(optimizer="sgd").to_json()).optimizer == "sgd"


def test_the_command_says_by_what(run, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps(read_contexts("docs10")[1].to_json()))
    plan = ("critical", "-m", GPT, "-c", str(tmp_path / "one.jsonl"), "--method", "lora", "--optimizer", "sgd")
    code, out, _ = run(*plan, "--steps", "2")
    assert code == 0
    assert "by bisect" in out
    assert "note: rates under SGD with momentum are found by real runs" in out
    code, out, _ = run(*plan, "--steps", "2", "--json")
    assert {entry["by"] for entry in json.loads(out)["critical"]} == {"bisect"}
    assert run(*plan, "--by", "path")[0] == 2
