"""Claims and how they are judged: a measured quantity with its interval against a rule stated beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from borngap.experiments.stats import Quantity
from borngap.experiments.study import Study
from borngap.results.claims import JudgedClaim, Judgement
from borngap.results.tables import Table, cell


@dataclass(frozen=True)
class ClaimRule:
    """When a claim holds, and when it fails, by the 95 % interval of a quantity.

    It replicates if the whole interval lies in ``holds``, does not if the whole interval lies outside ``bears`` (the
    same, unless a wider range is allowed before the claim counts as refuted), and is else undecided.

    Attributes:
        text: in words.
        holds: ends of the range in which the claim holds; the lower end does not belong to it, the upper one does.
        bears: ends of the range that is still compatible with it.
    """

    text: str
    holds: tuple[float, float]
    bears: tuple[float, float]


def above(cut: float, what: str, bears: float | None = None) -> ClaimRule:
    """Return the rule that a quantity is larger than a cut; at most ``bears`` (the cut unless given) it fails."""
    return ClaimRule(f"{what} above {cut:g}", (cut, math.inf), (cut if bears is None else bears, math.inf))


def below(cut: float, what: str) -> ClaimRule:
    """Return the rule that a quantity is at most a cut."""
    return ClaimRule(f"{what} at most {cut:g}", (-math.inf, cut), (-math.inf, cut))


def within(low: float, high: float, what: str) -> ClaimRule:
    """Return the rule that a quantity lies between two cuts."""
    return ClaimRule(f"{what} between {low:g} and {high:g}", (low, high), (low, high))


def exists(what: str) -> ClaimRule:
    """Return the rule that there are cases: a share above 0; it fails where the share is at most 5 % for sure."""
    text = f"share of {what} above 0; refuted only if at most 5 %"
    return ClaimRule(text, (0.0, 1.0), (0.05, 1.0))


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        id: its name.
        claim: in words.
        source: ``paper`` or ``ours``.
        paper: the paper's number, in words; what is known of it.
        rule: when it replicates.
        measure: what is measured.
        basis: on what.
    """

    id: str
    claim: str
    source: str
    paper: str
    rule: ClaimRule
    measure: Callable[[Study], Quantity]
    basis: str


def judge_claim(quantity: Quantity, rule: ClaimRule) -> Judgement:
    """Return the judgement on a claim, by the quantity that it is about.

    Args:
        quantity: with or without a value and an interval.
        rule: the rule.

    Returns:
        ``not testable here`` also where the interval lies across the rule's ends: too few or too varied to tell.
    """
    low, high = quantity.low, quantity.high
    if quantity.value is None or low is None or high is None:
        return "not testable here"
    if rule.holds[0] < low and high <= rule.holds[1]:
        return "replicates"
    if high <= rule.bears[0] or low > rule.bears[1]:
        return "does not"
    return "not testable here"


def judged(claims: Sequence[Claim], study: Study) -> list[JudgedClaim]:
    """Return the claims, judged.

    Args:
        claims: the claims.
        study: what is stored.

    Returns:
        The records of ``claims.json``.
    """
    return [_record(claim, claim.measure(study)) for claim in claims]


def claims_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Return the claims as a table.

    Args:
        records: as ``judged`` returns them.

    Returns:
        One row a claim, the paper's and ours told apart.
    """
    names = ("claim", "paper", "ours", "low", "high", "n", "unit", "verdict", "why")
    kinds = {"ours": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
    schema: dict[str, Any] = {"source": pl.String} | {name: kinds.get(name, pl.String) for name in names}
    rows = [{name: record[name] for name in schema} for record in records]
    note = (
        "ours: the quantity that `why` names, with its 95 % interval "
        "over models and contexts. A claim replicates where "
        "the whole interval fulfils its rule, does not where none of it does, and is not testable here otherwise."
    )
    return Table("claims", "Claims", note, pl.DataFrame(rows, schema=schema), split=("source",))


def _record(claim: Claim, quantity: Quantity) -> JudgedClaim:
    verdict = judge_claim(quantity, claim.rule)
    return {
        "id": claim.id,
        "claim": claim.claim,
        "source": claim.source,
        "paper": claim.paper,
        "ours": quantity.value,
        "low": quantity.low,
        "high": quantity.high,
        "n": quantity.n,
        "unit": quantity.unit,
        "verdict": verdict,
        "why": _why(claim, quantity, verdict),
    }


def _why(claim: Claim, quantity: Quantity, verdict: Judgement) -> str:
    """Say the rule, what was measured on what, and what that means."""
    parts = [f"Rule: {claim.rule.text}. {claim.basis}"]
    note = f"; {quantity.note}" if quantity.note else ""
    if quantity.value is None:
        parts.append(f"Not measured: {quantity.note}.")
    elif quantity.low is None or quantity.high is None:
        parts.append(f"Measured {cell(quantity.value)}, without an interval{note}.")
    else:
        ends = f"{cell(quantity.value)} ({cell(quantity.low)} to {cell(quantity.high)})"
        meaning = {
            "replicates": "the whole interval fulfils the rule",
            "does not": "no part of the interval does",
            "not testable here": "the interval holds values on both sides: these runs cannot tell",
        }[verdict]
        parts.append(f"Measured {ends}: {meaning}{note}.")
    return " ".join(parts)
