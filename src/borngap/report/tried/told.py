"""The summary record of a REMEDIES folder."""

from __future__ import annotations

from pathlib import Path

from borngap.methods import METHODS
from borngap.remedies.remedy import BIAS, NONE
from borngap.remedies.remedyfolder import read_remedy_search
from borngap.report.charts.series import rounded
from borngap.report.facts.typed import as_flag, as_items, as_number, as_table, as_text, as_texts, as_whole
from borngap.report.records import Made, Number
from borngap.report.summary import SCHEMA, definitions
from borngap.report.text import count, rate
from borngap.report.tried.records import BiasedPoint, TriedRemedy, TriedSummary, WithInterval
from borngap.report.usage.made import planned_of, rows_words
from borngap.report.usage.told import Stored
from borngap.report.usage.wording import percent
from borngap.shown import public, visible

_GLOSSARY = {
    "success": "share of held-out places of your words at which they have a larger logit than the word to avoid, at "
    "the end of the run; the mean over what the pilot leaves open",
    "over-use": "share of places where the word to avoid stands and is right, at which yours leads all the same",
    "gain, more, loss": "above the planned run, which is called none; loss: held-out nat a token",
    "pilot": "a small copy of a run: it takes the run's dose, the sum of its learning rates, in fewer steps on fewer "
    "rows",
    "logit bias": "a constant taken off the logits of the words to avoid when text is generated; it needs no training. "
    "Beside each remedy stands what the planned run has with the bias that gives it the same over-use: a remedy that "
    "is no better than it is not worth a special loss",
    "run": "what the run with the remedy costs, times the planned one",
    "interval": "90 %, of what the pilots leave open; provisional",
}  # fmt: skip


def tried_summary(folder: Path) -> TriedSummary:
    """Return the record that the report of a REMEDIES folder shows.

    Args:
        folder: where it lies; finished.

    Returns:
        JSON-ready; equal input gives equal bytes. It holds no text of the data.

    Raises:
        UserError: the search is not finished, or damaged.
    """
    told: Stored = read_remedy_search(folder).summary
    run, take = as_table(told["run"]), as_text(told["take"])
    training = as_table(run["training"])
    method = METHODS[training["method"]].words  # type: ignore[index]
    named = f"{method} at {rate(as_number(training['rate']))} of {public(str(told['model']))}"
    return {
        "schema": SCHEMA, "kind": "remedies", "title": f"Remedies for {named} on {_data(run)}",
        "runs": [_made(folder, told)], "verdict": _verdict(take, visible(str(told["why"]))), "rule": _rule(told),
        "take": None if take is None else visible(take), "places": _count(told, "places"),
        "right_avoid": _count(told, "right_avoid"), "held_out_tokens": _count(told, "held_out_tokens"),
        "remedies": told_remedies(told),
        "bias_curve": [_biased(as_table(point)) for point in as_items(told["bias_curve"])],
        "limits": _limits(told),
        "notes": [visible(str(note)) for note in as_items(told["notes"])], "definitions": definitions(_GLOSSARY, []),
    }  # fmt: skip


def told_remedies(told: Stored) -> list[TriedRemedy]:
    """Return the remedies of a search.

    Args:
        told: its summary, as ``borngap remedy --json`` prints it.
    """
    take, entries = as_text(told["take"]), map(as_table, as_items(told["remedies"]))
    return [_remedy(number, entry, take) for number, entry in enumerate(entries)]


def _data(run: Stored) -> str:
    return public(str(as_table(run["data"])["name"]))


def _verdict(take: str | None, why: str) -> str:
    return f"Take {visible(take)}: {why}." if take is not None else f"No remedy is recommended: {why}."


def _rule(told: Stored) -> str:
    loss, over = as_number(told["max_loss"]) or 0.0, as_number(told["max_over_use"]) or 0.0
    return (
        f"The rule: the most success within {loss:g} nat of held-out loss and {over:g} points of over-use above the "
        "planned run; of those within a point of it the one whose run costs least, the bias first."
    )


def _limits(told: Stored) -> dict[str, Number]:
    """The most of each price that a remedy may have: over-use as a share of places, loss above the planned run."""
    planned = next(entry for entry in map(as_table, as_items(told["remedies"])) if entry["remedy"] == NONE)
    over_use, more = _estimate(planned, "over_use")["value"], as_number(told["max_over_use"]) or 0.0
    return {
        "over_use": None if over_use is None else rounded(over_use + more / 100),
        "loss": rounded(as_number(told["max_loss"])),
    }


def _remedy(number: int, told: Stored, take: str | None) -> TriedRemedy:
    bias, why = as_table(told.get("bias")), visible(str(told["why"]))
    judged = "take" if told["remedy"] == take else "within limits" if as_flag(told["meets"]) else ""
    beside = bias.get("nat") if bias else told.get("bias_nat")
    return {
        "number": number, "remedy": visible(str(told["remedy"])), "words": visible(str(told["words"])),
        "success": _estimate(told, "success"), "gain": _estimate(told, "gain"),
        "over_use": _estimate(told, "over_use"), "more": _estimate(told, "over_use_more"),
        "loss": _estimate(told, "loss"), "run_cost": rounded(as_number(told["run_cost"]), 3),
        "bias_success": rounded(as_number(bias.get("success"))), "bias_nat": rounded(as_number(beside), 3),
        "verdict": "unstable" if why else judged, "why": why, "lines": list(map(public, as_texts(told["lines"]))),
    }  # fmt: skip


def _estimate(told: Stored, name: str) -> WithInterval:
    own = as_table(told.get(name))
    value, low, high = (_number(own, part) for part in ("value", "low", "high"))
    return {"value": value, "low": low, "high": high}


def _number(told: Stored, name: str) -> Number:
    return rounded(as_number(told.get(name)))


def _biased(told: Stored) -> BiasedPoint:
    bias, success, over_use, loss = (_number(told, name) for name in ("bias", "success", "over_use", "loss"))
    return {"bias": bias, "success": success, "over_use": over_use, "loss": loss}


def _count(told: Stored, name: str) -> int:
    return as_whole(told.get(name)) or 0


def _made(folder: Path, told: Stored) -> Made:
    run, cost = as_table(told["run"]), as_table(told["cost"])
    entries = map(as_table, as_items(told["remedies"]))
    tried = sum(bool(as_number(entry["run_cost"])) and entry["remedy"] != BIAS for entry in entries)
    made = (
        f"a run of {count(_count(run, 'steps'), 'step')} over {rows_words(run)} of {_data(run)}; "
        f"{count(tried, 'run')} tried as {'a pilot' if tried == 1 else 'pilots'}, "
        f"{percent(as_number(cost['of_run']))} of the planned run's cost in all, "
        f"{as_number(cost['seconds']) or 0:.0f} s; {count(_count(told, 'places'), 'place')} of your words, "
        f"{_count(told, 'right_avoid')} where the other is right, {_count(told, 'held_out_tokens')} tokens for the loss"
    )
    return planned_of("REMEDIES", folder, told, made)
