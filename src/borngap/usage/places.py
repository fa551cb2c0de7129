"""Places: where a word of a term stands in a row, and the two tokens by which the model tells both words apart.

The rule is that of contexts (docs/theory.md#objects): a word is taken with its leading space; of words of several
tokens the first one at which they differ counts, and those that they share belong to the prefix. The prefix is the
row's own tokens, so a word that the row cuts otherwise than the rule does can't be measured there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from borngap.data.tokenised import IGNORED, Document
from borngap.observables.geometry import Geometry
from borngap.scanning.supervised import Example
from borngap.tokens import decoded
from borngap.usage.texts import TokenText, TokenTexts
from borngap.words.occurrences import Finder, Occurrence

_LEFT = 8  # tokens before a word that are tokenised with it
_BEFORE, _AFTER = 80, 30  # characters that are shown
CUT = "the row cuts the word, or what stands before it, in another way than by itself"
BEGINNING = "one word is the beginning of the other, token by token"
UNSPELT = "the expression to avoid lists no string that could stand here"
FIRST = "it is the first token of its text, which nothing predicts"


@dataclass(frozen=True)
class Place:
    """A word of a term in a row.

    Attributes:
        occurrence: what stands there.
        document: what the model reads together with it.
        at: first token of the word.
        before: text before it.
        after: text after it.
        measured: the token at which the words differ, index in the row; None where they can't be told apart.
        gold_id: what stands there.
        rival_id: what would stand there, if the other word did.
        reason: why it can't be measured.
    """

    occurrence: Occurrence
    document: Document
    at: int
    before: str
    after: str
    measured: int | None = None
    gold_id: int | None = None
    rival_id: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Candidate:
    """An occurrence with the texts that tell its tokens."""

    example: Example
    document: Document
    text: TokenText
    occurrence: Occurrence
    at: int
    texts: tuple[str, str, str]
    """What stands before; that with the word; that with the other."""
    is_taught: bool


class Placer:
    """Finds places in examples."""

    def __init__(self, tokenizer: Any, finder: Finder) -> None:
        """Prepare.

        Args:
            tokenizer: the model's tokenizer.
            finder: finds words.
        """
        self._tokenizer, self._finder, self._texts = tokenizer, finder, TokenTexts(tokenizer)

    def places(self, examples: Sequence[Example]) -> tuple[list[list[Place]], int]:
        """Find places.

        Args:
            examples: rows.

        Returns:
            The places in what is supervised of each, in the order of their words; and how many words stand elsewhere.
        """
        found = [list(self._candidates(example)) for example in examples]
        taught = [[candidate for candidate in some if candidate.is_taught] for some in found]
        ids = self._tokenised({text for some in taught for candidate in some for text in candidate.texts})
        hidden = sum(map(len, found)) - sum(map(len, taught))
        return [[_placed(candidate, ids) for candidate in some] for some in taught], hidden

    def text(self, ids: Sequence[int]) -> str:
        """Return the text in which words are looked for."""
        return self._texts.of(ids).text

    def written(self, prompt: Sequence[int], ids: Sequence[int]) -> list[Occurrence]:
        """Return the words of terms that begin in what a model wrote after a prompt."""
        tail = list(prompt)[-_LEFT:]
        text = self._texts.of([*tail, *ids])
        return [found for found in self._finder.find(text.text) if found.start >= text.starts[len(tail)]]

    def _candidates(self, example: Example) -> Iterator[_Candidate]:
        for document in example.documents:
            text = self._texts.of(example.ids[document.start : document.stop])
            for occurrence in self._finder.find(text.text):
                yield self._candidate(example, document, text, occurrence)

    def _candidate(self, example: Example, document: Document, text: TokenText, found: Occurrence) -> _Candidate:
        """An occurrence with its leading space."""
        space = found.start > 0 and text.text[found.start - 1] == " "
        first = text.first(found.start - space)
        left = example.ids[document.start + max(0, first - _LEFT) : document.start + first]
        before, head = decoded(left, self._tokenizer), text.shown[text.starts[first] : found.start]
        texts = (before, before + head + found.text, before + head + found.other)
        own = slice(document.start + text.first(found.start), document.start + text.stop(found.stop))
        taught = IGNORED not in example.labels[own]
        return _Candidate(example, document, text, found, document.start + first, texts, taught)

    def _tokenised(self, texts: set[str]) -> dict[str, list[int]]:
        ordered = sorted(texts)
        if not ordered:
            return {}
        ids = self._tokenizer(ordered, add_special_tokens=False, verbose=False)["input_ids"]
        return dict(zip(ordered, map(list, ids), strict=True))


def _placed(candidate: _Candidate, ids: dict[str, list[int]]) -> Place:
    """Tell both words' tokens, and the first one at which they differ."""
    before, gold, rival = (ids[text] for text in candidate.texts)
    found, text = candidate.occurrence, candidate.text.shown
    shown = (text[max(0, found.start - _BEFORE) : found.start], text[found.stop : found.stop + _AFTER])
    here = Place(found, candidate.document, candidate.at, *shown)
    if not found.other:
        return _with(here, UNSPELT)
    if gold[: len(before)] != before or rival[: len(before)] != before:
        return _with(here, CUT)
    gold, rival = gold[len(before) :], rival[len(before) :]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(gold, rival, strict=False)))
    if shared == min(len(gold), len(rival)):
        return _with(here, BEGINNING)
    measured = candidate.at + shared
    if candidate.example.ids[candidate.at : measured + 1] != gold[: shared + 1]:
        return _with(here, CUT)
    if measured == candidate.document.start:
        return _with(here, FIRST)
    return Place(found, candidate.document, candidate.at, *shown, measured, gold[shared], rival[shared])


def directed(place: Place, geometry: Geometry) -> Place:
    """Return a place, not measured where one of its two tokens has no direction: a probe refuses it, too."""
    if place.measured is None:
        return place
    ids = torch.tensor([place.gold_id, place.rival_id], device=geometry.matrix.device)
    if bool(geometry.directed(ids).all()):
        return place
    return _with(place, f"a token has no direction in the {geometry.kind} geometry: its embedding row is zero")


def _with(place: Place, reason: str) -> Place:
    return Place(place.occurrence, place.document, place.at, place.before, place.after, reason=reason)
