"""Checkpoints of 16 bit: every command's numbers are those of transformers in float32 on the upcast weights."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.hosts import CONTEXTS, TIED, prose, trainer
from transformers import AutoModelForCausalLM, TrainerCallback
from typer.testing import CliRunner

import borngap
from borngap.cli import app
from borngap.critical.search import Searcher
from borngap.errors import UserError
from borngap.model import precision
from borngap.model.load import load, model_facts, new_model
from borngap.report.report import comparison_of, report_of
from borngap.runfolder import read_run
from borngap.scanning.scan import scan
from borngap.sweep.engines import Worker
from borngap.sweep.plan import plan_sweep
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.train.finetune import FineTune, finetune
from borngap.training import Training


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """Return a bundled model's folder, cast to bfloat16."""
    path = tmp_path_factory.mktemp("bfloat16") / "model"
    loaded = load(TIED)
    copy.deepcopy(loaded.model).to(torch.bfloat16).save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return str(path)


def gaps(model, tokenizer, contexts):
    """Logit gaps by transformers alone."""
    found = []
    for context in contexts:
        ids, gold, rival = (tokenizer(text)["input_ids"] for text in (context.prompt, context.gold, context.rival))
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        found.append(float(logits[gold[0]] - logits[rival[0]]))
    return found


@pytest.fixture(scope="module")
def whole(short):
    """Return logit gaps of transformers in float32 on the weights of 16 bit, and the contexts."""
    contexts = [replace(c, rival=c.rival or " function") for c in CONTEXTS]
    model = AutoModelForCausalLM.from_pretrained(short, dtype=torch.float32).eval()
    rounded = AutoModelForCausalLM.from_pretrained(short, dtype=torch.bfloat16).eval()
    tokenizer = load(TIED).tokenizer
    expected = gaps(model, tokenizer, contexts)
    assert max(abs(a - b) for a, b in zip(expected, gaps(rounded, tokenizer, contexts), strict=True)) > 0.01
    return contexts, expected


def close(values):
    return pytest.approx(values, abs=1e-4)


def test_all_agree_with_transformers_in_float32(short, whole, tmp_path):
    contexts, expected = whole
    loaded = load(short)
    assert borngap.probe(loaded.model, loaded.tokenizer, contexts)["logit_gap"].to_list() == close(expected)
    tracker = Tracker(loaded.model, loaded.tokenizer, contexts)
    assert [r["logit_gap"] for r in tracker.records[0][1].values()] == close(expected)
    rows = [{"prompt": c.prompt, "completion": c.gold} for c in contexts]
    pairs = tuple((c.gold.strip(), c.rival.strip()) for c in contexts)
    found = scan(loaded.model, loaded.tokenizer, rows, pairs=pairs, top_p=1.0, bulk_pairs=1000)
    assert found.positions.sort("row")["logit_gap"].to_list() == close(expected)
    run = finetune(load(short), contexts, Training(steps=0), tmp_path)
    assert run.steps.sort("context")["logit_gap"].to_list() == close(expected)
    searcher = Searcher(load(short), contexts, Training(method="lora", steps=5))
    land = searcher.land
    assert [land.margin(i, "rank", land.logits(i)) for i in searcher.contexts] == close(expected)


def test_weights_are_read_into_float32_and_the_summary_says_so(short):
    loaded = load(short)
    told = model_facts(loaded)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert (told["dtype"], told["stored_dtype"], told["measured_in"]) == ("float32", "bfloat16", "float32")
    assert told["notes"] == ["the weights are stored in bfloat16 and were read into float32"]
    plain = model_facts(load(TIED))
    assert (plain["dtype"], plain["stored_dtype"], plain["notes"]) == ("float32", "float32", [])


@pytest.mark.parametrize(("spare", "dtype"), [(0, torch.float32), (-1, torch.bfloat16)])
def test_float32_may_take_half_of_the_free_memory(short, monkeypatch, spare, dtype):
    size = 4 * sum(p.numel() for p in load(TIED).model.parameters())
    monkeypatch.setattr(precision, "free_memory", lambda _: 2 * size + spare)
    loaded = load(short)
    assert loaded.model.dtype == dtype
    told = model_facts(loaded)
    assert told["measured_in"] == "float32"
    note = "the weights stay in bfloat16; the last norm and the head's product are done in float32"
    assert (note in told["notes"]) == (dtype == torch.bfloat16)
    assert load(TIED).model.dtype == torch.float32  # stored so: it is not made smaller
    assert load(short, dtype="float32").model.dtype == torch.float32


def test_free_memory_is_what_the_machine_and_the_container_have(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    assert 0 < precision.free_memory(cpu) <= precision.psutil.virtual_memory().total
    (tmp_path / "memory.stat").write_text("anon 5\nfile 300\n")
    (tmp_path / "memory.current").write_text("500\n")
    monkeypatch.setattr(precision, "_CGROUP", tmp_path)
    for limit, expected in (("1000\n", 800), ("max\n", precision.psutil.virtual_memory().available)):
        (tmp_path / "memory.max").write_text(limit)
        assert precision.free_memory(cpu) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(("name", "dtype"), [
    ("auto", torch.bfloat16), ("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float64", torch.float64),
])  # fmt: skip
def test_another_dtype_may_be_chosen(short, name, dtype):
    loaded = load(short, dtype=name)
    assert {p.dtype for p in loaded.model.parameters()} == {dtype}
    measured = torch.float64 if dtype == torch.float64 else torch.float32
    assert model_facts(loaded)["measured_in"] == str(measured).removeprefix("torch.")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match=r"unknown dtype\n  rule: one of float32, float64, .*, auto\n  found: int8"):
        load(TIED, dtype="int8")
    with pytest.raises(UserError, match=r"unknown dtype\n  rule: one of float32"):
        Training(dtype="half")


def test_what_is_computed_on_the_way_is_not_rounded_either(tokenizer, tmp_path):
    """Gemma scales its embeddings by a buffer that 16 bit would round to 5.65625."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {**sizes, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    new_model("gemma3_text", config).to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = torch.tensor([[3, 4, 5]])
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(load(str(tmp_path)).model(ids).logits, expected(ids).logits)


def test_an_adapter_on_a_checkpoint_of_16_bit(short, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(short, dtype=torch.bfloat16)
    config = LoraConfig(
        r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(base, config).save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert model_facts(loaded)["stored_dtype"] == "bfloat16"


def test_training_takes_float32_if_it_fits_or_what_it_is_told(short, monkeypatch):
    def trained(loaded, **settings):
        run = FineTune(loaded, CONTEXTS[:1], Training(steps=1, **settings))
        return run, {p.dtype for p in run.model.parameters()}

    assert trained(load(short, dtype="auto"))[1] == {torch.float32}
    monkeypatch.setattr(precision, "free_memory", lambda _: 1)
    run, found = trained(load(short))
    assert (run.training.dtype, found) == ("bfloat16", {torch.bfloat16})
    assert run.notes == ("the weights stay in bfloat16; the last norm and the head's product are done in float32",)
    assert trained(load(short), dtype="float32")[1] == {torch.float32}


def test_a_hosts_own_forward_in_16_bit_is_measured_by_a_forward_of_its_own(short):
    loaded = load(short, dtype="auto")
    run = FineTune(loaded, CONTEXTS[:1], Training(steps=1, forward="labels", dtype="auto"))
    first = next(run.alone(0)).records[0]["logit_gap"]
    assert first == close(borngap.probe(loaded.model, loaded.tokenizer, CONTEXTS[:1])["logit_gap"][0])
    assert (8 * first) % 1 != 0


def test_all_workers_of_a_sweep_take_the_dtype_of_the_first(short, monkeypatch):
    plan = plan_sweep(short, CONTEXTS[:1], [1e-4], training=Training(method="lora", steps=1))
    first = Worker(plan)
    monkeypatch.setattr(precision, "free_memory", lambda _: 1)
    assert first.plan.training.dtype == "float32"
    later = Worker(type(plan).from_json(json.loads(json.dumps(first.plan.to_json()))))
    assert later.tuner.model.dtype == torch.float32


def test_runs_of_different_precision_are_not_compared(short, tmp_path):
    for name, dtype in (("whole", None), ("again", "float32"), ("short", "bfloat16")):
        finetune(load(short, dtype=dtype), CONTEXTS[:1], Training(steps=1, dtype=dtype), tmp_path / name)
    assert comparison_of(tmp_path / "whole", tmp_path / "again").summary["verdict"]
    message = (
        r"the runs are of different precision\n  rule: one dtype in all\n"
        r"  found: whole: float32; short: bfloat16, norm and head in float32\n  fix: repeat one of them"
    )
    with pytest.raises(UserError, match=message):
        comparison_of(tmp_path / "whole", tmp_path / "short")
    assert "bfloat16, norm and head in float32" in report_of(tmp_path / "short").text("md")


def test_a_run_of_another_dtype_is_another_plan(short, tmp_path):
    finetune(load(short), CONTEXTS[:1], Training(steps=1), tmp_path / "run")
    with pytest.raises(UserError, match=r"of another plan\n.*\n  found: dtype: \"float32\" there, \"bfloat16\" now"):
        finetune(load(short, dtype="auto"), CONTEXTS[:1], Training(steps=1, dtype="auto"), tmp_path / "run")
    rows = ["The function returns a list."]
    for dtype in (None, "auto"):
        loaded = load(short, dtype=dtype)
        if dtype is None:
            scan(loaded.model, loaded.tokenizer, rows, out=tmp_path / "scan", bulk_pairs=1000)
            continue
        with pytest.raises(UserError, match=r"found: dtype: \"float32\" there, \"bfloat16\" now"):
            scan(loaded.model, loaded.tokenizer, rows, out=tmp_path / "scan", bulk_pairs=1000)


def test_a_tracker_is_not_resumed_in_another_dtype():
    loaded = load(TIED)
    state = Tracker(loaded.model, loaded.tokenizer, CONTEXTS).state()
    with (
        pytest.warns(borngap.track.tracker.BornGapWarning, match="trained parameters are bfloat16"),
        pytest.raises(UserError, match="dtype: float32 there, bfloat16 now"),
    ):
        Tracker(loaded.model.to(torch.bfloat16), loaded.tokenizer, CONTEXTS, state=state)


def test_autocast_and_lowered_products_around_a_tracker_change_no_bit():
    loaded = load(TIED)

    def tracked():
        tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS, every=1)
        tracker.step(1)
        tracker.finish()
        return [records for _, records in tracker.records]

    expected = tracked()
    table = borngap.probe(loaded.model, loaded.tokenizer, CONTEXTS)
    with torch.autocast("cpu", torch.bfloat16):
        assert tracked() == expected
        assert borngap.probe(loaded.model, loaded.tokenizer, CONTEXTS).equals(table)


class Weights(TrainerCallback):
    """Keeps copies of the weights after each step."""

    def __init__(self):
        self.seen = {}

    def on_step_end(self, args, state, control, model=None, **_):
        self.seen[state.global_step] = {name: p.detach().clone() for name, p in model.state_dict().items()}


def assert_series_is_in_float32(history, kept, tokenizer):
    contexts = [replace(c, rival=c.rival or " function") for c in CONTEXTS]
    series = {entry["step"]: entry for entry in history if "born_gap/born_gap" in entry}
    assert set(series) >= set(kept)
    fresh = load(TIED).model
    for step, weights in kept.items():
        fresh.load_state_dict(weights)
        for index, (context, expected) in enumerate(zip(contexts, gaps(fresh, tokenizer, contexts), strict=True)):
            found = series[step][f"born_gap/{index}_{context.gold.strip()}/logit_gap"]
            assert found == pytest.approx(expected, abs=1e-5)


def fixed():
    return [replace(c, rival=c.rival or " function") for c in CONTEXTS]


def test_a_trainer_that_autocasts_is_measured_in_float32(tmp_path):
    keeper = Weights()
    host = trainer(tmp_path, [BornGapCallback(fixed(), every=1, per_context=True), keeper], max_steps=3, bf16=True)
    host.train()
    assert host.accelerator.mixed_precision == "bf16"
    wrapped = vars(host.model)["forward"]
    assert vars(host.model)["_original_forward"] is not wrapped
    assert_series_is_in_float32(host.state.log_history, keeper.seen, host.processing_class)
    ids = torch.tensor([prose(host.processing_class)[0]["input_ids"]])
    with torch.no_grad():
        rounded = host.model(input_ids=ids).logits  # the host goes on in autocast
    assert torch.equal(rounded, rounded.bfloat16().float())


def test_an_sft_trainer_by_default(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    keeper, loaded = Weights(), load(TIED)
    settings = SFTConfig(
        output_dir=str(tmp_path), report_to="none", save_strategy="no", use_cpu=True, max_steps=2, logging_steps=2,
        per_device_train_batch_size=2, learning_rate=1e-3, disable_tqdm=True, max_length=32,
    )  # fmt: skip
    assert settings.bf16
    host = SFTTrainer(
        loaded.model, settings, train_dataset=Dataset.from_dict({"text": ["The function returns a list."] * 4}),
        processing_class=loaded.tokenizer, callbacks=[BornGapCallback(fixed(), every=1, per_context=True), keeper],
    )  # fmt: skip
    host.train()
    assert_series_is_in_float32(host.state.log_history, keeper.seen, loaded.tokenizer)


def test_a_tracked_run_says_its_precision(tmp_path):
    loaded = load(TIED)
    loaded.model.to(torch.bfloat16).requires_grad_(requires_grad=False)
    Tracker(loaded.model, loaded.tokenizer, CONTEXTS, out=tmp_path).finish()
    plan = read_run(tmp_path).plan
    assert (plan["dtype"], plan["measured_in"]) == ("bfloat16", "float32")


def invoke(*arguments):
    done = CliRunner().invoke(app, [*arguments, "--dtype", "bfloat16", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"prompt": "The function raises an", "gold": " error", "rival": " exception"}))
    return str(path)


def test_every_command_that_loads_a_model_takes_a_dtype(one, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "The function returns a list."}))
    told = [
        invoke("probe", "-m", TIED, "-c", one)["model"],
        invoke("geometry", "-m", TIED, "--pairs", "1000")["model"],
        invoke("neighbours", "error", "-m", TIED)["model"],
        invoke("scan", str(tmp_path / "rows.jsonl"), "-m", TIED)["model"],
        invoke("forecast", "-m", TIED, "-c", one, "--method", "lora", "--steps", "2"),
        invoke("critical", "-m", TIED, "-c", one, "--method", "lora", "--steps", "2"),
        invoke("finetune", "-m", TIED, "-c", one, "--steps", "1", "-o", str(tmp_path / "run"))["plan"],
        invoke("sweep", "-m", TIED, "-c", one, "--steps", "1", "--lrs", "1e-4", "-o", str(tmp_path / "sweep"))["plan"],
    ]
    assert [(part["dtype"], part["measured_in"]) for part in told] == [("bfloat16", "float32")] * len(told)


def test_tables_say_what_was_measured(short, one):
    shown = CliRunner().invoke(app, ["probe", "-m", short, "-c", one]).stdout
    assert ", float32, stored in bfloat16 on cpu" in shown
    shown = CliRunner().invoke(app, ["probe", "-m", short, "-c", one, "--dtype", "auto"]).stdout
    assert ", bfloat16, norm and head in float32 on cpu" in shown
    shown = CliRunner().invoke(app, ["critical", "-m", short, "-c", one, "--steps", "2", "--by", "ray"]).stdout
    assert "note: the weights are stored in bfloat16 and were read into float32" in shown
