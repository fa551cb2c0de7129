"""The sentences of reports on usage."""

from __future__ import annotations

from collections.abc import Sequence

from borngap.report.text import MISSING, count
from borngap.report.usage.records import ChangeNumbers, ChangeRecord, ChangeSummary, UnmatchedPlaces, UsageRecord
from borngap.report.wording import GLOSSARY as RUN_GLOSSARY

LEAD_WORDS = {"TERMS": "the wanted word leads", "scan": "gold leads"}
OVER_USED = "the wanted word leads where the other is right"
LEAKED = "a word to avoid is written"
_CHANCE = 0.05  # above it a change is called one that may be chance
_SHARES = {
    "place": "a word of a term in the text, and the other word that could stand there",
    "success": "share of due places, where the wanted word stands, at which it has the larger logit than the word to "
    "avoid; one forward over the text before it decides, nothing is generated",
    "over-use": "share of places where the word to avoid stands and is right, at which the wanted word leads all the "
    "same; not known where nothing says which places are right",
    "leak": "share of greedy continuations of the rows' beginnings that contain a word to avoid; it counts a match "
    "anywhere in an output, as WMT's terminology success rate does, and success does not",
    "interval": "95 % bootstrap interval: rows are drawn, not places, since the places of a row depend on each other",
}
USAGE_GLOSSARY = {
    **_SHARES,
    "compliance": "of the data: 1 - (places of words to avoid) / (places of either), allowed places left out",
    "logit gap": RUN_GLOSSARY["logit gap"],
}  # fmt: skip
_MOVES = {
    "gained": "the rival led before, and the right word leads after",
    "lost": "the right word led before, and the rival leads after",
    "kept": "the right word leads before and after",
    "behind": "the rival leads before and after",
    "relapsed": "the rival leads first and last, but the right word led in between; told of three models or more, and "
    "not counted as behind",
    "p": "how often a change at least as large would come by chance, were before and after interchangeable: the signs "
    "of the rows' changes are flipped in all ways, exactly, all places of a row together",
    "McNemar's p": "the exact test that takes every place as independent: too small where rows hold several places",
}
CHANGE_GLOSSARY = {
    "TERMS": {**_SHARES, **_MOVES, "logit gap": RUN_GLOSSARY["logit gap"]},
    "scan": {
        "place": "a target of the data with the same rival in all scans: row, token, gold and rival agree",
        "interval": _SHARES["interval"], **_MOVES, "logit gap": RUN_GLOSSARY["logit gap"],
    },
}  # fmt: skip


def percent(share: float | None) -> str:
    """Return a share in percent: 0 % and 100 % only where it is none or all.

    Example:
        >>> percent(0.837), percent(0.999), percent(1.0), percent(None)
        ('84 %', '99.9 %', '100 %', '–')
    """
    if share is None:
        return MISSING
    whole = round(100 * share)
    if (whole == 0 and share > 0) or (whole == 100 and share < 1):
        return "< 0.1 %" if share < 0.0005 else "> 99.9 %" if share > 0.9995 else f"{100 * share:.1f} %"
    return f"{whole} %"


def in_points(change: float | None) -> str:
    """Return a change of a share in percentage points, with its sign.

    Example:
        >>> in_points(0.56), in_points(-0.004), in_points(0.0)
        ('+56', '−0.4', '0')
    """
    if change is None:
        return MISSING
    shown = f"{100 * change:+.0f}" if abs(change) >= 0.0095 or not change else f"{100 * change:+.1f}"
    return "0" if float(shown) == 0 else shown.replace("-", "−")


def probability(p: float | None) -> str:
    """Return a p value.

    Example:
        >>> probability(0.03125), probability(1e-20), probability(1.0)
        ('0.031', '<0.001', '1')
    """
    return MISSING if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def interval_words(low: float | None, high: float | None) -> str:
    """Return the interval of a share; nothing where there is none.

    Example:
        >>> interval_words(0.28, 0.411)
        '28 to 41 %'
    """
    return "" if low is None or high is None else f"{percent(low).removesuffix(' %')} to {percent(high)}"


def change_ends(numbers: ChangeNumbers) -> str:
    """Return the interval of a change in percentage points; nothing where there is none."""
    return "" if numbers["low"] is None else f"{in_points(numbers['low'])} to {in_points(numbers['high'])}"


def change_sentence(s: ChangeSummary) -> str:
    """Say in one line what changed in all."""
    told = s["all"]
    success = told["success"]
    first, last = (percent(success["shares"][end]) for end in (0, -1))
    if not success["places"]:
        return f"The {'results' if s['of'] == 'TERMS' else 'scans'} share no place: there is nothing to compare."
    lead, before = LEAD_WORDS[s["of"]], "before" if len(s["sides"]) == 2 else "at first"
    same = " with the same rival in all scans" if s["of"] == "scan" else ""
    places = count(success["places"], "place") + same
    line = f"{lead[0].upper()}{lead[1:]} at {last} of {places}, {before} at {first}: {_moves(success)}"
    if s["of"] == "TERMS":
        line += f"; {_over_use(told)}"
    return f"{line}.{_chance(success)}"


def _moves(numbers: ChangeNumbers) -> str:
    moves = [f"{numbers['gained']} gained", f"{numbers['lost']} lost"]
    return ", ".join(moves + ([f"{numbers['relapsed']} relapsed"] if numbers["relapsed"] else []))


def _over_use(told: ChangeRecord) -> str:
    numbers = told["over_use"]
    if numbers is None:
        return f"over-use is not known ({told['why'].get('over_use', 'there is no such place')})"
    first, last = (percent(numbers["shares"][end]) for end in (0, -1))
    places = f"{count(numbers['places'], 'place')} where the other is right"
    return f"the wanted word is now over-used at {last} of {places}, before at {first}"


def _chance(numbers: ChangeNumbers) -> str:
    if numbers["p"] is None or numbers["p"] < _CHANCE:
        return ""
    return f" This change may be chance: p = {probability(numbers['p'])} over {count(numbers['rows'], 'row')}."


def terms_sentence(told: UsageRecord) -> str:
    """Say in one line how a model uses the words of terms."""
    if told["success"] is None:
        line = f"Success is not known ({told['why'].get('success', 'no place is due')})"
    else:
        line = f"The wanted word leads at {percent(told['success'])} of {count(told['due'], 'place')} where it is due"
    if told["over_use"] is None:
        return f"{line}; over-use is not known ({told['why'].get('over_use', 'there is no such place')})."
    return (
        f"{line}, and at {percent(told['over_use'])} of {count(told['right_avoid'], 'place')} where the other is right."
    )


def headline_sentence(s: ChangeSummary) -> list[str]:
    """Say what changed where the rival is one that the headline of a scan counts; nothing of terms."""
    told = s["headline"]
    if told is None or not told["places"]:
        return [] if told is None else ["At none of these places is the rival a synonym, a spelling or a given one."]
    shares = " → ".join(map(percent, told["shares"]))
    return [
        f"Where the rival is a synonym, a spelling or a given one ({count(told['places'], 'place')}), gold leads at "
        f"{shares}: {_moves(told)}; p {_equals(told['p'])}."
    ]


def _equals(p: float | None) -> str:
    shown = probability(p)
    return shown if shown.startswith("<") else f"= {shown}"


def unmatched_sentences(unmatched: Sequence[UnmatchedPlaces], sides: Sequence[str]) -> list[str]:
    """Say what scans hold that can't be compared."""
    told = []
    for entry in unmatched:
        if not entry["places"]:
            continue
        two = len(sides) == 2
        where, other = (
            (f" {sides[entry['run']]}", f" {sides[1 - entry['run']]}")
            if two
            else (f" of {sides[entry['run']]}", " in another scan")
        )
        told.append(
            f"Not compared: {count(entry['places'], 'place')}{where}, at {entry['rival_ahead']} of them the rival "
            f"leads. At {entry['without_rival']} no near-synonym is in the running{other}, at "
            f"{entry['places'] - entry['without_rival']} it is another one."
        )
    return told
