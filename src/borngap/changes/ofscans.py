"""Scans under several models: who leads at the targets that have the same rival in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from borngap.changes.change import change_of, gap_columns, joined, moved
from borngap.changes.compared import Compared, Group, ModelResult, Unmatched
from borngap.changes.sameness import Planned, refuse_other_data, refuse_unequal
from borngap.folder import read_head
from borngap.scanning.scanfolder import SCAN, read_scan

_TARGET = ["row", "offset"]
_PLACE = [*_TARGET, "gold_id", "rival_id"]
_SHOWN = ["gold", "rival", "relation", "where", "before", "logit_gap"]
_MOST_PAIRS = 100  # of which the changes are told one by one: more are no reading


def compared_scans(folders: Sequence[Path]) -> Compared:
    """Compare scans.

    Args:
        folders: at least two SCAN folders, in order.

    Returns:
        All pairs together, and pair by pair: first those of the scan's headline, of these the ones with the most places
        that moved, then the most at which the rival leads.

    Raises:
        UserError: a scan is not finished, or they are not of the same data, tokenizer, dtype and settings.
    """
    sides = [_side(folder) for folder in folders]
    refuse_unequal([Planned(side.folder, side.plan) for side in sides])
    tables = [read_scan(side.folder).positions.select(*_PLACE, *_SHOWN) for side in sides]
    places = joined(tables, _PLACE).with_columns(moved(len(sides)).alias("state"))
    _check_text(sides, tables)
    whole = Group(None, None, change_of(places, len(sides)))
    lost = tuple(_unmatched(table, places, tables) for table in tables)
    headline = pl.col("relation").is_in(sides[0].told["headline"]["relations"])
    counted = places.filter(headline)
    return Compared(
        "scan", tuple(sides), whole, tuple(_pairs(places, headline, len(sides))), places,
        headline=change_of(counted, len(sides)), unmatched=lost,
    )  # fmt: skip


def _side(folder: Path) -> ModelResult:
    head, told = read_head(folder, SCAN), read_scan(folder).summary
    return ModelResult(folder, str(told["model"]["name"]), head["plan"], head["environment"], told)


def _check_text(sides: Sequence[ModelResult], tables: Sequence[pl.DataFrame]) -> None:
    """Refuse data of equal size that holds another text."""
    for side, table in zip(sides[1:], tables[1:], strict=True):
        both = tables[0].join(table, on=_TARGET, how="inner", suffix="_other")
        other_gold = pl.col("gold_id") != pl.col("gold_id_other")
        other = both.filter(other_gold | (pl.col("before") != pl.col("before_other")))
        if len(other):
            refuse_other_data(other["where"][0], sides[0].folder, side.folder)


def _pairs(places: pl.DataFrame, headline: pl.Expr, models: int) -> list[Group]:
    last = gap_columns(models)[-1]
    behind, moving = pl.col(last) <= 0, ~pl.col("state").is_in(["kept", "behind"])
    own = places.partition_by("gold_id", "rival_id", maintain_order=True)
    ordered = sorted(
        own, key=lambda pair: pair.select(headline.first(), moving.sum(), behind.sum(), pl.len()).row(0), reverse=True
    )
    return [
        Group(pair["gold"][0], pair["rival"][0], change_of(pair, models), pair["relation"][0])
        for pair in ordered[:_MOST_PAIRS]
    ]


def _unmatched(own: pl.DataFrame, places: pl.DataFrame, tables: Sequence[pl.DataFrame]) -> Unmatched:
    lost = own.join(places, on=_PLACE, how="anti")
    with_rival = lost
    for other in tables:
        with_rival = with_rival.join(other, on=_TARGET, how="semi")
    return Unmatched(len(lost), len(lost.filter(pl.col("logit_gap") <= 0)), len(lost) - len(with_rival))
