"""The choice of a rival where the user names none (docs/theory.md#objects)."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.observables.geometry import Geometry
from borngap.observables.sorting import nucleus

_FALLBACK = 50
Describe = Callable[[int], tuple[str, bool]]


def choose_rival(
    probs: Tensor, geometry: Geometry, gold: int, top_p: float, describe: Describe, synonyms: Collection[int] = ()
) -> int:
    """Return the nucleus token with the largest overlap with gold that is another word, a synonym before the others.

    Left out: gold, special tokens, tokens without a direction, tokens whose text equals gold's after stripping white
    space and case folding, and fragments (no word start while gold has one). If none is left, the nearest such token of
    the 50 most probable.

    Args:
        probs: the base model's probabilities over the tokens, shape (V,).
        geometry: the geometry matrix.
        gold: id of the gold token.
        top_p: nucleus mass, in (0, 1].
        describe: gives a token's decoded text and whether it starts a word.
        synonyms: tokens that go before all others, by overlap too.

    Returns:
        The rival's id.

    Raises:
        UserError: neither the nucleus nor the 50 most probable tokens hold another word.
    """
    geometry.check("gold", torch.tensor([gold]))
    text, starts = describe(gold)

    def is_rival(token: int) -> bool:
        other, other_starts = describe(token)
        same = other.strip().casefold() == text.strip().casefold()
        return not same and bool(other.strip()) and (other_starts or not starts) and token not in geometry.special

    probs = geometry.split(probs[None], fill=0)[0][0]
    top = probs.topk(min(_FALLBACK, len(probs))).indices
    for candidates in (nucleus(probs[None], top_p)[0].nonzero().flatten(), top):
        others = candidates[(candidates != gold) & geometry.directed(candidates)]
        overlaps = geometry.overlap(others, torch.tensor([gold], device=others.device))
        nearest = others[overlaps.argsort(descending=True, stable=True)].tolist()
        nearest.sort(key=lambda token: token not in synonyms)
        rival = next(filter(is_rival, nearest), None)
        if rival is not None:
            return rival
    found = f"no other word among the nucleus and the {len(top)} most probable tokens"
    raise UserError(f"no rival for {text!r}", found=found, fix="name the rival in the contexts file")
