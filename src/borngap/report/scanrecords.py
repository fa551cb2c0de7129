"""Parts of the record of a scan: pairs, relations, gaps, rows left out."""

from __future__ import annotations

from typing import TypedDict


class ExampleRecord(TypedDict):
    """A place of a pair in the data."""

    before: str
    where: str
    logit_gap: float | None
    born_gap: float | None


class PairPoint(TypedDict):
    """A pair of a scan in the chart."""

    gold: str
    rival: str
    targets: int
    rival_ahead: int
    share_ahead: float | None
    overlap: float | None
    logit_gap: float | None


class PairRecord(PairPoint):
    """A pair of a scan in the table."""

    number: int
    relation: str
    born_rival_ahead: int
    born_gap: float | None
    examples: list[ExampleRecord]


class Gap(TypedDict):
    """How many targets have a logit gap above ``low`` and up to ``high``."""

    low: float
    high: float
    targets: int


class Malformed(TypedDict):
    """A row of the data that was left out."""

    where: str
    reason: str


ScanBulk = TypedDict(
    "ScanBulk",
    {
        "sentence": str,
        "crowding": float | None,
        "mean": float | None,
        "std": float | None,
        "mean_square": float | None,
        "class": str | None,
    },
)


class RelationRecord(TypedDict):
    """The rivals of a scan that have one relation to gold; ``counted`` by its headline, or not."""

    relation: str
    targets: int
    rival_ahead: int
    counted: bool
