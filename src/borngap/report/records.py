"""What a report knows: the records that page, Markdown, JSON and charts show, each as its JSON has it.

Whatever is not known is None, with the reason beside it where there is one.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from borngap.report.scanrecords import Gap, Malformed, PairPoint, PairRecord, RelationRecord, ScanBulk

Number = float | None
Ends = dict[str, list[Number]]  # observable -> its first and last value
Series = dict[str, list[Number]]  # "step" and a column an observable, one value a record
Pair = list[str]  # a name and its value, in words


class Made(TypedDict):
    """How a run, a sweep, a scan or a use of terms was made."""

    number: int
    what: Literal["RUN", "SWEEP", "scan", "TERMS", "FORECAST", "REMEDIES"]
    folder: str
    label: str
    missing: list[str]
    notes: list[str]
    made: str
    settings: list[Pair]
    environment: list[Pair]


class RunRecord(Made):
    """A run, or a sweep as a run without contexts of its own."""

    model: str
    method: str
    criterion: str
    dose: str
    verdict: str


class Mark(TypedDict):
    """A step that the charts mark."""

    kind: Literal["flip", "stop"]
    step: int
    text: str


class Needed(TypedDict):
    """The rate that a context needs: an estimate, a bound, or why there is none; ``ratio``: used over needed."""

    rate: Number
    low: Number
    high: Number
    how: str | None
    ratio: Number
    why: str


class Stops(TypedDict):
    """When each stopping rule would have ended the run."""

    saturation: int | None
    patience: int | None
    patience_fired: bool | None
    saved_steps: int | None


class ContextWords(TypedDict):
    """What a context is."""

    prompt: str
    prompt_end: str
    prompt_length: int
    prompt_cut: int
    gold: str
    rival: str
    relation: str | None
    notes: list[str]


class ContextRecord(ContextWords):
    """One context of one run."""

    id: str
    run: int
    number: int
    overlap: Number
    outcome: str
    outcomes: dict[str, str | None]
    character: str | None
    flip: int | None
    steps: int | None
    used_rate: Number
    needed: Needed
    why: str
    advice: str
    disagrees: bool | None
    silent: bool | None
    phantom: bool | None
    drag_worsened: bool | None
    jump_ratio: Number
    jump_share: Number
    amplification: Number
    readout_share: Number
    jump_step: int | None
    ablation: list[Number] | None
    stop: Stops
    marks: list[Mark]
    ends: Ends
    series: Series | None
    records: int


MatrixRecord = TypedDict(
    "MatrixRecord",
    {
        "mean": Number, "std": Number, "anisotropy": Number, "mean_square": Number, "crowding": Number,
        "fraction_above": Number, "ks_gaussian": Number, "ks_exponential": Number, "class": str, "pairs": int,
        "tokens": int, "dimension": int,
    },
)  # fmt: skip


class ModelGeometry(TypedDict):
    """A model's matrices as measured, by kind; ``missing``: why there are none."""

    model: str
    tied: bool | None
    matrices: dict[str, MatrixRecord]
    missing: str


class GeometryRecord(ModelGeometry):
    """The same as it is shown."""

    sentence: str


class PhasePoint(TypedDict):
    """A run of a sweep."""

    gold: str
    rival: str
    rate: Number
    overlap: Number
    character: str
    outcome: str
    seed: int


class BoundaryPoint(TypedDict):
    """A point of the line between catapults and drifts."""

    rate: float
    overlap: float


class CriticalRow(TypedDict):
    """The rate that a context of a sweep takes."""

    number: int
    gold: str
    rival: str
    status: str
    overlap: Number
    rate: Number
    low: Number
    high: Number
    theta: Number
    why: str


class PhaseRecord(TypedDict):
    """The phase diagram of a sweep."""

    folder: str
    criterion: str
    points: list[PhasePoint]
    boundary: list[BoundaryPoint]
    critical: list[CriticalRow]
    comparisons: list[dict[str, object]]
    sentence: str
    alt: str
    notes: list[str]


class Bounds(TypedDict):
    """A forecast rate with its interval."""

    rate: Number
    low: Number
    high: Number


class ForecastRow(TypedDict):
    """A forecast beside what happened."""

    id: str
    gold: str
    rival: str
    by: str
    status: str
    used_rate: Number
    forecast: Bounds
    measured: Needed
    told: str
    outcome: str
    agrees: bool | None
    cost: dict[str, int]


class ForecastRecord(TypedDict):
    """All forecasts: what they hold of, how many came true, and how many are of no context here."""

    scopes: list[str]
    rows: list[ForecastRow]
    hits: int
    told: int
    unmatched: int
    sentence: str


class Meaning(TypedDict):
    """A word and what it means."""

    word: str
    meaning: str


class ObservableRecord(TypedDict):
    """An observable and how it is defined."""

    id: str
    symbol: str
    unit: str
    range: str
    equation: str
    source: str
    absent: str


class Definitions(TypedDict):
    """What words and numbers mean."""

    words: list[Meaning]
    observables: list[ObservableRecord]


class LiveRow(TypedDict):
    """A live forecast: how many words it said would lead, would not, or neither, and how many of each lead at the end.

    ``came``: None where the run did not reach its end; ``error``: median error of the gap, nat; ``inside``: share of
    gaps within their 90 % intervals.
    """

    step: int
    share: float
    words: int
    lead: int
    undecided: int
    behind: int
    lead_came: int | None
    undecided_came: int | None
    behind_came: int | None
    error: Number
    inside: Number


class LiveRecord(TypedDict):
    """The live forecasts of one run."""

    run: int
    label: str
    rows: list[LiveRow]
    sentence: str


class WatchedTerms(TypedDict):
    """Success, first choice and over-use of terms over the steps of one run; columns without a number are left out."""

    run: int
    label: str
    series: Series


class Summary(TypedDict):
    """The report of runs and sweeps."""

    schema: int
    kind: Literal["report"]
    title: str
    runs: list[RunRecord]
    contexts: list[ContextRecord]
    notes: list[str]
    phantom: str
    terms: list[WatchedTerms]
    live: list[LiveRecord]
    geometry: list[GeometryRecord]
    phase: list[PhaseRecord]
    forecast: ForecastRecord | None
    definitions: Definitions


class ComparedEntry(TypedDict):
    """One context under one of the runs that are compared."""

    outcome: str
    character: str | None
    flip: int | None
    steps: int | None
    needed: Needed
    used_rate: Number
    silent: bool | None
    disagrees: bool | None
    ends: Ends
    why: str
    advice: str


class ComparedContext(TypedDict):
    """A context of several runs; ``entries`` has one a run, None where a run lacks it."""

    number: int
    prompt: str
    prompt_end: str
    prompt_length: int
    gold: str
    rival: str
    overlap: Number
    label: str
    entries: list[ComparedEntry | None]
    differs: list[str]
    series: Series | None
    marks: list[Mark]


class LonelyContext(TypedDict):
    """A context of one run only."""

    run: int
    number: int
    prompt_end: str
    gold: str
    rival: str
    outcome: str


class ComparisonSummary(TypedDict):
    """Runs side by side."""

    schema: int
    kind: Literal["compare"]
    title: str
    runs: list[RunRecord]
    contexts: list[ComparedContext]
    only: list[LonelyContext]
    notes: list[str]
    verdict: str
    definitions: Definitions


class ScanSummary(TypedDict):
    """The report of a scan."""

    schema: int
    kind: Literal["scan"]
    title: str
    runs: list[Made]
    verdict: str
    nucleus: str
    counts: dict[str, int | None]
    relations: list[RelationRecord]
    pair_count: int
    pairs: list[PairRecord]
    points: list[PairPoint]
    gaps: list[Gap]
    malformed: list[Malformed]
    rule: str
    bulk: ScanBulk
    notes: list[str]
    definitions: Definitions
