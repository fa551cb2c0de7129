"""What a fine-tuning method trains: requires_grad and adapters on a loaded model (docs/methods.md)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from borngap.errors import UserError
from borngap.methods import METHODS, Method
from borngap.train.bottleneck import Bottleneck, insert, remove
from borngap.train.peftconfigs import CONFIGS, check_ranks, config_of, method_of_config
from borngap.train.targets import head_path, layer_names, targets_of
from borngap.training import Training, refuse_penalty

_Made = tuple[Any, tuple[str, ...]]


def make_trainable(model: Any, training: Training) -> _Made:
    """Prepare a model for training: adapters, and which parameters take part.

    Args:
        model: a Hugging Face causal LM without adapters; changed in place.
        training: the run's settings.

    Returns:
        The model to train, wrapped by PEFT for its methods, and what the user must know.

    Raises:
        UserError: the method and the model do not go together; ``requires_grad`` is then as it was.
    """
    needed = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        return _made(model, training)
    except UserError:
        for parameter, flag in needed:
            parameter.requires_grad_(flag)
        raise


def _made(model: Any, training: Training) -> _Made:
    if hasattr(model, "peft_config"):
        fix = "merge it first: model.merge_and_unload()"
        raise UserError("the model carries an adapter already", rule="a plain causal LM", fix=fix)
    made = _adapted(model, training) if training.method in CONFIGS else _OWN[training.method](model, training)
    if training.penalised and not made[0].get_output_embeddings().weight.requires_grad:
        stripped(made[0])
        refuse_penalty(f"the output matrix is not trained ({', '.join((f'--method {training.method}', *made[1]))})")
    return made


def stripped(model: Any) -> Any:
    """Return the plain model again, its weights as ``make_trainable`` found them; to rounding under PiSSA.

    Args:
        model: as ``make_trainable`` returned it, what is trained at its initial values.
    """
    if not hasattr(model, "peft_config"):
        remove(model)
        return model
    config = model.peft_config["default"]
    if config.is_prompt_learning:
        return model.get_base_model()
    # PiSSA takes out of the weights what its matrices start from
    return model.merge_and_unload() if getattr(config, "init_lora_weights", True) == "pissa" else model.unload()


def rate_factor(name: str, training: Training) -> float:
    """Return by what a parameter's rate differs from the run's, unit 1: LoRA+ trains the matrices B faster.

    Source: Hayou, Ghosh and Yu, arXiv 2402.12354; the groups are those of PEFT's ``create_loraplus_optimizer``, but
    that embeddings have a rate of their own there.

    Args:
        name: of the parameter, as the model to train has it.
        training: the settings.
    """
    return training.rate_ratio if training.method == "lora+" and "lora_B" in name else 1.0


def method_of(model: Any) -> Method:
    """Return the method that a model is prepared for, by anybody: what of it is trained.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, ``requires_grad`` set.

    Returns:
        PEFT's adapters by their configuration, LoRA+ as ``lora``, which it differs from by its optimiser alone; else by
        what is trained.
    """
    if hasattr(model, "peft_config"):
        return method_of_config(next(iter(model.peft_config.values())))
    if any(isinstance(module, Bottleneck) for module in model.modules()):
        return "adapter"
    head, trained = model.get_output_embeddings(), {n: p for n, p in model.named_parameters() if p.requires_grad}
    if head is not None and all(p is head.weight for p in trained.values()):
        return "readout-only"
    return "bitfit" if all(name.endswith("bias") for name in trained) else "full"


def is_tied(model: Any) -> bool:
    """Return whether a plain model's output matrix is the parameter of its input matrix."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _full(model: Any, training: Training) -> _Made:
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


def _readout_only(model: Any, _: Training) -> _Made:
    model.requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    note = "the head is tied: training the readout moves the input matrix too"
    return model, (note,) if is_tied(model) else ()


def _biases(model: Any, _: Training) -> _Made:
    model.requires_grad_(False)
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    if not biases:
        found, fix = f"model type {model.config.model_type!r} has none", "--method ln trains its norms"
        raise UserError("no biases to tune", rule="BitFit trains a model's biases", found=found, fix=fix)
    for parameter in biases:
        parameter.requires_grad_(True)
    return model, ()


def _bottleneck(model: Any, training: Training) -> _Made:
    insert(model, training.rank, training.seed)
    return model, ()


_OWN: dict[Method, Callable[[Any, Training], _Made]] = {
    "full": _full,
    "readout-only": _readout_only,
    "bitfit": _biases,
    "adapter": _bottleneck,
}


def _adapted(model: Any, training: Training) -> _Made:
    from peft import get_peft_model

    tied, head = is_tied(model), head_path(model)
    targets = targets_of(model, training.lora_targets) if METHODS[training.method].layers else []
    apart = tied and head in targets
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT warns of tied heads and of the layout of GPT-2's layers; both are dealt with here
        warnings.simplefilter("ignore")
        torch.manual_seed(training.seed)
        config = config_of(model, training, targets)
        try:
            wrapped = get_peft_model(model, config)
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:  # what it can't do
            raise _not_applied(model, training, error) from None
    if training.method == "peft":
        _check_given(wrapped, training)
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise UserError("nothing would be trained", rule="an adapter with weights of its own", found=config.peft_type)
    note = "the head is tied: an adapter on it sets output and input matrix apart"
    return wrapped, (note,) if apart else ()


def _not_applied(model: Any, training: Training, error: Exception) -> UserError:
    """What PEFT can't do, and where to choose anew."""
    fix = "choose --lora-targets" if METHODS[training.method].layers else "choose another --method"
    if training.method == "peft":
        fix = f"change {training.peft_config}; its target_modules may be {layer_names(model)}"
    found = " ".join(str(error).split())
    return UserError(f"PEFT can't apply {METHODS[training.method].words} here", found=found, fix=fix)


def _check_given(wrapped: Any, training: Training) -> None:
    """Refuse a configuration of a file with ranks above a layer's, or under which the model can't be called alone.

    Args:
        wrapped: the model by PEFT; the plain model again where it is refused.
        training: the settings.

    Raises:
        UserError: it can't be trained.
    """
    try:
        check_ranks(wrapped)
        device = next(wrapped.parameters()).device
        with torch.no_grad():
            wrapped(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device))
    except UserError:
        stripped(wrapped)
        raise
    except (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError, LookupError) as error:
        told = _not_applied(stripped(wrapped), training, error)
        raise told from None
