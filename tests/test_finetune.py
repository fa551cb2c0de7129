"""The reference loop: what it trains, that observing changes nothing, faults, and the command."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from typer.testing import CliRunner

import borngap
from borngap.cli import app, main
from borngap.context import Context
from borngap.errors import UserError
from borngap.runfolder import read_run
from borngap.train.finetune import FineTune, finetune, weights_digest
from borngap.training import Training

CONTEXTS = [
    Context("The function raises an", " error", " exception"),
    Context("If the key is missing from the", " dictionary", " list"),
    Context("Call this", " method", " function"),
]
TIED, UNTIED = "docs-gpt2-s", "docs-gpt2-s-untied"


def tuner(name=TIED, contexts=CONTEXTS, **settings):
    torch.set_num_threads(1)
    return FineTune(borngap.load(name), contexts, Training(**{"rate": 2e-4, "steps": 6} | settings))


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(run, index=0):
    """Names of the parameters that a run of one context changes."""
    before = weights(run.model)
    list(run.alone(index))
    return {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize(
    "settings", [{}, {"method": "lora", "rate": 1e-3}, {"joint": True, "batch_size": 2}, {"dropout": True}]
)
@pytest.mark.parametrize("name", [TIED, UNTIED])
def test_observing_changes_no_bit(name, settings):
    run = tuner(name, **settings)

    def final(observe):
        list(run.joint(observe=observe) if settings.get("joint") else run.alone(1, observe=observe))
        return weights(run.model)

    seen, unseen = final("all"), final("none")
    assert all(torch.equal(seen[key], unseen[key]) for key in seen)
    assert not any(module._forward_pre_hooks for module in run.model.modules())
    assert {module.training for module in run.model.modules()} == {bool(settings.get("dropout"))}


def test_each_run_starts_from_the_base_weights():
    run = tuner()
    first = list(run.alone(0))
    list(run.alone(1))
    assert list(run.alone(0)) == first
    assert len(first) == 7
    assert [entry.last for entry in first] == [False] * 6 + [True]


def test_the_first_record_is_the_probe_of_the_base_model():
    loaded = borngap.load(TIED)
    table = borngap.probe(loaded.model, loaded.tokenizer, CONTEXTS)
    record = next(iter(tuner().alone(2))).records[2]
    for name in ("born_gap", "logit_gap", "drag", "participation_ratio", "hidden_norm", "born_rank", "gold_rank"):
        assert record[name] == pytest.approx(table[name][2], rel=1e-5, abs=1e-5)
    assert (record["overlap_drift"], record["embedding_rotation"]) == (0.0, 0.0)


def test_the_record_is_taken_after_the_step():
    run = tuner()
    last = list(run.alone(0))[-1].records[0]
    seen = borngap.probe(run.model, run._tokenizer, CONTEXTS[:1])
    assert last["born_gap"] == pytest.approx(seen["born_gap"][0], abs=1e-6)
    assert last["cross_entropy"] == pytest.approx(list(run.alone(0))[-1].loss, abs=1e-5)


HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"


@pytest.mark.parametrize(
    ("name", "settings", "head", "embedding", "others"),
    [
        (TIED, {}, None, True, True),
        (UNTIED, {}, True, True, True),
        (UNTIED, {"freeze": ("readout",)}, False, True, True),
        (UNTIED, {"freeze": ("embeddings",)}, True, False, True),
        (TIED, {"freeze": ("embeddings",)}, None, False, True),
        (UNTIED, {"method": "readout-only"}, True, False, False),
        (TIED, {"method": "readout-only"}, None, True, False),
    ],
)
def test_what_each_method_trains(name, settings, head, embedding, others):
    run = tuner(name, **settings)
    changed = moved(run)
    assert (HEAD in changed) == bool(head)
    assert (EMBEDDING in changed) == embedding
    assert bool(changed - {HEAD, EMBEDDING}) == others
    moving = head if head is not None else embedding
    record = list(run.alone(0))[-1].records[0]
    assert (record["overlap_drift"] == 0.0) == (not moving)
    assert (record["embedding_rotation"] == 0.0) == (not moving)
    assert bool(run.notes) == (name == TIED and bool(settings))


def test_input_geometry_rests_while_only_the_readout_is_trained():
    record = list(tuner(UNTIED, method="readout-only", geometry="input").alone(0))[-1].records[0]
    assert (record["overlap_drift"], record["embedding_rotation"]) == (0.0, 0.0)


@pytest.mark.parametrize("name", [TIED, UNTIED, "docs-neox-s"])
def test_plain_lora_leaves_the_geometry_exactly_still(name):
    run = tuner(name, method="lora", rate=1e-3)
    changed = moved(run)
    assert changed
    assert all("lora_" in key for key in changed)
    for entry in run.alone(0):
        assert (entry.records[0]["overlap_drift"], entry.records[0]["embedding_rotation"]) == (0.0, 0.0)
        assert entry.records[0]["frozen_born_gap"] == entry.records[0]["born_gap"]


@pytest.mark.parametrize("name", [UNTIED, "docs-neox-s"])
def test_lora_with_the_untied_head_as_a_target_moves_the_geometry(name):
    run = tuner(name, method="lora", rate=1e-3, lora_targets=("attention", "readout"))
    record = list(run.alone(0))[-1].records[0]
    assert record["overlap_drift"] != 0.0
    assert record["embedding_rotation"] > 1e-4
    seen = borngap.probe(run.model, run._tokenizer, CONTEXTS[:1])
    assert record["born_gap"] == pytest.approx(seen["born_gap"][0], abs=1e-6)


def test_frozen_born_gap_is_the_born_gap_with_the_rows_of_the_start():
    run = tuner(rate=1e-3)
    start = borngap.geometry_of(run.model, tokenizer=run._tokenizer)
    start = type(start)(start.matrix.clone(), start.kind, start.size, start.special)
    record = list(run.alone(1))[-1].records[1]
    from borngap.model.forward import forward

    logits, _ = forward(run.model, run.targets[1:2])
    target = run.targets[1]
    expected = borngap.measure(logits, start, target.gold_id, target.rival_id, only=["born_gap"])["born_gap"]
    assert record["frozen_born_gap"] == pytest.approx(float(expected), abs=1e-6)
    assert abs(record["frozen_born_gap"] - record["born_gap"]) > 1e-4


def test_born_rank_is_measured_at_both_ends_and_at_flips_only():
    run = tuner(steps=12, rate=5e-4)
    entries = list(run.alone(1))
    flips = [b.step for a, b in pairwise(entries) if a.records[1]["logit_gap"] <= 0 < b.records[1]["logit_gap"]]
    ranked = {entry.step for entry in entries if entry.records[1].get("born_rank") is not None}
    assert {0, 12, *flips} <= ranked
    assert flips
    assert len(ranked) < 8


def test_both_forwards_agree():
    last, labels = (list(tuner(rate=1e-3, forward=kind).alone(1)) for kind in ("last", "labels"))
    for a, b in zip(last, labels, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-4)
        assert a.records[1]["logit_gap"] == pytest.approx(b.records[1]["logit_gap"], abs=1e-4)
        assert a.records[1]["hidden_norm"] == pytest.approx(b.records[1]["hidden_norm"], rel=1e-4)


def test_joint_batches_keep_the_order_the_last_batch_and_the_padding():
    run = tuner(joint=True, batch_size=2, steps=2)
    entries = list(run.joint())
    from borngap.model.forward import forward

    logits, _ = forward(tuner().model, run.targets)
    gold = torch.tensor([t.gold_id for t in run.targets])
    losses = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
    assert entries[0].loss == pytest.approx(float(losses[:2].mean()), abs=1e-5)
    assert set(entries[1].records) == {0, 1, 2}
    # the second batch is what is left over: the third context alone, after one update
    assert entries[1].loss == pytest.approx(entries[1].records[2]["cross_entropy"], abs=1e-5)


def test_shuffled_order_is_reproducible_and_another():
    def losses(shuffle):
        return [entry.loss for entry in tuner(joint=True, batch_size=1, steps=5, shuffle=shuffle).joint(observe="none")]

    assert losses(3) == losses(3)
    assert losses(3) != losses(None)


def test_lora_seed_is_part_of_the_run():
    def final(seed):
        return list(tuner(method="lora", rate=1e-3, seed=seed).alone(0))[-1].loss

    assert final(1) == final(1)
    assert final(1) != final(2)


def test_bfloat16_is_trained_in_float32_unless_told():
    loaded = borngap.load(TIED, dtype="bfloat16")
    run = FineTune(loaded, CONTEXTS[:1], Training(steps=1))
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("settings", [{}, {"joint": True}])
def test_a_nan_loss_is_recorded_and_ends_the_run(settings, tmp_path):
    result = finetune(borngap.load(TIED), CONTEXTS[:2], Training(rate=1e30, steps=6, **settings), tmp_path)
    for entry in result.verdicts:
        assert entry["outcome"] == "diverged"
        assert entry["why"] == f"a value is not finite at step {entry['last_step']}"
        assert entry["last_step"] < 6
        assert entry["advice"].startswith("values ceased to be finite")
        assert math.isnan(result.trajectory(entry["context"]).series("cross_entropy")[-1])


def test_saturation_stops_a_run_early_and_at_the_step_that_the_report_names():
    whole = tuner(steps=40)
    free = list(whole.alone(0))
    step = whole.entry(0, free)["saving"]["saturation_step"]
    assert step is not None
    stopped = list(tuner(steps=40, stop="saturation").alone(0))
    assert stopped[-1].step == step
    assert stopped[-1].last
    assert stopped[-1].records[0]["born_rank"] is not None


def test_an_adapted_model_is_refused():
    from peft import LoraConfig, get_peft_model

    loaded = borngap.load("docs-neox-s")
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["query_key_value"]))
    with pytest.raises(UserError, match="carries an adapter already"):
        FineTune(type(loaded)("x", adapted, loaded.tokenizer), CONTEXTS, Training(method="lora"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ("readout",)}, "readout can't be frozen alone"),
        ({"method": "lora", "lora_targets": ("q_proj",)}, r"no such module to adapt(.|\n)*c_attn"),
    ],
)
def test_methods_that_do_not_fit_the_model(settings, message):
    with pytest.raises(UserError, match=message):
        tuner(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lora", "freeze": ("readout",)}, "lora trains no parts"),
        ({"freeze": ("head",)}, "unknown part to freeze"),
        ({"method": "loha"}, "unknown method"),
        ({"rate": 0}, "rate is out of range"),
        ({"rate": math.nan}, "rate is out of range"),
        ({"steps": -1}, "steps is out of range"),
        ({"shuffle": 1}, "an order needs several contexts"),
        ({"lora_dropout": 0.1}, "dropout is off"),
        ({"top_p": 0}, "top_p is out of range"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        Training(**settings)


def test_standard_rates():
    assert (Training().learning_rate, Training(method="lora").learning_rate) == (2e-5, 1e-4)


def test_the_digest_tells_weights_apart():
    model = borngap.load(TIED).model
    before = weights_digest(model)
    assert weights_digest(borngap.load(TIED).model) == before != weights_digest(borngap.load(UNTIED).model)


@pytest.fixture
def contexts_file(tmp_path):
    path = tmp_path / "contexts.jsonl"
    path.write_text(borngap.context.write_contexts(CONTEXTS), encoding="utf-8")
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["finetune", "-m", TIED, "--steps", "4", "--lr", "2e-4", *map(str, arguments)])


def test_the_command_prints_verdicts_and_leaves_a_run(tmp_path, contexts_file):
    result = command("-c", contexts_file, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "rank and born disagree" in " ".join(result.output.split())
    run = read_run(tmp_path / "run")
    assert run.steps.shape[0] == 15
    assert all(entry["outcome"] in result.output for entry in run.verdicts)
    assert run.plan["rate"] == 2e-4
    assert run.environment["versions"]["torch"] == torch.__version__


def test_json_is_like_the_files(tmp_path, contexts_file):
    result = command("-c", contexts_file, "-o", tmp_path / "run", "--json")
    printed = json.loads(result.stdout)
    assert printed["verdicts"] == json.loads((tmp_path / "run" / "verdicts.json").read_text())["verdicts"]
    assert printed["plan"] == json.loads((tmp_path / "run" / "run.json").read_text())["plan"]


def test_a_finished_run_is_shown_again_and_not_run_again(tmp_path, contexts_file):
    command("-c", contexts_file, "-o", tmp_path / "run")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir()}
    again = command("-c", contexts_file, "-o", tmp_path / "run")
    assert again.exit_code == 0
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir()} == before


def test_another_plan_ends_with_exit_code_2(tmp_path, contexts_file, monkeypatch, capsys):
    command("-c", contexts_file, "-o", tmp_path / "run")
    again = f"borngap finetune -m {TIED} --steps 5 --lr 2e-4 -c {contexts_file} -o {tmp_path / 'run'}"
    monkeypatch.setattr(sys, "argv", again.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "steps: 4 there, 5 now" in capsys.readouterr().err


def test_kill_9_loses_at_most_the_unfinished_context_and_a_rerun_completes(tmp_path, contexts_file):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = ["finetune", "-m", TIED, "--steps", "60", "--lr", "2e-4", "-c", str(contexts_file), "-o"]
    start = [sys.executable, "-c", "from borngap.cli import main; main()", *arguments, str(killed)]
    process = subprocess.Popen(start, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "verdicts.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(read_run(killed).finished) < 3
    torch.set_num_threads(1)
    for out in (killed, whole):
        assert CliRunner().invoke(app, [*arguments, str(out)]).exit_code == 0
    assert read_run(killed).steps.equals(read_run(whole).steps)
    assert read_run(killed).verdicts == read_run(whole).verdicts


def test_live_progress_on_a_terminal(tmp_path):
    """The line says step, loss, Born gap and who leads; it is on standard error, which is a terminal here."""
    import pty

    write = tmp_path / "c.jsonl"
    write.write_text(borngap.context.write_contexts(CONTEXTS[:1]), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from borngap.cli import main; main()",
        "finetune",
        "-m",
        TIED,
        "-c",
        str(write),
        "--steps",
        "3",
    ]
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "run")], stdout=subprocess.DEVNULL, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait() == 0
    os.close(master)
    text = shown.decode(errors="replace")
    assert "context 1 of 1" in text
    assert "loss" in text
    assert "Born gap" in text
    assert "ahead" in text
