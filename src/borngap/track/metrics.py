"""What a host's log gets of a probe: a few numbers over all contexts and, if asked for, of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from borngap.choices import Criterion
from borngap.judge.termshares import WatchedPlace, shares_of_terms, success_by_term
from borngap.judge.trajectory import MARGINS
from borngap.train.observe import Record

PREFIX, TERMS = "born_gap", "terms"
_AVERAGED = (
    "born_gap", "logit_gap", "top1_margin", "signal", "drag", "gold_probability", "rival_probability",
    "cross_entropy", "gold_rank", "participation_ratio", "overlap_drift", "embedding_rotation",
)  # fmt: skip
_LEAST_OF = ("born_gap", "logit_gap")
_OF_ONE = ("born_gap", "logit_gap", "gold_probability")


def averages(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Return means and worst margins over contexts, and the share of those that are resolved.

    Args:
        records: one a context, at least one.
        criterion: what counts as resolved.

    Returns:
        Name -> value; NaN where no context has it.
    """
    found = {name: _mean([r.get(name) for r in records]) for name in _AVERAGED}
    found |= {f"worst_{name}": _least([r.get(name) for r in records]) for name in _LEAST_OF}
    ahead = [(r[MARGINS[criterion]] or 0.0) > 0 for r in records]
    return found | {"resolved": sum(ahead) / len(records)}


def singles(records: Mapping[int, Record], golds: Mapping[int, str]) -> dict[str, float]:
    """Return the numbers of single contexts, named by index and gold."""
    return {
        f"{index}_{golds[index].strip()}/{name}": _nan(record.get(name))
        for index, record in records.items()
        for name in _OF_ONE
    }


def of_terms(places: Sequence[WatchedPlace], records: Mapping[int, Record], *, apart: bool) -> dict[str, float]:
    """Return success and over-use over the places of terms.

    Args:
        places: the places.
        records: context -> its record.
        apart: whether success of each wanted word is given, too.

    Returns:
        Name -> share; NaN where there is no such place.
    """
    found = shares_of_terms(places, records)
    if apart:
        found |= {f"{use}/success": share for use, share in success_by_term(places, records).items()}
    return {f"{TERMS}/{name}": share for name, share in found.items()}


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _least(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.nan if any(map(math.isnan, known)) else min(known, default=math.nan)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
