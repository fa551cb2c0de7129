"""What a scan looks for in one model: its words, what is near them, and how they are related."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from borngap.errors import UserError
from borngap.model.readout import geometry_of
from borngap.model.tokenrelations import TokenRelations
from borngap.model.words import Words, words_of
from borngap.observables.bulk import Bulk, percentiles_of
from borngap.observables.geometry import Geometry
from borngap.scanning.candidates import Candidates, Rule
from borngap.scanning.rivals import Rivals
from borngap.scanning.settings import PERCENTILE_FLOOR, Scanning
from borngap.tokens import decoded
from borngap.words.relation import Relation
from borngap.words.thesaurus import read_thesaurus

_SHOWN_PIECES = 3


@dataclass(frozen=True)
class Given:
    """Pairs to look for.

    Attributes:
        tokens: pairs of token ids.
        left_out: pairs that can't be looked for: ``gold``, ``rival``, ``reason``.
    """

    tokens: tuple[tuple[int, int], ...]
    left_out: list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class RivalSearch:
    """Rivals of one model, ready to be found.

    Attributes:
        words: the vocabulary as words; those without a direction are no whole words here.
        bulk: the model's bulk geometry.
        least: smallest overlap of a rival that is no synonym; None where overlaps are not looked at.
        given: the given pairs; None where there are none.
        rivals: finds rivals.
        relation: says how a gold and a rival token are related.
        unfound: terms that can't be looked for: no form of one of their words is a whole word of the vocabulary.
    """

    words: Words
    bulk: Bulk
    least: float | None
    given: Given | None
    rivals: Rivals
    relation: Callable[[int, int], Relation]
    unfound: tuple[tuple[str, str], ...] = ()


def rival_search(model: Any, tokenizer: Any, settings: Scanning) -> RivalSearch:
    """Read a model's vocabulary and measure how its words lie.

    Args:
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        settings: what counts as a rival.

    Returns:
        The search.

    Raises:
        UserError: a setting does not fit the model, or the thesaurus can't be read.
    """
    geometry = geometry_of(model, settings.geometry, tokenizer)
    near = geometry if settings.find_by == settings.geometry else geometry_of(model, settings.find_by, tokenizer)
    words, ids = words_of(tokenizer, geometry.size), torch.arange(geometry.size)
    words = replace(words, whole=words.whole & geometry.directed(ids) & near.directed(ids))
    bulk = geometry.bulk(settings.bulk_pairs, settings.seed, (settings.percentile,))
    if settings.pairs is not None:
        given = given_pairs(settings.pairs, words, tokenizer)
        both = [*given.tokens, *((rival, gold) for gold, rival in given.tokens)]
        candidates = Candidates.given(near, Rule(words.whole, words.key, 0.0), both)
        return RivalSearch(words, bulk, None, given, Rivals(geometry, candidates, settings.top_p), lambda *_: "given")
    thesaurus = None if settings.thesaurus is None else read_thesaurus(Path(settings.thesaurus).expanduser())
    related = TokenRelations(words, thesaurus, settings.terms or ())
    least = _least(bulk if near is geometry else near, settings)
    counted = None if settings.relations is None else frozenset(settings.counted)
    candidates = Candidates(near, Rule(words.whole, words.key, least, related, counted))
    rivals = Rivals(geometry, candidates, settings.top_p)
    unfound = tuple(pair for pair in settings.terms or () if related.without_token(*pair))
    return RivalSearch(words, bulk, least if candidates.by_overlap else None, None, rivals, related.relation, unfound)


def thesaurus_digest(settings: Scanning) -> str | None:
    """Return a fingerprint of the user's thesaurus; None where there is none."""
    if settings.thesaurus is None:
        return None
    return hashlib.sha256(Path(settings.thesaurus).expanduser().read_bytes()).hexdigest()[:16]


def given_pairs(pairs: Sequence[tuple[str, str]], words: Words, tokenizer: Any) -> Given:
    """Return pairs of words as tokens.

    A pair with a word of several tokens is left out. The first token at which the words differ would not do, as it
    does in a context: a scan counts every place where gold's token stands, and a part of a word stands in other words.

    Args:
        pairs: gold and rival.
        words: the vocabulary as words.
        tokenizer: its tokenizer.

    Returns:
        The pairs.

    Raises:
        UserError: no pair is left.
    """
    tokens = words.tokens()
    known = [pair for pair in pairs if set(pair) <= tokens.keys()]
    others = [pair for pair in pairs if not set(pair) <= tokens.keys()]
    left_out = [{"gold": a, "rival": b, "reason": _reason((a, b), tokens, tokenizer)} for a, b in others]
    if not known:
        found = "; ".join(entry["reason"] for entry in left_out[:_SHOWN_PIECES])
        rule = "pairs of whole words, each a single token of this model"
        raise UserError("none of the pairs can be looked for", rule=rule, found=found)
    return Given(tuple((tokens[gold], tokens[rival]) for gold, rival in known), left_out)


def _least(near: Bulk | Geometry, settings: Scanning) -> float:
    """The threshold, from the overlaps of random pairs: those of a bulk that is known, or of a geometry."""
    if isinstance(near, Bulk):
        overlaps = near.overlap_percentiles
    else:
        sample = near.sample(settings.bulk_pairs, settings.seed)
        overlaps = percentiles_of(sample, {PERCENTILE_FLOOR, settings.percentile})
    lowest = overlaps[f"{PERCENTILE_FLOOR:g}"]
    if settings.min_overlap is None:
        return overlaps[f"{settings.percentile:g}"]
    if settings.min_overlap < lowest:
        rule = f"at least {lowest:.3f}, the 90th percentile of this model's random token pairs ({settings.find_by})"
        raise UserError("min_overlap is out of range", rule=rule, found=settings.min_overlap)
    return settings.min_overlap


def _reason(pair: tuple[str, str], tokens: Mapping[str, int], tokenizer: Any) -> str:
    return ", ".join(f"{word!r} is {_pieces(word, tokenizer)}" for word in pair if word not in tokens)


def _pieces(word: str, tokenizer: Any) -> str:
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    if len(ids) == 1:
        return "no word by the rules of a scan"
    return f"{len(ids)} tokens: {' '.join(repr(decoded([i], tokenizer)) for i in ids)}"
