"""The geometry matrix: unit embedding rows, their overlaps, nearest neighbours, and the bulk they form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from borngap.errors import UserError

Kind = Literal["readout", "input", "centered"]
KINDS: tuple[Kind, ...] = ("readout", "input", "centered")
DENSE_CROWDING = 6.0
SPARSE_CROWDING = 4.0
_BLOCK_ELEMENTS = 1 << 25
_GROUP = 64


@dataclass(frozen=True, eq=False)
class Geometry:
    """One embedding matrix, read as directions: ``e_k = (w_k - mean) / |w_k - mean|``, mean = 0 unless centered.

    Source: section 2.1 of the paper; ``centered`` because softmax does not see a vector common to all rows.

    Attributes:
        matrix: embedding rows, shape (rows, d), any float dtype and device; kept, not copied.
        kind: ``readout``, ``input`` or ``centered``.
        size: number of tokens: rows beyond it are padding and take no part.
        special: ids of special and added tokens, left out of bulk statistics and neighbours.

    Raises:
        UserError: a token's row has zero norm or is not finite.
    """

    matrix: Tensor
    kind: Kind = "readout"
    size: int = -1
    special: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Check the rows.

        Raises:
            UserError: a token's row has zero norm or is not finite, or the matrix has no two rows.
        """
        if self.matrix.ndim != 2 or min(self.matrix.shape) < 2:
            raise UserError("the embedding matrix has a wrong shape", rule="(tokens, d)", found=tuple(self.matrix.shape))
        if self.size < 0:
            object.__setattr__(self, "size", self.matrix.shape[0])
        norms = torch.cat([_shifted(block, self.mean).norm(dim=1).cpu() for _, block in self._blocks()])
        bad = (~norms.isfinite() | (norms == 0)).nonzero().flatten().tolist()
        if bad:
            raise UserError(
                f"{len(bad)} embedding rows have no direction",
                rule="every token's row is finite and not zero",
                found=f"token ids {bad[:8]}{' ...' if len(bad) > 8 else ''} ({self.kind} geometry)",
                fix="leave these tokens out by a shorter vocabulary, or choose another geometry",
            )

    @cached_property
    def mean(self) -> Tensor | None:
        """Mean row of all tokens in float32 or better, shape (d,); None unless centered."""
        if self.kind != "centered":
            return None
        return torch.stack([block.sum(0) for _, block in self._blocks()]).sum(0) / self.size

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of everything computed: float64 for float64 rows, float32 otherwise."""
        return torch.float64 if self.matrix.dtype == torch.float64 else torch.float32

    @property
    def dimension(self) -> int:
        """d, the length of a row."""
        return self.matrix.shape[1]

    def unit(self, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return unit rows e_k.

        Args:
            ids: token ids, int64, any shape.
            dtype: computed and returned in; ``self.dtype`` unless given.

        Returns:
            Shape (\\*ids.shape, d), norm 1; differentiable with respect to the matrix.
        """
        rows = self.matrix[ids.to(self.matrix.device)].to(dtype or self.dtype)
        mean = self.mean if self.mean is None else self.mean.to(rows.dtype)
        return torch.nn.functional.normalize(_shifted(rows, mean), dim=-1, eps=0.0)

    def overlap(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the cosine overlap G_jk = e_j . e_k of two tensors of token ids (broadcast), in [-1, 1]."""
        return (self.unit(left) * self.unit(right)).sum(-1)

    def unit_blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first id, unit rows) over all tokens, in blocks of bounded size."""
        for start, block in self._blocks():
            yield start, torch.nn.functional.normalize(_shifted(block, self.mean), dim=-1, eps=0.0)

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        step = max(1, _BLOCK_ELEMENTS // (4 * self.dimension))
        for start in range(0, self.size, step):
            yield start, self.matrix[start : min(start + step, self.size)].to(self.dtype)

    def ordinary(self) -> Tensor:
        """Return the ids of all tokens that are neither special nor padding; int64, sorted."""
        keep = torch.ones(self.size, dtype=torch.bool)
        keep[[i for i in self.special if i < self.size]] = False
        return keep.nonzero().flatten()

    def neighbours(self, tokens: Tensor | None = None, k: int = 10) -> tuple[Tensor, Tensor]:
        """Return the exact k nearest tokens of each token by overlap, nearest first.

        Special tokens, padding rows and the token itself are left out. Memory is bounded by a block of overlaps
        (128 MiB) besides the unit rows. Cost: len(tokens) * V * d multiply-adds.

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
        queries = ids if tokens is None else tokens.cpu()
        with torch.no_grad():
            keys = self.unit(ids)
            columns = torch.full((self.size,), -1).index_put((ids,), torch.arange(len(ids)))
            parts = [
                _nearest(self.unit(chunk), keys, columns[chunk], k)
                for chunk in queries.split(max(1, _BLOCK_ELEMENTS // len(ids)))
            ]
        found, overlaps = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        return ids[found], overlaps

    def bulk(self, pairs: int = 1_000_000, seed: int = 0) -> Bulk:
        """Return statistics of the overlaps of random pairs of distinct ordinary tokens (spec section 3).

        Args:
            pairs: number of pairs; all pairs once, if there are no more than that.
            seed: seeds the choice of pairs.

        Returns:
            The statistics, in float64.
        """
        ids = self.ordinary()
        left, right = _distinct_pairs(len(ids), pairs, seed)
        step = max(1, _BLOCK_ELEMENTS // (4 * self.dimension))
        with torch.no_grad():
            overlaps = [
                self.overlap(ids[a], ids[b]).cpu() for a, b in zip(left.split(step), right.split(step), strict=True)
            ]
        return Bulk.of(torch.cat(overlaps).double(), self.dimension, len(ids), self.matrix.shape[0] - len(ids))


@dataclass(frozen=True)
class Bulk:
    """Statistics of overlaps G of random token pairs (section 6.1 of the paper).

    Attributes:
        pairs: number of pairs.
        tokens: number of tokens they were drawn from.
        left_out: rows left out: special and added tokens and padding.
        dimension: d.
        mean: mu, mean of G, unit 1.
        std: sigma, standard deviation of G, unit 1.
        mean_square: mean of G^2, unit 1, in [0, 1].
        fraction_above: fraction of pairs with G^2 > 0.1.
        isotropic: 1 / d, the mean of G^2 for isotropic rows.
        ks_gaussian: Kolmogorov-Smirnov distance of G^2 to the fitted normal, in [0, 1].
        ks_exponential: the same to the exponential of equal mean.
        anisotropy: mu / sigma.
        crowding: d * mean(G^2); 1 for isotropic rows.
        overlap_percentiles: percentile -> overlap G, for 50, 90, 95, 99 and 99.9.
    """

    pairs: int
    tokens: int
    left_out: int
    dimension: int
    mean: float
    std: float
    mean_square: float
    fraction_above: float
    isotropic: float
    ks_gaussian: float
    ks_exponential: float
    anisotropy: float
    crowding: float
    overlap_percentiles: dict[str, float]

    @property
    def embedding_class(self) -> str:
        """``A`` (dense) from crowding 6, ``B`` (sparse) up to 4, ``intermediate`` between: a cut through a continuum."""
        if self.crowding >= DENSE_CROWDING:
            return "A"
        return "B" if self.crowding <= SPARSE_CROWDING else "intermediate"

    @classmethod
    def of(cls, overlaps: Tensor, dimension: int, tokens: int, left_out: int = 0) -> Bulk:
        """Compute the statistics of a sample of overlaps, float64, shape (pairs,)."""
        from scipy import stats

        squares = overlaps.square()
        mean_square, spread = float(squares.mean()), float(squares.std(correction=0))
        values = squares.numpy()
        percentiles = (50.0, 90.0, 95.0, 99.0, 99.9)
        quantiles = torch.from_numpy(stats.quantile(overlaps.numpy(), [p / 100 for p in percentiles])).tolist()
        mu, sigma = float(overlaps.mean()), float(overlaps.std(correction=0))
        return cls(
            pairs=len(overlaps),
            tokens=tokens,
            left_out=left_out,
            dimension=dimension,
            mean=mu,
            std=sigma,
            mean_square=mean_square,
            fraction_above=float((squares > 0.1).double().mean()),
            isotropic=1 / dimension,
            ks_gaussian=float(stats.ks_1samp(values, stats.norm(mean_square, spread).cdf, method="asymp").statistic),
            ks_exponential=float(stats.ks_1samp(values, stats.expon(scale=mean_square).cdf, method="asymp").statistic),
            anisotropy=mu / sigma,
            crowding=dimension * mean_square,
            overlap_percentiles={f"{p:g}": q for p, q in zip(percentiles, quantiles, strict=True)},
        )


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


def _nearest(queries: Tensor, keys: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact top k of queries @ keys.T, own column left out: the top k lie in the k groups of largest maximum."""
    overlaps = queries @ keys.T
    known = (own >= 0).nonzero().flatten()
    overlaps[known, own[known]] = -torch.inf
    groups = -(-overlaps.shape[1] // _GROUP)
    if groups <= k:
        values, columns = overlaps.topk(k, 1)
        return columns, values
    padded = torch.nn.functional.pad(overlaps, (0, groups * _GROUP - overlaps.shape[1]), value=-torch.inf)
    grouped = padded.view(len(queries), groups, _GROUP)
    best = grouped.amax(2).topk(k, 1, sorted=False).indices
    candidates = grouped.gather(1, best[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    values, slots = candidates.topk(k, 1)
    return best.gather(1, slots // _GROUP) * _GROUP + slots % _GROUP, values
