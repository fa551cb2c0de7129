"""Asking a model at the places of terms: who leads, by how much, at which rank; one forward a row, no further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from borngap.data.rows import Row
from borngap.errors import UserError
from borngap.model.readout import geometry_of, observing
from borngap.scanning.batches import Wanted, batched, logits_at, most_positions, span_of, split_at
from borngap.scanning.supervised import Example, Supervision
from borngap.usage.allowed import Allowed
from borngap.usage.finding import Answers, FoundPlaces, PlaceFinder
from borngap.usage.places import Place, Placer, directed
from borngap.words.term import Term

_BLOCK_ELEMENTS = 1 << 22  # logits that are worked on at once


class Asker(PlaceFinder):
    """Finds places in rows of one data set, and asks a model there."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        supervision: Supervision,
        placer: Placer,
        terms: Sequence[Term],
        allowed: Allowed,
        window: int,
    ) -> None:
        """Prepare.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer.
            supervision: turns rows into examples.
            placer: finds places.
            terms: the terms.
            allowed: tells where words to avoid are right.
            window: tokens that the model reads at once.
        """
        self._geometry = geometry_of(model, tokenizer=tokenizer)
        super().__init__(supervision, placer, terms, allowed, self._geometry.size)
        self._model, self._window = model, window
        self._holes = torch.tensor(sorted(self._geometry.holes), dtype=torch.int64)
        self._most = most_positions(model)

    def ask(self, rows: Sequence[Row], name: str, *, strict: bool = False, measure: bool = True) -> FoundPlaces:
        """Find the places in rows, and ask the model there.

        Args:
            rows: the rows; held in memory together.
            name: what the data is called in the table.
            strict: whether a malformed row is an error.
            measure: whether the model is asked; else the places are only found.

        Returns:
            What they hold.
        """
        return self._found(rows, name, strict=strict, answers=self._answers if measure else None)

    def _places(self, examples: Sequence[Example]) -> tuple[list[list[Place]], int]:
        """Find places; one of whose tokens has no direction is not measured."""
        found, hidden = super()._places(examples)
        return [[directed(place, self._geometry) for place in own] for own in found], hidden

    def _answers(self, examples: Sequence[Example], places: Sequence[Sequence[Place]]) -> Answers:
        """What the model says at each position, of each pair of tokens."""
        wanted: dict[tuple[int, int], list[Place]] = {}
        items: list[Wanted] = []
        for example, own in zip(examples, places, strict=True):
            for place in own:
                if place.measured is not None:
                    wanted.setdefault((id(example), place.measured), []).append(place)
            for document in example.documents:
                at = sorted({p.measured for p in own if p.measured is not None and p.document == document})
                items += split_at(example, document, torch.tensor(at, dtype=torch.int64), self._window, self._most)
        return {
            (key[0], place.measured, place.gold_id, place.rival_id): answer
            for batch in batched(items, self._most)
            for key, place, answer in self._batch(batch, wanted)
        }

    def _batch(
        self, batch: Sequence[Wanted], wanted: dict[tuple[int, int], list[Place]]
    ) -> Iterator[tuple[tuple[int, int], Place, dict[str, Any]]]:
        keys = [((id(w.example), i), w.start) for w, at in batch for i in at.tolist()]
        asked = [(at, key, start, place) for at, (key, start) in enumerate(keys) for place in wanted[key]]
        index = torch.tensor([at for at, *_ in asked])
        pairs = torch.tensor([[place.gold_id, place.rival_id] for *_, place in asked])
        with observing(self._model):
            logits = logits_at(self._model, batch).float()
            if not bool(logits.amax(1).isfinite().all()):
                rule = "the model's logits are finite"
                raise UserError(f"the model's logits are NaN or infinite, {span_of(batch)}", rule=rule)
            numbers = self._numbers(logits, index, pairs)
        for row, (_, key, start, place) in zip(zip(*numbers, strict=True), asked, strict=True):
            yield key, place, {"gap": row[0], "probabilities": row[1], "ranks": row[2], "start": start}

    def _numbers(self, logits: Tensor, index: Tensor, pairs: Tensor) -> tuple[list[Any], list[Any], list[Any]]:
        """Logit gap of gold over rival, and probability and rank of both, in blocks of bounded size."""
        step = max(1, _BLOCK_ELEMENTS // logits.shape[1])
        parts = (part.to(logits.device).split(step) for part in (index, pairs))
        blocks = [self._block(logits[rows], ids) for rows, ids in zip(*parts, strict=True)]
        gaps, chances, ranks = (torch.cat(held).tolist() for held in zip(*blocks, strict=True))
        return gaps, chances, ranks

    def _block(self, logits: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = logits[:, : self._geometry.size]
        if len(self._holes):
            tokens = tokens.index_fill(1, self._holes.to(logits.device), -torch.inf)
        own = logits.gather(1, pairs)
        ranks = torch.stack([1 + (tokens > own[:, side, None]).sum(1) for side in (0, 1)], 1)
        chances = (own.double() - logits.double().logsumexp(1, keepdim=True)).exp()
        return (own[:, 0] - own[:, 1]).double(), chances, ranks
