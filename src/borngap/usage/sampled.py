"""A sample of the places of terms, to be watched while a model trains: fixed by a seed, spread over the terms."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

from borngap.context import Context, Target
from borngap.data.recognise import layout_of
from borngap.data.rows import Row
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.judge.termshares import WatchedPlace
from borngap.model.length import context_length
from borngap.observables.geometry import Geometry
from borngap.scanning.supervised import Example, Supervision, examples_of, windows_of
from borngap.tokens import decoded
from borngap.usage.absent import refuse_empty, refuse_unmeasured
from borngap.usage.allowed import Allowed, check_field, marks_of
from borngap.usage.asking import Asking
from borngap.usage.places import Place, Placer, directed
from borngap.words.occurrences import Finder
from borngap.words.term import TermList

PLACES = 64
_ROWS = 10_000  # in which places are looked for
_LONG = 512  # tokens: what stands after more than these is taken last, for what it costs
_UNTOLD = (
    "nothing says where the words to avoid are right: give allowed=, or asking={'allowed_field': NAME} for a field of "
    "the rows"
)
_NONE_MARKED = "no place of a word to avoid is marked as right"
_RIGHT = 3  # one place in so many is one at which the word to avoid is right


@dataclass(frozen=True)
class TermSample:
    """Places to watch.

    Attributes:
        targets: what the model is asked, gold being the word that stands there.
        places: what each of them is, in the same order.
        no_over_use: why none of them tells over-use; None if one does.
    """

    targets: tuple[Target, ...]
    places: tuple[WatchedPlace, ...]
    no_over_use: str | None


@dataclass(frozen=True)
class _Found:
    """A word in a row that could be watched: one place for each of its rivals, with what the model reads before it."""

    row: Row
    asked: tuple[tuple[Place, tuple[int, ...]], ...]

    @property
    def is_long(self) -> bool:
        return max(len(ids) for _, ids in self.asked) > _LONG

    @property
    def is_due(self) -> bool:
        return self.asked[0][0].occurrence.side == "use"

    @property
    def term(self) -> int:
        return self.asked[0][0].occurrence.term


class PlaceSampler:
    """Draws places of terms from data."""

    def __init__(
        self, model: Any, tokenizer: Any, geometry: Geometry, terms: TermList, data: Any, allowed: Any, asking: Asking
    ) -> None:
        """Read how the data is laid out.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer.
            geometry: words whose token has no direction in it are left out.
            terms: the terms.
            data: a path, a hub name, a ``datasets`` object, or a sequence of texts or mappings, token ids included.
            allowed: where words to avoid are right, as ``terms`` takes it.
            asking: how rows are read.
        """
        self._terms, self._tokenizer, self._geometry, self._asking = terms, tokenizer, geometry, asking
        self._source = source_of(data)
        self._allowed = Allowed(marks_of(allowed), asking.allowed_field)
        check_field(self._source, asking.allowed_field, asking.limit)
        layout = layout_of(self._source, asking.fields)
        self._supervision = Supervision(tokenizer, layout, asking.max_length, asking.loss)
        self._placer = Placer(tokenizer, Finder(terms.terms))
        self._window = asking.window_of(context_length(model))
        self._counts = {"rows": 0, "places": 0, "hidden": 0}
        self._malformed: list[tuple[str, str]] = []
        self._reasons: dict[tuple[int, str], int] = {}

    def draw(self, count: int, seed: int) -> TermSample:
        """Draw places, as evenly over terms as they stand there.

        Args:
            count: how many; a third of them are places at which the word to avoid is right, if there are so many.
            seed: seeds the choice of rows and places.

        Returns:
            At most as many.

        Raises:
            UserError: no word of the terms stands in what the rows teach, or none can be measured.
        """
        generator = random.Random(seed)  # noqa: S311  # no secret
        found = [one for rows in _chunks(self._rows(generator), self._asking.chunk) for one in self._found(rows)]
        self._check(found)
        due, right = ([one for one in found if one.is_due == is_due] for is_due in (True, False))
        some = min(len(right), max(count // _RIGHT, count - len(due)))
        chosen = [*_spread(due, count - some, generator), *_spread(right, some, generator)]
        asked = [(number, one, *which) for number, one in enumerate(chosen) for which in one.asked]
        return TermSample(
            tuple(self._target(one, place, ids) for _, one, place, ids in asked),
            tuple(self._watched(context, *which[:3]) for context, which in enumerate(asked)),
            None if right else _NONE_MARKED if self._allowed.told else _UNTOLD,
        )

    def _rows(self, generator: random.Random) -> Iterator[Row]:
        """The rows, or as many of them as are looked through: the first ones of a stream, else random ones."""
        limit = self._asking.limit
        total = self._source.total(limit)
        if total is None or total <= _ROWS:
            return islice(self._source.rows(0, limit), _ROWS)
        drawn = frozenset(generator.sample(range(total), _ROWS))
        return (row for row in self._source.rows(0, limit) if row.number in drawn)

    def _examples(self, rows: Sequence[Row]) -> tuple[list[Example], list[tuple[str, str]]]:
        return examples_of(rows, self._supervision, self._geometry.size, strict=self._asking.strict)

    def _found(self, rows: Sequence[Row]) -> Iterator[_Found]:
        """The words of terms that can be watched."""
        examples, malformed = self._examples(rows)
        places, hidden = self._placer.places(examples)
        self._malformed += malformed
        for name, number in (("rows", len(rows)), ("places", sum(map(len, places))), ("hidden", hidden)):
            self._counts[name] += number
        for example, own in zip(examples, places, strict=True):
            for same in _same_words(place for place in map(self._directed, own) if self._is_told(example, place)):
                yield _Found(example.row, tuple((place, _prompt(example, place, self._window)) for place in same))

    def _directed(self, place: Place) -> Place:
        return directed(place, self._geometry)

    def _is_told(self, example: Example, place: Place) -> bool:
        """Whether a place can be measured, and says something."""
        found, term = place.occurrence, self._terms.terms[place.occurrence.term]
        if place.reason is not None:
            self._reasons[found.term, place.reason] = self._reasons.get((found.term, place.reason), 0) + 1
            return False
        return found.side == "use" or self._allowed.right(example.row, term, found.text, place.measured)

    def _target(self, found: _Found, place: Place, ids: tuple[int, ...]) -> Target:
        gold, rival = int(place.gold_id or 0), int(place.rival_id or 0)
        prompt, *words = (decoded(some, self._tokenizer) for some in (ids, [gold], [rival]))
        words_of_term = self._terms.terms[place.occurrence.term].words
        note = f"a place of {words_of_term}: {place.occurrence.text!r} in {found.row.where}"
        context = Context(prompt, words[0], words[1], ids, gold, rival, note)
        return Target(context, ids, gold, rival, {"context": note}, fragment=False)

    def _watched(self, context: int, number: int, found: _Found, place: Place) -> WatchedPlace:
        term = self._terms.terms[place.occurrence.term]
        return WatchedPlace(context, number, place.occurrence.term, term.use, term.avoid, found.is_due, found.row.where)

    def _check(self, found: Sequence[_Found]) -> None:
        """Refuse data that tells no success."""
        name, counts = self._source.name, self._counts
        if not counts["places"]:
            rows = islice(self._source.rows(0, self._asking.limit), _ROWS)
            examples = (example for some in _chunks(rows, self._asking.chunk) for example in self._examples(some)[0])
            refuse_empty(
                self._terms.terms, examples, self._placer, name, counts | {"malformed": len(self._malformed)},
                next(iter(self._malformed), None), self._supervision.supervised,
            )  # fmt: skip
        if not any(one.is_due for one in found):
            terms = self._terms.terms
            reasons = [(terms[term].words, reason, count) for (term, reason), count in self._reasons.items()]
            if reasons:
                refuse_unmeasured(name, reasons)
            rule = "held-out rows keep to the terms: success is measured where a wanted word stands"
            found_there = f"{counts['places']} places of words to avoid"
            raise UserError(f"no wanted word stands in {name}", rule=rule, found=found_there)


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, size)):
        yield chunk


def _same_words(places: Iterable[Place]) -> Iterable[list[Place]]:
    """The places of one row, those of one word together: it may have several rivals."""
    words: dict[tuple[int, str, str], list[Place]] = {}
    for place in places:
        words.setdefault((place.at, place.occurrence.text, place.occurrence.side), []).append(place)
    return words.values()


def _prompt(example: Example, place: Place, window: int) -> tuple[int, ...]:
    """What the model reads before a place."""
    at = place.measured or 0
    own = next(w for w in windows_of(example, place.document, window) if w.first <= at < w.stop)
    return tuple(example.ids[own.start : at])


def _spread(found: Sequence[_Found], count: int, generator: random.Random) -> list[_Found]:
    """As many, term after term in turn, each term's in random order."""
    by_term: dict[int, list[_Found]] = {}
    for one in generator.sample(found, len(found)):
        by_term.setdefault(one.term, []).append(one)
    turns = zip_longest(*(sorted(by_term[term], key=lambda one: one.is_long) for term in sorted(by_term)))
    return list(islice((one for turn in turns for one in turn if one is not None), count))
