"""Shares of places, with intervals over rows: what the tables of places say of each term, and of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from borngap.resample import percentile_interval

_CONFIDENCE = 0.95
_PLACE = ("row", "at", "word")  # one place, whatever number of terms has it
DUE = (pl.col("kind") == "due") & pl.col("logit_gap").is_not_null()
RIGHT = (pl.col("kind") == "avoid") & pl.col("allowed") & pl.col("logit_gap").is_not_null()
LEADS = pl.col("logit_gap") > 0


@dataclass(frozen=True)
class Share:
    """A share of places.

    Attributes:
        hits: places that count.
        places: all of them.
        rows: rows that they stand in.
        low: lower end of the 95 % interval over rows; None below 2 rows.
        high: upper end.
    """

    hits: int
    places: int
    rows: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """The share; None where there is no place."""
        return self.hits / self.places if self.places else None


def row_share(places: pl.DataFrame, hit: pl.Expr, seed: int = 0) -> Share:
    """Return the share of places that count, with its interval: rows are drawn, not places.

    Args:
        places: one row a place, with ``row``.
        hit: whether a place counts.
        seed: seeds the draws.

    Returns:
        The share.
    """
    rows = places.group_by("row", maintain_order=True).agg(hit.sum().alias("hits"), pl.len().alias("places"))
    hits, counts = (rows[name].to_numpy().astype(np.int64) for name in ("hits", "places"))
    low, high = interval(hits, counts, seed)
    return Share(int(hits.sum()), int(counts.sum()), len(hits), low, high)


def interval(hits: NDArray[Any], places: NDArray[Any], seed: int = 0) -> tuple[float | None, float | None]:
    """95 % interval of sum(hits) / sum(places), rows resampled.

    Where all places agree, resampling has no spread: then the exact binomial interval (Clopper and Pearson) of as many
    agreeing rows.

    Args:
        hits: of each row.
        places: of each row, at least 1.
        seed: seeds the draws.

    Returns:
        Both ends; None below 2 rows.

    Example:
        >>> low, high = interval(np.array([1, 2, 1]), np.array([1, 2, 1]))
        >>> round(low, 4), high  # 0.025 ** (1 / 3)
        (0.2924, 1.0)
    """
    from scipy import stats

    if len(hits) < 2:
        return None, None
    total = hits.sum()
    if total in {0, places.sum()}:
        found = stats.binomtest(len(hits) if total else 0, len(hits)).proportion_ci(_CONFIDENCE, "exact")
        return float(found.low), float(found.high)
    return percentile_interval(lambda drawn: float(hits[drawn].sum() / places[drawn].sum()), len(hits), seed=seed)


def of_term(places: pl.DataFrame, leak: pl.DataFrame | None, term: int, seed: int) -> dict[str, Any]:
    """Return what the places of one term say, JSON-ready."""
    own = places.filter(pl.col("term") == term)
    written = None if leak is None else leak.with_columns(leaked=pl.col("terms").list.contains(term))
    return _entry(own.filter(DUE), own.filter(RIGHT), written, seed)


def of_all(places: pl.DataFrame, leak: pl.DataFrame | None, seed: int) -> dict[str, Any]:
    """Return what all places say, JSON-ready.

    A place counts once, whatever number of terms has it: a due one is a success where its word leads each word to
    avoid, and at one of a word to avoid there is over-use where any wanted word leads.
    """
    due = once(places.filter(DUE), pl.col("logit_gap").min(), pl.col("use_rank").max())
    right = once(places.filter(RIGHT), pl.col("logit_gap").max())
    written = None if leak is None else leak.with_columns(leaked=pl.col("terms").list.len() > 0)
    return _entry(due, right, written, seed)


def once(places: pl.DataFrame, *numbers: pl.Expr) -> pl.DataFrame:
    """Return places once each, whatever number of terms has them, with numbers over these terms."""
    return places.group_by(_PLACE, maintain_order=True).agg(*numbers)


def _entry(due: pl.DataFrame, right: pl.DataFrame, leak: pl.DataFrame | None, seed: int) -> dict[str, Any]:
    success, over = row_share(due, LEADS, seed), row_share(right, LEADS, seed)
    leaked = None if leak is None else row_share(leak, pl.col("leaked"), seed)
    return {
        "due": success.places, "rows": success.rows, "success": success.value, "low": success.low,
        "high": success.high, "first": row_share(due, pl.col("use_rank") == 1, seed).value,
        "right_avoid": over.places, "over_use": over.value, "over_use_low": over.low, "over_use_high": over.high,
        **_leak(leaked),
    }  # fmt: skip


def _leak(share: Share | None) -> dict[str, Any]:
    if share is None:
        return {"continuations": 0, "leak": None, "leak_low": None, "leak_high": None}
    return {"continuations": share.places, "leak": share.value, "leak_low": share.low, "leak_high": share.high}


def compliance(places: pl.DataFrame, terms: int, seed: int) -> dict[str, Any]:
    """Return how far data keeps to the terms: 1 - (places of words to avoid) / (places of either).

    Places at which a word to avoid is right are in neither count.

    Args:
        places: all places of the data.
        terms: number of terms.
        seed: seeds the draws.

    Returns:
        JSON-ready: ``share``, ``low``, ``high``, ``use``, ``avoid``, ``allowed``, and ``terms``, with counts of each.
    """
    counted = places.filter((pl.col("kind") == "due") | ~pl.col("allowed"))
    distinct = counted.unique([*_PLACE, "kind"], maintain_order=True)
    whole = row_share(distinct, pl.col("kind") == "due", seed)
    allowed = places.filter(pl.col("allowed")).unique([*_PLACE, "kind"])
    return {
        "share": whole.value, "low": whole.low, "high": whole.high, "use": whole.hits,
        "avoid": whole.places - whole.hits, "allowed": len(allowed),
        "terms": [_counts(places.filter(pl.col("term") == term)) for term in range(terms)],
    }  # fmt: skip


def _counts(own: pl.DataFrame) -> Mapping[str, Any]:
    use = len(own.filter(pl.col("kind") == "due"))
    avoid, allowed = (len(own.filter(pl.col("kind") == "avoid", pl.col("allowed") == right)) for right in (False, True))
    share = use / (use + avoid) if use + avoid else None
    return {"use_places": use, "avoid_places": avoid, "allowed_places": allowed, "share": share}
