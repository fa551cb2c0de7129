"""The sentences of a scan's report."""

from __future__ import annotations

from collections.abc import Mapping

from borngap.report.facts.typed import as_items, as_table, as_text
from borngap.report.text import count, number
from borngap.report.wording import CLASSES, environment_words, precision_words
from borngap.report.wording import GLOSSARY as RUN_GLOSSARY
from borngap.shown import public, visible

SCAN_GLOSSARY = {
    "target": "a token of the data that a trainer would supervise: one prediction",
    "gold": "a target that is a whole word: the right next word",
    "rival": "of the nucleus, the near-synonym whose overlap with gold is the largest",
    "near-synonym": "another whole word whose overlap with gold is above the threshold; near in the model's geometry, "
    "which is not always near in meaning",
    "nucleus": "the smallest set of tokens that hold the probability top p together",
    "ahead": "the rival is ahead where the logit gap is not positive: the model would rather write it than gold",
    "pair": "all targets with the same gold and rival",
    **{key: RUN_GLOSSARY[key] for key in ("overlap", "logit gap", "Born gap", "signal", "drag", "crowding")},
}


def scan_sentence(counts: Mapping[str, int | None]) -> str:
    """Say in one sentence how many targets have a rival, and in how many it leads.

    Args:
        counts: counts of the scan; None where one is not known.

    Returns:
        The verdict; of a scan without counts, that there is none.
    """
    targets, rivals, ahead = counts["targets"], counts["with_rival"], counts["rival_ahead"]
    if rivals is None or ahead is None:
        return "This scan has no result yet, so there is nothing to judge."
    of = f" of {targets} supervised targets" if targets is not None else " targets"
    if not rivals:
        return f"None{of} has a near-synonym rival in the nucleus."
    verb = "has" if rivals == 1 else "have"
    head = f"{rivals}{of}{_share(rivals, targets)} {verb} a near-synonym rival"
    return f"{head}, and in {ahead} of these{_share(ahead, rivals)} the model puts the rival first."


def rule_sentence(told: Mapping[str, object]) -> str:
    """Say what counted as a rival."""
    given, least, percentile = (told.get(key) for key in ("given_pairs", "least_overlap", "percentile"))
    if isinstance(given, int):
        left_out = [as_table(pair) for pair in as_items(told.get("pairs_left_out"))]
        looked = f"Looked for {count(given, 'given pair')}, in both directions and whatever their overlap."
        return f"{looked} Left out: {len(left_out)}, as {left_out[0].get('reason')}." if left_out else looked
    if least is None:
        return ""
    by = "set by hand" if percentile is None else f"the {percentile:g}th percentile of the model's random token pairs"
    return f"A near-synonym is another whole word that overlaps with gold by at least {number(least)}, {by}."


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
