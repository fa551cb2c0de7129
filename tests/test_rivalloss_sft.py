"""RivalLoss in TRL's SFTTrainer, whose chunked head makes no logits of the whole batch."""

import copy

import pytest
import torch
from tests.hosts import TIED, same, weights
from tests.rivaltraining import OPTIMISER, PAIRS, TEXTS, plain_run
from tests.tiny import tiny

import borngap
from borngap import RivalLoss
from borngap.errors import UserError
from borngap.rivals.fusedhead import join_fused_head


@pytest.fixture(scope="module")
def sft_parts():
    tokenizer = copy.deepcopy(borngap.load(TIED).tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def sft(folder, tokenizer, rows, model=None, peft=None, **options):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = {
        "output_dir": str(folder), "report_to": "none", "save_strategy": "no", "use_cpu": True, "max_steps": 3,
        "logging_steps": 1, "per_device_train_batch_size": 2, "disable_tqdm": True,
        "max_length": 24, "seed": 1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
        "bf16": False,
    }  # fmt: skip
    return SFTTrainer(
        borngap.load(TIED).model if model is None else model, SFTConfig(**settings | OPTIMISER | options),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=peft,
    )  # fmt: skip


def recorded(host):
    """Let a trainer keep the batches of its updates."""
    batches, step = [], host.training_step

    def training_step(model, inputs, items):
        batches.append({name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)})
        batches[-1]["items"] = items  # of a GPT-2 transformers counts each row's first label, too
        return step(model, inputs, items)

    host.training_step = training_step
    return batches


SFT_ROWS = {
    "packing": ([{"text": text} for text in TEXTS], {"packing": True, "packing_strategy": "wrapped"}),
    "completion-only": (
        [{"prompt": text[:12], "completion": text[12:]} for text in TEXTS[:4]],
        {"completion_only_loss": True, "gradient_accumulation_steps": 2},
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SFT_ROWS)
def test_sft_trainer_is_a_plain_loop_on_its_batches(sft_parts, tmp_path, case):
    rows, options = SFT_ROWS[case]
    host = sft(tmp_path, sft_parts, rows, **options)
    batches = recorded(host)
    RivalLoss(PAIRS, kind="unlikelihood", weight=30).join(host).train()
    assert host.compute_loss_func is None  # the way on which TRL makes all logits
    many = options.get("gradient_accumulation_steps", 1)
    groups = [batches[a : a + many] for a in range(0, len(batches), many)]
    for batch in batches:
        batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
    plain = plain_run(borngap.load(TIED).model, groups, RivalLoss(PAIRS, sft_parts, kind="unlikelihood", weight=30), 3)
    ids = torch.tensor([sft_parts(TEXTS[0])["input_ids"]])
    torch.testing.assert_close(host.model.eval()(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5)
    logs = [entry for entry in host.state.log_history if "loss" in entry]
    assert all(entry["rival_loss/targets"] > 0 and "mean_token_accuracy" in entry for entry in logs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lora", [False, True])
def test_sft_trainer_at_weight_0_is_its_own_training_bit_for_bit(sft_parts, tmp_path, lora):
    from peft import LoraConfig

    rows, options = SFT_ROWS["completion-only"]
    found = []
    for weight in (None, 0.0, 3.0):
        peft = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM") if lora else None
        host = sft(tmp_path, sft_parts, rows, peft=peft, **options)
        if weight is not None:
            RivalLoss(PAIRS, weight=weight).join(host)
        host.train()
        found.append((weights(host.model), [e["loss"] for e in host.state.log_history if "loss" in e]))
    assert same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not same(found[1][0], found[2][0])
    assert all(a < b for a, b in zip(found[0][1][:1], found[2][1][:1], strict=True))


def test_an_evaluation_of_sft_is_its_own(sft_parts, tmp_path):
    rows, options = SFT_ROWS["completion-only"]
    host = sft(tmp_path, sft_parts, rows, **options)
    before = host.evaluate(host.train_dataset)["eval_loss"]
    RivalLoss(PAIRS).join(host)
    assert host.evaluate(host.train_dataset)["eval_loss"] == before


@pytest.mark.filterwarnings("ignore")
def test_sft_hosts_that_cannot_be_joined(sft_parts, tmp_path):
    rows, _ = SFT_ROWS["completion-only"]
    with pytest.raises(UserError, match="loss_type='dft'"):
        RivalLoss(PAIRS).join(sft(tmp_path, sft_parts, rows, loss_type="dft"))
    host = sft(tmp_path, sft_parts, rows)
    host.compute_loss_func = RivalLoss(PAIRS)
    with pytest.raises(UserError, match=r"loss\.join"):
        host.train()


@pytest.mark.parametrize("name", ["gpt2", "llama-untied", "gemma2", "phi"])
@pytest.mark.parametrize("kind", ["margin", "unlikelihood"])
def test_the_chunked_head_of_any_model(name, kind):
    """Whatever a model does to its logits (gemma2 caps them, phi has a bias): the loss of its own logits."""
    from trl.trainer.utils import add_fused_lm_head

    labels = torch.randint(3, 8, (2, 9), generator=torch.Generator().manual_seed(0))
    ids, labels[0, :4], labels[1, 7:] = labels.clone(), -100, -100
    losses = [RivalLoss([(3, 5), (3, 6), (4, 7)], kind=kind, weight=3) for _ in range(2)]
    plain, fused = tiny(name), tiny(name)
    wanted = losses[0](plain(input_ids=ids), labels)
    add_fused_lm_head(fused, outputs=("log_probs", "entropy", "is_top1"))
    join_fused_head(fused, losses[1])
    heads = []
    fused.get_output_embeddings().register_forward_hook(lambda _, args, __: heads.append(args[0].shape[1]))
    found = fused(input_ids=ids, labels=labels, fused_lm_head=True)
    value = -found.log_probs.sum() / found.label_mask.sum()
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
    each = losses[0].per_token(plain(input_ids=ids).logits, labels)[:, 1:]
    torch.testing.assert_close(-found.log_probs, each, rtol=1e-4, atol=1e-4)
    for loss in (wanted, value):
        loss.backward()
    for (which, one), other in zip(plain.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=which)
    told, too = (loss.numbers() for loss in losses)
    assert told == pytest.approx(too, rel=1e-4)
    spots = losses[0].at_spots(found.log_probs.new_zeros(2, 9, 97), labels)[0]
    assert sum(heads) == len(spots) + len(spots.others)  # hidden states that met the head: those alone
    assert fused(input_ids=ids).logits.shape == (2, 9, 97)
