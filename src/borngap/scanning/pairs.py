"""Pairs of gold and rival: what the positions of a scan say of each, worst first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from borngap.data.rows import open_source
from borngap.errors import UserError
from borngap.words.relation import RELATIONS, SYNONYMOUS

_SENSES = "Synonyms are so in any sense of the two words; in a given sentence they may not mean the same."
_AT_ONCE = 1_000_000  # positions that are grouped in memory
_EXAMPLES = 2
_PLACE = ["row", "start", "offset", "logit_gap"]
_PAIR = ["gold_id", "rival_id"]
_AHEAD, _BORN_AHEAD = pl.col("logit_gap") <= 0, pl.col("born_gap") <= 0
EXAMPLE: dict[str, Any] = {
    "row": pl.Int64, "offset": pl.Int64, "start": pl.Int64, "where": pl.String, "before": pl.String,
    "logit_gap": pl.Float64, "born_gap": pl.Float64,
}  # fmt: skip
PAIR_COLUMNS: dict[str, Any] = {
    "gold_id": pl.Int32, "rival_id": pl.Int32, "gold": pl.String, "rival": pl.String, "relation": pl.String,
    "targets": pl.Int64, "rival_ahead": pl.Int64, "born_rival_ahead": pl.Int64, "gold_overlap": pl.Float64,
    "median_logit_gap": pl.Float64, "median_born_gap": pl.Float64, "examples": pl.List(pl.Struct(EXAMPLE)),
}  # fmt: skip


def pairs_of(positions: Path, counted: Collection[str] = SYNONYMOUS) -> pl.DataFrame:
    """Group the positions of a scan by pair, in parts, so that memory is bounded by the number of pairs.

    The rival is ahead where the logit gap is not positive. Worst first: of the relations that count and then of the
    others the pair with the most such targets, of equals the one with the lowest median logit gap.

    Args:
        positions: ``positions.parquet`` of a scan.
        counted: the relations that count.

    Returns:
        One row a pair, columns as in ``PAIR_COLUMNS``; ``examples`` are its two targets with the lowest logit gap.
    """
    grouped = [_grouped(part) for part in _parts(pl.scan_parquet(positions, glob=False))]
    keys = [pl.col("relation").is_in(list(counted)), *map(pl.col, ("rival_ahead", "median_logit_gap", *_PAIR))]
    ordered = pl.concat(grouped).sort(keys, descending=[True, True, False, False, False])
    return ordered.cast(PAIR_COLUMNS)  # type: ignore[arg-type]


def picks_of(positions: Path, pairs: pl.DataFrame, by: str, most: int) -> list[dict[str, Any]]:
    """Choose targets of pairs at which the rival is ahead: one a pair, the worst pair first, then a second round.

    Args:
        positions: ``positions.parquet`` of a scan.
        pairs: some of its pairs, worst first.
        by: ``median``: those next to the median of the pair's logit gaps; ``worst``: those with the lowest logit gap;
            ``spread``: the median one, the worst, the mildest, and on between them.
        most: how many at most.

    Returns:
        The targets: a pair's ``gold_id``, ``rival_id``, texts and ``relation``, ``row``, ``start``, ``offset``,
        ``logit_gap``, and ``place`` among the ``ahead`` targets of the pair, 1 the worst.
    """
    wanted = pl.scan_parquet(positions, glob=False).filter(_AHEAD).select(*_PAIR, *_PLACE)
    wanted = wanted.join(pairs.lazy().select(*_PAIR, "gold", "rival", "relation").with_row_index("pair"), on=_PAIR)
    chosen = [pick for part in _parts(wanted) for pick in _picked(part, by, most)]
    return sorted(chosen, key=lambda pick: (pick["turn"], pick["pair"]))[:most]


def _picked(frame: pl.DataFrame, by: str, most: int) -> Iterator[dict[str, Any]]:
    for own in frame.sort("logit_gap", "row", "offset").partition_by("pair"):
        for turn, at in enumerate(ORDERS[by](len(own), most)):
            yield own.row(at, named=True) | {"turn": turn, "place": at + 1, "ahead": len(own)}


def _nearest(size: int, most: int) -> list[int]:
    """Places from the middle outwards."""
    return sorted(range(size), key=lambda at: (abs(at - size // 2), -at))[:most]


def _lowest(size: int, most: int) -> list[int]:
    return list(range(min(size, most)))


def _spread(size: int, most: int) -> list[int]:
    """The middle, both ends, the quarters, the eighths and so on, each place once."""
    parts = [0.5, 0.0, 1.0] + [
        odd / 2**depth for depth in range(2, 2 + most.bit_length()) for odd in range(1, 2**depth, 2)
    ]
    return list(dict.fromkeys(round(part * (size - 1)) for part in parts))[:most]


ORDERS = {"median": _nearest, "worst": _lowest, "spread": _spread}


def _parts(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The positions, in parts that fit in memory; a pair is in one of them."""
    parts = 1 + frame.select(pl.len()).collect().item() // _AT_ONCE
    return (frame.filter(pl.col("gold_id") % parts == part).collect() for part in range(parts))


def _grouped(frame: pl.DataFrame) -> pl.DataFrame:
    ordered = frame.sort("logit_gap", "row", "offset")
    return ordered.group_by(_PAIR, maintain_order=True).agg(
        pl.col("gold", "rival", "relation").first(),
        pl.len().alias("targets"),
        _AHEAD.sum().alias("rival_ahead"),
        _BORN_AHEAD.sum().alias("born_rival_ahead"),
        pl.col("gold_overlap").first(),
        pl.col("logit_gap").median().alias("median_logit_gap"),
        pl.col("born_gap").median().alias("median_born_gap"),
        pl.struct(list(EXAMPLE)).head(_EXAMPLES).alias("examples"),
    )


def read_pairs(path: Path) -> tuple[tuple[str, str], ...]:
    """Read pairs of words to look for.

    Args:
        path: JSON Lines or CSV with the fields ``gold`` and ``rival``; a contexts file will do.

    Returns:
        The pairs, each once.

    Raises:
        UserError: the file can't be read, is empty, or a row lacks a word.
    """
    found: dict[tuple[str, str], None] = {}
    for row in open_source(path).rows():
        pair = [row.value.get(key) for key in ("gold", "rival")] if isinstance(row.value, dict) else []
        words = [text.strip() for text in pair if isinstance(text, str) and text.strip()]
        if len(words) != 2 or words[0] == words[1]:
            rule = '{"gold": "shame", "rival": "guilt"}, or CSV with these headings'
            raise UserError(f"malformed pair in {row.where}", rule=rule, found=row.error or repr(row.value))
        found[words[0], words[1]] = None
    if not found:
        raise UserError("no pairs", rule="at least one", found=f"{path} is empty")
    return tuple(found)


def totals_of(positions: Path) -> dict[str, int]:
    """Count the positions of a scan.

    Args:
        positions: ``positions.parquet`` of a scan.

    Returns:
        ``with_rival``; ``rival_ahead``, by the logit gap; ``born_rival_ahead``, by the Born gap; ``disagree``, where
        the two differ.
    """
    counted = pl.scan_parquet(positions, glob=False).select(
        pl.len().alias("with_rival"),
        _AHEAD.sum().alias("rival_ahead"),
        _BORN_AHEAD.sum().alias("born_rival_ahead"),
        (_AHEAD != _BORN_AHEAD).sum().alias("disagree"),
    )
    return counted.collect(engine="streaming").to_dicts()[0]


def relations_of(positions: Path) -> list[dict[str, Any]]:
    """Count the positions of a scan by the relation of gold and rival.

    Args:
        positions: ``positions.parquet`` of a scan.

    Returns:
        ``relation``, ``targets`` and ``rival_ahead`` (by the logit gap) of each that occurs, in the order of
        ``RELATIONS``.
    """
    frame = pl.scan_parquet(positions, glob=False).group_by("relation")
    counted = frame.agg(pl.len().alias("targets"), _AHEAD.sum().alias("rival_ahead")).collect(engine="streaming")
    ranks = {name: rank for rank, name in enumerate(RELATIONS)}
    return sorted(counted.to_dicts(), key=lambda row: ranks.get(row["relation"], len(ranks)))


def notes_of(relations: Sequence[Mapping[str, Any]], counted: Collection[str]) -> list[str]:
    """Return what a reader of the headline must know.

    Args:
        relations: what ``relations_of`` returned.
        counted: the relations that count.

    Returns:
        Sentences; none where no synonym is among what counts.
    """
    held = any(row["relation"] == "synonym" for row in relations if row["relation"] in counted)
    return [_SENSES] if held else []


def headline_of(relations: Sequence[Mapping[str, Any]], counted: Collection[str]) -> dict[str, Any]:
    """Sum up the relations that count.

    Args:
        relations: what ``relations_of`` returned.
        counted: the relations that count.

    Returns:
        ``relations``, those that count; ``with_rival`` and ``rival_ahead``, targets in all; ``share_ahead`` of these,
        None where there are none.
    """
    own = [row for row in relations if row["relation"] in counted]
    rivals, ahead = (sum(row[key] for row in own) for key in ("targets", "rival_ahead"))
    share = ahead / rivals if rivals else None
    return {"relations": list(counted), "with_rival": rivals, "rival_ahead": ahead, "share_ahead": share}
