"""The cross-entropy of a causal LM that the host itself has."""

from __future__ import annotations

from torch import Tensor

from borngap.losses.averaged import Items


def host_cross_entropy(logits: Tensor, labels: Tensor, items: Items = None) -> Tensor:
    """Return the mean cross-entropy of a causal LM: transformers' own.

    Args:
        logits: shape (..., T, V); token t is predicted at t - 1.
        labels: token ids, -100 where nothing is learnt, shape (..., T).
        items: by what the sum is divided; the batch's own supervised tokens unless given.

    Returns:
        A scalar, unit nat; NaN without supervised tokens.
    """
    from transformers.loss.loss_utils import ForCausalLMLoss  # loads the losses of all its models

    loss: Tensor = ForCausalLMLoss(
        logits,
        labels,
        logits.shape[-1],
        num_items_in_batch=items,  # type: ignore[arg-type]  # a number does too
    )
    return loss
