"""The rules by which contexts are chosen: docs10 and docs40 once, for the bundled models; and a list's for any model.

``borngap zoo contexts`` applies them.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from borngap.choices import Keep
from borngap.context import Context
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.model.probe import named, probe
from borngap.model.readout import geometry_of

CANDIDATES = Path(__file__).parents[1] / "contexts" / "candidates.jsonl"
COUNT, MANY = 10, 40
CONTROLS = (3, 7)  # places, by overlap, at which gold is the word that the model already prefers
LOWEST_PERCENTILE = "95"
LOWEST_OVERLAP = 0.3  # the paper's contexts begin at 0.303
EXCEPTIONS = 1


def choose_docs10(loaded: Loaded) -> list[Context]:
    """Apply the rule to a model.

    1. A candidate (a prompt and two words that fit it) counts if both words, with their leading space, are single
       tokens and their overlap in the readout is at least the 95th percentile of random pairs.
    2. Gold is the word that the model finds less probable of the two, so that its rival is ahead.
    3. Ten overlaps are spaced evenly from the smallest to the largest; each takes the nearest candidate left, in
       ascending order. No two chosen candidates share both words.
    4. At the 4th and the 8th the words are swapped: controls, in which gold is ahead from the start.

    Args:
        loaded: the model and its tokenizer.

    Returns:
        Ten contexts in ascending order of overlap.
    """
    measured = _measured(loaded)
    bulk = geometry_of(loaded.model, "readout", loaded.tokenizer).bulk()
    least = bulk.overlap_percentiles[LOWEST_PERCENTILE]
    fit = [row for row in measured if not row["fragment"] and row["gold_overlap"] >= least]
    return [_directed(row, place in CONTROLS) for place, row in enumerate(_spread(fit, COUNT))]


def choose_docs40(models: Iterable[Loaded]) -> list[Context]:
    """Apply the rule to the bundled models.

    1. A candidate counts if both words are single tokens and their overlap in the readout is at least 0.3 in every
       model.
    2. Gold is the word with the smaller Born probability; all models but one at most must agree on which that is.
    3. Forty overlaps, means over the models, are spaced evenly; each takes the nearest candidate left, in ascending
       order. No two chosen candidates share both words.

    Args:
        models: the models, one after the other.

    Returns:
        Forty contexts in ascending order of overlap.
    """
    each = list(zip(*(_measured(loaded) for loaded in models), strict=True))
    fit = []
    for rows in each:
        behind = sum(row["born_gap"] < 0 for row in rows)
        known = not rows[0]["fragment"] and min(row["gold_overlap"] for row in rows) >= LOWEST_OVERLAP
        if known and min(behind, len(rows) - behind) <= EXCEPTIONS:
            mean = statistics.mean(row["gold_overlap"] for row in rows)
            fit.append(rows[0] | {"gold_overlap": mean, "behind": 2 * behind > len(rows)})
    return [
        Context(row["prompt"], *((row["gold"], row["rival"]) if row["behind"] else (row["rival"], row["gold"])))
        for row in _spread(fit, MANY)
    ]


def keep(
    loaded: Loaded, contexts: Sequence[Context], rule: Keep = "measurable", most: int | None = None
) -> tuple[list[int], dict[int, str]]:
    """Tell the contexts of a list that a model can be asked from the others.

    1. ``measurable``: its tokenizer tells gold and rival apart. ``rival-ahead``: both are one token each besides, and
       the rival's logit is above gold's, so that there is something to learn.
    2. If more than ``most`` are left, pairs of words take turns, each with its next context in the order of the list.

    Args:
        loaded: the model and its tokenizer.
        contexts: the list, the same for every model.
        rule: what a context must fulfil.
        most: how many are kept at most; all unless given.

    Returns:
        Numbers of the contexts that are kept, increasing; number -> reason for the others.

    Raises:
        UserError: ``most`` is below 1.
    """
    if most is not None and most < 1:
        raise UserError("the number of contexts is out of range", rule="at least 1", found=most)
    left_out = dict(unmeasurable(contexts, loaded.tokenizer, whole=rule == "rival-ahead"))
    if rule == "rival-ahead":
        left_out |= _gold_leads(loaded, contexts, [i for i in range(len(contexts)) if i not in left_out])
    fit = [i for i in range(len(contexts)) if i not in left_out]
    kept = sorted(_in_turn(fit, [(contexts[i].gold, contexts[i].rival) for i in fit])[:most])
    left_out |= {i: f"not among the {most} that pairs give in turn" for i in fit if i not in kept}
    return kept, dict(sorted(left_out.items()))


def unmeasurable(contexts: Sequence[Context], tokenizer: Any, *, whole: bool = False) -> Iterator[tuple[int, str]]:
    """Tell contexts that a tokenizer can't measure.

    Args:
        contexts: the contexts.
        tokenizer: of the model.
        whole: whether both words must be one token each.

    Yields:
        Number and reason.
    """
    for i, context in enumerate(contexts):
        try:
            if named(context, tokenizer).fragment and whole:
                yield i, "gold or rival is more than one token"
        except UserError as error:
            yield i, error.what


def _gold_leads(loaded: Loaded, contexts: Sequence[Context], numbers: list[int]) -> dict[int, str]:
    if not numbers:
        return {}
    gaps = probe(loaded.model, loaded.tokenizer, [contexts[i] for i in numbers], only=("logit_gap",))["logit_gap"]
    return {i: f"gold leads by {gap:.2f} nat" for i, gap in zip(numbers, gaps, strict=True) if not gap < 0}


def _in_turn(numbers: Sequence[int], groups: Sequence[Any]) -> list[int]:
    """Numbers in an order in which groups take turns, in order of their first."""
    turns: Counter[Any] = Counter()
    ranked = []
    for place, (number, group) in enumerate(zip(numbers, groups, strict=True)):
        ranked.append((turns[group], place, number))
        turns[group] += 1
    return [number for _, _, number in sorted(ranked)]


def _measured(loaded: Loaded) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in CANDIDATES.read_text(encoding="utf-8").splitlines()]
    contexts = [Context(row["prompt"], *row["words"]) for row in rows]
    return probe(loaded.model, loaded.tokenizer, contexts, only=("gold_overlap", "logit_gap", "born_gap")).to_dicts()


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    rows = sorted(rows, key=lambda row: row["gold_overlap"])
    chosen: list[dict[str, Any]] = []
    for target in torch.linspace(rows[0]["gold_overlap"], rows[-1]["gold_overlap"], count).tolist():
        left = [row for row in rows if all({row["gold"], row["rival"]} != {c["gold"], c["rival"]} for c in chosen)]
        chosen.append(min(left, key=lambda row: abs(row["gold_overlap"] - target)))
    return sorted(chosen, key=lambda row: row["gold_overlap"])


def _directed(row: dict[str, Any], control: bool) -> Context:
    first, second = row["gold"], row["rival"]
    ahead, behind = (first, second) if row["logit_gap"] > 0 else (second, first)
    return Context(row["prompt"], ahead, behind) if control else Context(row["prompt"], behind, ahead)
