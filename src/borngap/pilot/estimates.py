"""From a pilot to a forecast: how far each watched place moves, and how sure that is.

A pilot's change of one place holds noise of the few rows that it saw; places of one pair of words move alike. With d_i
the change of place i of pair t (lengthened by what smaller batches leave out, ``design.lengthened``), which has n_t
places, m_t the pair's mean, M the mean of all places of its kind (where the wanted word is due, or where the other is
right), and r the variance of the noise over that of what places do beside their pair (``design.noise_of``)::

    forecast change  =  M  +  (n_t + 11) / (n_t + 11 (1 + r)) (m_t - M)  +  (d_i - m_t) / (1 + r)

the mean of a place's true change given the pilot's, where pairs differ with variance v, places of a pair with 11 v and
the pilot's noise has 11 r v; an empirical-Bayes shrinkage (Efron and Morris, JASA 70, 1975) whose shares are not fitted
to the pilot itself. What noise leaves unsure of a place is root(r) / (1 + r) of the scatter, the root of the mean of
(d_i - m_t)^2. The half-width of its 90 % interval is the root of the sum of two squares: 2.8 times that, which is 1.4
times the scatter at r = 9/11; and 0.3 of its change, since all changes of a pilot may be too small or too large alike.
Where these constants come from: docs/forecast-runs-measured.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PlaceProspect = Literal["kept", "flips", "stays behind", "lost", "undecided"]
PROSPECTS: tuple[PlaceProspect, ...] = get_args(PlaceProspect)
# held against 20 runs of docs-gpt2-s and docs-llama on three corpora: docs/forecast-runs-measured.md
NOISE = 9 / 11  # variance of a pilot's noise over that of changes within pairs
PAIR_PLACES = 11.0  # variance of changes within pairs over that between pairs
HALF_WIDTH = 1.4  # half-width of the 90 % interval over the scatter, where the noise is NOISE
BIAS = 0.3  # half-width of the 90 % interval of what all changes are too small or too large by, as a share of them
SHARED, _SHARED_PLACES = 0.1, 5.0  # a pair's common error, at NOISE, over the squared scatter: 0.1 + 1 / (n_t + 5)
_NORMAL_90 = 1.6449  # half-width of the 90 % interval of a normal distribution over its standard deviation
_DRAWS = 1000


@dataclass(frozen=True)
class PlaceForecasts:
    """Forecasts of places.

    Attributes:
        base: logit gaps before the run, unit nat, shape (n,).
        gaps: forecast logit gaps after it.
        half: half-widths of the 90 % intervals, shape (n,).
        draws: ends that the forecast deems as likely as one another, shape (draws, n).
    """

    base: Floats
    gaps: Floats
    half: Floats
    draws: Floats

    @property
    def low(self) -> Floats:
        """Lower ends of the 90 % intervals."""
        return self.gaps - self.half

    @property
    def high(self) -> Floats:
        """Upper ends of the 90 % intervals."""
        return self.gaps + self.half

    @property
    def prospects(self) -> list[PlaceProspect]:
        """What becomes of each place."""
        sides: Any = zip(self.base > 0, self.low > 0, self.high <= 0, strict=True)
        names: dict[tuple[bool, bool, bool], PlaceProspect] = {
            (True, True, False): "kept", (False, True, False): "flips",
            (False, False, True): "stays behind", (True, False, True): "lost",
        }  # fmt: skip
        return [names.get((bool(a), bool(b), bool(c)), "undecided") for a, b, c in sides]

    def ahead(self, places: Sequence[int], *, is_behind: bool = False) -> dict[str, float | None]:
        """Return the share of some places at which gold leads, before and after the run.

        Args:
            places: which.
            is_behind: the share at which its rival leads instead.

        Returns:
            ``before``; ``after``, the mean over the draws; ``low``, ``high``, its 90 % interval, which holds that mean
            even where fewer than one draw in twenty differs from the others; None without places.
        """
        if not len(places):
            return dict.fromkeys(("before", "after", "low", "high"))
        sign = -1 if is_behind else 1
        shares = (sign * self.draws[:, list(places)] > 0).mean(1)
        low, high = np.percentile(shares, (5, 95))
        before, after = float((sign * self.base[list(places)] > 0).mean()), float(shares.mean())
        return {"before": before, "after": after, "low": min(float(low), after), "high": max(float(high), after)}

    def right(self) -> tuple[float, float]:
        """Return the shares of orders that come out as foretold, by the forecast's own lights.

        Returns:
            That of the forecast, and that of "nothing changes".
        """
        after = self.draws > 0
        return float((after == (self.gaps > 0)).mean()), float((after == (self.base > 0)).mean())

    def matched(self) -> float:
        """Return the share of the draws in which "nothing changes" names the leaders no worse than the forecast."""
        after = self.draws > 0
        right, otherwise = ((after == (gaps > 0)).sum(1) for gaps in (self.gaps, self.base))
        return float((otherwise >= right).mean())


def foretell(
    base: Floats, ends: Floats, pairs: Sequence[int], seed: int = 0, kinds: Sequence[int] | None = None,
    noise: float = NOISE, bias: float = BIAS,
) -> PlaceForecasts:  # fmt: skip
    """Forecast places from pilots.

    Args:
        base: logit gaps before the run, unit nat, shape (n,).
        ends: logit gaps at the end of each pilot, shape (pilots, n).
        pairs: number of the pair of words of each place.
        seed: seeds the draws.
        kinds: number of the kind of each place: what the run drives up at one kind it may drive down at another, so
            each kind has a mean of its own; all places of a pair are of one kind, and without it all of the same.
        noise: variance of the pilots' noise over that of changes within pairs, above 0.
        bias: half-width of the 90 % interval of what all changes are too small or too large by, as a share of them.

    Returns:
        The forecasts.
    """
    change = ends.mean(0) - base
    numbers, index = np.unique(np.asarray(pairs), return_inverse=True)
    count = np.bincount(index)
    of_pair, mean = (np.bincount(index, change) / count)[index], _means(change, kinds)
    own = change - of_pair
    weight = ((count + PAIR_PLACES) / (count + PAIR_PLACES * (1 + noise)))[index]
    gaps = base + mean + weight * (of_pair - mean) + own / (1 + noise)
    free = len(change) - len(numbers)
    # where no pair has two places their scatter is that around the mean of all
    scatter = float(np.sqrt((own**2).sum() / free)) if free else float((change - mean).std())
    half, change = HALF_WIDTH * scatter * _unsure(noise) / _unsure(NOISE), gaps - base
    random = np.random.default_rng(seed)
    draws = gaps + _errors(half / _NORMAL_90, count, index, random)
    draws += bias / _NORMAL_90 * random.standard_normal((_DRAWS, 1)) * change
    return PlaceForecasts(base, gaps, np.hypot(half, bias * change), draws)


def _means(change: Floats, kinds: Sequence[int] | None) -> Floats:
    """The mean change of all places of a place's kind."""
    if kinds is None:
        return np.full(len(change), change.mean())
    _, index = np.unique(np.asarray(kinds), return_inverse=True)
    means: Floats = np.bincount(index, change) / np.bincount(index)
    return means[index]


def _unsure(noise: float) -> float:
    """What noise leaves unsure of a place, in units of the scatter."""
    return float(np.sqrt(noise)) / (1 + noise)


def _errors(deviation: float, count: NDArray[Any], index: NDArray[Any], random: np.random.Generator) -> Floats:
    """Errors as they may be: in part the same for all places of a pair."""
    shared = np.minimum(1, (1 / (count + _SHARED_PLACES) + SHARED) / (HALF_WIDTH / _NORMAL_90) ** 2) * deviation**2
    rest = np.sqrt(deviation**2 - shared)
    together = random.standard_normal((_DRAWS, len(count))) * np.sqrt(shared)
    return together[:, index] + random.standard_normal((_DRAWS, len(index))) * rest[index]
