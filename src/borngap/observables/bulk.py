"""Bulk: how the rows of an embedding matrix lie to each other, from random token pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from borngap.cuts import DENSE_CROWDING, SPARSE_CROWDING


@dataclass(frozen=True)
class Bulk:
    """Statistics of overlaps G of random token pairs (section 6.1 of the paper).

    Attributes:
        pairs: number of pairs.
        tokens: number of tokens they were drawn from.
        left_out: rows left out: special and added tokens, padding, and tokens without a direction.
        dimension: d.
        mean: mu, mean of G, unit 1.
        std: sigma, standard deviation of G, unit 1.
        mean_square: mean of G^2, unit 1, in [0, 1].
        fraction_above: fraction of pairs with G^2 > 0.1.
        isotropic: 1 / d, the mean of G^2 for isotropic rows.
        ks_gaussian: Kolmogorov-Smirnov distance of G^2 to the fitted normal, in [0, 1]; NaN if all G^2 are equal.
        ks_exponential: the same to the exponential of equal mean; NaN if all G are 0.
        anisotropy: mu / sigma; NaN if all G are equal.
        crowding: d * mean(G^2); 1 for isotropic rows.
        overlap_percentiles: percentile -> overlap G, for 50, 90, 95, 99, 99.9 and those asked for.
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
        """``A`` (dense) from crowding 6, ``B`` (sparse) up to 4, else ``intermediate``: a cut through a continuum."""
        if self.crowding >= DENSE_CROWDING:
            return "A"
        return "B" if self.crowding <= SPARSE_CROWDING else "intermediate"

    @classmethod
    def of(
        cls, overlaps: Tensor, dimension: int, tokens: int, left_out: int = 0, further: tuple[float, ...] = ()
    ) -> Bulk:
        """Compute the statistics of a sample of overlaps, float64, shape (pairs,)."""
        from scipy import stats

        squares = overlaps.square()
        mean_square, spread = float(squares.mean()), float(squares.std(correction=0))
        values = squares.numpy()
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
            ks_gaussian=_ks_distance(values, stats.norm(mean_square, spread)),
            ks_exponential=_ks_distance(values, stats.expon(scale=mean_square)),
            anisotropy=mu / sigma if sigma else math.nan,
            crowding=dimension * mean_square,
            overlap_percentiles=percentiles_of(overlaps, {50.0, 90.0, 95.0, 99.0, 99.9, *further}),
        )


def percentiles_of(overlaps: Tensor, wanted: Iterable[float]) -> dict[str, float]:
    """Return percentiles of a sample of overlaps, ascending: ``{"99": 0.31}``."""
    from scipy import stats

    percentiles = sorted(wanted)
    quantiles = stats.quantile(overlaps.numpy(), [p / 100 for p in percentiles], keepdims=True).tolist()
    return {f"{p:g}": q for p, q in zip(percentiles, quantiles, strict=True)}


def _ks_distance(values: Any, distribution: Any) -> float:
    """Kolmogorov-Smirnov distance of a sample to a distribution; NaN where that has no width."""
    from scipy import stats

    if not distribution.std() > 0:
        return math.nan
    return float(stats.ks_1samp(values, distribution.cdf, method="asymp").statistic)
