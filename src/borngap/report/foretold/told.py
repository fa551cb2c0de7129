"""The summary record of a FORECAST folder."""

from __future__ import annotations

from pathlib import Path

from borngap.methods import METHODS
from borngap.pilot.estimates import PROSPECTS
from borngap.pilot.pilotfolder import read_forecast
from borngap.report.charts.series import rounded
from borngap.report.facts.entries import loss_of_training
from borngap.report.facts.typed import as_items, as_number, as_table, as_text, as_whole
from borngap.report.foretold.records import CurvePoint, ForetoldPlace, ForetoldShares, ForetoldSummary
from borngap.report.records import Made, Number
from borngap.report.summary import SCHEMA, definitions
from borngap.report.text import count, rate, word
from borngap.report.usage.made import planned_of, rows_words, text_around
from borngap.report.usage.told import Stored
from borngap.report.usage.wording import interval_words, percent
from borngap.report.wording import GLOSSARY as RUN_GLOSSARY
from borngap.shown import public, visible

_KEPT = 80  # characters
_PLACES = 100  # shown of each kind, worst first
_WATCHED = {"terms": "the wanted words", "synonyms": "the data's words", "contexts": "the gold words"}
_GLOSSARY = {
    "forecast": "what a run will come to, by pilots: small copies of it that take its dose, the sum of its learning "
    "rates, in fewer steps on fewer rows",
    "lead": "share of watched places at which the word that stands there has a larger logit than its rival",
    "over-use": "share of places where the word to avoid stands and is right, at which the wanted word leads all the "
    "same",
    "interval": "90 %, of the places' errors as they were in runs that were held against their forecasts; provisional",
    "will come ahead, stay behind, be lost": "the 90 % interval of the gap after the run lies on one side of 0; a "
    "place whose interval holds 0 is undecided",
    "span": "steps of the run that one step of the pilot stands for",
    "logit gap": RUN_GLOSSARY["logit gap"],
}  # fmt: skip


def foretold_summary(folder: Path) -> ForetoldSummary:
    """Return the record that the report of a FORECAST folder shows.

    Args:
        folder: where it lies; finished.

    Returns:
        JSON-ready; equal input gives equal bytes.

    Raises:
        UserError: the forecast is not finished, or damaged.
    """
    told: Stored = read_forecast(folder).summary
    whole, run = as_table(told["all"]), as_table(told["run"])
    places = [p for p in map(as_table, as_items(told["places"])) if as_number(p["forecast_gap"]) is not None]
    worst = sorted(places, key=lambda p: as_number(p["forecast_gap"]) or 0.0)
    over_used = [p for p in worst if p["kind"] == "right" and (as_number(p["forecast_gap"]) or 0.0) < 0]
    method = METHODS[as_table(run["training"])["method"]].words  # type: ignore[index]
    verdict = _verdict(whole, str(run["watched"]), _loss(run))
    named = f"{method} at {rate(as_number(whole['rate']))} of {public(str(told['model']))}"
    return {
        "schema": SCHEMA, "kind": "forecast", "title": f"Forecast of {named} on {_data(run)}",
        "runs": [_made(folder, told)], "verdict": verdict, "all": _shares(whole),
        "terms": sorted((_shares(as_table(term)) for term in as_items(told["terms"])), key=_rank),
        "curve": _curve(whole, [as_table(entry) for entry in as_items(told["curve"])]),
        "counts": {name: _count(whole, name.replace(" ", "_")) for name in PROSPECTS},
        "worst": [_place(p) for p in worst if p["kind"] != "right"][:_PLACES],
        "over_used": [_place(p) for p in over_used[:_PLACES]],
        "notes": [visible(str(note)) for note in as_items(told["notes"])],
        "definitions": definitions(_GLOSSARY, ["logit_gap"]),
    }  # fmt: skip


def _data(run: Stored) -> str:
    return public(str(as_table(run["data"])["name"]))


def _loss(run: Stored) -> str:
    """What the run lowers, where that is not the cross-entropy alone."""
    loss = loss_of_training(as_table(run["training"]))
    return f" ({loss})" if loss else ""


def _verdict(told: Stored, watched: str, loss: str) -> str:
    words, before, places = _WATCHED[watched], percent(_share(told, "ahead_before")), _count(told, "places")
    if _share(told, "ahead_after") is None:
        led = f"Before the run {words} lead at {before} of {places} places."
        return f"No forecast: {visible(str(told['why']))}. {led}"
    after = f"{percent(_share(told, 'ahead_after'))} ({interval_words(_share(told, 'low'), _share(told, 'high'))})"
    over = "" if _share(told, "over_use_after") is None else (
        f" Where the other word is right, they lead at {percent(_share(told, 'over_use_after'))} of "
        f"{_count(told, 'right_avoid')} places; before at {percent(_share(told, 'over_use_before'))}."
    )  # fmt: skip
    if told.get("no_better"):
        alone = f"before it {words} lead at {before} of {places} places, by the pilot alone after it at {after}"
        by_pilot = over and f" By the pilot alone:{over}"
        return f'"Nothing changes" is as good a forecast of this run{loss}: {alone}.{by_pilot}'
    return f"After this run{loss} {words} will lead at {after} of {places} places; before at {before}.{over}"


def _shares(told: Stored) -> ForetoldShares:
    return {
        "use": _word(told, "use"), "avoid": _word(told, "avoid"), "rows": as_whole(told.get("rows")),
        "places": _count(told, "places"),
        "ahead_before": _share(told, "ahead_before"), "ahead_after": _share(told, "ahead_after"),
        "low": _share(told, "low"), "high": _share(told, "high"), "flips": _count(told, "flips"),
        "stays_behind": _count(told, "stays_behind"), "lost": _count(told, "lost"),
        "undecided": _count(told, "undecided"), "right_avoid": _count(told, "right_avoid"),
        "over_use_before": _share(told, "over_use_before"), "over_use_after": _share(told, "over_use_after"),
        "over_use_low": _share(told, "over_use_low"), "over_use_high": _share(told, "over_use_high"),
    }  # fmt: skip


def _share(told: Stored, name: str) -> Number:
    return rounded(as_number(told.get(name)))


def _count(told: Stored, name: str) -> int:
    return as_whole(told.get(name)) or 0


def _word(told: Stored, name: str) -> str | None:
    text = as_text(told.get(name))
    return None if text is None else word(text)


def _rank(entry: ForetoldShares) -> tuple[float, int]:
    return (1.0 if entry["ahead_after"] is None else entry["ahead_after"], -entry["places"])


def _curve(chosen: Stored, entries: list[dict[str, object]]) -> list[CurvePoint]:
    """A point a rate and number of epochs; none where there is one of each."""
    if len(entries) < 2:
        return []
    rates, epochs = ({as_number(entry[name]) for entry in entries} for name in ("rate", "epochs"))
    several = (len(rates) > 1, len(epochs) > 1)
    return [
        {
            "label": _label(e, several=several), "all": _shares(e), "why": visible(str(e["why"])),
            "span": rounded(as_number(as_table(e["pilot"])["span"]), 3),
            "to_use": (e["rate"], e["epochs"]) == (chosen["rate"], chosen["epochs"]) and not e["why"],
        }
        for e in entries
    ]  # fmt: skip


def _label(entry: Stored, *, several: tuple[bool, bool]) -> str:
    """What of a run's rate and epochs tells it from the others."""
    parts = [rate(as_number(entry["rate"])) if several[0] else "", f"{entry['epochs']:g} epochs" if several[1] else ""]
    return ", ".join(filter(None, parts))


def _place(told: Stored) -> ForetoldPlace:
    numbers = {name: rounded(as_number(told.get(name)), 3) for name in ("base_gap", "forecast_gap", "low", "high")}
    return {
        "prospect": str(told["prospect"]), "word": word(as_text(told["gold"])), "other": word(as_text(told["rival"])),
        "where": visible(str(told["where"])), "before": _before(str(told["before"])), "after": "",
        "gaps": [numbers["base_gap"], numbers["forecast_gap"]], "low": numbers["low"], "high": numbers["high"],
    }  # fmt: skip


def _before(text: str) -> str:
    """What stands before a word: a forecast keeps the last 80 characters."""
    cut = "…" if len(text) >= _KEPT else ""
    return cut + text_around(text if text.endswith(" ") else f"{text} ")


def _made(folder: Path, told: Stored) -> Made:
    run, cost, whole = as_table(told["run"]), as_table(told["cost"]), as_table(told["all"])
    pilot = as_table(whole["pilot"])
    made = (
        f"a run of {count(_count(run, 'steps'), 'step')}{_loss(run)} over {rows_words(run)} of {_data(run)}; "
        f"{count(_count(pilot, 'pilots'), 'pilot')} of {count(_count(pilot, 'steps'), 'step')}, "
        f"{percent(as_number(cost['of_run']))} of the run's cost, {as_number(cost['seconds']) or 0:.0f} s; "
        f"{_count(whole, 'places')} of {_count(run, 'there')} places watched"
    )
    return planned_of("FORECAST", folder, told, made)
