"""What a RUN says of the host that trained it, and what its user is warned of."""

from __future__ import annotations

import warnings
from typing import Any

from borngap.model.precision import LOW, name_of


class BornGapWarning(UserWarning):
    """Something that the user of a tracker should know."""


def warn_of_low_precision(model: Any) -> None:
    """Warn where a model trains weights in 16 bit."""
    low = {name_of(p.dtype) for p in model.parameters() if p.requires_grad and p.dtype in LOW}
    if low:
        text = f"trained parameters are {', '.join(sorted(low))}: small updates vanish in rounding; train in float32"
        warnings.warn(text, BornGapWarning, stacklevel=4)


def learning_rates(*optimizers: Any) -> list[float] | None:
    """Return the learning rates of optimisers before schedule and warm-up, each once.

    Args:
        *optimizers: torch optimisers; None where one is not known.

    Returns:
        Ascending; None without an optimiser.
    """
    groups = [group for optimizer in optimizers if optimizer is not None for group in optimizer.param_groups]
    return sorted({float(group.get("initial_lr", group.get("lr"))) for group in groups}) or None


def described(model: Any) -> dict[str, Any]:
    """What a RUN says of a model that it can't load again: class, name, adapter, and how much of it is trained."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    adapters = {str(config.peft_type.value) for config in getattr(model, "peft_config", {}).values()}
    return {
        "class": type(inner).__name__,
        "name": getattr(getattr(inner, "config", None), "_name_or_path", None) or None,
        "adapter": ", ".join(sorted(adapters)) or None,
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": sum(size for size, trained in sizes if trained),
    }
