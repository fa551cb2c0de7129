"""The sentences of a scan's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from borngap.report.text import count, number
from borngap.report.wording import CLASSES, precision_words
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


def rule_sentence(told: Mapping[str, Any]) -> str:
    """Say what counted as a rival."""
    if told.get("given_pairs") is not None:
        left_out = told.get("pairs_left_out") or []
        looked = (
            f"Looked for {count(told['given_pairs'], 'given pair')}, in both directions and whatever their overlap."
        )
        return f"{looked} Left out: {len(left_out)}, as {left_out[0]['reason']}." if left_out else looked
    if told.get("least_overlap") is None:
        return ""
    percentile = told.get("percentile")
    by = "set by hand" if percentile is None else f"the {percentile:g}th percentile of the model's random token pairs"
    least = number(told["least_overlap"])
    return f"A near-synonym is another whole word that overlaps with gold by at least {least}, {by}."


def bulk_sentence(told: Mapping[str, Any], model: str) -> str:
    """Say how crowded the model's embeddings are."""
    bulk = told.get("bulk")
    if not isinstance(bulk, dict) or bulk.get("class") not in CLASSES:
        return ""
    return (
        f"The {told.get('geometry') or 'readout'} matrix of {model} is {CLASSES[bulk['class']]}: two random words "
        f"overlap {number(bulk.get('crowding'))} times as much as in a space that is evenly filled, by "
        f"{number(bulk.get('mean'))} on average."
    )


def scan_made_sentence(plan: Mapping[str, Any], told: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Say in a line how a scan was made, as far as it tells."""
    versions = environment.get("versions")
    known = versions if isinstance(versions, dict) else {}
    model = told.get("model")
    names = (
        plan.get("model") or (model.get("name") if isinstance(model, dict) else None),
        plan.get("data") or told.get("data"),
    )
    parts = [
        *(public(str(name)) for name in names if name),
        told.get("layout") or plan.get("layout"),
        f"supervised: {told['supervised']}" if told.get("supervised") else None,
        f"top p {number(plan['top_p'])}" if "top_p" in plan else None,
        f"windows of {plan['window']} tokens" if plan.get("window") else None,
        f"seed {plan['seed']}" if "seed" in plan else None,
        f"weights {plan['digest']}" if plan.get("digest") else None,
        precision_words(plan),
        ", ".join(f"{name} {known[name]}" for name in ("borngap", "torch", "transformers", "peft") if known.get(name)),
        f"started {environment['started']}" if "started" in environment else None,
    ]
    return visible("; ".join(str(part) for part in parts if part) or "The scan does not say how it was made") + "."


def _share(part: int, whole: int | None) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""
