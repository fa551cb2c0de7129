"""The sentences of a scan's report."""

from __future__ import annotations

from collections.abc import Mapping

from borngap.report.facts.typed import as_items, as_table, as_text, as_texts, as_whole
from borngap.report.scanrecords import RelationRecord
from borngap.report.text import count, number
from borngap.report.wording import CLASSES, environment_words, precision_words
from borngap.report.wording import GLOSSARY as RUN_GLOSSARY
from borngap.shown import public, visible
from borngap.words.relation import SYNONYMOUS

SCAN_GLOSSARY = {
    "target": "a token of the data that a trainer would supervise: one prediction",
    "gold": "a target that is a whole word: the right next word",
    "rival": "another whole word of the nucleus: a synonym of gold or gold in another spelling, by a thesaurus; where "
    "there is none, a word whose overlap with gold is above a threshold; of several, the one with the largest overlap",
    "relation": "how gold and rival are related by a thesaurus; what it says of two words holds in some of their "
    "senses, and that they are not in the thesaurus says nothing about them",
    "nucleus": "the smallest set of tokens that hold the probability top p together",
    "ahead": "the rival is ahead where the logit gap is not positive: the model would rather write it than gold",
    "pair": "all targets with the same gold and rival",
    **{key: RUN_GLOSSARY[key] for key in ("overlap", "logit gap", "Born gap", "signal", "drag", "crowding")},
}


_ROWS = {"centered": " (centered rows)", "input": " (input rows)", "readout": " (output rows)"}
_PLURALS = {
    "spelling": "other spellings", "inflection": "inflections", "derivation": "derivations", "synonym": "synonyms",
    "antonym": "antonyms", "function word": "function words", "number": "numbers",
    "same kind": "words of the same kind",
}  # fmt: skip


def relation_records(told: Mapping[str, object]) -> list[RelationRecord]:
    """Return how many rivals of a scan have which relation to gold, those first that its headline counts."""
    counted = as_items(as_table(told.get("headline")).get("relations"))
    found: list[RelationRecord] = []
    for row in map(as_table, as_items(told.get("relations"))):
        name, targets, ahead = (
            as_text(row.get("relation")),
            as_whole(row.get("targets")),
            as_whole(row.get("rival_ahead")),
        )
        if name is not None and targets is not None and ahead is not None:
            found.append(
                {"relation": visible(name), "targets": targets, "rival_ahead": ahead, "counted": name in counted}
            )
    return sorted(found, key=lambda row: not row["counted"])


def scan_sentence(told: Mapping[str, object]) -> str:
    """Say in one sentence at how many targets a synonym leads, and at how many a rival of another kind.

    Args:
        told: the scan's summary, as far as it is known.

    Returns:
        The verdict; of a scan without counts, that there is none.
    """
    counts = as_table(told.get("counts"))
    targets = as_whole(counts.get("targets"))
    if as_whole(counts.get("with_rival")) is None or not as_table(told.get("headline")):
        return "This scan has no result yet, so there is nothing to judge."
    rows = relation_records(told)
    ahead = sum(row["rival_ahead"] for row in rows if row["counted"])
    of = "of the targets" if targets is None else f"of {count(targets, 'supervised target')}"
    head = f"{ahead or 'None'} {of} {'have' if ahead > 1 else 'has'} {_headline(told)} in front of the right word"
    others = [row for row in rows if row["rival_ahead"] and not row["counted"]]
    if not others:
        return f"{head}."
    others.sort(key=lambda row: -row["rival_ahead"])
    named = ", ".join(f"{_PLURALS.get(row['relation'], row['relation'])} {row['rival_ahead']}" for row in others)
    return f"{head}, and {sum(row['rival_ahead'] for row in others)} a rival of another kind ({named})."


def nucleus_sentence(told: Mapping[str, object]) -> str:
    """Say at how many targets there is a rival at all, whoever leads."""
    counts = as_table(told.get("counts"))
    rivals, targets, *leading = (
        as_whole(counts.get(key)) for key in ("with_rival", "targets", "rival_ahead", "born_rival_ahead")
    )
    if rivals is None:
        return ""
    if not rivals:
        return "No target has a rival in the nucleus."
    own = sum(row["targets"] for row in relation_records(told) if row["counted"])
    part = f", {_headline(told)} at {own} of them" if own != rivals else ""
    ahead, born = map(number, leading)
    return (
        f"A rival stands in the nucleus at {count(rivals, 'target')}{_share(rivals, targets)}{part}; it is in front at "
        f"{ahead}, by the Born gap at {born}."
    )


def _headline(told: Mapping[str, object]) -> str:
    """The rivals that the headline counts."""
    kinds = _kinds(told)
    if told.get("given_pairs") is not None:
        return "the rival of a given pair"
    if kinds != SYNONYMOUS:
        return f"a rival of the kind {' or '.join(kinds)}"
    listed = any(row["relation"] == "given" for row in relation_records(told))
    return "a synonym or a word of your list" if listed else "a synonym"


def _kinds(told: Mapping[str, object]) -> tuple[str, ...]:
    """The relations that the headline counts."""
    return tuple(as_texts(as_table(told.get("headline")).get("relations")))


def rule_sentence(told: Mapping[str, object]) -> str:
    """Say what counted as a rival."""
    return f"{_rule(told)} {_terms(told)}".strip()


def _terms(told: Mapping[str, object]) -> str:
    """Say what was looked for because a house style names it."""
    terms, left_out = told.get("terms"), [as_table(pair) for pair in as_items(told.get("terms_left_out"))]
    if not isinstance(terms, int):
        return ""
    looked = f"{count(terms, 'given pair')} of words, in any form, went before all others."
    named = f"{left_out[0].get('use')!r} instead of {left_out[0].get('avoid')!r}" if left_out else ""
    return f"{looked} Left out: {len(left_out)} that are no single tokens, as {named}." if left_out else looked


def _rule(told: Mapping[str, object]) -> str:
    given, least, percentile = (told.get(key) for key in ("given_pairs", "least_overlap", "percentile"))
    if isinstance(given, int):
        left_out = [as_table(pair) for pair in as_items(told.get("pairs_left_out"))]
        looked = f"Looked for {count(given, 'given pair')}, in both directions and whatever their overlap."
        return f"{looked} Left out: {len(left_out)}, as {left_out[0].get('reason')}." if left_out else looked
    kinds = _kinds(told)
    if least is None:
        return f"Looked for rivals of the kind {' or '.join(kinds)}, whatever their overlap." if kinds else ""
    by = "set by hand" if percentile is None else f"the {percentile:g}th percentile of the model's random token pairs"
    rows = _ROWS.get(str(told.get("find_by")), "")
    near = f"by at least {number(least)}{rows}, {by}"
    if not kinds:
        return f"A rival is another whole word that overlaps with gold {near}."
    if kinds == SYNONYMOUS:
        return f"A rival is a synonym of gold, or another whole word that overlaps with it {near}."
    free = "; synonyms and other spellings, whatever their overlap" if set(kinds) & set(SYNONYMOUS) else ""
    return f"Looked for rivals of the kind {' or '.join(kinds)} that overlap with gold {near}{free}."


def bulk_sentence(told: Mapping[str, object], model: str) -> str:
    """Say how crowded the model's embeddings are."""
    bulk = as_table(told.get("bulk"))
    kind = as_text(bulk.get("class"))
    if kind not in CLASSES:
        return ""
    return (
        f"The {told.get('geometry') or 'readout'} matrix of {model} is {CLASSES[kind]}: two random words "
        f"overlap {number(bulk.get('crowding'))} times as much as in a space that is evenly filled, by "
        f"{number(bulk.get('mean'))} on average."
    )


def scan_made_sentence(
    plan: Mapping[str, object], told: Mapping[str, object], environment: Mapping[str, object]
) -> str:
    """Say in a line how a scan was made, as far as it tells."""
    names = (plan.get("model") or as_table(told.get("model")).get("name"), plan.get("data") or told.get("data"))
    layout = told.get("layout") or plan.get("layout")
    parts = [
        *(public(str(name)) for name in names if name),
        str(layout) if layout else None,
        f"supervised: {told['supervised']}" if told.get("supervised") else None,
        f"top p {number(plan['top_p'])}" if "top_p" in plan else None,
        f"windows of {plan['window']} tokens" if plan.get("window") else None,
        f"seed {plan['seed']}" if "seed" in plan else None,
        f"weights {plan['digest']}" if plan.get("digest") else None,
        precision_words(as_text(plan.get("dtype")), as_text(plan.get("measured_in"))),
        *environment_words(environment),
    ]
    return visible("; ".join(part for part in parts if part) or "The scan does not say how it was made") + "."


def _share(part: int, whole: int | None) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""
