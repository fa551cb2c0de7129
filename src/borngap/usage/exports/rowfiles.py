"""Files that take no model, only its tokenizer: preference pairs and up-sampled rows out of the places of terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

import polars as pl

from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.model.vocabulary import tokenizer_of, vocabulary_of
from borngap.scanning.supervised import Supervision
from borngap.usage.absent import refuse_empty
from borngap.usage.allowed import Allowed, check_field, marks_of
from borngap.usage.asking import DATA, Asking
from borngap.usage.exports.remedyfiles import RemedyFiles
from borngap.usage.exports.remedywriting import write_remedies
from borngap.usage.finding import PLACE_COUNTS, FoundPlaces, PlaceFinder
from borngap.usage.places import Placer
from borngap.usage.told import unfitting_marks
from borngap.words.occurrences import Finder
from borngap.words.term import TermList
from borngap.words.termfile import terms_of

_NAMED = 100  # malformed rows that are told
_NO_LIMIT = 1 << 62  # rows of a model that is not there
SeeRows = Callable[[int, int | None, int], None]
"""Called with the rows that are read, the rows in all if they are known, and the places."""


def row_files(
    tokenizer: Any,
    data: Any,
    terms: Any,
    files: RemedyFiles,
    *,
    allowed: Any = None,
    language: str | None = None,
    settings: Asking | None = None,
    split: str = "train",
    on_progress: SeeRows | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write preference pairs and up-sampled rows: by the tokenizer alone, in one pass over the rows.

    The files are those that ``borngap.terms`` writes, which asks the model too; but a row that is longer than the model
    reads at once is the prompt from its beginning.

    Args:
        tokenizer: the model's.
        data: the rows: a path, a hub name, a ``datasets`` object, or a sequence of texts or mappings.
        terms: a file of terms, or a sequence of pairs, the wanted word first.
        files: which files; no bias.
        allowed: where words to avoid are right, as for ``borngap.terms``.
        language: of TBX with several languages.
        settings: how rows are read.
        split: which split of a hub data set.
        on_progress: called after each chunk of rows.
        **options: single settings, as fields of ``Asking``.

    Returns:
        JSON-ready: ``data``, ``read`` (``layout``, ``supervised`` and the counts of rows, tokens and places),
        ``left_out`` terms, ``malformed`` rows, ``notes``, and what is told of each file under ``remedies``.

    Raises:
        UserError: no file is asked for, or a bias is; data or terms can't be read, or hold nothing to write.
    """
    if files.needs_model or not files.wanted:
        rule = "export_pairs or export_rows; a bias is made of what the model says (borngap.terms)"
        asked = "a bias" if files.needs_model else "no file"
        raise UserError("these files can't be made without a model", rule=rule, found=asked)
    chosen, words = replace(settings or Asking(), **options), terms_of(terms, language)
    marks = Allowed(marks_of(allowed), chosen.allowed_field)
    reading = _Reading(tokenizer_of(tokenizer), source_of(data, split), words, marks, chosen)
    found = reading.places(on_progress)
    texts = {DATA: (reading.source, reading.finder)}
    written = write_remedies(found.places, found.places, files, texts, tokenizer_of(tokenizer), chosen.limit)
    return {
        "data": reading.source.name,
        "read": {"layout": reading.layout, "supervised": reading.finder.supervised, **found.counts},
        "left_out": [asdict(entry) for entry in words.left_out],
        "malformed": [{"where": where, "reason": reason} for where, reason in found.malformed[:_NAMED]],
        "notes": unfitting_marks(marks, found.places), "remedies": written,
    }  # fmt: skip


class _Reading:
    """Rows, and the terms that are looked for in them."""

    def __init__(self, tokenizer: Any, source: DataSource, words: TermList, marks: Allowed, settings: Asking) -> None:
        check_field(source, marks.field, settings.limit)
        layout = layout_of(source, settings.fields)
        supervision = Supervision(tokenizer, layout, settings.max_length, settings.loss)
        self._placer, size = Placer(tokenizer, Finder(words.terms)), vocabulary_of(tokenizer, _NO_LIMIT).size
        self._words, self._settings = words, settings
        self.source, self.layout = source, str(layout)
        self.finder = PlaceFinder(supervision, self._placer, words.terms, marks, size)

    def places(self, see: SeeRows | None) -> FoundPlaces:
        """Find all places; refuse data without any."""
        settings, source, counts = self._settings, self.source, Counter(dict.fromkeys(PLACE_COUNTS, 0))
        total, tables, malformed = source.total(settings.limit) if see else None, [], list[tuple[str, str]]()
        for _, rows in source.chunks(settings.chunk, settings.limit, ()):
            found = self.finder.find(rows, DATA, strict=settings.strict)
            counts.update(found.counts)
            tables.append(found.places)
            malformed += found.malformed
            if see:
                see(counts["rows"], total, counts["places"])
        if not counts["places"]:
            self._refuse(counts, malformed)
        return FoundPlaces(pl.concat(tables), dict(counts), malformed)

    def _refuse(self, counts: Mapping[str, int], malformed: Sequence[tuple[str, str]]) -> NoReturn:
        chunks = self.source.chunks(self._settings.chunk, self._settings.limit, ())
        examples = (example for _, rows in chunks for example in self.finder.examples(rows, strict=False)[0])
        first = malformed[0] if malformed else None
        refuse_empty(self._words.terms, examples, self._placer, self.source.name, counts, first, self.finder.supervised)
