"""A change: the share of places that hold under each of several models, what moved between the first and the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from borngap.changes.significance import mcnemar_p, sign_flip_p
from borngap.resample import Interval, percentile_interval
from borngap.usage.shares import interval, row_share

GAINED, LOST, KEPT, BEHIND, RELAPSED = "gained", "lost", "kept", "behind", "relapsed"


@dataclass(frozen=True)
class Change:
    """The same places under several models, in order: before, perhaps in between, and after.

    A place *holds* where the logit gap is positive. Each place is in one of the five counts.

    Attributes:
        places: how many places there are.
        rows: rows that they stand in.
        shares: share of places that hold, of each model; None without places.
        lows: lower ends of their 95 % intervals over rows.
        highs: upper ends.
        change: last share less first share.
        low: lower end of its 95 % interval, rows drawn in pairs; None below 2 rows.
        high: upper end.
        p: exact two-sided p value by flips of the rows' signs; None without places.
        p_mcnemar: that of McNemar's exact test, as if places were independent.
        gained: places that hold last and not first.
        lost: places that hold first and not last.
        kept: places that hold first and last.
        behind: places that never hold, or at least neither first nor last.
        relapsed: of those neither first nor last, the ones that hold in between; they are not among ``behind``. None
            for two models.
    """

    places: int
    rows: int
    shares: tuple[float | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    change: float | None
    low: float | None
    high: float | None
    p: float | None
    p_mcnemar: float | None
    gained: int
    lost: int
    kept: int
    behind: int
    relapsed: int | None


def gap_columns(models: int) -> list[str]:
    """Return the names of the columns that hold each model's logit gap at the same place."""
    return [f"gap_{model}" for model in range(models)]


def moved(models: int) -> pl.Expr:
    """Return what became of a place, by its logit gaps: one of the five words."""
    holds = [pl.col(name) > 0 for name in gap_columns(models)]
    between = pl.any_horizontal(*holds[1:-1]) if models > 2 else pl.lit(value=False)
    return (
        pl.when(holds[0] & holds[-1]).then(pl.lit(KEPT)).when(holds[0]).then(pl.lit(LOST))
        .when(holds[-1]).then(pl.lit(GAINED)).when(between).then(pl.lit(RELAPSED)).otherwise(pl.lit(BEHIND))
    )  # fmt: skip


def change_of(places: pl.DataFrame, models: int, seed: int = 0) -> Change:
    """Return how a share changed.

    Args:
        places: one row a place: ``row``, and the logit gap of each model (``gap_columns``).
        models: how many there are.
        seed: seeds the draws of rows.

    Returns:
        The change.
    """
    columns = gap_columns(models)
    shares = [row_share(places, pl.col(name) > 0, seed) for name in columns]
    states = dict.fromkeys((GAINED, LOST, KEPT, BEHIND, RELAPSED), 0)
    states |= dict(places.select(moved(models).alias("state"))["state"].value_counts().iter_rows())
    net = (pl.col(columns[-1]) > 0).cast(pl.Int64) - (pl.col(columns[0]) > 0).cast(pl.Int64)
    rows = places.group_by("row", maintain_order=True).agg(net.sum().alias("net"), pl.len().alias("places"))
    change, counts = (rows[name].to_numpy().astype(np.int64) for name in ("net", "places"))
    low, high = change_interval(change, counts, seed)
    there = len(places) > 0
    return Change(
        places=len(places), rows=len(rows), shares=tuple(share.value for share in shares),
        lows=tuple(share.low for share in shares), highs=tuple(share.high for share in shares),
        change=float(change.sum() / counts.sum()) if there else None, low=low, high=high,
        p=sign_flip_p(change) if there else None,
        p_mcnemar=mcnemar_p(states[GAINED], states[LOST]) if there else None,
        gained=states[GAINED], lost=states[LOST], kept=states[KEPT], behind=states[BEHIND],
        relapsed=states[RELAPSED] if models > 2 else None,
    )  # fmt: skip


def change_interval(change: NDArray[Any], places: NDArray[Any], seed: int = 0) -> Interval:
    """95 % interval of sum(change) / sum(places); rows are drawn, each with its places under both models.

    Drawing has no spread where no row changes, or where every place changes in one direction. Then the interval is
    the exact binomial one (Clopper and Pearson) of as many agreeing rows; where none changes, to both sides.

    Args:
        change: of each row, places gained less places lost.
        places: of each row, at least 1.
        seed: seeds the draws.

    Returns:
        Both ends; None below 2 rows.

    Example:
        >>> low, high = change_interval(np.array([0, 0, 0]), np.array([1, 2, 1]))
        >>> round(low, 4), round(high, 4)  # 1 - 0.025 ** (1 / 3)
        (-0.7076, 0.7076)
    """
    if len(change) < 2:
        return None, None
    if not change.any():
        _, most = interval(change, places)
        return None if most is None else -most, most
    if abs(int(change.sum())) == int(places.sum()):
        least, most = interval(np.abs(change), places)
        return (least, most) if change[0] > 0 else _turned(least, most)
    return percentile_interval(lambda drawn: float(change[drawn].sum() / places[drawn].sum()), len(change), seed=seed)


def _turned(low: float | None, high: float | None) -> Interval:
    return None if high is None else -high, None if low is None else -low


def joined(tables: Sequence[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
    """Return the places that all tables hold, with the logit gap of each model.

    Args:
        tables: of each model, one row a place, with ``logit_gap``.
        keys: columns that say which place it is.

    Returns:
        The columns of the first table but for ``logit_gap``, in its order, and ``gap_columns``.
    """
    names = gap_columns(len(tables))
    found = tables[0].rename({"logit_gap": names[0]})
    for name, table in zip(names[1:], tables[1:], strict=True):
        other = table.select(*keys, pl.col("logit_gap").alias(name))
        found = found.join(other, on=list(keys), how="inner", maintain_order="left")
    return found
