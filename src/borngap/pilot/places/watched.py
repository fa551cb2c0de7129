"""What a run is watched by: places of terms or of synonyms in held-out rows, or given contexts; and held-out rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from borngap.context import Context
from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource, Row
from borngap.data.tokenised import Tokens
from borngap.errors import UserError
from borngap.model.length import context_length
from borngap.model.load import Loaded
from borngap.model.probe import named, with_rivals
from borngap.model.readout import geometry_of
from borngap.model.vocabulary import vocabulary_of
from borngap.pilot.places.look import Lookout, row_price
from borngap.pilot.places.spots import Spot, chosen_spots, sampled, spots_of_contexts, spots_of_scan, spots_of_terms
from borngap.pilot.settings import Piloting
from borngap.scanning.scan import job_of
from borngap.scanning.settings import Scanning
from borngap.scanning.supervised import Example, Supervision, examples_of
from borngap.training import Training
from borngap.usage.absent import absent_note, refuse_empty
from borngap.usage.allowed import Allowed, check_field
from borngap.usage.places import Placer
from borngap.words.occurrences import Finder
from borngap.words.term import TermList

_CHUNK = 16  # rows that are scanned at once: no more than needed are read
OF_LOSS = 0.1  # of what one look may read, for the held-out loss
_ABSENT = "terms of which neither word stands in what is supervised of the held-out rows"
_FEW_TOKENS = 32  # of a look that are never too dear: a budget must buy some place


@dataclass(frozen=True)
class Asked:
    """What to watch.

    Attributes:
        held_out: rows that are not trained on; None with contexts alone.
        terms: words to use and to avoid; None for synonyms, or contexts.
        contexts: given contexts; None for places in the rows.
        allowed: tells where words to avoid are right.
    """

    held_out: DataSource | None = None
    terms: TermList | None = None
    contexts: tuple[Context, ...] | None = None
    allowed: Allowed = Allowed()  # noqa: RUF009  # it is never changed

    @property
    def kind(self) -> str:
        """What is watched: ``terms``, ``synonyms`` or ``contexts``."""
        if self.contexts is not None:
            return "contexts"
        return "synonyms" if self.terms is None else "terms"


@dataclass(frozen=True)
class WatchList:
    """What is watched.

    Attributes:
        lookout: the places and the rows whose loss is measured.
        there: how many places there are, as far as was looked.
        read: tokens that were read to find them.
        unmeasured: places that this tokenizer can't tell apart.
        absent: a note on terms that stand nowhere; none where all stand somewhere.
    """

    lookout: Lookout
    there: int
    read: int
    unmeasured: int
    absent: tuple[str, ...] = ()

    def notes(self, most: int) -> list[str]:
        """Say what is not watched.

        Args:
            most: how many places were asked for.

        Returns:
            Sentences, none where all is watched.
        """
        notes, watched = list(self.absent), len(self.lookout.spots)
        if watched < min(most, self.there):
            notes.append(f"{watched} of {self.there} places are watched: more would not be within the budget")
        if self.unmeasured:
            notes.append(
                f"{self.unmeasured} places can't be measured: this tokenizer can't tell both words apart there"
            )
        return notes


def find(
    loaded: Loaded, asked: Asked, training: Training, settings: Piloting, tokens: float, for_loss: float = OF_LOSS
) -> WatchList:
    """Choose what is watched.

    Args:
        loaded: the model before training.
        asked: what to watch.
        training: names the geometry by which missing rivals are chosen.
        settings: how rows are read, how many places at most, and the seed.
        tokens: what one look may read.
        for_loss: the share of it that goes into the held-out loss.

    Returns:
        The places and rows.

    Raises:
        UserError: there is no place, or the budget buys none.
    """
    return _Search(loaded, asked, training, settings, tokens, for_loss).run()


def taught_notes(lookout: Lookout, rows: Iterable[Tokens]) -> list[str]:
    """Say how many watched rows are rows that the run trains on.

    Args:
        lookout: what is watched; given contexts count for themselves and are left out.
        rows: of the run; a token for the end of the text behind a row makes no other row of it.

    Returns:
        One note, or none.
    """
    spots = [spot for spot in lookout.spots if spot.kind != "context"]
    watched = {tuple(spot.example.ids[spot.document.start : spot.document.stop]) for spot in spots}
    trained = (tuple(row.ids[d.start : d.stop]) for row in rows for d in row.documents)
    same = {key for ids in trained for key in (ids, ids[:-1]) if key in watched}
    if not same:
        return []
    return [
        f"{len(same)} of {len(watched)} watched texts are texts that the run trains on: it sees each of them itself, "
        "which moves them further than a pilot shows; the forecast is for held-out rows (--watch)"
    ]


class _Search:
    def __init__(
        self, loaded: Loaded, asked: Asked, training: Training, settings: Piloting, tokens: float, for_loss: float
    ) -> None:
        self._loaded, self._asked, self._training, self._settings = loaded, asked, training, settings
        self._window = settings.window_of(context_length(loaded.model))
        self._for_loss = 0.0 if asked.held_out is None else for_loss * tokens
        self._room = tokens - self._for_loss
        self._read = self._unmeasured = 0
        self._absent: tuple[str, ...] = ()

    def run(self) -> WatchList:
        """Find and choose."""
        rows = [] if self._asked.held_out is None else sampled(
            self._asked.held_out.rows(0, self._settings.limit), self._settings.seed
        )  # fmt: skip
        spots = self._spots(rows)
        chosen = spots
        if self._asked.contexts is None:
            chosen = chosen_spots(spots, self._settings.places, max(self._room, _FEW_TOKENS), self._settings.seed)
        if not chosen:
            cheapest = min(spot.offset - spot.document.start for spot in spots)
            raise UserError(
                "the budget buys no look at a watched place",
                rule=f"a look may read {self._room:.0f} tokens", found=f"{cheapest} tokens before the nearest place",
                fix="a larger --budget, or a run of more rows",
            )  # fmt: skip
        held_out = self._held_out(rows) if self._asked.held_out is not None else []
        lookout = Lookout(self._loaded.model, chosen, held_out, self._window)
        return WatchList(lookout, len(spots), self._read, self._unmeasured, self._absent)

    def _spots(self, rows: Sequence[Row]) -> list[Spot]:
        if self._asked.contexts is not None:
            return self._of_contexts(self._asked.contexts)
        return self._of_synonyms(rows) if self._asked.terms is None else self._of_terms(rows, self._asked.terms)

    def _of_contexts(self, contexts: Sequence[Context]) -> list[Spot]:
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        geometry = geometry_of(model, self._training.geometry, tokenizer)
        tokenised = [named(context, tokenizer) for context in contexts]
        targets, _, _ = with_rivals(model, tokenizer, tokenised, geometry, self._training.top_p)
        self._read = sum(len(target.ids) for target in targets)
        return spots_of_contexts(targets)

    def _of_terms(self, rows: Sequence[Row], terms: TermList) -> list[Spot]:
        source, allowed = self._source(), self._asked.allowed
        check_field(source, allowed.field, self._settings.limit)
        placer = Placer(self._loaded.tokenizer, Finder(terms.terms))
        supervision = self._supervision(source)
        examples, malformed = examples_of(rows, supervision, self._size(), strict=self._settings.strict)
        spots, counts, there = spots_of_terms(examples, placer, terms.terms, allowed)
        self._absent = tuple(absent_note([term.words for term in terms.terms], there, _ABSENT))
        self._unmeasured = counts["unmeasured"]
        if not spots:
            told = {"rows": len(rows), "malformed": len(malformed), "hidden": counts["hidden"]}
            first = malformed[0] if malformed else None
            refuse_empty(terms.terms, examples, placer, source.name, told, first, supervision.supervised)
        return spots

    def _of_synonyms(self, rows: Sequence[Row]) -> list[Spot]:
        s = self._settings
        scanning = Scanning(
            relations=("synonym",), max_length=s.max_length, window=s.window, loss=s.loss,
            text_field=s.text_field, prompt_field=s.prompt_field, completion_field=s.completion_field,
            messages_field=s.messages_field,
        )  # fmt: skip
        job = job_of(self._loaded, self._source(), scanning)
        self._window, spots = job.window, list[Spot]()
        left = list(rows)
        while left and len(spots) < s.places and self._read < self._room:
            part = self._next(left)
            more, read = spots_of_scan(job.scanner, part, job.search.words)
            self._read += read
            spots += more
        if not spots:
            rule = "words with a synonym in the nucleus of the model's prediction"
            fix = "give --terms, --contexts, or more held-out rows"
            raise UserError(f"no place to watch in {self._source().name}", rule=rule, found="none", fix=fix)
        return spots

    def _next(self, rows: list[Row]) -> list[Row]:
        """Take rows to scan together: few enough that they read no more than the budget buys."""
        supervision, part, room = self._supervision(self._source()), list[Row](), self._room - self._read
        while rows and len(part) < _CHUNK and room > 0:
            part.append(rows.pop(0))
            examples, _ = examples_of(part[-1:], supervision, self._size())
            room -= sum(len(example.ids) for example in examples)
        return part

    def _held_out(self, rows: Sequence[Row]) -> list[Example]:
        """Rows whose loss is measured: as many as what is set apart for it buys, at least one."""
        supervision, room, chosen = self._supervision(self._source()), self._for_loss, list[Example]()
        for row in rows:
            examples, _ = examples_of([row], supervision, self._size())
            price = sum(map(row_price, examples))
            room -= price
            if room < 0 and chosen:
                break
            if price:
                chosen += examples
        return chosen

    def _supervision(self, source: DataSource) -> Supervision:
        layout = layout_of(source, self._settings.fields)
        return Supervision(self._loaded.tokenizer, layout, self._settings.max_length, self._settings.loss)

    def _source(self) -> DataSource:
        if self._asked.held_out is None:
            raise UserError("no held-out rows", rule="--watch, or --contexts")
        return self._asked.held_out

    def _size(self) -> int:
        return vocabulary_of(self._loaded.tokenizer, self._loaded.model.get_output_embeddings().weight.shape[0]).size
