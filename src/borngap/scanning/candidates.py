"""Which words of a vocabulary may be the rival of a gold word, in which order: looked up once a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from borngap.observables.geometry import Geometry
from borngap.words.relation import SYNONYMOUS, Relation
from borngap.words.relatives import uncollected

_OVERLAP_ELEMENTS = 1 << 22


class Related(Protocol):
    """How tokens are related."""

    @property
    def given(self) -> Mapping[int, frozenset[int]]:
        """The tokens that the user's pairs give for one."""

    def synonyms(self, token: int) -> Sequence[int]:
        """Return the tokens that are synonyms of one, or given for it."""

    def relation(self, gold: int, rival: int) -> Relation:
        """Return how two tokens are related."""


@dataclass(frozen=True, eq=False)
class Rule:
    """What makes a word a candidate.

    Attributes:
        words: which tokens may be gold or rival, shape (V,); all have a direction.
        key: equal for variants of a word, which are no rivals of one another, shape (V,).
        least: smallest overlap of a rival with gold, but for synonyms.
        related: how tokens are related; without, synonyms are nothing special.
        relations: the relations that count; all unless given.
    """

    words: Tensor
    key: Tensor
    least: float
    related: Related | None = None
    relations: frozenset[Relation] | None = None


class Candidates:
    """A gold word's candidates: synonyms and what else is near it; given ones first, then synonyms, then by overlap."""

    def __init__(self, geometry: Geometry, rule: Rule) -> None:
        """Prepare.

        Args:
            geometry: whose overlaps say what is near.
            rule: what makes a word a candidate.
        """
        self._geometry, self._rule = geometry, rule
        self._device = geometry.matrix.device
        self._words, self._key = (x.to(self._device) for x in (rule.words.nonzero().flatten(), rule.key))
        self._found: dict[int, tuple[Tensor, Tensor]] = {}
        self._count = torch.where(rule.words, -1, 0)  # -1: not looked up yet

    @classmethod
    def given(cls, geometry: Geometry, rule: Rule, pairs: Iterable[tuple[int, int]]) -> Candidates:
        """Return the candidates that a list of (gold, rival) pairs of token ids names, and no others."""
        found = cls(geometry, rule)
        found._count.zero_()
        wanted: dict[int, set[int]] = {}
        for gold, rival in pairs:
            wanted.setdefault(gold, set()).add(rival)
        for gold, rivals in wanted.items():
            ids = torch.tensor(sorted(rivals), device=found._device)
            found._keep(gold, ids, geometry.overlap(ids, torch.tensor([gold], device=found._device)))
        return found

    def possible(self, gold: Tensor) -> Tensor:
        """Return whether a token has any candidate; bool, of the shape of ``gold``, on CPU."""
        unknown = gold.unique()
        unknown = unknown[self._count[unknown] < 0]
        if len(unknown):
            with uncollected():
                self._look_up(unknown)
        return self._count[gold] > 0

    def ids(self, gold: int) -> Tensor:
        """Return the candidates of a token that has any, the best first."""
        return self._found[gold][0]

    def of(self, gold: int) -> list[tuple[int, float]]:
        """Return a token's candidates with their overlaps, the best first."""
        if not bool(self.possible(torch.tensor([gold]))[0]):
            return []
        ids, overlaps = self._found[gold]
        return list(zip(ids.tolist(), overlaps.tolist(), strict=True))

    def _look_up(self, tokens: Tensor) -> None:
        """Find the candidates of tokens."""
        tokens = tokens.to(self._device)
        for token, near in zip(tokens.tolist(), self._near(tokens), strict=True):
            synonyms = self._synonyms(token)
            ids = torch.cat([near, synonyms]).unique()
            ids = ids[self._key[ids] != self._key[token]]
            ids = ids[self._counting(token, ids.tolist())]
            overlaps = self._geometry.overlap(ids, torch.tensor([token], device=self._device))
            self._keep(token, ids, overlaps, self._rank(token, ids, synonyms))

    def _near(self, tokens: Tensor) -> Sequence[Tensor]:
        """The words that overlap enough with each of some tokens; in blocks, of overlaps as well as of rows."""
        if not self.by_overlap:
            return [tokens[:0]] * len(tokens)
        rows = self._geometry.unit(tokens)
        step = max(1, _OVERLAP_ELEMENTS // max(len(tokens), self._geometry.dimension))
        pairs = []
        for words in self._words.split(step):
            which, places = (rows @ self._geometry.unit(words).T >= self._rule.least).nonzero(as_tuple=True)
            pairs.append((which, words[places]))
        which, found = (torch.cat(part) for part in zip(*pairs, strict=True))
        order = which.argsort(stable=True)
        return found[order].split(torch.bincount(which, minlength=len(tokens)).tolist())

    @property
    def by_overlap(self) -> bool:
        """Whether overlap finds anything that the thesaurus does not."""
        return self._rule.relations is None or not self._rule.relations.issubset(SYNONYMOUS)

    def _synonyms(self, token: int) -> Tensor:
        """A token's synonyms among the words."""
        known = [] if self._rule.related is None else self._rule.related.synonyms(token)
        found = torch.tensor(list(known), dtype=torch.long)
        return found[self._rule.words[found]].to(self._device)

    def _counting(self, token: int, others: Sequence[int]) -> Tensor:
        """Which of some tokens are related to one in a way that counts; bool."""
        relations, related = self._rule.relations, self._rule.related
        if relations is None or related is None:
            return torch.ones(len(others), dtype=torch.bool, device=self._device)
        kept = [related.relation(token, other) in relations for other in others]
        return torch.tensor(kept, dtype=torch.bool, device=self._device)

    def _rank(self, token: int, ids: Tensor, synonyms: Tensor) -> Tensor:
        """2 of words that are given for a token, 1 of its other synonyms, 0 of all others."""
        rank = torch.isin(ids, synonyms).int()
        given = () if self._rule.related is None else self._rule.related.given.get(token, ())
        if given:
            rank[torch.isin(ids, torch.tensor(sorted(given), device=self._device))] = 2
        return rank

    def _keep(self, token: int, ids: Tensor, overlaps: Tensor, first: Tensor | None = None) -> None:
        order = overlaps.argsort(descending=True, stable=True)
        if first is not None:
            order = order[first[order].argsort(descending=True, stable=True)]
        self._found[token] = (ids[order], overlaps[order])
        self._count[token] = len(ids)
