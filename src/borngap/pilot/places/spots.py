"""Watched places: where gold and its rival are asked for before and after a pilot."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from borngap.context import Target
from borngap.data.rows import Row
from borngap.data.tokenised import Document, plain
from borngap.model.words import Words
from borngap.scanning.positions import Scanner
from borngap.scanning.supervised import Example
from borngap.usage.allowed import Allowed
from borngap.usage.places import Placer
from borngap.words.term import Term

SpotKind = Literal["due", "right", "synonym", "context"]


@dataclass(frozen=True, eq=False)
class Spot:
    """A place at which gold stands and its rival could.

    Attributes:
        kind: a wanted word of terms stands there (``due``); a word to avoid stands there and is right (``right``); a
            word with a synonym in front of it or behind; or a given context.
        example: its row, as token ids.
        document: what the model reads together with it.
        offset: token of the row at which gold and rival differ.
        gold_id: what stands there.
        rival_id: what could stand there.
        gold: what stands there, as text.
        rival: what could.
        terms: indices of the terms whose place it is.
    """

    kind: SpotKind
    example: Example
    document: Document
    offset: int
    gold_id: int
    rival_id: int
    gold: str
    rival: str
    terms: tuple[int, ...] = ()

    @property
    def pair(self) -> tuple[str, int, int]:
        """What it shares with places of its kind: the two tokens, and which of both stands there."""
        return self.kind, self.gold_id, self.rival_id


def spots_of_terms(
    examples: Sequence[Example], placer: Placer, terms: Sequence[Term], allowed: Allowed
) -> tuple[list[Spot], dict[str, int], set[int]]:
    """Find the places of terms in held-out rows: those of wanted words, and those where a word to avoid is right.

    Args:
        examples: the rows.
        placer: finds places.
        terms: the terms.
        allowed: tells where words to avoid are right.

    Returns:
        The places, each once; counts: ``hidden``, words that nothing supervises, and ``unmeasured``; and the indices
        of terms of which a word stands in what is supervised.
    """
    places, hidden = placer.places(examples)
    found: dict[tuple[int, int, int, int], Spot] = {}
    counts = {"hidden": hidden, "unmeasured": 0}
    for number, (example, own) in enumerate(zip(examples, places, strict=True)):
        for place in own:
            said, term = place.occurrence, terms[place.occurrence.term]
            due = said.side == "use"
            if not due and not allowed.right(example.row, term, said.text, place.measured):
                continue
            if place.measured is None or place.gold_id is None or place.rival_id is None:
                counts["unmeasured"] += 1
                continue
            key = (number, place.measured, place.gold_id, place.rival_id)
            known = found[key].terms if key in found else ()
            found[key] = Spot(
                "due" if due else "right", example, place.document, place.measured, place.gold_id, place.rival_id,
                said.text, said.other, (*known, said.term),
            )  # fmt: skip
    return list(found.values()), counts, {place.occurrence.term for own in places for place in own}


def spots_of_scan(scanner: Scanner, rows: Sequence[Row], words: Words) -> tuple[list[Spot], int]:
    """Find the words in rows that have a synonym in the nucleus, whichever of both leads.

    Args:
        scanner: looks for synonyms.
        rows: held-out rows.
        words: the vocabulary as words.

    Returns:
        The places, and the tokens that were read.
    """
    chunk = scanner.scan(rows)
    by_number = {row.number: row for row in rows}
    examples: dict[int, Example] = {}
    spots = []
    for number, at, gold, rival in chunk.positions.select("row", "offset", "gold_id", "rival_id").iter_rows():
        if number not in examples:
            examples[number] = scanner.example(by_number[number])
        document = next(d for d in examples[number].documents if d.start < at < d.stop)
        spot = Spot("synonym", examples[number], document, at, gold, rival, words.text[gold], words.text[rival])
        spots.append(spot)
    return spots, chunk.counts["tokens"]


def spots_of_contexts(targets: Sequence[Target]) -> list[Spot]:
    """Return given contexts as places: each is a row of its own, its gold the last token."""
    spots = []
    for number, target in enumerate(targets):
        tokens = plain([*target.ids, target.gold_id], [*target.ids, target.gold_id])
        row = Row(number, f"context {number + 1}", target.context.prompt)
        example = Example(row, tokens.ids, tokens.labels, tokens.documents)
        rival = -1 if target.rival_id is None else target.rival_id
        spots.append(
            Spot("context", example, tokens.documents[0], len(target.ids), target.gold_id, rival, target.context.gold,
                 target.context.rival or "")
        )  # fmt: skip
    return spots


def chosen_spots(spots: Sequence[Spot], most: int, tokens: float, seed: int) -> list[Spot]:
    """Choose places: pairs of words in turn, and of a chosen row all places, since they cost one forward.

    Args:
        spots: all there are.
        most: how many.
        tokens: what one look at them may read.
        seed: seeds the order within a pair.

    Returns:
        The chosen ones, in the order of the data.
    """
    shuffled = list(spots)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  # a sample, no secret
    turn: dict[Any, int] = defaultdict(int)
    ranked: list[tuple[int, int, Spot]] = []
    for spot in shuffled:
        ranked.append((turn[spot.pair], len(ranked), spot))
        turn[spot.pair] += 1
    rows: dict[tuple[int, int], list[Spot]] = defaultdict(list)
    for spot in spots:
        rows[_text(spot)].append(spot)
    chosen: dict[int, Spot] = {}
    room = tokens
    for _, _, spot in sorted(ranked, key=lambda item: item[:2]):
        own = rows[_text(spot)]
        price = max(s.offset for s in own) - spot.document.start
        if len(chosen) >= most or id(spot) in chosen or price > room:
            continue
        room -= price
        chosen |= {id(s): s for s in sorted(own, key=lambda s: s is not spot)[: most - len(chosen)]}
    return [spot for spot in spots if id(spot) in chosen]


def sampled(rows: Iterable[Row], seed: int) -> list[Row]:
    """Return rows in a random order."""
    found = list(rows)
    random.Random(seed).shuffle(found)  # noqa: S311  # a sample, no secret
    return found


def _text(spot: Spot) -> tuple[int, int]:
    return id(spot.example), spot.document.start
