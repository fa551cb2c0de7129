"""Results of one kind under several models: what moved in all, pair by pair and place by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from borngap.changes.change import Change


@dataclass(frozen=True)
class ModelResult:
    """One of the models.

    Attributes:
        folder: of its result.
        model: its name.
        plan: of its result.
        environment: versions and machine.
        told: the summary of its result.
    """

    folder: Path
    model: str
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """A pair of words, or all of them.

    Attributes:
        use: the wanted word, or gold; None for all.
        avoid: the word to avoid, or the rival.
        success: places at which the wanted word leads, where it is right.
        relation: of gold and rival; None of terms, and of all.
        over_use: places at which it leads where the other is right; None where there are none.
        leak: continuations with the word to avoid; None where models did not write on.
        why: why a number is missing, by its name.
    """

    use: str | None
    avoid: str | None
    success: Change
    relation: str | None = None
    over_use: Change | None = None
    leak: Change | None = None
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unmatched:
    """Places of one model's result that not all of the others hold.

    Attributes:
        places: how many.
        rival_ahead: at how many of them the rival leads under this model.
        without_rival: at how many of them another model has no rival at all.
    """

    places: int
    rival_ahead: int
    without_rival: int


@dataclass(frozen=True, eq=False)
class Compared:
    """Results of several models on the same data.

    Attributes:
        kind: ``scan`` or ``terms``.
        sides: the models, in order.
        whole: all pairs together.
        groups: pair by pair.
        places: one row a place: words, text, logit gaps of the models (``gap_columns``), and ``state``.
        over_used: the same of places where the other word is right; None where there are none.
        headline: of scans, the places whose relation the scan's headline counts; None of terms.
        unmatched: of each model, the places that only it holds; none of terms.
    """

    kind: str
    sides: tuple[ModelResult, ...]
    whole: Group
    groups: tuple[Group, ...]
    places: pl.DataFrame
    over_used: pl.DataFrame | None = None
    headline: Change | None = None
    unmatched: tuple[Unmatched, ...] = ()
