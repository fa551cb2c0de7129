"""The Born gap of gold over its rival, its split into signal and drag, and the logit gap's drive."""

from __future__ import annotations

import torch
from torch import Tensor


def throttle(gold_row: Tensor, rival_row: Tensor) -> Tensor:
    r"""Self-sabotage factor ``1 - Gmax^2 = d Phi / d p_g``, the share of a rise of p_g that reaches the Born gap.

    Source: eq 5. Evaluated as ``|u - v|^2 |u + v|^2 / 4``, exact also for nearly equal rows.

    Args:
        gold_row: unit row of gold, shape (..., d).
        rival_row: unit row of the rival, shape (..., d).

    Returns:
        Shape (...), unit 1, in [0, 1]; exactly 0 for equal rows.

    Example:
        >>> u, v = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
        >>> round(float(throttle(u, v)), 6)
        0.64
    """
    apart, together = (gold_row - rival_row).square().sum(-1), (gold_row + rival_row).square().sum(-1)
    return apart * together / 4


def signal(throttle: Tensor, gold_probability: Tensor, rival_probability: Tensor) -> Tensor:
    r"""Signal ``(1 - Gmax^2)(p_g - p_c)``: the probability lead of gold, throttled by the overlap.

    Source: eq 6.

    Args:
        throttle: 1 - Gmax^2, any shape.
        gold_probability: p_g within the pool.
        rival_probability: p_c within the pool.

    Returns:
        Same shape, unit 1, in [-1, 1].

    Example:
        >>> round(float(signal(torch.tensor(0.5), torch.tensor(0.6), torch.tensor(0.2))), 6)
        0.2
    """
    return throttle * (gold_probability - rival_probability)


def drag(probs: Tensor, gold_overlaps: Tensor, rival_overlaps: Tensor) -> Tensor:
    r"""Background drag ``sum_k p_k (G_kg^2 - G_kc^2)`` over the pool without gold and rival.

    Source: eq 6.

    Args:
        probs: probabilities of the background tokens, shape (..., n - 2).
        gold_overlaps: their overlaps with gold, same shape.
        rival_overlaps: their overlaps with the rival, same shape.

    Returns:
        Shape (...), unit 1, in [-1, 1]; negative where the background sides with the rival.

    Example:
        >>> round(float(drag(torch.tensor([0.5]), torch.tensor([0.2]), torch.tensor([0.6]))), 6)
        -0.16
    """
    return (probs * (gold_overlaps.square() - rival_overlaps.square())).sum(-1)


def born_gap(signal: Tensor, drag: Tensor) -> Tensor:
    r"""Born gap ``Phi = P_B(g) - P_B(c) = sum_k p_k (G_kg^2 - G_kc^2)``, as signal + drag.

    Source: eqs 4 and 6 (the sum is an identity, not an approximation).

    Args:
        signal: the signal, any shape.
        drag: the drag, same shape.

    Returns:
        Same shape, unit 1, in [-1, 1]; positive where gold leads under the Born score.

    Example:
        >>> round(float(born_gap(torch.tensor(0.2), torch.tensor(-0.16))), 6)
        0.04
    """
    return signal + drag


def drive(probs: Tensor, gold_overlaps: Tensor, rival_overlaps: Tensor, separation: Tensor) -> Tensor:
    r"""Drive of the logit gap under gradient flow on h with unit rows, per unit rate.

    ``(1 - Gmax)(1 - p_g + p_c) - b`` with ``b = sum over k not in {g, c} of p_k (G_kg - G_kc)``.

    Source: eq 10 and appendix B. Exact when the pool is the whole vocabulary.

    Args:
        probs: pool probabilities, gold first, rival second, shape (..., n).
        gold_overlaps: G_kg, shape (..., n).
        rival_overlaps: G_kc, shape (..., n).
        separation: 1 - Gmax, shape (...).

    Returns:
        Shape (...), unit 1.

    Example:
        >>> probs = torch.tensor([0.25, 0.75])
        >>> float(drive(probs, torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0]), torch.tensor(0.5)))
        0.75
    """
    background = (probs * (gold_overlaps - rival_overlaps))[..., 2:].sum(-1)
    return separation * (1 - probs[..., 0] + probs[..., 1]) - background


def separation(gold_row: Tensor, rival_row: Tensor) -> Tensor:
    r"""Flat-shoulder drive ``1 - Gmax``, evaluated as ``|u - v|^2 / 2``.

    Source: eq 11.

    Args:
        gold_row: unit row of gold, shape (..., d).
        rival_row: unit row of the rival, shape (..., d).

    Returns:
        Shape (...), unit 1, in [0, 2]; exactly 0 for equal rows.

    Example:
        >>> round(float(separation(torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8]))), 6)
        0.4
    """
    return (gold_row - rival_row).square().sum(-1) / 2


def top1_margin(logits: Tensor, gold: Tensor) -> Tensor:
    r"""Lead of gold over the best other token, ``logit_g - max over k != g of logit_k``.

    Args:
        logits: the model's logits, shape (batch, V), unit nat.
        gold: token ids, int64, shape (batch,).

    Returns:
        Shape (batch,), unit nat; positive where gold is the most probable token.

    Example:
        >>> float(top1_margin(torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([1])))
        0.5
    """
    others = logits.scatter(-1, gold[:, None], -torch.inf)
    return logits.gather(-1, gold[:, None]).squeeze(-1) - others.amax(-1)
