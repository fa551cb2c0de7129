"""What the report of a search for a remedy knows: each remedy's numbers, the logit bias beside it, lines to paste."""

from __future__ import annotations

from typing import Literal, TypedDict

from borngap.report.records import Definitions, Made, Number


class WithInterval(TypedDict):
    """A number with its 90 % interval; None where it is not known."""

    value: Number
    low: Number
    high: Number


class TriedRemedy(TypedDict):
    """A remedy: success and over-use as shares, ``gain`` and ``more`` above the planned run, ``loss`` in nat a token.

    ``number``: in the chart. ``bias_success``, ``bias_nat``: the constant logit bias that gives the planned run the
    same over-use; of the bias itself only its size. ``verdict``: take, within limits, unstable, or empty.
    """

    number: int
    remedy: str
    words: str
    success: WithInterval
    gain: WithInterval
    over_use: WithInterval
    more: WithInterval
    loss: WithInterval
    run_cost: Number
    bias_success: Number
    bias_nat: Number
    verdict: str
    why: str
    lines: list[str]


class BiasedPoint(TypedDict):
    """The planned run under a constant logit bias, in nat."""

    bias: Number
    success: Number
    over_use: Number
    loss: Number


class TriedSummary(TypedDict):
    """The report of a REMEDIES folder."""

    schema: int
    kind: Literal["remedies"]
    title: str
    runs: list[Made]
    verdict: str
    rule: str
    take: str | None
    places: int
    right_avoid: int
    held_out_tokens: int
    remedies: list[TriedRemedy]
    bias_curve: list[BiasedPoint]
    limits: dict[str, Number]
    notes: list[str]
    definitions: Definitions
