"""What each remedy gains and costs, from the pilots: success, over-use, held-out loss; and the logit bias beside it.

All pilots read the same rows in the same order and are looked at at the same places. Their errors are nevertheless held
to be independent in the intervals of differences: what they have in common drops out of a difference of two losses, not
of two shares, which saturate (docs/remedies-measured.md#does-it-order-them-as-the-runs-do).

A difference of two losses has a 90 % interval of two parts, the root of their squares: of the held-out rows, drawn
again; and of the pilots, 0.4 of the difference and 0.02 nat, likewise (same page). A bias has the rows' alone: its run
is the very run that it is held against.

A bias of -b on the words to avoid adds b to the gap of every wanted word over its rival and takes b off that of a right
rival over it: success and over-use with a bias, on the run without a remedy, follow from its forecast; no pilot is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from borngap.pilot.estimates import Floats, PlaceForecasts
from borngap.pilot.places.look import BIASES
from borngap.pilot.places.spots import Spot
from borngap.resample import percentile_interval

_LEVEL = 0.9
_ENDS = (100 * (1 - _LEVEL) / 2, 100 * (1 + _LEVEL) / 2)
_TOKENS, _LOSS = 0, 1  # columns of a look's rows; then one a bias
_EQUAL = 0.0005  # of the places: an over-use that differs by less is the same, and no bias is needed for it
_LARGEST = BIASES[-1]  # nat: beyond it no loss is known
# half-width of the 90 % interval of what a run's difference of losses is beside its pilots': a share of it, and nat
_PILOT_SHARE, _PILOT_LOSS = 0.4, 0.02


@dataclass(frozen=True)
class Measure:
    """A number with its 90 % interval.

    Attributes:
        value: the number.
        low: lower end; None where there is no interval.
        high: upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BiasBeside:
    """The run without a remedy, with the constant logit bias that gives it a remedy's over-use.

    Attributes:
        nat: what is taken off the words to avoid; negative where the remedy has less over-use than that run.
        success: share of held-out places at which the wanted word then leads.
        loss: what it adds to the held-out loss, nat a token; None where the bias is negative, or above 6.
    """

    nat: float
    success: float
    loss: float | None


@dataclass(frozen=True)
class RemedyOutcome:
    """What becomes of the words.

    Attributes:
        success: share of the places of wanted words at which they lead; None where no pilot was fit.
        gain: the same less that of the run without a remedy.
        over_use: share of the places where the word to avoid is right at which the wanted one leads; None without any.
        over_use_more: the same less that of the run without a remedy.
        loss: held-out loss above that run's, nat a token, with the pilots' own error in its interval, but for a bias;
            None where it is not known.
        bias: that run with the bias of the same over-use; None without places for over-use.
    """

    success: Measure | None = None
    gain: Measure | None = None
    over_use: Measure | None = None
    over_use_more: Measure | None = None
    loss: Measure | None = None
    bias: BiasBeside | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Ended:
    """Where a run ends, as its pilots foretell.

    Attributes:
        places: forecast of the watched places.
        rows: held-out rows after the pilots, as ``Look`` has them, the mean over pilots; shape (rows, columns).
    """

    places: PlaceForecasts
    rows: Floats


class PlainRun:
    """Remedies held against the run without one."""

    def __init__(self, spots: Sequence[Spot], plain: Ended) -> None:
        """Prepare.

        Args:
            spots: the watched places.
            plain: the run without a remedy.
        """
        self._due = np.array([spot.kind != "right" for spot in spots], dtype=bool)
        self._plain = plain

    def untrained(self) -> RemedyOutcome:
        """Return what the model says before any training; its loss can't be held against a pilot's."""
        base = self._plain.places.base
        success = Measure(float((base[self._due] > 0).mean()))
        right = base[~self._due]
        return RemedyOutcome(success, over_use=Measure(float((right < 0).mean())) if len(right) else None)

    def of(self, ended: Ended, *, knows_loss: bool = True) -> RemedyOutcome:
        """Return what a remedy gains and costs.

        Args:
            ended: its run.
            knows_loss: whether its pilot is as noisy as that of the planned run, so that their losses tell those of the
                runs apart.

        Returns:
            The outcome.
        """
        draws, plain = ended.places.draws, self._plain.places.draws
        success, without = self._success(draws), self._success(plain)
        over, before = self._over_use(draws), self._over_use(plain)
        is_plain = ended is self._plain
        return RemedyOutcome(
            _measure(success), None if is_plain else _difference(success, without),
            None if over is None else _measure(over),
            None if is_plain or over is None or before is None else _difference(over, before),
            None if is_plain or not knows_loss else _of_pilots(self._loss(ended.rows[:, _LOSS])),
            None if is_plain or over is None else self.beside(float(over.mean())),
        )  # fmt: skip

    def biased(self, max_loss: float, max_over_use: float) -> tuple[RemedyOutcome, float] | None:
        """Return the run without a remedy and the largest bias within what a remedy may cost.

        Args:
            max_loss: held-out loss that it may add, unit nat a token.
            max_over_use: over-use that it may add, as a share.

        Returns:
            RemedyOutcome and bias, unit nat, at most 6; None without places for over-use.
        """
        over = self._over_use(self._plain.places.draws)
        if over is None:
            return None
        grid = np.linspace(0, _LARGEST, 601)
        fits = [b for b in grid if self._added(b) <= max_loss and self._over_use_at(b) <= over.mean() + max_over_use]
        bias = float(max(fits, default=0.0))
        sign = np.where(self._due, 1.0, -1.0)
        places = self._plain.places
        moved = PlaceForecasts(places.base, places.gaps + sign * bias, places.half, places.draws + sign * bias)
        success, moved_over = self._success(moved.draws), self._over_use(moved.draws)
        assert moved_over is not None  # noqa: S101  # as over is not
        # the very same run: its errors are the same
        gain, more = success - self._success(places.draws), moved_over - over
        return RemedyOutcome(
            _measure(success), _measure(gain), _measure(moved_over), _measure(more), self._loss(self._rows_at(bias))
        ), bias  # fmt: skip

    def curve(self) -> list[dict[str, float]]:
        """Return the run without a remedy under biases from 0: ``success``, ``over_use`` and ``loss`` of each."""
        return [
            {"bias": b, "success": self._success_at(b), "over_use": self._over_use_at(b), "loss": self._added(b)}
            for b in (0.0, *BIASES)
        ]

    def beside(self, over_use: float) -> BiasBeside:
        """Return the run without a remedy at an over-use.

        Args:
            over_use: the share.

        Returns:
            Of the biases that give it the one nearest to 0, and what else it does.
        """
        right = np.sort(self._plain.places.draws[:, ~self._due], axis=None)
        led = round(over_use * len(right))  # draws at which the wanted word then leads: right[:led], all below the bias
        above = np.nextafter(right[led - 1], np.inf) if led else -np.inf
        up_to = right[led] if led < len(right) else np.inf
        is_equal = abs(over_use - self._over_use_at(0.0)) < _EQUAL
        bias = 0.0 if is_equal else float(np.clip(0.0, above, up_to))
        known = 0 <= bias <= _LARGEST
        return BiasBeside(bias, self._success_at(bias), self._added(bias) if known else None)

    def _success(self, draws: Floats) -> Floats:
        share: Floats = (draws[:, self._due] > 0).mean(1)
        return share

    def _over_use(self, draws: Floats) -> Floats | None:
        if self._due.all():
            return None
        share: Floats = (draws[:, ~self._due] < 0).mean(1)
        return share

    def _success_at(self, bias: float) -> float:
        return float((self._plain.places.draws[:, self._due] + bias > 0).mean())

    def _over_use_at(self, bias: float) -> float:
        return float((self._plain.places.draws[:, ~self._due] - bias < 0).mean())

    def _rows_at(self, bias: float) -> Floats:
        """Summed loss of each held-out row with a bias."""
        sums, biases = self._plain.rows[:, _LOSS:], (0.0, *BIASES)
        at: NDArray[np.float64] = np.array([np.interp(bias, biases, row) for row in sums])
        return at

    def _added(self, bias: float) -> float:
        rows = self._plain.rows
        return float((self._rows_at(bias) - rows[:, _LOSS]).sum() / max(1.0, rows[:, _TOKENS].sum()))

    def _loss(self, sums: Floats) -> Measure | None:
        tokens, more = self._plain.rows[:, _TOKENS], sums - self._plain.rows[:, _LOSS]
        if not tokens.sum() or not np.isfinite(more).all():
            return None

        def statistic(drawn: NDArray[Any]) -> float:
            return float(more[drawn].sum() / tokens[drawn].sum())

        low, high = percentile_interval(statistic, len(tokens), level=_LEVEL)
        return Measure(float(more.sum() / tokens.sum()), low, high)


def _of_pilots(loss: Measure | None) -> Measure | None:
    """A difference of losses with the error of its pilots, beside that of the rows."""
    if loss is None or loss.low is None or loss.high is None:
        return loss
    own = float(np.hypot(_PILOT_SHARE * loss.value, _PILOT_LOSS))
    low, high = np.hypot(loss.value - loss.low, own), np.hypot(loss.high - loss.value, own)
    return Measure(loss.value, float(loss.value - low), float(loss.value + high))


def _difference(shares: Floats, before: Floats) -> Measure:
    """A difference of two shares whose errors are independent."""
    other = np.random.default_rng(0).permutation(before)
    low, high = np.percentile(shares - other, _ENDS)
    return Measure(float(shares.mean() - before.mean()), float(low), float(high))


def _measure(shares: Floats) -> Measure:
    low, high = np.percentile(shares, _ENDS)
    return Measure(float(shares.mean()), float(low), float(high))
