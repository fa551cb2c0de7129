"""Collocation: a run's own dynamics on a coarse grid of steps, without training (docs/threshold.md).

A *course* holds the loss gradients at K + 1 nodes of a run, at equal doses. Between nodes they are straight lines in
the dose, and AdamW's recurrences on them are summed by ``borngap.critical.pieces``. A *sweep* goes from node to node:
it predicts the weights there, takes the gradient there, and corrects the displacement. Repeated at one rate, sweeps
converge to a solution of the optimiser's dynamics on the grid, whatever the number of steps between nodes.

The critical rate is the fixed point of "sweep at a rate, then find the rate at which this displacement meets the
criterion". How far off the grid leaves it is estimated with every second node left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from borngap.choices import Criterion
from borngap.critical.landscape import Landscape
from borngap.critical.pieces import Piece, State, advance, piece
from borngap.critical.roots import ROOT, root, secants
from borngap.methods import WHOLE, Method
from borngap.model.precision import total_memory
from borngap.train.observe import Record

Seen = Callable[[int, Tensor, Tensor | None], None]
_PIECES_OF_WHOLE, _PIECES_OF_ADDED, _PIECES_OF_PROMPT = 4, 6, 12
_FINEST = 48
_NEARLY_ALL = 0.75
_VECTORS = 12  # of the trained parameters' size besides the gradients, as measured on Gemma-3-270M
_OF_MEMORY = 0.8
TRUSTED = math.log(1.5)


class Course:
    """One context's run on a coarse grid.

    Attributes:
        nodes: steps done at the nodes, from 0 to the length of the run.
        gradients: loss gradients there, one a node, each of shape (parameters,).
        margins: the criterion's margins there, as of the last sweep.
        ends: displacement per unit rate at the node that the criterion is judged at.
    """

    def __init__(self, land: Landscape, index: int, criterion: Criterion, pieces: int) -> None:
        """Take the gradient at the base weights."""
        self._land, self._index, self._criterion = land, index, criterion
        self._factors = land.tuner.training.factors
        self._doses = np.concatenate([[0.0], np.cumsum(self._factors)])
        self._grid(pieces)
        self._state, self._ahead = State.zero(land.base), torch.zeros_like(land.base)
        self.gradients = [torch.zeros_like(land.base) for _ in self.nodes]
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
        """Whether the grid is as fine as it gets: that of single steps, or as fine as the machine's memory holds."""
        base = self._land.base
        vectors = self._finer + 1 + _VECTORS
        if vectors * base.numel() * base.element_size() > _OF_MEMORY * total_memory(base.device):
            return True
        return 2 * self.pieces > _FINEST or len(self._nodes(self._finer)) <= len(self.nodes)

    @property
    def first(self) -> Record:
        """The observables at the base weights, which must be in place."""
        self._land.home()
        return self.record(*self._base)

    def record(self, logits: Tensor, hidden: Tensor | None) -> Record:
        """Return the observables of the context at the weights in place."""
        return self._land.record(self._index, logits, hidden)

    def sweep(self, rate: float, *, cold: bool = False, see: Seen | None = None) -> None:
        """Go through the nodes once, each gradient taken at the weights that the ones before lead to.

        Args:
            rate: learning rate.
            cold: whether the gradients ahead are unknown; they are guessed to go on as they are.
            see: called at every node but the first with its number, logits and hidden states, weights in place.
        """
        land, eps = self._land, self._land.tuner.training.eps
        state, ahead = self._state, replace(self._state, displacement=self._ahead)
        state.reset()
        for number, part in enumerate(self._parts, 1):
            pair = self.gradients[number - 1 : number + 1]
            if cold:
                pair[1].copy_(pair[0])
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
        if abs(found - begin) > ROOT:
            self._slope = -margin(begin) / (found - begin)
        return math.exp(found)

    @property
    def share(self) -> float | None:
        """Share of the dose at which the margins rise through 0, up to 1.5 by the last slope; None if they fall."""
        doses, margins = self._doses[self.nodes] / self._doses[-1], self.margins
        number = next((k for k, margin in enumerate(margins) if margin > 0), len(doses) - 1)
        rise, run = margins[number] - margins[number - 1], doses[number] - doses[number - 1]
        met = float(doses[number] - margins[number] * run / rise) if rise > 0 else math.inf
        return met if met < math.exp(TRUSTED) else None

    def coarser(self) -> tuple[Tensor, float] | None:
        """Leave every second node out; None where all pieces that move are single steps: the run, without an error.

        Returns:
            The end's displacement on what is left, and this grid's error as a share of what leaving out adds to it:
            a third where pieces are long, and less the nearer they come to single steps.
        """
        own = self._bent(self.nodes)
        if not own:
            return None
        # the moments of the last sweep are not needed any more
        state, kept = replace(self._state, displacement=self._ahead), [*range(0, self.pieces, 2), self.pieces]
        state.reset()
        left = [self.nodes[k] for k in kept]
        for pair, part in zip(pairwise([self.gradients[k] for k in kept]), self._pieces_between(left), strict=True):
            advance(state, pair, part, self._land.tuner.training.eps, state)
        return state.displacement, own / (self._bent(left) - own)

    def refine(self) -> None:
        """Double the number of pieces, or go on to single steps; what is at the new nodes is interpolated."""
        old = self._doses[self.nodes]
        self._grid(self._finer)
        self._resample(np.interp(self._doses[self.nodes], old, range(len(old))))

    def shrink(self, ratio: float) -> None:
        """Guess the gradients of a run whose rate is ``ratio`` times this one's, ratio <= 1: they go by the dose."""
        doses = self._doses[self.nodes]
        self._resample(np.interp(doses * min(1.0, ratio), doses, range(len(doses))))

    def _grid(self, pieces: int) -> None:
        self.nodes = self._nodes(pieces)
        self._parts = self._pieces_between(self.nodes)

    def _nodes(self, pieces: int) -> list[int]:
        """Steps nearest to equal doses; as many pieces as steps: every step that moves."""
        steps = len(self._factors)
        if pieces >= steps:
            return [0, *(k for k in range(1, steps) if self._doses[k - 1] < self._doses[k] < self._doses[-1]), steps]
        wanted = np.linspace(0, self._doses[-1], pieces + 1)[1:-1]
        inner = abs(self._doses - wanted[:, None]).argmin(1).tolist()
        return sorted({0, *inner, steps})

    @property
    def _finer(self) -> int:
        """Pieces of the next grid: twice as many, or a piece a step where that is not many more."""
        double, steps = 2 * self.pieces, self.nodes[-1]
        return steps if double >= _NEARLY_ALL * steps else double

    def _bent(self, nodes: Sequence[int]) -> float:
        """Straight lines' error in the sum of rate times gradient, unit half of its second derivative by the dose."""
        missed = 0.0
        for a, b in pairwise(nodes):
            doses = self._doses[a:b]
            # at an update a line is off by the product of its distances from both ends
            missed += float(np.diff(self._doses[a : b + 1]) @ ((doses - self._doses[a]) * (self._doses[b] - doses)))
        return missed

    def _pieces_between(self, nodes: Sequence[int]) -> list[Piece]:
        settings = self._land.tuner.training
        return [piece(a, b, self._factors, settings.beta1, settings.beta2) for a, b in pairwise(nodes)]

    def _resample(self, where: np.ndarray) -> None:
        """Interpolate gradients and margins at fractional positions among the present nodes.

        In place, from the last one on: no position is beyond its own number, so that what is read is still there.
        """
        old = len(self.gradients)
        self.gradients += [torch.zeros_like(self._land.base) for _ in where[old:]]
        for number, position in reversed(list(enumerate(where))):
            below = min(int(position), old - 2)
            torch.lerp(
                self.gradients[below], self.gradients[below + 1], float(position - below), out=self.gradients[number]
            )
        self.margins = [float(np.interp(x, range(len(self.margins)), self.margins)) for x in where]

    def _place(self, displacement: Tensor, rate: float, steps: int) -> None:
        """Set the weights after so many steps: the base decays by all of the dose, its displacement by half of it."""
        decay = self._land.tuner.training.weight_decay
        kept = math.prod(max(0.0, 1 - rate * f * decay) for f in self._factors[:steps]) if decay else 1.0
        self._land.place(displacement, rate * math.sqrt(kept), kept)


def pieces_for(method: Method) -> int:
    """Return how many pieces a course is cut into at first.

    Adapters' gradients start at zero and change faster; a prompt's change within few steps all through the run.
    """
    if method == "prompt":
        return _PIECES_OF_PROMPT
    return _PIECES_OF_WHOLE if method in WHOLE else _PIECES_OF_ADDED
