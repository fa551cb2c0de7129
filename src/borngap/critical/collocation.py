"""Collocation: a run's own dynamics on a coarse grid of steps, without training (spec section 7).

A *course* holds the loss gradients at K + 1 nodes of a run, at equal doses. Between nodes they are straight lines in
the dose, and AdamW's recurrences on them are summed by ``borngap.critical.pieces``. A *sweep* goes from node to node: it
predicts the weights there, takes the gradient anew, and corrects the displacement. Repeated at one rate, sweeps
converge to a solution of the optimiser's dynamics on the grid, whatever the number of steps between nodes.

The critical rate is the fixed point of "sweep at a rate, then find the rate at which this displacement meets the
criterion". How far off the grid leaves it is estimated with every second node left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from borngap.critical.pieces import Piece, State, advance, piece
from borngap.critical.landscape import Landscape
from borngap.train.observe import Record
from borngap.critical.rates import Status
from borngap.training import Method
from borngap.judge.trajectory import Criterion

Seen = Callable[[int, Tensor, Tensor | None], None]
_PIECES: dict[Method, int] = {"full": 4, "readout-only": 4, "lora": 6}
_MOST_PIECES = 48
_ROUNDS = 12
_TOLERANCE = 2e-3
_ROOT = 2.5e-4
_GRID_ERROR = 1e-2
_NEAR = 2e-2
_WIDE = math.log(4.0)
_TRUSTED = math.log(1.5)
_SETTLED = 0.1


class Course:
    """One context's run on a coarse grid.

    Attributes:
        nodes: steps done at the nodes, from 0 to the length of the run.
        gradients: loss gradients there, shape (nodes, parameters).
        margins: the criterion's margins there, as of the last sweep.
        ends: displacement per unit rate at the node that the criterion is judged at.
    """

    def __init__(self, land: Landscape, index: int, criterion: Criterion, pieces: int) -> None:
        """Take the gradient at the base weights."""
        self._land, self._index, self._criterion = land, index, criterion
        self._factors = land.tuner.training.factors
        self._doses = np.concatenate([[0.0], np.cumsum(self._factors)])
        self._grid(pieces)
        self._state, self._ahead = State.zero(land.base), State.zero(land.base)
        self.gradients = land.zeros(len(self.nodes))
        land.place(self.gradients[0], 0.0)
        logits, hidden = land.gradient(index, self.gradients[0])
        self._base = (logits, hidden)
        self.margins = [land.margin(index, criterion, logits)] * len(self.nodes)
        self.end = self.gradients[0]
        self._slope = 0.0  # of the margin over log rate at the last crossing

    @property
    def pieces(self) -> int:
        """How many pieces the run is cut into."""
        return len(self.nodes) - 1

    @property
    def finest(self) -> bool:
        """Whether the grid is as fine as it gets."""
        return 2 * self.pieces > min(_MOST_PIECES, self.nodes[-1])

    @property
    def first(self) -> Record:
        """The observables at the base weights, which must be in place."""
        self._land.home()
        return self.record(*self._base)

    def record(self, logits: Tensor, hidden: Tensor | None) -> Record:
        """Return the observables of the context at the weights in place."""
        return self._land.record(self._index, logits, hidden)

    def sweep(self, rate: float, *, cold: bool = False, see: Seen | None = None) -> None:
        """Go through the nodes once, each gradient taken anew at the weights that the ones before lead to.

        Args:
            rate: learning rate.
            cold: whether the gradients ahead are unknown; they are guessed to go on as they are.
            see: called at every node but the first with its number, logits and hidden states, weights in place.
        """
        land, eps = self._land, self._land.tuner.training.eps
        state, ahead = self._state, self._ahead
        state.reset()
        for number, part in enumerate(self._parts, 1):
            pair = self.gradients[number - 1 : number + 1]
            if cold:
                pair[1] = pair[0]
            advance(state, pair, part, eps, ahead, moments=False)
            self._place(ahead.displacement, rate, self.nodes[number])
            logits, hidden = land.gradient(self._index, pair[1])
            self.margins[number] = land.margin(self._index, self._criterion, logits)
            if see is not None:
                see(number, logits, hidden)
            advance(state, pair, part, eps, state, moments=number < self.pieces)
        self.end = state.displacement

    def crossing(self, near: float, displacement: Tensor | None = None) -> float | None:
        """Return the rate at which a displacement meets the criterion.

        Args:
            near: rate to look around.
            displacement: per unit rate; that of the last sweep's end unless given.

        Returns:
            The rate, or None if none within a factor 4 does.
        """
        direction = self.end if displacement is None else displacement

        @lru_cache
        def margin(log_rate: float) -> float:
            self._place(direction, math.exp(log_rate), self.nodes[-1])
            return self._land.margin(self._index, self._criterion, self._land.logits(self._index))

        begin = math.log(near)
        found = secants(margin, begin, self._slope)
        if found is None:
            found = root(margin, begin)
        if found is None:
            return None
        if abs(found - begin) > _ROOT:
            self._slope = -margin(begin) / (found - begin)
        return math.exp(found)

    @property
    def share(self) -> float | None:
        """Share of the dose at which the margins rise through 0, up to 1.5 by the last slope; None if they fall."""
        doses, margins = self._doses[self.nodes] / self._doses[-1], self.margins
        number = next((k for k, margin in enumerate(margins) if margin > 0), len(doses) - 1)
        rise, run = margins[number] - margins[number - 1], doses[number] - doses[number - 1]
        met = float(doses[number] - margins[number] * run / rise) if rise > 0 else math.inf
        return met if met < math.exp(_TRUSTED) else None

    def coarser(self) -> Tensor | None:
        """Return the end's displacement with every second node left out; None where all pieces are single steps.

        Such a grid is the run itself, and has no error.
        """
        if self.pieces == self.nodes[-1]:
            return None
        state, kept = self._ahead, [*range(0, self.pieces, 2), self.pieces]
        state.reset()
        parts = self._pieces_between([self.nodes[k] for k in kept])
        for pair, part in zip(pairwise(kept), parts, strict=True):
            advance(state, self.gradients[list(pair)], part, self._land.tuner.training.eps, state)
        return state.displacement

    def refine(self) -> None:
        """Double the number of pieces; gradients and margins at the new nodes are interpolated."""
        old = self._doses[self.nodes]
        self._grid(2 * self.pieces)
        self._resample(np.interp(self._doses[self.nodes], old, range(len(old))))

    def shrink(self, ratio: float) -> None:
        """Guess the gradients of a run whose rate is ``ratio`` times this one's, ratio <= 1: they go by the dose."""
        doses = self._doses[self.nodes]
        self._resample(np.interp(doses * min(1.0, ratio), doses, range(len(doses))))

    def _grid(self, pieces: int) -> None:
        wanted = np.linspace(0, self._doses[-1], pieces + 1)[1:-1]
        inner = abs(self._doses - wanted[:, None]).argmin(1).tolist()
        self.nodes = sorted({0, *inner, len(self._factors)})
        self._parts = self._pieces_between(self.nodes)

    def _pieces_between(self, nodes: Sequence[int]) -> list[Piece]:
        settings = self._land.tuner.training
        return [piece(a, b, self._factors, settings.beta1, settings.beta2) for a, b in pairwise(nodes)]

    def _resample(self, where: np.ndarray) -> None:
        """Interpolate gradients and margins at fractional positions among the present nodes."""
        below = np.minimum(where.astype(int), len(self.gradients) - 2)
        share = torch.tensor(where - below, dtype=self.gradients.dtype, device=self.gradients.device)[:, None]
        self.gradients = torch.lerp(self.gradients[below], self.gradients[below + 1], share)
        self.margins = [float(np.interp(x, range(len(self.margins)), self.margins)) for x in where]

    def _place(self, displacement: Tensor, rate: float, steps: int) -> None:
        """Set the weights after so many steps: the base decays by all of the dose, its displacement by half of it."""
        decay = self._land.tuner.training.weight_decay
        kept = math.prod(max(0.0, 1 - rate * f * decay) for f in self._factors[:steps]) if decay else 1.0
        self._land.place(displacement, rate * math.sqrt(kept), kept)


@dataclass(frozen=True)
class Solution:
    """A critical rate from collocation.

    Attributes:
        rate: the rate; None if there is none.
        error: estimate of |log(rate / true rate)| from the grid and from the iteration; inf if it did not converge.
        status: ``ok``, ``beyond``, ``abstained`` or ``diverged``.
        why: reason for the status, empty if ok.
    """

    rate: float | None
    error: float
    status: Status
    why: str = ""


def solve(course: Course, start: float, limit: float) -> Solution:
    """Find the critical rate of a course.

    Args:
        course: a context's run; holds the solution's gradients afterwards.
        start: rate to begin at.
        limit: largest rate that counts.

    Returns:
        The solution, with the estimated error of the grid taken off.
    """
    begun, before = _approach(course, start, limit), None
    while True:
        if isinstance(begun, Solution):
            return begun
        last = course.finest
        found, change, shift = _iterate(course, *begun, last=last)
        if math.isinf(shift) and before is not None:
            shift = math.log(before / found) / 3
        before = found if abs(change) <= _TOLERANCE else None
        if last or (abs(shift) <= _GRID_ERROR and abs(change) <= _TOLERANCE):
            break
        course.refine()
        begun = _approach(course, found, limit) if math.isinf(change) else (found, [])
    if found > limit:
        return Solution(None, 0.0, "beyond", f"not met up to the rate {limit:.3g}")
    error = max(abs(change), abs(shift) / 2)
    if not error < _WIDE:
        return Solution(None, error, "abstained", "the iteration did not converge")
    return Solution(found * math.exp(-shift), error, "ok")


def _approach(course: Course, start: float, limit: float) -> tuple[float, list[tuple[float, float]]] | Solution:
    """Sweep until the end of the run lies near the crossing; return a rate near it, and what a sweep said of it."""
    rate, cold = min(start, limit), True
    for _ in range(4 * _ROUNDS):
        if cold and rate > 2 * start and not course.finest:
            course.refine()  # a piece must not lead too far
        course.sweep(rate, cold=cold)
        if any(math.isnan(margin) for margin in course.margins):
            return Solution(None, math.inf, "diverged", f"logits are not finite at the rate {rate:.3g}")
        share = course.share
        if share is None or max(course.margins) <= 0:
            found = course.crossing(rate)
            if found is not None:
                return found, [(math.log(rate), math.log(found / rate))]
            if rate >= limit:
                return _unmet(course, limit)
            rate, cold = min(2 * rate, limit), True
            continue
        if share > 0.6:
            found = None if course.margins[-1] <= 0 else course.crossing(rate * share)
            if found is None or _is_far(found, rate * share):
                return rate * share, []
            return found, [(math.log(rate), math.log(found / rate))]
        course.shrink(share)
        rate, cold = rate * share, False
    return Solution(None, math.inf, "abstained", "no rate near the crossing was found")


def _unmet(course: Course, limit: float) -> Solution:
    """Say that the largest rate does not meet the criterion, if sweeps at it agree."""
    before = course.margins[-1]
    course.sweep(limit)
    after = course.margins[-1]
    if max(course.margins) <= 0 and abs(after - before) <= _SETTLED * abs(after):
        return Solution(None, 0.0, "beyond", f"not met up to the rate {limit:.3g}")
    return Solution(None, math.inf, "abstained", f"not met up to the rate {limit:.3g}, where sweeps do not settle")


def _iterate(course: Course, rate: float, seen: list[tuple[float, float]], *, last: bool) -> tuple[float, float, float]:
    """Repeat sweep and crossing on one grid, speeded up by secants, until the rate stays or a finer grid is due.

    Args:
        course: a context's run.
        rate: near the crossing.
        seen: (logarithm of a rate, change of it) of sweeps on this grid so far.
        last: whether there is no finer grid to go to.

    Returns:
        The rate, the last change of its logarithm, and the estimated error of the grid, inf where not known.
    """
    x, seen, shift = math.log(rate), list(seen), math.inf
    for _ in range(_ROUNDS):
        course.sweep(math.exp(x))
        found = course.crossing(math.exp(x))
        if (found is None or _is_far(found, math.exp(x))) and course.share is not None:
            found = math.exp(x) * course.share  # as if a rate acted by its dose
        if found is None:
            return math.exp(x), math.inf, shift
        change = math.log(found) - x
        seen.append((x, change))
        if abs(change) < _NEAR and math.isinf(shift):
            shift = _grid_shift(course, found)
        step, rest = _secant(seen)
        if rest < _TOLERANCE or (not last and (_stalled(seen) or _GRID_ERROR < abs(shift) < math.inf)):
            return math.exp(x + step), rest, shift
        x += step
    return math.exp(x), rest, shift


def _stalled(seen: list[tuple[float, float]]) -> bool:
    """Whether the changes of three rounds did not shrink to a half."""
    return len(seen) > 3 and min(abs(change) for _, change in seen[-2:]) > abs(seen[-4][1]) / 2


def _secant(seen: list[tuple[float, float]]) -> tuple[float, float]:
    """Take the last change, or go where a line through the last two (position, change) is zero.

    Returns:
        The step, and about what is left after it: the change, or for a line twice of what it corrects the change by.
    """
    x, change = seen[-1]
    if len(seen) < 2 or seen[-2][0] == x:
        return change, abs(change)
    slope = (change - seen[-2][1]) / (x - seen[-2][0])
    if not slope < -0.2:
        return change, abs(change)
    step = math.copysign(min(abs(change / slope), 3 * abs(change)), change)
    return step, min(abs(change), 2 * abs(step - change)) if abs(change) < _NEAR else abs(change)


def _grid_shift(course: Course, rate: float) -> float:
    """Estimate the grid's error of log rate: a third of what leaving out every second node changes (order 2)."""
    displacement = course.coarser()
    if displacement is None:
        return 0.0
    found = course.crossing(rate, displacement)
    return math.inf if found is None or _is_far(found, rate) else math.log(found / rate) / 3


def _is_far(found: float, rate: float) -> bool:
    """Whether a crossing is too far to be believed: scaled that much, the end of a run is not that of another rate."""
    return abs(math.log(found / rate)) > _TRUSTED


def secants(function: Callable[[float], float], near: float, slope: float) -> float | None:
    """Return a zero of a function that rises through it, by a few secants from a point and a slope near the zero's.

    Args:
        function: of one number.
        near: where to begin.
        slope: of the function there, about.

    Returns:
        The zero, or None where secants do not lead to one at once.
    """
    x, value = near, function(near)
    for _ in range(4):
        if not slope > 0 or not abs(value / slope) < 0.5:
            return None
        step = -value / slope
        if abs(step) < _ROOT:
            return x + step
        after = function(x + step)
        slope = (after - value) / step
        x, value = x + step, after
    return None


def root(function: Callable[[float], float], near: float) -> float | None:
    """Return a zero of a function that rises through it, looked for from a point outwards.

    Args:
        function: of one number; NaN counts as not positive.
        near: where to begin.

    Returns:
        The zero nearest to the start by doubling steps within log 4, or None.
    """
    up = not function(near) > 0
    edge, step = near, 0.05
    while abs(edge - near) <= _WIDE:
        other = edge + (step if up else -step)
        if (function(other) > 0) == up:
            low, high = sorted((edge, other))
            if not math.isfinite(function(low)) or not math.isfinite(function(high)):
                return None
            return float(brentq(function, low, high, xtol=_ROOT))
        edge, step = other, 2 * step
    return None


def pieces_for(method: Method) -> int:
    """Return how many pieces a course is cut into at first; LoRA's gradients start at zero and change faster."""
    return _PIECES[method]
