"""Losses of remedies.py, and the training rows that they see.

Each loss is summed over the supervised tokens of a batch: the loop divides it by their number. The terms of RivalLoss
(``margin`` with 2 nat, ``logistic``, ``unlikelihood``, ``weight``: borngap.losses.formulae) are added to cross-entropy
at the targets that are a wanted word's token. ``dft`` multiplies each token's loss by its own detached probability
(arXiv 2508.05629, TRL's ``loss_type="dft"``); ``smooth`` is torch's label smoothing. The penalties ``gmax`` and
``decorrelate`` are those of ``--penalty``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from borngap.data.rows import Row
from borngap.data.tokenised import IGNORED, Tokens
from borngap.losses.form import LOSS_KINDS, LossForm
from borngap.losses.formulae import row_loss
from borngap.pilot.rows import model_inputs
from borngap.pilot.run import RowLoss
from borngap.scanning.supervised import Example
from borngap.usage.places import Place, Placer

Pairs = Mapping[int, int]


def tokens_of(model: Any, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """Return logits at the supervised targets of rows, float32, and the targets."""
    inputs = model_inputs(rows, model.get_input_embeddings().weight.device)
    goal = torch.nn.functional.pad(inputs.pop("labels"), (0, 1), value=IGNORED)[:, 1:].flatten()
    logits = model(**inputs).logits.float().flatten(0, 1)
    kept = goal != IGNORED
    return logits[kept], goal[kept]


def loss_of(kind: str, weight: float, pairs: Pairs) -> RowLoss:
    """Return the loss of a remedy.

    Args:
        kind: one of ``LOSSES``.
        weight: its weight; label smoothing's share.
        pairs: token of a wanted word -> token of its rival.
    """
    rivals = dict(pairs)

    def loss(model: Any, rows: Sequence[Tokens]) -> Tensor:
        logits, goal = tokens_of(model, rows)
        if kind in _WHOLE:
            return _WHOLE[kind](logits, goal, weight)
        plain = cross_entropy(logits, goal, reduction="sum")
        rival = torch.tensor([rivals.get(token, -1) for token in goal.tolist()])
        on = rival >= 0
        return plain + row_loss(LossForm(kind, weight), logits[on], goal[on], rival[on]).sum()

    return loss


def _dft(logits: Tensor, goal: Tensor, _: float) -> Tensor:
    loss = cross_entropy(logits, goal, reduction="none")
    return (loss * torch.exp(-loss.detach())).sum()


def _plain(logits: Tensor, goal: Tensor, _: float) -> Tensor:
    return cross_entropy(logits, goal, reduction="sum")


def _smooth(logits: Tensor, goal: Tensor, smoothing: float) -> Tensor:
    return cross_entropy(logits, goal, reduction="sum", label_smoothing=smoothing)


_WHOLE: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"none": _plain, "smooth": _smooth, "dft": _dft}
LOSSES = (*_WHOLE, *LOSS_KINDS)
PENALTIES = {"gmax": "overlap", "decorrelate": "decorrelation"}  # as stored runs and Training call them


def is_base(place: Place, bases: Sequence[tuple[str, str]]) -> bool:
    """Return whether a word stands in its base form."""
    said = place.occurrence
    return said.text.lower() == bases[said.term][0 if said.side == "use" else 1].lower()


def without_inflections(
    rows: Sequence[Tokens], placer: Placer, bases: Sequence[tuple[str, str]]
) -> tuple[list[Tokens], dict[str, dict[int, int]], dict[str, int]]:
    """Take the inflected forms of wanted words out of the loss: nothing teaches them.

    Returns:
        The rows; of both sides, ``use`` and ``avoid``, token of a base form -> token of its rival; and their targets.
    """
    examples = [Example(Row(i, "", {}), row.ids, row.labels, row.documents) for i, row in enumerate(rows)]
    found, _ = placer.places(examples)
    rivals: dict[str, dict[int, Counter[int]]] = {side: defaultdict(Counter) for side in ("use", "avoid")}
    masked = []
    for row, places in zip(rows, found, strict=True):
        labels = list(row.labels)
        for place in places:
            stop, side = (place.at if place.measured is None else place.measured) + 1, place.occurrence.side
            if is_base(place, bases) and place.gold_id is not None and place.rival_id is not None:
                rivals[side][place.gold_id][place.rival_id] += 1
            elif side == "use" and not is_base(place, bases):
                labels[place.at : stop] = [IGNORED] * (stop - place.at)
        masked.append(replace(row, labels=labels))
    pairs = {side: {gold: counts.most_common(1)[0][0] for gold, counts in own.items()} for side, own in rivals.items()}
    return masked, pairs, {side: sum(counts.total() for counts in own.values()) for side, own in rivals.items()}
