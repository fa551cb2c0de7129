"""Looks at the watched places and at the held-out loss: forwards of the same windows, again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from borngap.data.tokenised import IGNORED
from borngap.errors import UserError
from borngap.model.readout import observing
from borngap.pilot.places.spots import Spot
from borngap.scanning.batches import Wanted, batched, logits_at, most_positions, split_at
from borngap.scanning.supervised import Example

BIASES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # nat, taken off the words to avoid, at which the loss is measured
_BLOCK = 256  # positions whose probabilities are worked on at once


@dataclass(frozen=True)
class Look:
    """What a model says.

    Attributes:
        gaps: logit gap of gold over its rival at every place, unit nat, float64, shape (n,).
        rows: of each held-out row its tokens, their summed loss, and that sum with each of ``BIASES`` taken off the
            logits of the words to avoid, unit nat, float64, shape (rows, 2 + biases).
    """

    gaps: NDArray[np.float64]
    rows: NDArray[np.float64]

    @property
    def loss(self) -> float | None:
        """Mean loss of a held-out token, unit nat; None where no rows are held out."""
        tokens = self.rows[:, 0].sum()
        return float(self.rows[:, 1].sum() / tokens) if tokens else None


class Lookout:
    """Places, and held-out rows, that are looked at before and after each pilot.

    Attributes:
        spots: the places.
        held_out: the rows whose loss is measured.
        tokens: what one look reads.
    """

    def __init__(self, model: Any, spots: Sequence[Spot], held_out: Sequence[Example], window: int) -> None:
        """Prepare.

        Args:
            model: tells how many logits are held at once.
            spots: the places.
            held_out: rows whose loss is measured; may be none.
            window: tokens that the model reads at once.
        """
        self.spots, self.held_out, most = tuple(spots), tuple(held_out), most_positions(model)
        self._numbers: dict[tuple[int, int, int], list[int]] = {}
        at: dict[tuple[int, int], tuple[Example, Any, set[int]]] = {}
        for number, spot in enumerate(spots):
            row, start = spot.example.row.number, spot.document.start
            at.setdefault((row, start), (spot.example, spot.document, set()))[2].add(spot.offset)
            self._numbers.setdefault((row, start, spot.offset), []).append(number)
        self._places = [
            part
            for example, document, offsets in at.values()
            for part in split_at(example, document, torch.tensor(sorted(offsets)), window, most)
        ]
        self._rows = [
            part
            for example in held_out
            for document in example.documents
            for part in split_at(example, document, _targets(example, document.start, document.stop), window, most)
        ]
        self._most, self._row = most, {e.row.number: number for number, e in enumerate(held_out)}
        avoided = {s.rival_id if s.kind == "due" else s.gold_id for s in spots if s.kind in {"due", "right"}}
        self._avoided = torch.tensor(sorted(avoided), dtype=torch.int64)
        self.tokens = sum(int(where[-1]) - w.start + w.hidden for w, where in (*self._places, *self._rows))

    def look(self, model: Any) -> Look:
        """Ask a model.

        Args:
            model: a Hugging Face causal LM, possibly wrapped by PEFT; it is left as it was.

        Returns:
            What it says; gaps that are not finite are NaN.
        """
        gaps, rows = np.full(len(self.spots), math.nan), np.zeros((len(self._row), 2 + len(BIASES)))
        with observing(model):
            for batch in batched(self._places, self._most):
                self._ask(logits_at(model, batch).float(), batch, gaps)
            for batch in batched(self._rows, self._most):
                self._lose(logits_at(model, batch), batch, rows)
        return Look(gaps, rows)

    def told(self, model: Any) -> dict[str, Any]:
        """Ask a model, and tell what it cost.

        Args:
            model: as for ``look``.

        Returns:
            The look JSON-ready but for NaN, ``looked``, tokens read, and ``seconds``.
        """
        started = time.perf_counter()
        found = looked(self.look(model))
        return found | {"looked": self.tokens, "seconds": time.perf_counter() - started}

    def _ask(self, logits: Tensor, batch: Sequence[Wanted], gaps: NDArray[np.float64]) -> None:
        row = 0
        for window, positions in batch:
            starts = [d.start for d in window.example.documents if d.start <= int(positions[0]) < d.stop]
            for offset in positions.tolist():
                for number in self._numbers[window.example.row.number, starts[0], offset]:
                    spot = self.spots[number]
                    gaps[number] = float(logits[row, spot.gold_id].double() - logits[row, spot.rival_id].double())
                row += 1

    def _lose(self, logits: Tensor, batch: Sequence[Wanted], rows: NDArray[np.float64]) -> None:
        gold = torch.tensor([w.example.ids[i] for w, where in batch for i in where.tolist()], device=logits.device)
        owner = [self._row[w.example.row.number] for w, where in batch for _ in where]
        parts = zip(logits.split(_BLOCK), gold.split(_BLOCK), strict=True)
        np.add.at(rows, owner, np.concatenate([_losses(a.float(), b, self._avoided) for a, b in parts]))


def _losses(logits: Tensor, gold: Tensor, avoided: Tensor) -> NDArray[np.float64]:
    """Return a one, the loss of each target, and its loss with each bias."""
    logs, avoided = logits.log_softmax(1), avoided.to(logits.device)
    plain = -logs.gather(1, gold[:, None])[:, 0].double()
    mass = logs[:, avoided].exp().sum(1).double().clamp(max=1)
    off = torch.tensor(BIASES, dtype=torch.float64, device=logits.device)
    # b taken off the logits of words with the mass p adds log(1 + p (e^-b - 1)), and b where the target is one of them
    more = torch.log1p(mass[:, None] * torch.expm1(-off)) + torch.isin(gold, avoided)[:, None] * off
    columns = torch.cat([torch.ones_like(plain)[:, None], plain[:, None], plain[:, None] + more], 1)
    return np.asarray(columns.cpu().numpy())


def looked(look: Look) -> dict[str, Any]:
    """Return a look JSON-ready but for NaN.

    Args:
        look: what a model says.

    Returns:
        ``gaps``, ``loss`` and ``rows``.
    """
    return {"gaps": look.gaps.tolist(), "loss": look.loss, "rows": look.rows.tolist()}


def check_finite(look: Look) -> None:
    """Refuse a model that says nothing finite before it is trained.

    Args:
        look: what it says.

    Raises:
        UserError: logits are NaN or infinite.
    """
    if not np.isfinite(look.gaps).all():
        found = f"at {int((~np.isfinite(look.gaps)).sum())} of {len(look.gaps)} watched places"
        raise UserError("the model's logits are NaN or infinite", rule="they are finite", found=found)


def row_price(example: Example) -> int:
    """Return the tokens that a look at the loss of a row reads."""
    ends = (_targets(example, d.start, d.stop) for d in example.documents)
    return sum(int(at[-1]) - d.start for at, d in zip(ends, example.documents, strict=True) if len(at))


def _targets(example: Example, start: int, stop: int) -> Tensor:
    """Supervised positions of a document but its first token, which nothing predicts."""
    return torch.tensor([i for i in range(start + 1, stop) if example.labels[i] != IGNORED], dtype=torch.int64)
