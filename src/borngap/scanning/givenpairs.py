"""Pairs of words that a user names, as tokens of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from borngap.errors import UserError
from borngap.model.words import Words
from borngap.tokens import decoded

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


def _reason(pair: tuple[str, str], tokens: Mapping[str, int], tokenizer: Any) -> str:
    return ", ".join(f"{word!r} is {_pieces(word, tokenizer)}" for word in pair if word not in tokens)


def _pieces(word: str, tokenizer: Any) -> str:
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    if len(ids) == 1:
        return "no word by the rules of a scan"
    return f"{len(ids)} tokens: {' '.join(repr(decoded([i], tokenizer)) for i in ids)}"
