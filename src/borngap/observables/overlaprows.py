"""Overlaps of words with other tokens: looked up one by one, until a word's whole row is worth its price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from borngap.observables.geometry import Geometry

_TABLE_ELEMENTS = 1 << 26
_SMALL_MATRIX = 1 << 23  # elements: a pass over it costs no more than a few look-ups


class OverlapRows:
    """Overlaps of words with the tokens of a geometry at rest.

    A word's overlaps with all tokens cost V d multiply-adds and a pass over the matrix, those with the n tokens of one
    prediction n d. So a row is kept once as many tokens were asked for as there are: at most twice the price of what
    would have been best. On devices other than a CPU, where a pass is quick and a look-up is not, it is made at once.

    Attributes:
        capacity: rows kept at most; beyond them all are dropped.
        table: the rows, float, shape (some, V); those of ``slots`` are filled.
        slots: word -> its row in the table.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Start with nothing kept."""
        self._geometry = geometry
        self._device = geometry.matrix.device
        large = geometry.size * geometry.dimension > _SMALL_MATRIX
        self._worth = geometry.size if large and self._device.type == "cpu" else 1
        self._asked: Counter[int] = Counter()
        self.capacity = max(2, _TABLE_ELEMENTS // geometry.size)
        self.slots: dict[int, int] = {}
        self.table = torch.empty(0, geometry.size, dtype=geometry.dtype, device=self._device)

    def expect(self, looks: Mapping[int, int]) -> None:
        """Make the rows that are worth it by now.

        Args:
            looks: word -> how many of its overlaps are going to be looked at, at least 1.
        """
        self._asked.update({token: count for token, count in looks.items() if token not in self.slots})
        worth = [token for token in looks if token in self.slots or self._asked[token] >= self._worth]
        missing = [token for token in worth if token not in self.slots]
        if len(self.slots) + len(missing) > self.capacity:
            self.slots, missing = {}, worth[: self.capacity]
        if missing:
            with torch.no_grad():
                self._make(missing)

    def of(self, words: list[int], ids: Tensor) -> Tensor:
        """Return the overlaps of words with tokens.

        Args:
            words: token ids, m of them.
            ids: token ids, shape (n,).

        Returns:
            Shape (m, n), of the geometry's dtype.
        """
        if all(word in self.slots for word in words):
            return torch.stack([self.table[self.slots[word]][ids] for word in words])
        return self._geometry.unit(torch.tensor(words)) @ self._geometry.unit(ids).T

    def _make(self, tokens: list[int]) -> None:
        used = len(self.slots)
        self._grow(used + len(tokens))
        rows = self._geometry.unit(torch.tensor(tokens))
        for start, block in self._geometry.unit_blocks():
            self.table[used : used + len(tokens), start : start + len(block)] = rows @ block.T
        for slot, token in enumerate(tokens, used):
            self.slots[token] = slot
            self._asked.pop(token, None)

    def _grow(self, rows: int) -> None:
        """Make room for so many rows: doubled as needed, so that short work stays small."""
        if rows > len(self.table):
            grown = self.table.new_empty(min(self.capacity, max(8, 2 * rows)), self.table.shape[1])
            grown[: len(self.table)] = self.table
            self.table = grown
