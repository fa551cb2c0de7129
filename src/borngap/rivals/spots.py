"""Spots: the targets of a batch that have a rival, found in its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from borngap.data.rows import Row
from borngap.data.tokenised import IGNORED, Document
from borngap.errors import UserError
from borngap.scanning.supervised import Example
from borngap.usage.places import Place, Placer
from borngap.words.occurrences import Finder
from borngap.words.term import TermList

_KEPT = 1 << 14  # stretches of labels whose places are remembered: an epoch's, as a rule
_NO_ROW = Row(0, "a batch", None)


@dataclass(frozen=True, eq=False)
class Spots:
    """Targets that have a rival, and targets where the word to avoid stands.

    Attributes:
        rows: row of each target in the batch, int64, shape (n,).
        columns: its place in the labels, at least 1, int64, shape (n,).
        golds: the right token, int64, shape (n,).
        rivals: its rivals, -1 where there are fewer, int64, shape (n, k).
        others: row, place, the word to use and the one to avoid where the latter stands, int64, shape (m, 4).
    """

    rows: Tensor
    columns: Tensor
    golds: Tensor
    rivals: Tensor
    others: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> Spots:
        """Return some of the targets, without the others."""
        some = slice(start, stop)
        return Spots(self.rows[some], self.columns[some], self.golds[some], self.rivals[some], self.others[:0])


class SpotFinder(Protocol):
    """Finds spots in labels."""

    def find(self, labels: Tensor) -> Spots:
        """Find the spots of a batch.

        Args:
            labels: token ids, -100 where nothing is learnt, shape (B, T), on any device.

        Returns:
            The spots, on the same device.
        """

    @property
    def count(self) -> int:
        """How many pairs there are."""

    def missing(self, rows: Iterable[Tensor]) -> list[str]:
        """Return what stands in no row, in words.

        Args:
            rows: labels of rows, each of shape (T,).

        Returns:
            The pairs whose right word has no spot; reading ends as soon as there are none.
        """


class PairSpots:
    """Spots of pairs of tokens: each target that is a right one."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Prepare.

        Args:
            pairs: right token and rival; a right token may have several.

        Raises:
            UserError: there are none, a token is its own rival, or is negative.
        """
        if not pairs:
            raise UserError("no pairs", rule="at least one pair of token ids, the right one first")
        for gold, rival in pairs:
            if gold == rival or min(gold, rival) < 0:
                rule = "two token ids, at least 0, that differ: words that share a token there can't be told apart"
                raise UserError("no pair of right token and rival", rule=rule, found=(gold, rival))
        self._pairs = tuple(dict.fromkeys((int(gold), int(rival)) for gold, rival in pairs))
        by_gold = {gold: [r for g, r in self._pairs if g == gold] for gold, _ in self._pairs}
        most = max(map(len, by_gold.values()))
        self._golds = torch.tensor(sorted(by_gold))
        self._rivals = torch.tensor([by_gold[g] + [-1] * (most - len(by_gold[g])) for g in sorted(by_gold)])
        self._both = torch.tensor(self._pairs)

    def find(self, labels: Tensor) -> Spots:
        """Find the spots of a batch; as ``SpotFinder``."""
        golds, rivals, both = (table.to(labels.device) for table in (self._golds, self._rivals, self._both))
        learnt = labels.clone()
        learnt[:, 0] = IGNORED
        rows, columns = torch.isin(learnt, golds).nonzero(as_tuple=True)
        found = labels[rows, columns]
        there = torch.isin(learnt, both[:, 1]).nonzero()
        at, pair = (labels[there[:, 0], there[:, 1], None] == both[:, 1]).nonzero(as_tuple=True)
        others = torch.cat([there[at], both[pair]], 1)
        return Spots(rows, columns, found, rivals[torch.searchsorted(golds, found)], others)

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def missing(self, rows: Iterable[Tensor]) -> list[str]:
        """Return the pairs whose right token stands in no row; as ``SpotFinder``."""
        left = set(self._golds.tolist())
        for row in rows:
            left -= set(row[1:].tolist())
            if not left:
                return []
        return [f"tokens {gold} and {rival}" for gold, rival in self._pairs if gold in left]


@dataclass(frozen=True)
class _Found:
    """A place in a stretch of labels.

    Attributes:
        term: number of the term.
        is_due: whether its right word stands there, else its rival.
        at: place in the stretch.
        gold: what stands there.
        rival: the other word's token.
    """

    term: int
    is_due: bool
    at: int
    gold: int
    rival: int


class TermSpots:
    """Spots of words in any form, of any number of tokens: the first token at which both words differ.

    The rule is that of ``borngap terms`` (docs/terms.md). Words are looked for in stretches of labels, so that they are
    found in a batch of any host, packed, padded or masked; what stands before a stretch is not known there.
    """

    def __init__(self, terms: TermList, tokenizer: Any) -> None:
        """Prepare.

        Args:
            terms: the terms.
            tokenizer: the model's tokenizer.

        Raises:
            UserError: of a term one word is the beginning of the other, token by token.
        """
        _check_apart(terms, tokenizer)
        self._terms, self._placer = terms, Placer(tokenizer, Finder(terms.terms))
        special = sorted(tokenizer.all_special_ids)
        # stands for what is before a stretch: no text, and no part of a word
        self._before = special[:1]
        self._known: dict[bytes, tuple[_Found, ...]] = {}
        self._reasons: dict[int, str] = {}

    def find(self, labels: Tensor) -> Spots:
        """Find the spots of a batch; as ``SpotFinder``."""
        spots: dict[tuple[int, int], tuple[int, list[int]]] = {}
        others: list[tuple[int, int, int, int]] = []
        for row, start, found in self._of_batch(labels.cpu().numpy()):
            for place in found:
                at = start + place.at
                if at and place.is_due:
                    spots.setdefault((row, at), (place.gold, []))[1].append(place.rival)
                elif at:
                    others.append((row, at, place.rival, place.gold))
        return _spots(spots, others, labels.device)

    @property
    def count(self) -> int:
        """How many terms there are."""
        return len(self._terms)

    def missing(self, rows: Iterable[Tensor]) -> list[str]:
        """Return the terms whose wanted word has no spot in any row; as ``SpotFinder``."""
        left = set(range(len(self._terms)))
        for row in rows:
            every = self._of_batch(row[None].numpy())
            left -= {place.term for _, start, found in every for place in found if place.is_due and start + place.at}
            if not left:
                return []
        return [self._told(term) for term in sorted(left)]

    def _told(self, term: int) -> str:
        reason = self._reasons.get(term)
        return self._terms.terms[term].words + (f" ({reason})" if reason else "")

    def _of_batch(self, labels: np.ndarray) -> Iterator[tuple[int, int, tuple[_Found, ...]]]:
        """Row, first place and findings of every stretch of supervised labels."""
        stretches = [(row, *bounds) for row, own in enumerate(labels) for bounds in _stretches(own)]
        keys = [_digest(labels[row, start:stop]) for row, start, stop in stretches]
        if len(self._known) > _KEPT:
            self._known.clear()
        own = dict(zip(keys, stretches, strict=True))
        new = {key: labels[row, a:b] for key, (row, a, b) in own.items() if key not in self._known}
        self._known |= dict(zip(new, self._look(list(new.values())), strict=True))
        for key, (row, start, _) in zip(keys, stretches, strict=True):
            yield row, start, self._known[key]

    def _look(self, stretches: Sequence[np.ndarray]) -> list[tuple[_Found, ...]]:
        skip = len(self._before)
        examples = [_example(self._before, ids.tolist()) for ids in stretches]
        places, _ = self._placer.places(examples)
        return [tuple(self._read(place, skip) for place in own if self._is_told(place)) for own in places]

    def _read(self, place: Place, skip: int) -> _Found:
        at, gold, rival = (int(value or 0) for value in (place.measured, place.gold_id, place.rival_id))
        return _Found(place.occurrence.term, place.occurrence.side == "use", at - skip, gold, rival)

    def _is_told(self, place: Place) -> bool:
        if place.reason is not None:
            self._reasons.setdefault(place.occurrence.term, place.reason)
        return place.reason is None


def _spots(
    spots: Mapping[tuple[int, int], tuple[int, list[int]]], others: list[tuple[int, int, int, int]], device: Any
) -> Spots:
    """Put findings together; several rivals of one target stand beside each other."""
    most = max((len(rivals) for _, rivals in spots.values()), default=1)
    targets = [[*at, gold, *own, *[-1] * (most - len(own))] for at, (gold, own) in spots.items()]
    table, beside = (
        torch.tensor(rows, dtype=torch.long).view(-1, width).to(device)
        for rows, width in ((targets, 3 + most), (others, 4))
    )
    return Spots(table[:, 0], table[:, 1], table[:, 2], table[:, 3:], beside)


def _check_apart(terms: TermList, tokenizer: Any) -> None:
    """Refuse terms whose words can't be told apart by any token."""
    for term in terms:
        if not term.is_spelt:
            continue
        use, avoid = tokenizer([f" {term.use}", f" {term.avoid}"], add_special_tokens=False)["input_ids"]
        if use[: len(avoid)] == avoid[: len(use)]:
            rule = "both words differ at a token that both have"
            fix = "take the pair out, or choose words of which neither is the beginning of the other"
            found = f"{term.words}: " + " and ".join(str(tokenizer.convert_ids_to_tokens(ids)) for ids in (use, avoid))
            raise UserError("this tokenizer can't hold two words apart", rule=rule, found=found, fix=fix)


def _stretches(labels: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last but one of each unbroken stretch of supervised labels."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], labels != IGNORED, [False]])))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _digest(ids: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(ids).tobytes(), digest_size=16).digest()


def _example(before: list[int], ids: list[int]) -> Example:
    whole = before + ids
    return Example(_NO_ROW, whole, [IGNORED] * len(before) + ids, (Document(0, len(whole)),))
