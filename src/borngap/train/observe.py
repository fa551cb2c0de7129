"""Observer: the observables of fixed targets at any moment of a run, with the geometry of its start kept beside."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from borngap.choices import DEFAULT_TOP_P, Kind
from borngap.context import Target
from borngap.judge.trajectory import MARGINS
from borngap.judge.watch import Watch
from borngap.model.readout import geometry_of, readout_of, rows_of
from borngap.observables.catalogue import OBSERVABLES
from borngap.observables.density import angle
from borngap.observables.geometry import Geometry
from borngap.observables.paircache import PairCache
from borngap.observables.predictions import measure

USUAL = tuple(name for name in OBSERVABLES if name != "born_rank")
# angles of all pairs of the pool: most of a probe's price where a prediction is spread out
LIGHT_IDS = tuple(name for name in USUAL if name not in {"localisation_length", "burial_depth"})
# what outcomes and searches for a rate need, and nothing that looks at pairs of the pool
MARGIN_IDS = (*MARGINS.values(), "drag", "cross_entropy")
Observe = Literal["all", "light", "margins", "none"]
MEASURED: dict[Observe, tuple[str, ...]] = {"all": USUAL, "light": LIGHT_IDS, "margins": MARGIN_IDS}
Record = dict[str, float | None]


class Observer:
    """Measures targets again and again, and how far the geometry has moved since the start.

    While nothing trains the geometry matrix its rows are read once, and drift and rotation are exactly 0.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        targets: Sequence[Target],
        kind: Kind = "readout",
        top_p: float = DEFAULT_TOP_P,
        only: Iterable[str] = USUAL,
    ) -> None:
        """Take the geometry as it is now for the start.

        Args:
            model: a Hugging Face causal LM, with its adapters in place and requires_grad set.
            tokenizer: its tokenizer.
            targets: tokenised contexts with rivals.
            kind: geometry matrix.
            top_p: nucleus mass.
            only: ids measured at every record.
        """
        self._model, self._kind, self._top_p = model, kind, top_p
        self._only = tuple(only)
        self._pairs = torch.tensor([[t.gold_id, t.rival_id] for t in targets])
        readout = readout_of(model)
        self.moving = (readout.input if kind == "input" else readout.output).trained
        start = geometry_of(model, kind, tokenizer, readout)
        # what has no direction at the start stays out of the pools of the whole run, wherever training takes it
        self.start = replace(start, special=start.special | start.blank)
        if self.moving:
            self.start = replace(self.start, matrix=start.matrix.clone())
        self._kept = None if self.moving else PairCache(self.start)
        self._start_rows = self.start.unit(self._pairs, torch.float64).detach()
        self._start_known = True

    @property
    def start_rows(self) -> Tensor:
        """Unit rows of gold and rival at the start, float64, shape (contexts, 2, d)."""
        return self._start_rows

    def restore(self, rows: Tensor) -> None:
        """Take up a run that was interrupted: drift and rotation count from its own start.

        The Born gap by the geometry of the start is not known from then on, since only these rows are kept.

        Args:
            rows: ``start_rows`` of the interrupted run.
        """
        self._start_rows = rows.to(self._start_rows)
        self._start_known = not self.moving

    def geometry(self) -> Geometry:
        """Return the geometry as it is now."""
        return replace(self.start, matrix=rows_of(self._model, self._kind)) if self.moving else self.start

    def records(self, logits: Tensor, hidden: Tensor | None, index: Sequence[int] | None = None) -> list[Record]:
        """Measure all targets, or some.

        Args:
            logits: shape (targets, V), unit nat.
            hidden: hidden states that the readout multiplied, shape (targets, d), or None.
            index: which targets the rows belong to; all of them, in order, unless given.

        Returns:
            One record a target: observables, ``overlap_drift`` (1), ``embedding_rotation`` (rad) and
            ``frozen_born_gap`` (1); None where a number does not exist, NaN throughout where logits are not finite.
        """
        sound = torch.isfinite(logits.detach().amax(1)).tolist()
        good = [slot for slot, is_sound in enumerate(sound) if is_sound]
        slots = good if index is None else [index[slot] for slot in good]
        found = self._measure(logits.detach()[good], None if hidden is None else hidden[good], slots)
        filled = iter(found)
        return [next(filled) if is_sound else self._broken() for is_sound in sound]

    def expensive(self, logits: Tensor, index: Sequence[int]) -> list[Record]:
        """Measure what ``records`` leaves out: the Born rank above all, by far the most expensive observable.

        Args:
            logits: finite, shape (batch, V), unit nat.
            index: which targets they belong to.

        Returns:
            One record a prediction.
        """
        gold, rival = self._pairs[list(index)].T
        names = [name for name in OBSERVABLES if name not in self._only]
        values = measure(logits.detach(), self.geometry(), gold, rival, top_p=self._top_p, only=names)
        return _rows(values, len(index))

    def _measure(self, logits: Tensor, hidden: Tensor | None, index: list[int]) -> list[Record]:
        if not index:
            return []
        gold, rival = self._pairs[index].T
        now = self.geometry()
        options: dict[str, Any] = {"only": self._only, "top_p": self._top_p, "pairs": self._kept}
        values = measure(logits, now, gold, rival, hidden=hidden, **options)
        values |= self._movement(now, index, values["born_gap"])
        if self.moving and self._start_known:
            frozen = measure(logits, self.start, gold, rival, only=["born_gap"], top_p=self._top_p)
            values["frozen_born_gap"] = frozen["born_gap"]
        return _rows(values, len(index))

    def _movement(self, now: Geometry, index: list[int], born_gap: Tensor) -> dict[str, Tensor]:
        zero = torch.zeros(len(index), dtype=torch.float64)
        if not self.moving:
            return {"overlap_drift": zero, "embedding_rotation": zero, "frozen_born_gap": born_gap}
        rows, before = now.unit(self._pairs[index], torch.float64).detach(), self._start_rows[index]
        drift = (rows[:, 0] * rows[:, 1]).sum(-1) - (before[:, 0] * before[:, 1]).sum(-1)
        return {"overlap_drift": drift, "embedding_rotation": angle(rows[:, 0], before[:, 0])}

    def _broken(self) -> Record:
        names = (*self._only, "overlap_drift", "embedding_rotation", "frozen_born_gap")
        return dict.fromkeys(names, math.nan)


class Follower:
    """An observer with a watch over it: records of several contexts, and expensive observables where they are worth it.

    Attributes:
        observer: measures.
        targets: context -> target, in the observer's order.
        watch: the stopping rules' states.
        events: contexts that flipped, or for which a rule fired, at the last look.
    """

    def __init__(self, observer: Observer, targets: Mapping[int, Target], watch: Watch) -> None:
        """Put an observer and a watch together."""
        self.observer, self.targets, self.watch = observer, dict(targets), watch
        self._logits: Tensor
        self.events: set[int] = set()

    def look(self, logits: Tensor, hidden: Tensor | None, *, evaluate: bool) -> dict[int, Record]:
        """Measure all targets.

        Args:
            logits: shape (targets, V), unit nat.
            hidden: hidden states that the readout multiplied, shape (targets, d), or None.
            evaluate: whether the stopping rules advance.

        Returns:
            Context -> record.
        """
        self._logits = logits
        records = dict(zip(self.targets, self.observer.records(logits, hidden), strict=True))
        self.events = self.watch.update(records, evaluate=evaluate)
        return records

    def complete(self, records: dict[int, Record], contexts: Collection[int]) -> None:
        """Add the expensive observables to what ``look`` returned last.

        Args:
            records: context -> record; changed.
            contexts: whose; at first and last moments all, else where something happened.
        """
        order = list(self.targets)
        slots = [slot for slot, context in enumerate(order) if context in contexts]
        sound = [slot for slot in slots if not math.isnan(records[order[slot]]["cross_entropy"] or 0.0)]
        found = self.observer.expensive(self._logits[sound], sound) if sound else []
        for slot, record in zip(sound, found, strict=True):
            records[order[slot]] |= record


def _rows(values: Mapping[str, Tensor], count: int) -> list[Record]:
    columns = {name: value.tolist() for name, value in values.items()}
    return [{name: _present(column[i]) for name, column in columns.items()} for i in range(count)]


def _present(value: float) -> float | None:
    """A number that does not exist comes as NaN from ``measure``; logits that are not finite never get there."""
    return None if math.isnan(value) else value
