"""The geometry matrix: unit embedding rows, their overlaps, nearest neighbours, and the bulk they form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from borngap.choices import Kind
from borngap.errors import UserError
from borngap.observables.bulk import Bulk
from borngap.observables.topk import largest

_BLOCK_ELEMENTS = 1 << 25
_BULK_BLOCK = 1 << 19


@dataclass(frozen=True, eq=False)
class Geometry:
    """One embedding matrix, read as directions: ``e_k = (w_k - mean) / |w_k - mean|``, mean = 0 unless centered.

    Source: section 2.1 of the paper; ``centered`` because softmax does not see a vector common to all rows.

    Attributes:
        matrix: embedding rows, shape (rows, d), any float dtype and device; kept, not copied.
        kind: ``readout``, ``input`` or ``centered``.
        size: largest token id + 1: rows beyond it are padding and take no part.
        special: ids of special and added tokens, left out of bulk statistics and neighbours.
        holes: ids below ``size`` that no token has; they take no part either.
        blank: tokens without a direction: those given and those whose row, less the mean, has zero norm. They are
            left out of all but the softmax and the model's own ranking, and can be neither gold nor rival.

    Raises:
        UserError: a token's row is not finite, or fewer than two tokens have a direction.
    """

    matrix: Tensor
    kind: Kind = "readout"
    size: int = -1
    special: frozenset[int] = field(default_factory=frozenset)
    holes: frozenset[int] = field(default_factory=frozenset)
    blank: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Check the rows, and note those that have no direction.

        Raises:
            UserError: a token's row is not finite, or the matrix has no two rows with a direction.
        """
        if self.matrix.ndim != 2 or min(self.matrix.shape) < 2:
            raise UserError(
                "the embedding matrix has a wrong shape", rule="(tokens, d)", found=tuple(self.matrix.shape)
            )
        if self.size < 0:
            object.__setattr__(self, "size", self.matrix.shape[0])
        if self.kind == "centered":
            self._note_blank(self._norms(None))
        self._note_blank(self._lengths)
        if self.size - len(self.left_out) < 2:
            rule = "at least 2 tokens whose rows have a length other than 0"
            raise UserError("embedding rows have no direction", rule=rule, found=f"{self.kind} geometry")

    @cached_property
    def _lengths(self) -> Tensor:
        """Norms of the rows, less the mean if centered, shape (size,), on CPU."""
        return self._norms(self.mean)

    def _norms(self, mean: Tensor | None) -> Tensor:
        return torch.cat([_shifted(block, mean).detach().norm(dim=1).cpu() for _, block in self._blocks()])

    def _note_blank(self, norms: Tensor) -> None:
        """Add the tokens whose norms are 0."""
        odd = (~norms.isfinite()).nonzero().flatten().tolist()
        odd = [token for token in odd if token not in self.holes]
        if odd:
            raise UserError(
                f"{len(odd)} embedding rows are not finite",
                rule="every token's row is finite",
                found=f"token ids {_few(odd)} ({self.kind} geometry)",
                fix="the weights are damaged: load another checkpoint",
            )
        zero = frozenset((norms == 0).nonzero().flatten().tolist())
        object.__setattr__(self, "blank", self.blank | (zero - self.holes))

    @property
    def left_out(self) -> frozenset[int]:
        """Ids below ``size`` that take no part: holes and tokens without a direction."""
        return self.holes | self.blank

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        found = []
        if self.blank:
            found.append(
                f"{len(self.blank)} tokens have embedding rows without a direction (ids {_few(sorted(self.blank))}, "
                f"{self.kind} geometry): left out of bulk, neighbours, rivals, pools and ranks by Born probability"
            )
        if self.holes:
            found.append(f"{len(self.holes)} rows below the last token's belong to no token: left out as padding")
        return tuple(found)

    @cached_property
    def mean(self) -> Tensor | None:
        """Mean row of the tokens that take part, in float32 or better, shape (d,); None unless centered."""
        if self.kind != "centered":
            return None
        sums = [self._without(start, block).sum(0) for start, block in self._blocks()]
        return torch.stack(sums).sum(0) / (self.size - len(self.left_out))

    def _without(self, start: int, block: Tensor) -> Tensor:
        """A block of rows with those that take no part set to 0."""
        ids = [i - start for i in self.left_out if 0 <= i - start < len(block)]
        return block.index_fill(0, torch.tensor(ids, device=block.device), 0) if ids else block

    def directed(self, ids: Tensor) -> Tensor:
        """Return whether ids are those of tokens that have a direction; bool, of the shape of ``ids``."""
        known = (ids >= 0) & (ids < self.size)
        if not self.left_out:
            return known
        return known & ~torch.isin(ids, torch.tensor(sorted(self.left_out), device=ids.device))

    def check(self, what: str, ids: Tensor, fix: str = "choose another word or geometry") -> None:
        """Check that tokens can be measured.

        Args:
            what: names them in the message.
            ids: token ids, int64.
            fix: what to do about one that can't.

        Raises:
            UserError: an id is no token's, or its row has no direction.
        """
        outside = ids[(ids < 0) | (ids >= self.size)].tolist()
        if outside:
            raise UserError(f"{what} id is out of range", rule=f"0 <= id < {self.size}", found=_few(outside))
        blank = sorted(set(ids[~self.directed(ids)].tolist()))
        if blank:
            raise UserError(
                f"{what} has no direction",
                rule="an embedding row that is not zero",
                found=f"token ids {_few(blank)} ({self.kind} geometry)",
                fix=fix,
            )

    def split(self, values: Tensor, fill: float = -math.inf) -> tuple[Tensor, Tensor]:
        """Tell the logits of tokens from those of rows that are no tokens.

        Args:
            values: logits, or probabilities, shape (batch, at least ``size``).
            fill: stands at holes: -inf for logits, 0 for probabilities.

        Returns:
            Values of the ids below ``size``, shape (batch, size); and those of all rows that are no tokens.
        """
        tokens, rest = values[:, : self.size], values[:, self.size :]
        if not self.holes:
            return tokens, rest
        holes = torch.tensor(sorted(self.holes), device=values.device)
        return tokens.index_fill(1, holes, fill), torch.cat([tokens[:, holes], rest], 1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of everything computed: float64 for float64 rows, float32 otherwise."""
        return torch.float64 if self.matrix.dtype == torch.float64 else torch.float32

    @property
    def dimension(self) -> int:
        """d, the length of a row."""
        return self.matrix.shape[1]

    def unit(self, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        r"""Return unit rows e_k.

        Args:
            ids: token ids, int64, any shape.
            dtype: computed and returned in; ``self.dtype`` unless given.

        Returns:
            Shape (\\*ids.shape, d), norm 1, or 0 without a direction; differentiable with respect to the matrix.
        """
        rows = self.matrix[ids.to(self.matrix.device)].to(dtype or self.dtype)
        mean = self.mean if self.mean is None else self.mean.to(rows.dtype)
        unit = _normalised(_shifted(rows, mean))
        return unit * self.directed(ids.to(unit.device)).unsqueeze(-1) if self.left_out else unit

    def overlap(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the cosine overlap G_jk = e_j . e_k of two tensors of token ids (broadcast), in [-1, 1]."""
        return (self.unit(left) * self.unit(right)).sum(-1)

    def unit_blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first id, unit rows) over all ids below ``size``, in blocks; rows that take no part are 0."""
        for start, block in self._blocks():
            yield start, self._without(start, _normalised(_shifted(block, self.mean)))

    def scaled_blocks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (first id, rows, factors that make them unit) over all ids below ``size``, in blocks.

        Rows are those of the matrix, less the mean if centered, and no copy where their dtype allows; the factor of a
        row that takes no part is 0.
        """
        ids = torch.arange(self.size)
        factors = torch.where(self.directed(ids), 1 / self._lengths, 0).to(self.matrix.device)
        for start, block in self._blocks():
            yield start, _shifted(block, self.mean), factors[start : start + len(block)]

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        step = max(1, _BLOCK_ELEMENTS // (4 * self.dimension))
        for start in range(0, self.size, step):
            yield start, self.matrix[start : min(start + step, self.size)].to(self.dtype)

    def ordinary(self) -> Tensor:
        """Return the ids of all tokens that have a direction and are not special; int64, sorted."""
        keep = torch.ones(self.size, dtype=torch.bool)
        keep[[i for i in self.special | self.left_out if i < self.size]] = False
        return keep.nonzero().flatten()

    def neighbours(self, tokens: Tensor | None = None, k: int = 10) -> tuple[Tensor, Tensor]:
        """Return the exact k nearest tokens of each token by overlap, nearest first.

        Special tokens, rows that take no part and the token itself are left out. Memory is bounded by a block of
        overlaps (128 MiB) besides the unit rows. Cost: len(tokens) * V * d multiply-adds, half of them for all tokens.

        Args:
            tokens: token ids, int64, shape (m,); all ordinary tokens unless given.
            k: neighbours a token, at most the number of the other ordinary tokens.

        Returns:
            ``(ids, overlaps)``, shapes (m, k), int64 and ``self.dtype``.

        Raises:
            UserError: k is out of range.
        """
        ids = self.ordinary()
        if not 1 <= k < len(ids):
            raise UserError("k is out of range", rule=f"1 <= k <= {len(ids) - 1}", found=k)
        with torch.no_grad():
            keys = self.unit(ids)
            overlaps, found = _nearest_of_all(keys, k) if tokens is None else self._nearest(tokens.cpu(), ids, keys, k)
        return ids[found.cpu()], overlaps.cpu()

    def _nearest(self, tokens: Tensor, ids: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
        self.check("token", tokens)
        columns = torch.full((self.size,), -1).index_put((ids,), torch.arange(len(ids)))
        parts = []
        for chunk in tokens.split(max(1, _BLOCK_ELEMENTS // len(ids))):
            overlaps = self.unit(chunk) @ keys.T
            own = columns[chunk]
            known = (own >= 0).nonzero().flatten()  # a special token is no column: it has nothing to leave out
            overlaps[known, own[known]] = -torch.inf
            parts.append(largest(overlaps, k))
        values, found = (torch.cat(part) for part in zip(*parts, strict=True))
        return values, found

    def bulk(self, pairs: int = 1_000_000, seed: int = 0, percentiles: tuple[float, ...] = ()) -> Bulk:
        """Return statistics of the overlaps of random pairs of distinct ordinary tokens (docs/theory.md#bulk-geometry).

        Args:
            pairs: number of pairs; all pairs once, if there are no more than that.
            seed: seeds the choice of pairs.
            percentiles: further ones of the overlap, besides the usual.

        Returns:
            The statistics, in float64.

        Raises:
            UserError: pairs is out of range, or there are fewer than two ordinary tokens.
        """
        tokens = len(self.ordinary())
        overlaps = self.sample(pairs, seed)
        return Bulk.of(overlaps, self.dimension, tokens, self.matrix.shape[0] - tokens, percentiles)

    def sample(self, pairs: int = 1_000_000, seed: int = 0) -> Tensor:
        """Return the overlaps of random pairs of distinct ordinary tokens; float64, shape (pairs,), on CPU.

        Args:
            pairs: number of pairs; all pairs once, if there are no more than that.
            seed: seeds the choice of pairs.

        Returns:
            The overlaps that ``bulk`` describes.

        Raises:
            UserError: pairs is out of range, or there are fewer than two ordinary tokens.
        """
        ids = self.ordinary()
        if len(ids) < 2:
            raise UserError("too few tokens for a pair", rule="at least 2 that are not special", found=len(ids))
        left, right = _distinct_pairs(len(ids), pairs, seed)
        step = max(1, _BULK_BLOCK // self.dimension)
        with torch.no_grad():
            # rows are made unit pair by pair: those of all tokens at once would be a copy of the matrix
            chunks = zip(ids[left].split(step), ids[right].split(step), strict=True)
            return torch.cat([torch.linalg.vecdot(self.unit(a), self.unit(b)) for a, b in chunks]).cpu().double()


def _normalised(rows: Tensor) -> Tensor:
    """Unit rows; 0 where a row is 0."""
    return torch.nn.functional.normalize(rows, dim=-1, eps=torch.finfo(rows.dtype).tiny)


def _few(ids: Sequence[int]) -> str:
    """The first few of a list of ids, in words."""
    return f"{list(ids[:8])}{' ...' if len(ids) > 8 else ''}"


def _shifted(rows: Tensor, mean: Tensor | None) -> Tensor:
    return rows if mean is None else rows - mean


def _distinct_pairs(count: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    if pairs < 1:
        raise UserError("the number of pairs is out of range", rule="at least 1", found=pairs)
    if count * (count - 1) // 2 <= pairs:
        left, right = torch.triu_indices(count, count, offset=1)
        return left, right
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(count, (pairs,), generator=generator)
    right = torch.randint(count - 1, (pairs,), generator=generator)
    return left, right + (right >= left)


def _nearest_of_all(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact top k of keys @ keys.T without the diagonal, in tiles: each overlap is computed once for both its rows."""
    values = keys.new_full((len(keys), k), -torch.inf)
    columns = torch.zeros_like(values, dtype=torch.long)
    side = max(1, math.isqrt(_BLOCK_ELEMENTS // 2))
    starts = range(0, len(keys), side)
    for number, top in enumerate(starts):
        for left in starts[number:]:
            overlaps = keys[top : top + side] @ keys[left : left + side].T
            if left == top:
                overlaps.fill_diagonal_(-torch.inf)
            else:
                _merge(values, columns, overlaps.T, left, top)
            _merge(values, columns, overlaps, top, left)
    return values, columns


def _merge(values: Tensor, columns: Tensor, overlaps: Tensor, row: int, column: int) -> None:
    """Put the largest overlaps of a tile, whose first row and column are given, among the best so far."""
    rows, k = slice(row, row + len(overlaps)), values.shape[1]
    new_values, new_columns = largest(overlaps, min(k, overlaps.shape[1]))
    both = torch.cat([values[rows], new_values], 1)
    values[rows], slots = both.topk(k, 1)
    columns[rows] = torch.cat([columns[rows], new_columns + column], 1).gather(1, slots)
