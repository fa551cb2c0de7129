"""What a fine-tuning method trains: requires_grad and adapters on a loaded model (spec section 4)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from borngap.errors import UserError
from borngap.training import Training


def make_trainable(model: Any, training: Training) -> tuple[Any, tuple[str, ...]]:
    """Prepare a model for training: dtype, adapters, and which parameters take part.

    Args:
        model: a Hugging Face causal LM without adapters; changed in place.
        training: the run's settings.

    Returns:
        The model to train, wrapped by PEFT for LoRA, and what the user must know.

    Raises:
        UserError: the method and the model do not go together.
    """
    if hasattr(model, "peft_config"):
        fix = "merge it first: model.merge_and_unload()"
        raise UserError("the model carries an adapter already", rule="a plain causal LM", fix=fix)
    model.to(getattr(torch, training.dtype))
    return _METHODS[training.method](model, training)


def is_tied(model: Any) -> bool:
    """Return whether a plain model's output matrix is the parameter of its input matrix."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def head_name(model: Any) -> str:
    """Return the name of the module that holds the output matrix, without its path."""
    head = model.get_output_embeddings()
    return next(name for name, module in model.named_modules() if module is head).rpartition(".")[2]


def _full(model: Any, training: Training) -> tuple[Any, tuple[str, ...]]:
    if "readout" in training.freeze and is_tied(model):
        raise UserError(
            "this model's readout can't be frozen alone",
            rule="the output matrix is a parameter of its own",
            found="the head is tied to the input matrix",
            fix="--freeze embeddings freezes both",
        )
    model.requires_grad_(True)
    if "embeddings" in training.freeze:
        model.get_input_embeddings().requires_grad_(False)
    if "readout" in training.freeze:
        model.get_output_embeddings().requires_grad_(False)
    both = "embeddings" in training.freeze and is_tied(model)
    return model, ("the head is tied: the readout is frozen with the embeddings",) if both else ()


def _readout_only(model: Any, _: Training) -> tuple[Any, tuple[str, ...]]:
    model.requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    note = "the head is tied: training the readout moves the input matrix too"
    return model, (note,) if is_tied(model) else ()


def _lora(model: Any, training: Training) -> tuple[Any, tuple[str, ...]]:
    from peft import LoraConfig, get_peft_model

    head, tied = head_name(model), is_tied(model)
    targets = _targets(model, training, head)
    config = LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,  # type: ignore[arg-type]  # PEFT divides by it; a fraction is fine
        lora_dropout=training.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=_transposed(model, targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT warns of tied heads and of the layout of GPT-2's layers; both are dealt with here
        warnings.simplefilter("ignore")
        torch.manual_seed(training.seed)
        wrapped = get_peft_model(model, config)
    note = "the head is tied: an adapter on it sets output and input matrix apart"
    return wrapped, (note,) if tied and head in targets else ()


_METHODS = {"full": _full, "lora": _lora, "readout-only": _readout_only}


def _targets(model: Any, training: Training, head: str) -> list[str]:
    names: list[str] = []
    for name in training.lora_targets:
        names += _attention(model) if name == "attention" else [head] if name == "readout" else [name]
    leaves = {path.rpartition(".")[2] for path, _ in model.named_modules()}
    missing = [name for name in names if name not in leaves]
    if missing:
        layers = (nn.Linear, nn.Embedding)
        known = {p.rpartition(".")[2] for p, m in model.named_modules() if isinstance(m, layers) or _is_conv1d(m)}
        fix = f"choose among attention, readout, {', '.join(sorted(known))}"
        raise UserError("no such module for LoRA", rule="names of the model's layers", found=missing, fix=fix)
    return list(dict.fromkeys(names))


def _attention(model: Any) -> list[str]:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    kind = model.config.model_type
    if kind not in KNOWN:
        fix = "name the modules with --lora-targets"
        raise UserError("PEFT knows no LoRA targets for this architecture", found=f"model type {kind!r}", fix=fix)
    return list(KNOWN[kind])


def _transposed(model: Any, targets: list[str]) -> bool:
    """Whether the targets hold their weights as (in, out), as GPT-2's layers do."""
    return any(_is_conv1d(m) for path, m in model.named_modules() if path.rpartition(".")[2] in targets)


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
