"""The record of a forecast: numbers of places, terms and all, JSON-ready, "nothing changes" beside each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from borngap.methods import WHOLE, Method
from borngap.pilot.estimates import BIAS, PROSPECTS, PlaceForecasts, foretell
from borngap.pilot.places.spots import Spot
from borngap.pilot.settings import leads_at_half
from borngap.tokens import decoded
from borngap.words.term import Term

_MATCHED = 0.5  # of the ends that a forecast deems likely: "nothing changes" does as well in as many or more
_FEW_ROWS = 20  # that pilots of all weights read: of 16 to 18 intervals held 64 %, of 34 to 52 87 %
_BEFORE_TOKENS, _BEFORE_CHARACTERS = 24, 80
_ENOUGH = 0.01  # a rate whose share is so near to the best one's is as good


def text_before(ids: Sequence[int], tokenizer: Any) -> str:
    """Return the end of what stands before a place, as a forecast keeps it: of 24 tokens the last 80 characters."""
    return decoded(list(ids[-_BEFORE_TOKENS:]), tokenizer)[-_BEFORE_CHARACTERS:]


def foretold(
    spots: Sequence[Spot], base: Sequence[float], ends: Sequence[Sequence[float]], seed: int, noise: float,
    bias: float = BIAS,
) -> PlaceForecasts | None:  # fmt: skip
    """Forecast places from pilots: those of a pair of words together, wanted words and right rivals each by themselves.

    Args:
        spots: the watched places.
        base: logit gaps before the run.
        ends: logit gaps at the end of each pilot.
        seed: seeds the draws.
        noise: of the pilots, as ``foretell`` takes it.
        bias: likewise.

    Returns:
        The forecast; None without a pilot.
    """
    if not ends:
        return None
    names, kinds = sorted({spot.pair for spot in spots}), sorted({spot.kind for spot in spots})
    pairs, kind = [names.index(spot.pair) for spot in spots], [kinds.index(spot.kind) for spot in spots]
    return foretell(np.array(base, dtype=np.float64), np.array(ends, dtype=np.float64), pairs, seed, kind, noise, bias)


def place_entries(
    spots: Sequence[Spot], before: Sequence[str], at: tuple[float, float | None], base: Sequence[float],
    found: PlaceForecasts | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the places of one rate, JSON-ready.

    Args:
        spots: the watched places.
        before: the text before each.
        at: the run's rate, and its epochs where several are forecast.
        base: logit gaps before it.
        found: the forecast; None where it abstains.

    Returns:
        One entry a place.
    """
    prospects: list[Any] = [None] * len(spots) if found is None else list(found.prospects)
    entries = []
    for number, spot in enumerate(spots):
        ends = (None, None, None) if found is None else (found.gaps[number], found.low[number], found.high[number])
        entries.append({
            "rate": at[0], "epochs": at[1], "row": spot.example.row.number, "where": spot.example.row.where,
            "offset": spot.offset,
            "kind": spot.kind, "gold": spot.gold, "rival": spot.rival, "gold_id": spot.gold_id,
            "rival_id": spot.rival_id, "base_gap": float(base[number]),
            **{k: None if v is None else float(v) for k, v in zip(("forecast_gap", "low", "high"), ends, strict=True)},
            "prospect": prospects[number], "terms": list(spot.terms), "before": before[number],
        })  # fmt: skip
    return entries


def shares_entry(spots: Sequence[Spot], base: Sequence[float], found: PlaceForecasts | None) -> dict[str, Any]:
    """Return what places come to: the share of them at which gold leads, over-use, and how many go which way.

    Args:
        spots: the places of a term, or all; over-use is of those where a word to avoid stands and is right.
        base: logit gaps before the run, of all that ``found`` holds where it holds any.
        found: the forecast of these places; None where it abstains.

    Returns:
        JSON-ready; None where there is no place, or no forecast.
    """
    due = [i for i, spot in enumerate(spots) if spot.kind != "right"]
    right = [i for i, spot in enumerate(spots) if spot.kind == "right"]
    if found is None:
        ahead, over = _before_only(base, due, 1), _before_only(base, right, -1)
    else:
        ahead, over = found.ahead(due), found.ahead(right, is_behind=True)
    counts = Counter() if found is None else Counter(found.prospects[i] for i in due)
    return {
        "places": len(due), "ahead_before": ahead["before"], "ahead_after": ahead["after"], "low": ahead["low"],
        "high": ahead["high"], **{name.replace(" ", "_"): counts[name] for name in PROSPECTS},
        "right_avoid": len(right), "over_use_before": over["before"], "over_use_after": over["after"],
        "over_use_low": over["low"], "over_use_high": over["high"],
    }  # fmt: skip


def term_entries(
    terms: Sequence[Term], rows: Sequence[int], spots: Sequence[Spot], base: Sequence[float],
    found: PlaceForecasts | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return what the places of each term come to, in the order of the terms; terms without a place are left out.

    Args:
        terms: the terms.
        rows: of the run with the wanted word of each.
        spots: the watched places.
        base: logit gaps before the run.
        found: the forecast; None where it abstains.
    """
    entries = []
    for number, (term, count) in enumerate(zip(terms, rows, strict=True)):
        own = [i for i, spot in enumerate(spots) if number in spot.terms]
        if own:
            part = None if found is None else part_of(found, own)
            held = shares_entry([spots[i] for i in own], [base[i] for i in own], part)
            entries.append({"use": term.use, "avoid": term.avoid, "where": term.where, "rows": count} | held)
    return entries


def with_rates(curve: Sequence[Mapping[str, Any]], terms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to terms the lowest rate of a curve at which each leads at half of its places or more.

    Args:
        curve: ``all`` of each rate and number of epochs with ``terms``, the smallest first.
        terms: those of one of them.

    Returns:
        The terms with ``half_at``: None where no rate does, where it leads so before, and where one rate is forecast.
    """
    several = len({entry["rate"] for entry in curve}) > 1

    def half_at(term: Mapping[str, Any]) -> float | None:
        if not several or leads_at_half(term["ahead_before"]):
            return None
        alike = ((entry["rate"], own) for entry in curve for own in entry["terms"] if own["where"] == term["where"])
        return next((rate for rate, own in alike if leads_at_half(own["ahead_after"])), None)

    return [dict(term) | {"half_at": half_at(term)} for term in terms]


def part_of(found: PlaceForecasts, places: Sequence[int]) -> PlaceForecasts:
    """Return the forecast of some places."""
    own = list(places)
    return PlaceForecasts(found.base[own], found.gaps[own], found.half[own], found.draws[:, own])


def idle_notes(entry: Mapping[str, Any], method: Method, rates: int) -> list[str]:
    """Say where a forecast is no better than "nothing changes": by its own lights, or since its adapters went too far.

    Args:
        entry: ``all`` of a rate.
        method: of the run; of all weights a pilot's loss rises by its noise, and its forecast was right all the same.
        rates: how many rates there are.

    Returns:
        One note, or none.
    """
    if entry["right_expected"] is None:
        return []
    at, same = f"at {entry['rate']:g} " if rates > 1 else "", '"nothing changes" is as good a forecast of who leads'
    if entry["matched_by_nothing_changes"] >= _MATCHED:
        return [f"{at}too little moves against the noise of a pilot: {same}"]
    if method in WHOLE or not _has_lost(entry):
        return []
    rise = f"from {entry['held_out_loss_before']:.2f} to {entry['pilot_loss']:.2f}"
    return [f"{at}the pilot's held-out loss rises {rise}: it goes further than the run will, and {same}"]


def few_rows_notes(entry: Mapping[str, Any], method: Method, rates: int) -> list[str]:
    """Say where pilots of all weights read so few rows that their intervals are too narrow.

    Args:
        entry: ``all`` of a rate.
        method: of the run; under adapters intervals of as few rows held (docs/forecast-runs-measured.md#short-runs).
        rates: how many rates there are.

    Returns:
        One note, or none.
    """
    pilot = entry["pilot"]
    if entry["right_expected"] is None or method not in WHOLE or pilot["rows"] > _FEW_ROWS:
        return []
    at = f"at {entry['rate']:g} " if rates > 1 else ""
    who = "the pilot reads" if pilot["pilots"] == 1 else "all pilots read"
    narrow = "so its intervals may be too narrow: in five such runs they held 64 % of the gaps, not 90"
    return [f"{at}{who} only {pilot['rows']:.0f} rows, {narrow}; a larger --budget reads more"]


def _has_lost(entry: Mapping[str, Any]) -> bool:
    """Whether the pilots know the held-out rows less well than the model before training."""
    before, after = entry["held_out_loss_before"], entry["pilot_loss"]
    return before is not None and after is not None and after > before


def best_entry(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the first entry that does as well as any: most places ahead, less over-use.

    Args:
        curve: ``all`` of each rate and number of epochs, the smallest first.

    Returns:
        The entry; None where all abstain.
    """
    known = [entry for entry in curve if entry["ahead_after"] is not None]
    best = max(map(_worth, known), default=0.0)
    return next((dict(entry) for entry in known if _worth(entry) >= best - _ENOUGH), None)


def _worth(entry: Mapping[str, Any]) -> float:
    return float(entry["ahead_after"] - (entry["over_use_after"] or 0.0))


def _before_only(base: Sequence[float], places: Sequence[int], sign: int) -> dict[str, float | None]:
    share = float(np.mean([sign * base[i] > 0 for i in places])) if places else None
    return {"before": share, "after": None, "low": None, "high": None}
