"""Random predictions that tests share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Case(NamedTuple):
    """A batch of predictions over one embedding matrix."""

    logits: Tensor
    matrix: Tensor
    gold: Tensor
    rival: Tensor
    hidden: Tensor

    def to(self, target):
        """Move to a device, or cast the floating-point parts to a dtype."""
        device = not isinstance(target, torch.dtype)
        return Case(*(t.to(target) if device or t.is_floating_point() else t for t in self))


def case(seed, *, vocabulary=40, dimension=12, batch=3, spread=2.0, common=0.7):
    """Return float64 logits, rows with a common direction and a word each for gold and rival."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    matrix = (normal(vocabulary, dimension) + common * normal(dimension)) * (0.5 + normal(vocabulary, 1).abs())
    gold = torch.randint(vocabulary, (batch,), generator=generator)
    step = torch.randint(1, vocabulary, (batch,), generator=generator)
    logits = spread * normal(batch, vocabulary)
    return Case(logits, matrix, gold, (gold + step) % vocabulary, normal(batch, dimension))
