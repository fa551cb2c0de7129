"""Bottleneck adapters: a small network behind each feed-forward layer, ``y + U gelu(D y)``, which PEFT does not have.

Source: Houlsby et al., arXiv 1902.00751; behind the feed-forward layer alone, as Pfeiffer et al., arXiv 2005.00247.
U starts at zero, so that the model starts as it was; D is drawn as torch draws a linear layer.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from borngap.errors import UserError

_FEED_FORWARD = re.compile(r"(?:.*\.)?(?:layers|h|blocks?)\.\d+\.(?:mlp|ffn|feed_forward)")


class Bottleneck(nn.Module):
    """A layer with an adapter behind it.

    Attributes:
        inner: the layer, frozen.
        down: D, shape (size, width).
        up: U, shape (width, size).
    """

    def __init__(self, inner: nn.Module, width: int, size: int) -> None:
        """Put an adapter behind a layer.

        Args:
            inner: the layer; returns a tensor of shape (..., width).
            width: of what it returns.
            size: width of the bottleneck.
        """
        super().__init__()
        like = next(inner.parameters())
        self.inner = inner
        self.down = nn.Linear(width, size, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(size, width, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *args: Any, **options: Any) -> Tensor:
        """Return ``y + U gelu(D y)``, y being what the layer returns."""
        found = self.inner(*args, **options)
        return found + self.up(nn.functional.gelu(self.down(found)))


def redrawn(model: Any, seed: int) -> dict[str, Tensor]:
    """Return what the adapters of a model start from for another seed.

    Args:
        model: with adapters; not changed.
        seed: of what is drawn.

    Returns:
        Name of the parameter -> its values, of those that are trained.
    """
    found: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, module in model.named_modules():
            if isinstance(module, Bottleneck):
                fresh = Bottleneck(module.inner, module.down.in_features, module.down.out_features)
                own = ((name, p) for name, p in fresh.named_parameters() if not name.startswith("inner."))
                found |= {f"{path}.{name}": p.detach() for name, p in own}
    return found


def insert(model: Any, size: int, seed: int) -> None:
    """Freeze a model and put a trainable adapter behind each of its feed-forward layers.

    Args:
        model: a Hugging Face causal LM; changed in place.
        size: width of the bottleneck.
        seed: of what is drawn.

    Raises:
        UserError: no feed-forward layers are found.
    """
    model.requires_grad_(False)
    paths = [path for path, _ in model.named_modules() if _FEED_FORWARD.fullmatch(path)]
    if not paths:
        rule = "layers named mlp, ffn or feed_forward in numbered blocks"
        raise UserError("no feed-forward layers found for adapters", rule=rule, found=model.config.model_type)
    width = model.get_input_embeddings().weight.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path in paths:
            block, _, name = path.rpartition(".")
            setattr(model.get_submodule(block), name, Bottleneck(model.get_submodule(path), width, size))


def remove(model: Any) -> None:
    """Take the adapters out again; a model without any stays as it is.

    Args:
        model: changed in place.
    """
    for path, module in list(model.named_modules()):
        if isinstance(module, Bottleneck):
            block, _, name = path.rpartition(".")
            setattr(model.get_submodule(block), name, module.inner)
