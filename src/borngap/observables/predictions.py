"""``measure``: every observable of a batch of predictions.

Definitions: docs/theory.md#observables-of-one-prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from borngap.choices import DEFAULT_TOP_P
from borngap.errors import UserError
from borngap.observables.catalogue import INTEGER_IDS, OBSERVABLES, Prediction
from borngap.observables.geometry import Geometry
from borngap.observables.paircache import PairCache
from borngap.observables.pool import Pool, pools_of
from borngap.observables.sorting import nucleus

_CHUNK_ELEMENTS = 1 << 25
_SIMILAR, _SMALL = 0.75, 32  # pools of at least 75 % of the largest share a part, and so do all small ones
_MOST_BLANK = 0.05  # share of the nucleus that may be without a direction


_OF_ANGLES = frozenset({"localisation_length", "burial_depth"})
_OF_PAIRS = _OF_ANGLES | {"purity", "participation_ratio", "born_rank"}


def measure(
    logits: Tensor,
    geometry: Geometry | Tensor,
    gold: Tensor | int,
    rival: Tensor | int,
    *,
    hidden: Tensor | None = None,
    top_p: float = DEFAULT_TOP_P,
    only: Iterable[str] | None = None,
    pairs: PairCache | None = None,
) -> dict[str, Tensor]:
    """Evaluate the observables of a batch of predictions.

    Source: docs/theory.md#observables-of-one-prediction. Each observable's equation is in ``OBSERVABLES``. Sums
    run over the nucleus pool with probabilities renormalised to 1; probabilities, ranks, logit gap and entropies
    are those of the whole model.

    Args:
        logits: the model's own logits, shape (batch, V) or (V,); float64, float32, bfloat16 or float16.
        geometry: a ``Geometry``, or embedding rows, shape (V, d), read as a readout matrix.
        gold: token ids, int64, shape (batch,), or one id.
        rival: token ids, int64, shape (batch,), or one id.
        hidden: hidden states that the readout multiplies, shape (batch, d) or (d,).
        top_p: nucleus mass in (0, 1]; 1 is the whole vocabulary.
        only: ids of the observables wanted; all unless given. ``born_rank`` is by far the most expensive.
        pairs: keeps pairs of the pool between calls, of this geometry at rest; the angles are then not differentiable.

    Returns:
        id -> values, shape (batch,) on the device of the logits; int64 for ranks and ``pool_size``, float64
        otherwise; NaN where a number does not exist. Differentiable where the mathematics is.

    Raises:
        UserError: shapes do not fit, an id is out of range, gold equals rival, logits are NaN or +inf,
            an observable is unknown, gold or rival has no direction, or ordinary tokens without one hold more
            than a twentieth of the nucleus.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
        >>> logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
        >>> float(measure(logits, rows, gold=0, rival=1, top_p=1.0)["born_gap"].round(decimals=9))
        0.0
    """
    geometry = geometry if isinstance(geometry, Geometry) else Geometry(geometry)
    logits, gold, rival, hidden = _batched(logits, gold, rival, hidden)
    wanted = _wanted(only)
    _check(logits, geometry, gold, rival, hidden)
    parts = _predictions(logits, geometry, gold, rival, hidden, top_p, frozenset(wanted), pairs)
    results = [_evaluate(part, wanted) for part in parts]
    order = torch.cat([index for index, _ in results]).argsort()
    return {name: torch.cat([values[name] for _, values in results])[order].to(logits.device) for name in wanted}


_Batch = tuple[Tensor, Tensor, Tensor, Tensor | None]


def _batched(logits: Tensor, gold: Tensor | int, rival: Tensor | int, hidden: Tensor | None) -> _Batch:
    logits = logits.unsqueeze(0) if logits.ndim == 1 else logits
    hidden = hidden.unsqueeze(0) if hidden is not None and hidden.ndim == 1 else hidden
    gold, rival = _ids("gold", gold, logits), _ids("rival", rival, logits)
    return logits, gold, rival, hidden


def _ids(name: str, tokens: Tensor | int, logits: Tensor) -> Tensor:
    ids = torch.as_tensor(tokens, device=logits.device).long().reshape(-1)
    if len(ids) not in {1, len(logits)}:
        raise UserError(f"{name} ids do not fit the batch", rule=f"1 or {len(logits)} ids", found=len(ids))
    return ids.expand(len(logits))


def _wanted(only: Iterable[str] | None) -> list[str]:
    names = list(OBSERVABLES) if only is None else list(only)
    unknown = [name for name in names if name not in OBSERVABLES]
    if unknown:
        raise UserError("unknown observable", found=unknown, fix=f"choose among {', '.join(OBSERVABLES)}")
    return names


def _check(logits: Tensor, geometry: Geometry, gold: Tensor, rival: Tensor, hidden: Tensor | None) -> None:
    if logits.ndim != 2 or len(logits) == 0 or logits.shape[1] < geometry.size:
        rule = f"(batch, at least {geometry.size}), batch at least 1"
        raise UserError("logits have a wrong shape", rule=rule, found=tuple(logits.shape))
    if hidden is not None and (hidden.ndim != 2 or hidden.shape != (len(logits), geometry.dimension)):
        rule = f"(batch, {geometry.dimension}), as wide as the geometry"
        raise UserError("hidden states have a wrong shape", rule=rule, found=tuple(hidden.shape))
    for name, ids in (("gold", gold), ("rival", rival)):
        geometry.check(name, ids)
    if bool((gold == rival).any()):
        same = (gold == rival).nonzero().flatten().tolist()
        raise UserError("gold and rival are the same token", rule="two tokens", found=f"predictions {same}")
    # a maximum is NaN where any logit is, inf where one is, and -inf only where all are
    broken = (~logits.amax(1).isfinite()).nonzero().flatten().tolist()
    if broken:
        rule = "finite (-inf is allowed, but not for all tokens)"
        raise UserError("logits are NaN or infinite", rule=rule, found=f"predictions {broken}")


def _predictions(
    logits: Tensor,
    geometry: Geometry,
    gold: Tensor,
    rival: Tensor,
    hidden: Tensor | None,
    top_p: float,
    wanted: frozenset[str],
    pairs: PairCache | None,
) -> Iterator[tuple[Tensor, Prediction]]:
    """Split the batch, by pool size, into parts whose padded rows stay within a bounded memory."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    normaliser = torch.logsumexp(logits, 1)
    logits, rest = geometry.split(logits)
    probs, tail = ((x - normaliser.unsqueeze(1)).exp() for x in (logits, rest))
    tail_entropy = -torch.special.xlogy(tail, tail).sum(1, dtype=torch.float64)
    _check_nucleus(probs, geometry, top_p)
    pools = pools_of(probs, gold, rival, top_p, geometry.left_out)
    sizes, angles = pools.mask.sum(1), not wanted.isdisjoint(_OF_ANGLES)
    # what is looked up by token costs little where a pool is padded; sums over pairs and gathered rows do
    similar = 0.0 if pairs is not None and wanted.isdisjoint(_OF_PAIRS) else _SIMILAR
    for index in _parts(sizes.cpu(), geometry.dimension, similar):
        on = index.to(logits.device)
        width = int(sizes[on].max())
        kept = Pool(pools.ids[on, :width], pools.mask[on, :width], pools.probs[on, :width], pools.mass[on])
        state = None if hidden is None else hidden[on]
        whole = (logits[on], normaliser[on].double(), tail_entropy[on])
        yield index, Prediction(*whole, geometry, gold[on], rival[on], kept, state, angles, pairs)


def _check_nucleus(probs: Tensor, geometry: Geometry, top_p: float) -> None:
    """Refuse a nucleus of which ordinary tokens without a direction hold much; little of it is left out."""
    blank = torch.tensor(sorted(geometry.blank - geometry.special), dtype=torch.long, device=probs.device)
    if not len(blank):
        return
    inside = probs.detach() * nucleus(probs, top_p)
    much = inside[:, blank].sum(1) > _MOST_BLANK * inside.sum(1)
    found = blank[(inside[much][:, blank] > 0).any(0)]
    geometry.check("a token of the nucleus", found, fix="choose another geometry or a smaller top_p")


def _parts(sizes: Tensor, dimension: int, similar: float) -> Iterator[Tensor]:
    """Split a batch into parts of pools of similar size, so that little is padding, largest first."""
    order = sizes.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        width = int(sizes[order[start]])
        least = similar * width if width > _SMALL else 0
        stop = min(int((sizes >= least).sum()), start + max(1, _CHUNK_ELEMENTS // (width * dimension)))
        yield order[start:stop]
        start = stop


def _evaluate(part: tuple[Tensor, Prediction], wanted: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    index, prediction = part
    values = {}
    for name in wanted:
        value = OBSERVABLES[name].function(prediction)
        missing = torch.full((len(index),), torch.nan, dtype=torch.float64, device=prediction.logits.device)
        values[name] = missing if value is None else value if name in INTEGER_IDS else value.double()
    return index, values
