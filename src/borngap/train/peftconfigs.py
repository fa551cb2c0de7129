"""PEFT configurations of our methods, or of a file (docs/methods.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.methods import METHODS, Method
from borngap.train.targets import is_conv1d
from borngap.training import Training

_TASK = "CAUSAL_LM"
_FILE = "adapter_config.json"


def config_of(model: Any, training: Training, targets: Sequence[str]) -> Any:
    """Return the PEFT configuration of a method.

    Args:
        model: a Hugging Face causal LM without adapters.
        training: the settings; its method one of ``CONFIGS``.
        targets: paths of the layers to adapt, where the method adapts layers.

    Returns:
        A ``peft.PeftConfig``.

    Raises:
        UserError: the rank exceeds what a layer has, or a file is no configuration for a causal LM.
    """
    if training.method in _LOW_RANK:
        _check_rank(model, training, targets)
    return CONFIGS[training.method](model, training, list(targets))


def check_ranks(wrapped: Any) -> None:
    """Refuse LoRA whose ranks are above its layers', which adds weights that change nothing.

    Args:
        wrapped: a model by PEFT.

    Raises:
        UserError: a rank is.
    """
    for path, module in wrapped.named_modules():
        for rank in getattr(module, "r", {}).values() if hasattr(module, "lora_A") else ():
            _check_side(path, min(module.get_base_layer().weight.shape), rank, "LoRA", "a smaller r in the file")


def method_of_config(config: Any) -> Method:
    """Return the method that a PEFT configuration stands for; ``peft`` where none has a name here.

    Args:
        config: a ``peft.PeftConfig``.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind != "LORA":
        return _BY_TYPE.get(kind, "peft")
    if config.use_dora or config.use_rslora:
        return "dora" if config.use_dora else "rslora"
    return "pissa" if config.init_lora_weights == "pissa" else "lora"


_BY_TYPE: dict[str, Method] = {
    "VERA": "vera", "IA3": "ia3", "OFT": "oft", "LN_TUNING": "ln", "PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix",
}  # fmt: skip


def _lora(model: Any, training: Training, targets: list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=training.rank,
        lora_alpha=training.lora_alpha,  # type: ignore[arg-type]  # PEFT divides by it; a fraction is fine
        lora_dropout=training.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=_transposed(model, targets),
        bias="none",
        use_rslora=training.method == "rslora",
        use_dora=training.method == "dora",
        init_lora_weights="pissa" if training.method == "pissa" else True,
        task_type=_TASK,
    )


def _vera(model: Any, training: Training, targets: list[str]) -> Any:
    from peft import VeraConfig

    return VeraConfig(
        r=training.rank, target_modules=targets, fan_in_fan_out=_transposed(model, targets), task_type=_TASK
    )


def _ia3(model: Any, training: Training, targets: list[str]) -> Any:
    from peft import IA3Config

    if training.lora_targets == ("attention",):  # PEFT knows keys, values and the layer after the activation by name
        return IA3Config(task_type=_TASK)
    transposed = _transposed(model, targets)
    return IA3Config(target_modules=targets, feedforward_modules=[], fan_in_fan_out=transposed, task_type=_TASK)


def _oft(model: Any, training: Training, targets: list[str]) -> Any:
    from peft import OFTConfig

    if training.lora_rank is not None:  # PEFT would take another one that fits
        for path in targets:
            inputs = getattr(model.get_submodule(path), "in_features", training.rank)
            if inputs % training.rank:
                rule = f"it divides the {inputs} inputs of {path}"
                raise UserError("OFT's blocks do not fit", rule=rule, found=training.rank, fix="another --lora-rank")
    return OFTConfig(r=0, oft_block_size=training.rank, target_modules=targets, task_type=_TASK)


def _norms(*_: Any) -> Any:
    from peft import LNTuningConfig

    return LNTuningConfig(task_type=_TASK)


def _prompt(_: Any, training: Training, __: list[str]) -> Any:
    from peft import PromptTuningConfig

    return PromptTuningConfig(num_virtual_tokens=training.virtual_tokens, task_type=_TASK)


def _prefix(_: Any, training: Training, __: list[str]) -> Any:
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(num_virtual_tokens=training.virtual_tokens, task_type=_TASK)


def _of_file(_: Any, training: Training, __: list[str]) -> Any:
    from peft import PeftConfig

    given = Path(str(training.peft_config)).expanduser()
    path = given / _FILE if given.is_dir() else given
    rule = f"{_FILE}, as PEFT saves it, for a causal language model"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        config = PeftConfig.from_peft_type(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError("the PEFT configuration can't be read", rule=rule, found=f"{path}: {error}") from None
    task = getattr(config.task_type, "value", config.task_type)
    if task not in {None, _TASK}:
        fix = f'set "task_type": "{_TASK}"'
        raise UserError(
            "the PEFT configuration is made for another task", rule=rule, found=f"task type {task}", fix=fix
        )
    config.task_type, config.inference_mode = _TASK, False  # a saved one is set to inference
    return config


_LOW_RANK: tuple[Method, ...] = ("lora", "rslora", "dora", "lora+", "pissa")
CONFIGS: dict[Method, Callable[[Any, Training, list[str]], Any]] = {
    **dict.fromkeys(_LOW_RANK, _lora),
    "vera": _vera,
    "ia3": _ia3,
    "oft": _oft,
    "ln": _norms,
    "prompt": _prompt,
    "prefix": _prefix,
    "peft": _of_file,
}


def _check_rank(model: Any, training: Training, targets: Sequence[str]) -> None:
    """A rank beyond a layer's smaller side adds weights that change nothing."""
    sides = {path: min(model.get_submodule(path).weight.shape) for path in targets}
    path = min(sides, key=lambda name: sides[name])
    _check_side(path, sides[path], training.rank, METHODS[training.method].words, "a smaller --lora-rank")


def _check_side(path: str, side: int, rank: int, words: str, fix: str) -> None:
    if rank > side:
        rule = f"at most {side}, the smaller side of {path}"
        raise UserError(f"the rank of {words} is above a layer's", rule=rule, found=rank, fix=fix)


def _transposed(model: Any, targets: Sequence[str]) -> bool:
    """Whether the targets hold their weights as (in, out)."""
    return any(is_conv1d(model.get_submodule(path)) for path in targets)
