"""Every observable of one prediction: its id, definition, unit, range and equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from borngap.observables import density, gap
from borngap.observables.bornrank import born_rank
from borngap.observables.geometry import Geometry
from borngap.observables.paircache import PairCache
from borngap.observables.pool import Pool


@dataclass(frozen=True, eq=False)
class Prediction:
    """A batch of predictions with everything an observable may need, computed on first use.

    Attributes:
        logits: the model's logits over the tokens, float32 or float64, shape (batch, V), unit nat; -inf at ids that no
            token has.
        log_normaliser: log sum exp of all the model's logits, padding rows included, shape (batch,), unit nat.
        tail_entropy: entropy carried by padding rows, shape (batch,), unit nat.
        geometry: the geometry matrix.
        gold: token ids, int64, shape (batch,).
        rival: token ids, int64, shape (batch,).
        pool: the nucleus pools.
        hidden: hidden states that the readout multiplies, shape (batch, d), or None.
        with_angles: whether the localisation length is wanted: its pass over the pairs then gives the purity too.
        pairs: keeps the pairs of a geometry at rest, or None.
    """

    logits: Tensor
    log_normaliser: Tensor
    tail_entropy: Tensor
    geometry: Geometry
    gold: Tensor
    rival: Tensor
    pool: Pool
    hidden: Tensor | None
    with_angles: bool
    pairs: PairCache | None = None

    @cached_property
    def rows(self) -> Tensor:
        """Unit rows of the pool, 0 in empty slots, shape (batch, n, d)."""
        return self.geometry.unit(self.pool.ids) * self.pool.mask.unsqueeze(-1).to(self.geometry.matrix.device)

    @cached_property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Unit rows of gold and rival in float64, shape (batch, d) each."""
        return self.geometry.unit(self.gold, torch.float64), self.geometry.unit(self.rival, torch.float64)

    @cached_property
    def overlaps(self) -> tuple[Tensor, Tensor]:
        """G_kg and G_kc of the pool, float64, shape (batch, n) each; of a token with itself exactly 1."""
        if self.pairs is not None:
            on = self.geometry.matrix.device
            ids, mask = self.pool.ids.to(on), self.pool.mask.to(on)  # empty slots overlap with nothing
            tokens = (self.gold.to(on), self.rival.to(on))
            gold, rival = (self.pairs.overlaps(token, ids) * mask for token in tokens)
            return self._exact(gold, rival)
        gold, rival = ((self.rows @ row.to(self.rows.dtype).unsqueeze(-1)).squeeze(-1).double() for row in self.pair)
        return self._exact(gold, rival)

    def _exact(self, gold: Tensor, rival: Tensor) -> tuple[Tensor, Tensor]:
        """Overlaps with gold and rival, those of both with each other and with themselves as they are exactly."""
        both, one = self.gold_overlap.unsqueeze(1), torch.ones_like(gold[:, :1])
        return torch.cat([one, both, gold[:, 2:]], 1), torch.cat([both, one, rival[:, 2:]], 1)

    @cached_property
    def gold_overlap(self) -> Tensor:
        """Gmax = G_gc in float64, shape (batch,)."""
        return (self.pair[0] * self.pair[1]).sum(-1).clamp(-1, 1)

    @cached_property
    def probs(self) -> Tensor:
        """Pool probabilities, float64, shape (batch, n)."""
        return self.pool.probs.to(self.geometry.matrix.device)

    @cached_property
    def throttle(self) -> Tensor:
        """1 - Gmax^2, float64, shape (batch,)."""
        return gap.throttle(*self.pair)

    @cached_property
    def signal(self) -> Tensor:
        """(1 - Gmax^2)(p_g - p_c), float64, shape (batch,)."""
        return gap.signal(self.throttle, self.probs[:, 0], self.probs[:, 1])

    @cached_property
    def drag(self) -> Tensor:
        """Background drag, float64, shape (batch,)."""
        return gap.drag(self.probs[:, 2:], *(overlap[:, 2:] for overlap in self.overlaps))

    @cached_property
    def spread(self) -> tuple[Tensor, Tensor]:
        """Tr rho^2 and xi, float64, shape (batch,) each."""
        if self.pairs is None:
            purity, localisation_length = density.spread(self.probs, self.rows)
            return purity.double(), localisation_length.double()
        return self._kept_spread(self.pairs)

    def _kept_spread(self, pairs: PairCache) -> tuple[Tensor, Tensor]:
        """Tr rho^2 and xi by pairs that are kept, and by a pass over the pairs of pools that are too large for that."""
        on = self.geometry.matrix.device
        ids, mask = self.pool.ids.to(on), self.pool.mask.to(on)
        purity, localisation_length = pairs.spread(self.gold.to(on), self.rival.to(on), ids, mask, self.probs)
        left = purity.isnan().nonzero().flatten()
        if len(left):
            rows = self.geometry.unit(ids[left]) * mask[left].unsqueeze(-1)
            found = density.spread(self.probs[left], rows)
            purity[left], localisation_length[left] = (value.double() for value in found)
        return purity, localisation_length

    @cached_property
    def purity(self) -> Tensor:
        """Tr rho^2, float64, shape (batch,)."""
        if self.with_angles:
            return self.spread[0]
        return density.purity(self.probs.to(self.rows.dtype), self.rows).double()

    @property
    def localisation_length(self) -> Tensor:
        """Xi, float64, shape (batch,)."""
        return self.spread[1]

    def logit(self, token: Tensor) -> Tensor:
        """Logit of one token a prediction, shape (batch,)."""
        return self.logits.gather(1, token.unsqueeze(1)).squeeze(1)

    def log_probability(self, token: Tensor) -> Tensor:
        """Log softmax of one token a prediction, float64, shape (batch,)."""
        return self.logit(token).double() - self.log_normaliser

    def rank(self, token: Tensor) -> Tensor:
        """1 + number of tokens with a larger logit, int64, shape (batch,)."""
        return 1 + (self.logits > self.logit(token).unsqueeze(1)).sum(1)

    def alignment(self, row: Tensor) -> Tensor | None:
        """Projection of the hidden state on a unit row, shape (batch,); None without a hidden state."""
        return None if self.hidden is None else (row * self.hidden.to(row)).sum(-1)


@dataclass(frozen=True)
class Observable:
    """One number of a prediction.

    Attributes:
        id: its name in code, in JSON and in every table.
        symbol: as written in the docs.
        unit: SI or counting unit; ``1`` if dimensionless.
        low: smallest possible value.
        high: largest possible value.
        equation: definition in one line.
        source: equation number of the paper, if it has one.
        function: evaluates it; None where the number does not exist for the whole batch.
        absent: why the number can be missing (NaN, null).
    """

    id: str
    symbol: str
    unit: str
    low: float
    high: float
    equation: str
    source: str
    function: Callable[[Prediction], Tensor | None]
    absent: str = ""


def _entropy(x: Prediction) -> Tensor:
    log_probs = x.logits - x.log_normaliser.to(x.logits.dtype).unsqueeze(1)
    # a token of probability 0 contributes 0 * min = 0, where 0 * -inf would be NaN
    terms = log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return x.tail_entropy - terms.sum(1).double()


def _burial_depth(x: Prediction) -> Tensor:
    theta = density.angle(*x.pair)
    return torch.where(theta > 0, x.localisation_length / theta, torch.nan)


def _geometric_efficiency(x: Prediction) -> Tensor:
    total = (x.overlaps[0][:, 1:].square()).sum(1)
    return torch.where(total > 0, x.gold_overlap.square() / total, torch.nan)


_NO_HIDDEN = "no hidden state was given"
_INF = float("inf")
_TABLE = (
    Observable("gold_born_probability", "P_B(g)", "1", 0, 1, "sum_k p_k G_kg^2", "1-3",
               lambda x: density.born_probability(x.probs, x.overlaps[0])),
    Observable("rival_born_probability", "P_B(c)", "1", 0, 1, "sum_k p_k G_kc^2", "1-3",
               lambda x: density.born_probability(x.probs, x.overlaps[1])),
    Observable("born_gap", "Phi", "1", -1, 1, "P_B(g) - P_B(c) = signal + drag", "4",
               lambda x: gap.born_gap(x.signal, x.drag)),
    Observable("gold_overlap", "Gmax", "1", -1, 1, "e_g . e_c", "", lambda x: x.gold_overlap),
    Observable("throttle", "1 - Gmax^2", "1", 0, 1, "d Phi / d p_g at fixed other p", "5", lambda x: x.throttle),
    Observable("signal", "S", "1", -1, 1, "(1 - Gmax^2)(p_g - p_c)", "6", lambda x: x.signal),
    Observable("drag", "D", "1", -1, 1, "sum over k not in {g,c} of p_k (G_kg^2 - G_kc^2)", "6", lambda x: x.drag),
    Observable("logit_gap", "Delta", "nat", -_INF, _INF, "logit_g - logit_c", "8",
               lambda x: x.logit(x.gold) - x.logit(x.rival)),
    Observable("top1_margin", "M", "nat", -_INF, _INF, "logit_g - max over k != g of logit_k", "",
               lambda x: gap.top1_margin(x.logits, x.gold)),
    Observable("gold_alignment", "e_g . h", "model units", -_INF, _INF, "projection of h on e_g", "fig 5",
               lambda x: x.alignment(x.pair[0]), _NO_HIDDEN),
    Observable("rival_alignment", "e_c . h", "model units", -_INF, _INF, "projection of h on e_c", "fig 5",
               lambda x: x.alignment(x.pair[1]), _NO_HIDDEN),
    Observable("hidden_norm", "|h|", "model units", 0, _INF, "norm of the hidden state that the readout multiplies",
               "fig 5", lambda x: None if x.hidden is None else x.hidden.double().norm(dim=-1), _NO_HIDDEN),
    Observable("drive", "d Delta/dt", "1", -_INF, _INF,
               "(1 - Gmax)(1 - p_g + p_c) - sum over k not in {g,c} of p_k (G_kg - G_kc)", "10",
               lambda x: gap.drive(x.probs, *x.overlaps, gap.separation(*x.pair))),
    Observable("flat_drive", "1 - Gmax", "1", 0, 2, "drive on the flat shoulder of the softmax", "11",
               lambda x: gap.separation(*x.pair)),
    Observable("purity", "Tr rho^2", "1", 0, 1, "sum_jk p_j p_k G_jk^2", "15", lambda x: x.purity),
    Observable("participation_ratio", "PR", "tokens", 1, _INF, "1 / purity", "15",
               lambda x: density.participation_ratio(x.purity)),
    Observable("classical_participation_ratio", "PR_cl", "tokens", 1, _INF, "1 / sum_k p_k^2", "",
               lambda x: density.classical_participation_ratio(x.probs)),
    Observable("localisation_length", "xi", "rad", 0, torch.pi, "sqrt(sum_jk p_j p_k theta_jk^2)", "16",
               lambda x: x.localisation_length),
    Observable("burial_depth", "B", "1", 0, _INF, "xi / arccos(Gmax)", "19", _burial_depth,
               "gold and rival have the same direction: the angle between them is 0"),
    Observable("geometric_efficiency", "eta_geo", "1", 0, 1, "Gmax^2 / sum over k != g of G_kg^2", "20",
               _geometric_efficiency, "no token of the pool overlaps with gold"),
    Observable("gold_rank", "r_g", "1", 1, _INF, "1 + number of tokens with larger p", "", lambda x: x.rank(x.gold)),
    Observable("rival_rank", "r_c", "1", 1, _INF, "1 + number of tokens with larger p", "",
               lambda x: x.rank(x.rival)),
    Observable("born_rank", "r_B", "1", 1, _INF, "1 + number of tokens t with P_B(t) > P_B(g)", "",
               lambda x: born_rank(x.geometry, x.rows, x.probs, x.gold)),
    Observable("gold_probability", "p_g", "1", 0, 1, "softmax of the model's logits", "",
               lambda x: x.log_probability(x.gold).exp()),
    Observable("rival_probability", "p_c", "1", 0, 1, "softmax of the model's logits", "",
               lambda x: x.log_probability(x.rival).exp()),
    Observable("cross_entropy", "CE", "nat", 0, _INF, "-log p_g", "", lambda x: -x.log_probability(x.gold)),
    Observable("entropy", "H_S", "nat", 0, _INF, "-sum_k p_k log p_k over the whole vocabulary", "", _entropy),
    Observable("pool_size", "n", "tokens", 2, _INF, "tokens in the pool", "", lambda x: x.pool.mask.sum(1)),
    Observable("pool_mass", "m", "1", 0, 1, "probability in the pool before renormalisation", "",
               lambda x: x.pool.mass),
)  # fmt: skip
OBSERVABLES = {observable.id: observable for observable in _TABLE}
INTEGER_IDS = frozenset({"gold_rank", "rival_rank", "born_rank", "pool_size"})
