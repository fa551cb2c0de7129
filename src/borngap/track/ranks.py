"""Ranks of a distributed training: all of them measure, rank 0 decides when, and writes."""

from __future__ import annotations

import torch


def own_rank() -> int:
    """Return this process's rank; 0 without ``torch.distributed``."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def of_rank_0(value: int, device: torch.device) -> int:
    """Return the value of rank 0, so that all ranks probe at the same steps.

    Args:
        value: this rank's own.
        device: on which it is sent.
    """
    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor([value], device=device)
    torch.distributed.broadcast(shared, 0)
    return int(shared)
