"""A judged claim, as ``claims.json`` holds it."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

Judgement = Literal["replicates", "does not", "not testable here"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)


class JudgedClaim(TypedDict):
    """One claim, what was measured, and what that means for it.

    Attributes:
        id: its name.
        claim: in words.
        source: ``paper`` or ``ours``.
        paper: the paper's number, in words.
        ours: the quantity measured; None if there is no basis for one.
        low: lower end of its 95 % interval; None if there is none.
        high: upper end.
        n: how many units it rests on.
        unit: what they are.
        verdict: the judgement.
        why: the rule, what was measured on what, and what that means.
    """

    id: str
    claim: str
    source: str
    paper: str
    ours: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    verdict: Judgement
    why: str
