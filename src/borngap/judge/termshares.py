"""Success and over-use over the places of terms that a run watches, from recorded numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from borngap.judge.watch import Values

TERM_SHARES = ("success", "first", "over_use")


@dataclass(frozen=True)
class WatchedPlace:
    """A place of a term that a run watches as one of its contexts: gold is the word that stands there.

    Attributes:
        context: the context.
        place: number of the place; where a word has several rivals, several contexts are one place.
        term: index of the term.
        use: its wanted word, as the terms write it.
        avoid: the other.
        is_due: whether the wanted word stands there; else the other one does, and is right.
        where: the row, in words.
    """

    context: int
    place: int
    term: int
    use: str
    avoid: str
    is_due: bool
    where: str


def shares_of_terms(places: Iterable[WatchedPlace], records: Mapping[int, Values]) -> dict[str, float]:
    """Return which shares of places go which way.

    * ``success``: of the due ones, those at which the wanted word has a larger logit than each of its rivals.
    * ``first``: of the due ones, those at which no token has a larger logit than it.
    * ``over_use``: of those where the word to avoid is right, those at which a wanted word has a larger logit.

    Args:
        places: what is watched.
        records: context -> its observables.

    Returns:
        Name -> share; NaN where there is no such place, and for over-use where a logit is not finite.
    """
    due, right = (_by_place(places, records, is_due=is_due) for is_due in (True, False))
    broken = any(math.isnan(_gap(record)) for place in right for record in place)
    over = _share(right, lambda place: any(_gap(record) < 0 for record in place))
    return {
        "success": _share(due, lambda place: all(_gap(record) > 0 for record in place)),
        "first": _share(due, lambda place: all(record.get("gold_rank") == 1 for record in place)),
        "over_use": math.nan if broken else over,
    }


def success_by_term(places: Sequence[WatchedPlace], records: Mapping[int, Values]) -> dict[str, float]:
    """Return success apart for each wanted word."""
    words = dict.fromkeys(place.use for place in places)
    return {use: shares_of_terms([p for p in places if p.use == use], records)["success"] for use in words}


def _by_place(places: Iterable[WatchedPlace], records: Mapping[int, Values], *, is_due: bool) -> list[list[Values]]:
    """The records of each place."""
    found: dict[int, list[Values]] = {}
    for place in places:
        if place.is_due == is_due:
            found.setdefault(place.place, []).append(records[place.context])
    return list(found.values())


def _gap(record: Values) -> float:
    gap = record.get("logit_gap")
    return math.nan if gap is None else gap


def _share(places: list[list[Values]], counts: Callable[[list[Values]], bool]) -> float:
    return sum(map(counts, places)) / len(places) if places else math.nan
