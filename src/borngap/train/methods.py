"""What a fine-tuning method trains: requires_grad and adapters on a loaded model (docs/track.md#the-command)."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from borngap.errors import UserError
from borngap.train.targets import head_path, is_conv1d, targets_of
from borngap.training import Method, Training


def make_trainable(model: Any, training: Training) -> tuple[Any, tuple[str, ...]]:
    """Prepare a model for training: adapters, and which parameters take part.

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
    return _TRAINABLE[training.method](model, training)


def method_of(model: Any) -> Method:
    """Return the method that a model is prepared for, by anybody: what of it is trained.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, ``requires_grad`` set.

    Returns:
        ``lora`` with any adapter; ``readout-only`` where the output matrix alone is trained; otherwise ``full``.
    """
    if hasattr(model, "peft_config"):
        return "lora"
    head = model.get_output_embeddings()
    alone = head is not None and all(p is head.weight for p in model.parameters() if p.requires_grad)
    return "readout-only" if alone else "full"


def is_tied(model: Any) -> bool:
    """Return whether a plain model's output matrix is the parameter of its input matrix."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


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

    targets = targets_of(model, training.lora_targets)
    note = "the head is tied: an adapter on it sets output and input matrix apart"
    apart = is_tied(model) and head_path(model) in targets
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
        try:
            wrapped = get_peft_model(model, config)
        except ValueError as error:  # some kinds of layers it refuses
            raise UserError("PEFT refuses these LoRA targets", found=str(error), fix="choose --lora-targets") from None
    return wrapped, (note,) if apart else ()


_TRAINABLE = {"full": _full, "lora": _lora, "readout-only": _readout_only}


def _transposed(model: Any, targets: list[str]) -> bool:
    """Whether the targets hold their weights as (in, out)."""
    return any(is_conv1d(model.get_submodule(path)) for path in targets)
