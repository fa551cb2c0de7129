"""Every fine-tuning method: as Trainer and PEFT do it, stacked as alone, its critical rates, and what is refused."""

import copy
import json

import peft
import pytest
import torch
from peft import get_peft_model
from peft.optimizers import create_loraplus_optimizer
from tests.hosts import CONTEXTS, example, last_logits, trainer
from transformers import set_seed

import borngap
from borngap.context import read_contexts, write_contexts
from borngap.critical.ofmethods import MethodRates
from borngap.critical.record import CriticalRate
from borngap.critical.search import Searcher, critical_rates
from borngap.errors import UserError
from borngap.methods import METHODS, NAMES, WHOLE
from borngap.runfolder import read_run
from borngap.train.finetune import FineTune
from borngap.train.methods import make_trainable, stripped
from borngap.train.stacked import Lane, stacked
from borngap.training import Training

GPT, LLAMA = "docs-gpt2-s", "docs-llama"
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}
# method -> PEFT's own configuration, written by hand; the model; a rate at which 20 steps move something
HOSTED = {
    "rslora": (peft.LoraConfig(**LORA, use_rslora=True), GPT, 1e-3),
    "dora": (peft.LoraConfig(**LORA, use_dora=True), GPT, 2e-3),
    "lora+": (peft.LoraConfig(**LORA), GPT, 3e-4),
    "pissa": (peft.LoraConfig(**LORA, init_lora_weights="pissa"), GPT, 5e-4),
    "vera": (peft.VeraConfig(r=256, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"), GPT, 3e-2),
    "ia3": (peft.IA3Config(task_type="CAUSAL_LM"), GPT, 2e-2),
    "oft": (
        peft.OFTConfig(r=0, oft_block_size=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"), LLAMA, 2e-3
    ),
    "ln": (peft.LNTuningConfig(task_type="CAUSAL_LM"), LLAMA, 1e-2),
    "prompt": (peft.PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"), GPT, 3e-2),
    "prefix": (peft.PrefixTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"), GPT, 3e-2),
}  # fmt: skip
DRAWN = [name for name in NAMES if METHODS[name].drawn and name != "peft"]
ADDED = [name for name in NAMES if name not in {*WHOLE, "peft"}]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def model_for(method):
    return LLAMA if method in {"oft", "ln"} else GPT


@pytest.mark.parametrize("method", HOSTED)
def test_the_loop_equals_trainer_and_peft(method, tmp_path):
    config, name, rate = HOSTED[method]
    loaded, context = borngap.load(name), CONTEXTS[1]
    set_seed(3)
    model = get_peft_model(loaded.model, copy.deepcopy(config))
    host = trainer(
        tmp_path, name=name, model=model, data=[example(loaded.tokenizer, context)], max_steps=20, learning_rate=rate
    )
    if method == "lora+":
        host.optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=16.0)
    ids = loaded.tokenizer(context.prompt)["input_ids"]
    before = last_logits(model, ids)
    model.train()
    host.train()
    run = FineTune(borngap.load(name), [context], Training(method=method, rate=rate, seed=3, steps=20))
    *_, last = run.alone(0)
    expected = last_logits(host.model, ids)
    assert float((expected - last_logits(run.model, ids)).abs().max()) < 1e-4
    assert float((expected - before).abs().max()) > 0.3
    # what is measured stands where training put gold, prompts of virtual tokens or not
    gold = run.targets[0].gold_id
    assert last.records[0]["cross_entropy"] == pytest.approx(float(-expected.log_softmax(0)[gold]), abs=1e-3)
    labels = FineTune(
        borngap.load(name), [context], Training(method=method, rate=rate, seed=3, steps=3, forward="labels")
    )
    plain = FineTune(borngap.load(name), [context], Training(method=method, rate=rate, seed=3, steps=3))
    gaps = [[step.records[0]["logit_gap"] for step in tuner.alone(0, observe="margins")] for tuner in (labels, plain)]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-4)


@pytest.mark.parametrize("method", [name for name in ADDED if name != "oft"])
def test_a_stack_equals_runs_one_by_one(method):
    loaded = borngap.load(model_for(method))
    tuner = FineTune(loaded, CONTEXTS, Training(method=method, steps=4))
    rate = 10 * METHODS[method].rate
    lanes = [Lane(0, rate), Lane(2, rate), Lane(2, 2 * rate)]
    gaps = {number: [] for number in range(len(lanes))}
    for number, step in stacked(tuner, lanes, observe="margins"):
        gaps[number].append(step.records[lanes[number].index]["logit_gap"])
    for number, lane in enumerate(lanes):
        alone = tuner.alone(lane.index, observe="margins", rate=lane.rate)
        assert gaps[number] == pytest.approx([step.records[lane.index]["logit_gap"] for step in alone], abs=2e-5)
    assert gaps[1][-1] != gaps[2][-1]


@pytest.mark.parametrize("method", DRAWN)
def test_seeds_draw_another_start(method):
    alone, lanes = [], [Lane(0, 10 * METHODS[method].rate, seed) for seed in (0, 1)]
    for lane in lanes:
        tuner = FineTune(borngap.load(GPT), CONTEXTS, Training(method=method, steps=2, seed=lane.seed))
        steps = tuner.alone(0, observe="margins", rate=lane.rate)
        alone.append([step.records[0]["logit_gap"] for step in steps])
    assert alone[0] != alone[1]
    tuner, gaps = FineTune(borngap.load(GPT), CONTEXTS, Training(method=method, steps=2)), {0: [], 1: []}
    for number, step in stacked(tuner, lanes, observe="margins"):
        gaps[number].append(step.records[0]["logit_gap"])
    assert [gaps[0], gaps[1]] == [pytest.approx(series, abs=2e-5) for series in alone]


@pytest.mark.parametrize("method", ["lora+", "ia3", "prefix", "adapter"])
def test_collocation_agrees_with_bisection(method):
    contexts, rates = read_contexts("docs10")[:2], {}
    for by in ("collocation", "bisect"):
        searcher = Searcher(borngap.load(GPT), contexts, Training(method=method, steps=30))
        rates[by] = [entry.critical.rate for entry in searcher.search(by)]
    assert rates["collocation"] == pytest.approx(rates["bisect"], rel=0.03)


def test_bottlenecks_start_as_the_model_and_lie_behind_feed_forward():
    loaded = borngap.load(LLAMA)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        model, _ = make_trainable(loaded.model, Training(method="adapter", lora_rank=12))
        assert torch.equal(model(input_ids=ids).logits, before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    blocks = model.config.num_hidden_layers
    parts = ("down.weight", "down.bias", "up.weight", "up.bias")
    assert trained == {f"model.layers.{i}.mlp.{part}" for i in range(blocks) for part in parts}
    layer = model.model.layers[0].mlp
    torch.nn.init.normal_(layer.up.weight)
    x = torch.randn(1, 3, model.config.hidden_size)
    y = layer.inner(x)
    by_hand = y + torch.nn.functional.gelu(y @ layer.down.weight.T + layer.down.bias) @ layer.up.weight.T
    torch.testing.assert_close(layer(x), by_hand)


def test_a_peft_configuration_is_applied(tmp_path):
    config = peft.LoHaConfig(r=4, alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    config.save_pretrained(tmp_path)
    model, _ = make_trainable(borngap.load(LLAMA).model, Training(method="peft", peft_config=str(tmp_path)))
    names = {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}


@pytest.mark.parametrize(("settings", "model", "words"), [
    ({"method": "bitfit"}, LLAMA, "no biases to tune"),
    ({"method": "oft"}, GPT, "PEFT can't apply OFT here"),
    ({"method": "oft", "lora_rank": 7}, LLAMA, "OFT's blocks do not fit"),
    ({"method": "dora", "lora_rank": 200}, GPT, "the rank of DoRA is above a layer's"),
    ({"method": "ia3", "lora_targets": ("nowhere",)}, GPT, "no such module"),
    ({"method": "vera", "lora_targets": ("wte",)}, GPT, "PEFT can't apply VeRA here"),
])  # fmt: skip
def test_what_does_not_fit_a_model_is_one_error(settings, model, words):
    with pytest.raises(UserError, match=words):
        make_trainable(borngap.load(model).model, Training(**settings))


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_take_room_in_the_context(method):
    with pytest.raises(UserError, match="at most 6 tokens, the model's context less 250 virtual tokens"):
        FineTune(borngap.load(GPT), CONTEXTS, Training(method=method, virtual_tokens=250))


@pytest.mark.parametrize(("content", "words"), [
    (None, "can't be read"),
    ("{", "can't be read"),
    ('{"peft_type": "NONSENSE"}', "can't be read"),
    (json.dumps({"peft_type": "LORA", "task_type": "SEQ_CLS"}), "made for another task"),
    (json.dumps({"peft_type": "LORA", "target_modules": ["to_q"]}), "to_q.*its target_modules may be .*c_attn, c_fc"),
    (json.dumps({"peft_type": "LORA", "target_modules": ["c_attn"], "r": 129}), "above a layer's.*at most 128.*129"),
    (json.dumps({"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": 2}), "can't apply.*task_ids"),
])  # fmt: skip
def test_a_bad_peft_configuration_is_one_error(content, words, tmp_path):
    if content is not None:
        (tmp_path / "adapter_config.json").write_text(content)
    model = borngap.load(GPT).model
    with pytest.raises(UserError, match=f"(?s){words}"):
        make_trainable(model, Training(method="peft", peft_config=str(tmp_path)))
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_configuration_goes_with_its_method():
    for settings in ({"method": "peft"}, {"peft_config": "x"}):
        with pytest.raises(UserError, match="do not go together"):
            Training(**settings)


def test_two_rates_and_weight_decay_are_left_to_runs():
    training = Training(method="lora+", steps=5, weight_decay=0.1)
    (entry,) = Searcher(borngap.load(GPT), read_contexts("docs10")[:1], training).search("collocation")
    assert entry.critical.status == "abstained"
    assert "two rates" in entry.critical.why


def test_the_command_trains_by_any_method(tmp_path, run):
    def command(method, model, out):
        plan = ("-m", model, "-c", "docs10", "--method", method, "--steps", "1", "--out", str(tmp_path / out))
        code, _, error = run("finetune", *plan)
        return code, error

    assert command("ia3", GPT, "run")[0] == 0
    assert read_run(tmp_path / "run").plan["method"] == "ia3"
    code, error = command("bitfit", LLAMA, "no")
    assert code == 2
    assert "no biases to tune" in error
    assert "Traceback" not in error
    assert not (tmp_path / "no").exists()


def test_methods_are_undone():
    loaded, ids = borngap.load(GPT), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        for method in sorted((name for name in ADDED if name != "oft"), key=lambda name: name == "pissa"):
            model = stripped(make_trainable(loaded.model, Training(method=method))[0])
            assert model is loaded.model
            assert not hasattr(model, "peft_config") or not model.peft_config
            torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=1e-4 * (method == "pissa"))
            assert {type(module).__module__.split(".")[0] for module in model.modules()} <= {"torch", "transformers"}


def test_the_rate_that_a_share_takes():
    def rates(*values):
        return tuple(CriticalRate(v, v, v, "ok" if v else "beyond", "collocation", "") for v in values)

    entry = MethodRates("ia3", 1e-4, 10, rates(3e-3, 1e-3, None, 2e-3, 5e-5))
    assert entry.at_usual == 1
    assert [entry.quantile(share).rate for share in (0.2, 0.5, 0.8, 0.9)] == [5e-5, 2e-3, 3e-3, None]
    low, high = entry.quantile(0.5).interval
    assert low == 5e-5
    assert high is None
    known = CriticalRate(None, None, None, "pre-resolved", "collocation", "")
    assert MethodRates("ia3", 1e-4, 10, (known,)).quantile(0.5).rate is None


def test_the_table_of_methods(run, tmp_path):
    contexts = read_contexts("docs10")[:4]
    few = tmp_path / "few.jsonl"
    few.write_text(write_contexts(contexts))
    arguments = ("methods", "-m", LLAMA, "-c", few, "--methods", "lora,bitfit,adapter", "--steps", "5")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "bitfit: left out: no biases to tune (model type 'llama' has none)" in out
    assert sorted(len(line.split()) for line in out.splitlines() if line.startswith(("lora ", "adapter "))) == [14, 14]
    code, out, _ = run(*arguments, "--rival-loss", "margin:1,2", "--json")
    assert json.loads(out)["added"] == ["margin:1,2"]
    lora, bitfit, adapter = sorted(json.loads(out)["methods"], key=lambda entry: -NAMES.index(entry["method"]))[::-1]
    assert (lora["method"], bitfit["method"], adapter["method"]) == ("lora", "bitfit", "adapter")
    plain = critical_rates(borngap.load(LLAMA), contexts, Training(method="adapter", steps=5, rival_loss="margin:1,2"))
    assert [r["rate"] for r in adapter["critical_rates"]] == pytest.approx([entry.critical.rate for entry in plain])
    assert adapter["trained_parameters"] == 66304
    assert lora["training_bytes"] == 16 * lora["trained_parameters"]
    assert bitfit["refused"]
    assert run("methods", "--methods", "lora,nonsense", "-m", LLAMA)[0] == 2


def test_contexts_without_a_rate_are_told(run, monkeypatch):
    plain = Searcher._by_collocation
    lost = CriticalRate(None, None, None, "abstained", "collocation", "it does not settle")
    monkeypatch.setattr(Searcher, "_by_collocation", lambda self, i: plain(self, i) if i else lost)
    code, out, _ = run("methods", "-m", LLAMA, "-c", "docs10", "--methods", "adapter", "--steps", "5")
    assert code == 0
    assert "of 6*" in out
    assert "* adapter: 1 of 7 contexts left out, no rate was found: it does not settle; real runs find one: " in out
    assert "borngap critical --method adapter --by bisect" in out


def test_no_method_is_an_error(run):
    code, _, error = run("methods", "-m", LLAMA, "--methods", "bitfit")
    assert code == 2
    assert "no method can be applied" in error
