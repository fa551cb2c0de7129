"""What the reports of usage know: records of one TERMS folder, and of what changed from one model to another."""

from __future__ import annotations

from typing import Literal, TypedDict

from borngap.report.records import Definitions, Made, Number
from borngap.report.scanrecords import Malformed


class ChangeNumbers(TypedDict):
    """A share of the same places under each model, and what moved (``changes.change.Change``)."""

    places: int
    rows: int
    shares: list[Number]
    lows: list[Number]
    highs: list[Number]
    change: Number
    low: Number
    high: Number
    p: Number
    p_mcnemar: Number
    gained: int
    lost: int
    kept: int
    behind: int
    relapsed: int | None


class ChangeRecord(TypedDict):
    """A term or a pair; ``use`` and ``avoid`` are gold and rival of a scan, which has a relation; None for all."""

    number: int
    use: str | None
    avoid: str | None
    relation: str | None
    success: ChangeNumbers
    over_use: ChangeNumbers | None
    leak: ChangeNumbers | None
    why: dict[str, str]


class MovedPlace(TypedDict):
    """A place, what became of it, and the logit gap of the wanted word under each model."""

    state: str
    use: str
    avoid: str
    word: str
    other: str
    where: str
    gaps: list[Number]
    before: str
    after: str


class UnmatchedPlaces(TypedDict):
    """Places that one scan has and not all of the others, or with another rival."""

    run: int
    places: int
    rival_ahead: int
    without_rival: int


class ChangeSummary(TypedDict):
    """Results of one kind, before and after; ``sides`` names the models in their order."""

    schema: int
    kind: Literal["change"]
    of: Literal["scan", "TERMS"]
    title: str
    runs: list[Made]
    sides: list[str]
    verdict: str
    all: ChangeRecord
    headline: ChangeNumbers | None
    rows: list[ChangeRecord]
    worst: list[MovedPlace]
    over_used: list[MovedPlace]
    unmatched: list[UnmatchedPlaces]
    notes: list[str]
    definitions: Definitions


class UsageRecord(TypedDict):
    """A term, or all terms; ``why`` has the reasons of numbers that are missing."""

    number: int
    use: str | None
    avoid: str | None
    due: int
    rows: int
    success: Number
    low: Number
    high: Number
    first: Number
    right_avoid: int
    over_use: Number
    over_use_low: Number
    over_use_high: Number
    continuations: int
    leak: Number
    leak_low: Number
    leak_high: Number
    why: dict[str, str]


class ComplianceRecord(TypedDict):
    """How far the data keeps to a term, or to all."""

    use: str | None
    avoid: str | None
    use_places: int
    avoid_places: int
    allowed_places: int
    share: Number


class UsedPlace(TypedDict):
    """A place at which the wrong word leads."""

    use: str
    avoid: str
    word: str
    other: str
    where: str
    logit_gap: Number
    before: str
    after: str


class UsageSummary(TypedDict):
    """The report of a TERMS folder."""

    schema: int
    kind: Literal["terms"]
    title: str
    runs: list[Made]
    verdict: str
    all: UsageRecord
    terms: list[UsageRecord]
    compliance: list[ComplianceRecord]
    worst: list[UsedPlace]
    over_used: list[UsedPlace]
    malformed: list[Malformed]
    notes: list[str]
    definitions: Definitions
