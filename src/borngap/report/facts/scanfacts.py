"""A scan folder, read as far as it can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from borngap.folder import SUMMARY_FILE
from borngap.report.facts.runfacts import read_json
from borngap.report.facts.typed import as_items, as_table
from borngap.scanning.pairs import PAIR_COLUMNS, headline_of, notes_of, pairs_of, relations_of, totals_of
from borngap.scanning.parts import PARTS
from borngap.scanning.scanfolder import PAIRS_FILE, POSITIONS_FILE, SCAN, SCAN_FILE
from borngap.words.relation import SYNONYMOUS

_FILES = (SCAN_FILE, PAIRS_FILE, POSITIONS_FILE)
_NEEDED = ("gold", "rival", "relation", "targets", "rival_ahead", "born_rival_ahead")  # of a pair
_BINS = 50
_WIDTHS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 100.0)


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """A scan as far as it can be read.

    Attributes:
        folder: where it lies.
        plan: its settings.
        environment: versions and machine.
        told: what ``summary.json`` says; empty where it is missing.
        pairs: one row a pair, worst first.
        gaps: how the logit gaps are distributed: (lower bound, upper bound, number of targets), each interval without
            its lower bound and with its upper one.
        missing: what is missing, in words; nothing for a whole scan.
    """

    folder: Path
    plan: Mapping[str, object]
    environment: Mapping[str, object]
    told: Mapping[str, object]
    pairs: pl.DataFrame
    gaps: list[tuple[float, float, int]]
    missing: list[str] = field(default_factory=list)


def is_scan(folder: str | Path) -> bool:
    """Return whether a folder holds a scan or what is left of one."""
    return any((Path(folder) / name).is_file() for name in _FILES)


def read_scan_facts(folder: str | Path) -> ScanFacts:
    """Read a scan, whatever is left of it.

    Args:
        folder: the folder of the scan.

    Returns:
        Its readable parts, and what is missing. Pairs and counts that are missing are made again from the positions.

    Raises:
        UserError: the scan is of another schema version.
    """
    path, missing = Path(folder), list[str]()
    head = read_json(path / SCAN_FILE, missing, SCAN.schema)
    told = read_json(path / SUMMARY_FILE, missing, SCAN.schema)
    positions = path / POSITIONS_FILE
    if not told and ((path / PARTS).is_dir() or not positions.exists()):
        missing.append("the scan is not finished: give the same borngap scan command again, and it goes on")
    needed = {"gold_id", "rival_id", "relation", "logit_gap", "born_gap", "gold_overlap"}
    whole = _is_table(positions, needed, missing)
    counted = tuple(map(str, as_items(as_table(head.get("plan")).get("relations")))) or SYNONYMOUS
    pairs = _pairs(path, told, missing, counted if whole else None)
    if whole:
        kinds = relations_of(positions)
        made: dict[str, object] = {"relations": kinds, "headline": headline_of(kinds, counted)}
        made["notes"] = notes_of(kinds, counted)
        told = {**told, **made, "counts": totals_of(positions) | as_table(told.get("counts"))}
    gaps = distribution(positions) if whole else []
    return ScanFacts(path, as_table(head.get("plan")), as_table(head.get("environment")), told, pairs, gaps, missing)


def distribution(positions: Path) -> list[tuple[float, float, int]]:
    """Count the logit gaps of a scan in at most some 50 intervals of equal width, 0 a bound of one.

    Args:
        positions: ``positions.parquet`` of a scan.

    Returns:
        Lower bound (excluded), upper bound (included) in nat, and number of targets, ascending; what is empty left out.
    """
    gap = pl.col("logit_gap")
    frame = pl.scan_parquet(positions, glob=False).select(gap).filter(gap.is_finite())
    low, high = frame.select(gap.min().alias("low"), gap.max().alias("high")).collect(engine="streaming").row(0)
    if low is None:
        return []
    width = next((w for w in _WIDTHS if high - low <= _BINS * w), (high - low) / _BINS)
    # (a, b]: a gap of exactly 0 belongs to the rival, as everywhere
    counted = frame.group_by(((gap / width).ceil() - 1).cast(pl.Int64).alias("bin")).agg(pl.len().alias("targets"))
    rows = counted.collect(engine="streaming").sort("bin").iter_rows()
    return [(round(i * width, 6), round((i + 1) * width, 6), targets) for i, targets in rows]


def _pairs(path: Path, told: Mapping[str, object], missing: list[str], counted: Collection[str] | None) -> pl.DataFrame:
    """The pairs; if their table is damaged, from whole positions, and else the worst ones that the summary repeats."""
    if _is_table(path / PAIRS_FILE, set(PAIR_COLUMNS), missing):
        return pl.read_parquet(path / PAIRS_FILE, glob=False)
    if counted is not None:
        missing.append(f"the pairs are made again from {POSITIONS_FILE}")
        return pairs_of(path / POSITIONS_FILE, counted)
    try:
        kept = pl.DataFrame(as_items(told.get("worst")), schema=PAIR_COLUMNS).drop_nulls(_NEEDED)
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        kept = pl.DataFrame(schema=PAIR_COLUMNS)
    if len(kept):
        missing.append(f"only the {len(kept)} worst pairs are known, from {SUMMARY_FILE}")
    return kept


def _is_table(path: Path, needed: set[str], missing: list[str]) -> bool:
    """Whether a table can be read to its end; if not, that is noted."""
    if not path.is_file():
        missing.append(f"{path.name} is not there")
        return False
    try:
        absent = needed - set(pl.scan_parquet(path, glob=False).collect_schema().names())
        if not absent:
            pl.scan_parquet(path, glob=False).select(pl.all().count()).collect(engine="streaming")
            return True
        why = f"lacks the columns {', '.join(sorted(absent))}"
    except (OSError, pl.exceptions.PolarsError) as error:
        why = f"can't be read: {str(error).splitlines()[0]}"
    missing.append(f"{path.name} {why}")
    return False
