"""What the report of a forecast of a run knows: shares by term, by rate and number of epochs, and places."""

from __future__ import annotations

from typing import Literal, TypedDict

from borngap.report.records import Definitions, Made, Number


class ForetoldShares(TypedDict):
    """A term, or all: shares of places at which the wanted word leads; over-use where the other is right.

    ``rows``: of the run with the wanted word; of a term.
    """

    use: str | None
    avoid: str | None
    rows: int | None
    places: int
    ahead_before: Number
    ahead_after: Number
    low: Number
    high: Number
    flips: int
    stays_behind: int
    lost: int
    undecided: int
    right_avoid: int
    over_use_before: Number
    over_use_after: Number
    over_use_low: Number
    over_use_high: Number


class CurvePoint(TypedDict):
    """All places at one rate and number of epochs; ``why``: why there is no forecast."""

    label: str
    all: ForetoldShares
    span: Number
    to_use: bool
    why: str


class ForetoldPlace(TypedDict):
    """A place, and its logit gap before and after."""

    prospect: str
    word: str
    other: str
    where: str
    before: str
    after: str
    gaps: list[Number]
    low: Number
    high: Number


class ForetoldSummary(TypedDict):
    """The report of a FORECAST folder."""

    schema: int
    kind: Literal["forecast"]
    title: str
    runs: list[Made]
    verdict: str
    all: ForetoldShares
    terms: list[ForetoldShares]
    curve: list[CurvePoint]
    counts: dict[str, int]
    worst: list[ForetoldPlace]
    over_used: list[ForetoldPlace]
    notes: list[str]
    definitions: Definitions
