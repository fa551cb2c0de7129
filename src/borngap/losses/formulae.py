"""The formulae: logits at targets that have a rival to what is added to their cross-entropy (docs/remedies.md).

With g the right token, c its rival, z the logits, p their softmax and ``Delta = z_g - z_c``::

    margin        w max(0, m - Delta)
    logistic      w log(1 + exp(-Delta))
    unlikelihood  -w log(1 - p_c) = w (logsumexp z - logsumexp over all but c)
    weight        -w log p_g      = w (logsumexp z - z_g)

Every function takes and returns float32 or float64 as it gets it; 16 bit becomes float32 first.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from borngap.losses.form import LossForm

WHOLE_ROWS = ("unlikelihood", "weight")  # kinds that need all logits of a target; the others need those of two tokens


def gap_loss(form: LossForm, delta: Tensor) -> Tensor:
    """Return what ``margin`` and ``logistic`` add.

    Args:
        form: one of these.
        delta: logit gaps of right token and rival, unit nat, shape (n,).

    Returns:
        Unit nat, shape (n,), at least 0.
    """
    added = functional.relu(form.margin - delta) if form.kind == "margin" else functional.softplus(-delta)
    return form.weight * added


def row_loss(form: LossForm, rows: Tensor, golds: Tensor, rivals: Tensor) -> Tensor:
    """Return what a form adds at targets whose logits are all known.

    Args:
        form: any.
        rows: logits, unit nat, shape (n, V).
        golds: right tokens, int64, shape (n,).
        rivals: their rivals, int64, shape (n,).

    Returns:
        Unit nat, shape (n,), at least 0 but for rounding.
    """
    rows = precise(rows)
    if form.kind == "unlikelihood":
        others = rows.scatter(1, rivals[:, None], -torch.inf)
        return form.weight * (rows.logsumexp(1) - others.logsumexp(1))
    right = rows.gather(1, golds[:, None])[:, 0]
    if form.kind == "weight":
        return form.weight * (rows.logsumexp(1) - right)
    return gap_loss(form, right - rows.gather(1, rivals[:, None])[:, 0])


def trained_loss(
    form: LossForm | None, logits: Tensor, golds: Tensor, rivals: Tensor, reduction: Literal["mean", "none"] = "mean"
) -> Tensor:
    """Return the loss of predictions each of which has a rival, as our own training lowers it.

    Args:
        form: what is added to the cross-entropy; None for nothing.
        logits: unit nat, shape (n, V).
        golds: right tokens, int64, shape (n,).
        rivals: their rivals, int64, shape (n,).
        reduction: ``mean`` over the predictions, or ``none``.

    Returns:
        Unit nat, a scalar or of shape (n,), float32.
    """
    loss = functional.cross_entropy(logits.float(), golds, reduction=reduction)
    if form is None or not form.weight:
        return loss
    added = row_loss(form, logits.float(), golds, rivals)
    return loss + (added.mean() if reduction == "mean" else added)


def strongest(logits: Tensor, rivals: Tensor) -> Tensor:
    """Return which of several rivals has the largest logit.

    Args:
        logits: of the rivals, shape (n, k).
        rivals: token ids, -1 where there are fewer, shape (n, k); one at least.

    Returns:
        Places among them, int64, shape (n,); the first of equal ones.
    """
    return logits.detach().masked_fill(rivals < 0, -torch.inf).argmax(1)


def precise(values: Tensor) -> Tensor:
    """Return values in float32, or in the float64 that they are in."""
    return values if values.dtype == torch.float64 else values.float()
