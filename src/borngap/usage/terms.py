"""Terms: does a model use the words of a house style, and does its data? One pass of forwards, no training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource, Row
from borngap.data.source import source_of
from borngap.model.length import context_length
from borngap.model.load import Loaded
from borngap.model.precision import full_float32, precision_of
from borngap.model.vocabulary import tokenizer_digest, tokenizer_of
from borngap.runfolder import clean, environment
from borngap.scanning.settings import Order
from borngap.scanning.supervised import Supervision
from borngap.train.finetune import weights_digest
from borngap.usage.absent import refuse_empty
from borngap.usage.allowed import Allowed, check_field, marks_of
from borngap.usage.ask import Asker
from borngap.usage.asking import DATA, HELD_OUT, Asking, Which
from borngap.usage.exports.contexts import Export, write_exports
from borngap.usage.exports.remedyfiles import RemedyFiles
from borngap.usage.exports.remedywriting import write_remedies
from borngap.usage.finding import PLACE_COUNTS
from borngap.usage.leak import Writer
from borngap.usage.places import Placer
from borngap.usage.told import summary_of
from borngap.usage.usagefolder import (
    LEAK_FILE,
    LEAK_SERIES,
    PLACES_FILE,
    SERIES_OF,
    Usage,
    UsageFolder,
    read_usage,
)
from borngap.words.occurrences import Finder
from borngap.words.term import TermList
from borngap.words.termfile import terms_of

_WRITTEN_TOGETHER = 64  # rows: writing on takes its time, and what is done is kept


@dataclass(frozen=True)
class UsageProgress:
    """How far it has come.

    Attributes:
        doing: what is being done, in words.
        rows: rows done, over all that is to be done with them, those of an earlier start included.
        total: such rows in all; None if unknown.
        places: places found so far.
    """

    doing: str
    rows: int
    total: int | None
    places: int


@dataclass(frozen=True, eq=False)
class Text:
    """Data in which places are looked for.

    Attributes:
        name: ``data`` or ``held-out``.
        source: the rows.
        layout: how they are read, in words.
        asker: finds places, and asks the model there.
        is_asked: whether the model is asked at its places.
    """

    name: str
    source: DataSource
    layout: str
    asker: Asker
    is_asked: bool


@dataclass(frozen=True, eq=False)
class UsageJob:
    """A look at a model's use of terms, ready to run.

    Attributes:
        loaded: model and tokenizer.
        terms: the terms.
        texts: the data, and the held-out text if there is one; the model is asked at the places of the last one.
        allowed: tells where words to avoid are right.
        settings: how rows are read and what is asked.
        window: tokens that the model reads at once.
        placer: finds places.
    """

    loaded: Loaded
    terms: TermList
    texts: tuple[Text, ...]
    allowed: Allowed
    settings: Asking
    window: int
    placer: Placer

    @property
    def asked(self) -> Text:
        """The text at whose places the model is asked."""
        return self.texts[-1]

    @property
    def plan(self) -> dict[str, Any]:
        """Everything needed to repeat it, JSON-ready."""
        texts = {
            text.name: {"data": text.source.name, "stamp": text.source.stamp(), "layout": text.layout,
                        "split": text.source.split, "supervised": text.asker.supervised}
            for text in self.texts
        }  # fmt: skip
        model = {"model": self.loaded.name, "digest": weights_digest(self.loaded.model), "window": self.window}
        model |= {"tokenizer": tokenizer_digest(self.loaded.tokenizer)} | precision_of(self.loaded.model)
        marks = None if self.allowed.marks is None else [asdict(mark) for mark in self.allowed.marks]
        terms = [asdict(term) for term in self.terms]
        return {"texts": texts, "terms": terms, "allowed": marks} | asdict(self.settings) | model

    def total(self) -> int | None:
        """Return how many rows are gone through in all, those that the model writes on from twice."""
        limit = self.settings.limit
        each = [text.source.total(limit) for text in (*self.texts, *([self.asked] if self.settings.leak else []))]
        return None if None in each else sum(count or 0 for count in each)


@full_float32()
def terms(
    model: Any,
    tokenizer: Any,
    data: Any,
    terms: Any,
    *,
    held_out: Any = None,
    allowed: Any = None,
    language: str | None = None,
    out: str | Path | None = None,
    settings: Asking | None = None,
    split: str = "train",
    name: str | None = None,
    on_progress: Callable[[UsageProgress], None] | None = None,
    export_contexts: str | Path | None = None,
    export_count: int = 20,
    export_places: Which = "behind",
    export_by: Order = "median",
    remedies: RemedyFiles | None = None,
    **options: Any,
) -> Usage:
    """Find the places of terms in data, and see whether the model prefers the wanted word there.

    At each place the model is asked by one forward of the row's own tokens: success is the share of places where the
    wanted word stands (due) at which it has a larger logit than the word to avoid; over-use, of places where the word
    to avoid stands and is right, the share at which the wanted word has; leak, the share of continuations with a word
    to avoid. Intervals are over rows.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, on any device; it is left as it was.
        tokenizer: its tokenizer.
        data: the text whose compliance is judged: a path, a hub name, a ``datasets`` object, or a sequence of texts or
            mappings.
        terms: a file of terms, or a sequence of pairs, the wanted word first.
        held_out: the text at whose places the model is asked; ``data`` unless given.
        allowed: where words to avoid are right: a file, or a sequence of row numbers or of mappings with ``row`` and,
            optionally, ``avoid`` and ``offset``.
        language: of TBX with several languages.
        out: folder for the results; one of the same plan that was cut off there goes on.
        settings: how rows are read, and what is asked.
        split: which split of a hub data set.
        name: the model's name in the results.
        on_progress: called after each chunk of rows.
        export_contexts: file for places as contexts, spread over the terms.
        export_count: how many at most.
        export_places: ``behind``: due places at which the word to avoid leads; ``due``: all of them; ``over-used``:
            those at which the word to avoid is right and the wanted one leads.
        export_by: which places of a term come first by their logit gap: next to the ``median``, the ``worst``, or a
            ``spread``.
        remedies: files of preference pairs, a logit bias, up-sampled rows.
        **options: single settings, as fields of ``Asking``.

    Returns:
        All numbers, and the places; with ``export_contexts`` what was written there, too, under ``contexts``; of
        ``remedies`` under ``remedies``.

    Raises:
        UserError: terms or data can't be read, no word of the terms stands in the text, none of its places can be
            measured, or the folder holds something else, or the file of contexts can't be written.
    """
    export = None if export_contexts is None else Export(Path(export_contexts), export_count, export_places, export_by)
    chosen = replace(settings or Asking(), **options)
    named = Loaded(name or str(model.config._name_or_path or type(model).__name__), model, tokenizer_of(tokenizer))
    held = None if held_out is None else source_of(held_out, split)
    right = Allowed(marks_of(allowed), chosen.allowed_field)
    job = prepare_terms(named, terms_of(terms, language), source_of(data, split), held, right, chosen)
    if out is not None:
        return _exported(run_terms(job, out, on_progress), job, export, remedies)
    with tempfile.TemporaryDirectory() as folder:
        found = run_terms(job, folder, on_progress)
        return _exported(Usage(None, found.summary, found.places, found.continuations), job, export, remedies)


def _exported(found: Usage, job: UsageJob, export: Export | None, remedies: RemedyFiles | None) -> Usage:
    told, tokenizer = dict[str, Any](), job.loaded.tokenizer
    if export is not None:
        told["contexts"] = write_exports(found.asked, export, job.asked.source, job.asked.asker, tokenizer)
    if remedies is not None and remedies.wanted:
        texts = {text.name: (text.source, text.asker) for text in job.texts}
        told["remedies"] = write_remedies(found.places, found.asked, remedies, texts, tokenizer, job.settings.limit)
    return replace(found, summary=found.summary | told)


def prepare_terms(
    loaded: Loaded, terms: TermList, data: DataSource, held_out: DataSource | None, allowed: Allowed, settings: Asking
) -> UsageJob:
    """Recognise the layouts and get ready.

    Args:
        loaded: model and tokenizer.
        terms: the terms.
        data: the text whose compliance is judged.
        held_out: the text at whose places the model is asked; None for the same.
        allowed: tells where words to avoid are right.
        settings: how rows are read and what is asked.

    Returns:
        The job.
    """
    placer = Placer(loaded.tokenizer, Finder(terms.terms))
    window = settings.window_of(context_length(loaded.model))
    sources = [(DATA, data)] if held_out is None else [(DATA, data), (HELD_OUT, held_out)]
    texts = []
    for name, source in sources:
        check_field(source, allowed.field if source is sources[-1][1] else None, settings.limit)
        layout = layout_of(source, settings.fields)
        supervision = Supervision(loaded.tokenizer, layout, settings.max_length, settings.loss)
        marks = allowed if source is sources[-1][1] else allowed.without_marks()
        asker = Asker(loaded.model, loaded.tokenizer, supervision, placer, terms.terms, marks, window)
        texts.append(Text(name, source, str(layout), asker, source is sources[-1][1]))
    return UsageJob(loaded, terms, tuple(texts), allowed, settings, window, placer)


def run_terms(job: UsageJob, out: str | Path, on_progress: Callable[[UsageProgress], None] | None = None) -> Usage:
    """Run a job into a folder, or go on with it.

    Args:
        job: the job.
        out: the folder.
        on_progress: called after each chunk of rows.

    Returns:
        The result.
    """
    with UsageFolder(out, job.plan, environment()) as folder:
        if not folder.finished:
            _Run(job, folder, on_progress).run()
    return read_usage(out)


class _Run:
    """Fills a folder."""

    def __init__(self, job: UsageJob, folder: UsageFolder, on_progress: Callable[[UsageProgress], None] | None) -> None:
        self._job, self._folder, self._see = job, folder, on_progress
        self._total = job.total() if on_progress else None
        series = [*(SERIES_OF[text.name] for text in job.texts), LEAK_SERIES] if on_progress else []
        before = [folder.counts(one) for one in series]
        self._rows, self._places = (sum(count.get(key, 0) for count in before) for key in ("rows", "places"))

    def run(self) -> None:
        """Do what is not done, and make the results."""
        job, folder = self._job, self._folder
        for text in job.texts:
            self._ask(text)
        self._check()
        if job.settings.leak:
            self._write()
            folder.merged(LEAK_FILE, LEAK_SERIES)
        folder.merged(PLACES_FILE, *(SERIES_OF[text.name] for text in job.texts))
        counts = {text.name: folder.counts(SERIES_OF[text.name]) for text in job.texts}
        malformed = [entry for text in job.texts for entry in folder.malformed(SERIES_OF[text.name])]
        folder.conclude(clean(summary_of(job, folder.path, counts, malformed)))

    def _ask(self, text: Text) -> None:
        settings, series = self._job.settings, SERIES_OF[text.name]
        for index, rows in text.source.chunks(settings.chunk, settings.limit, self._folder.done(series)):
            found = text.asker.ask(rows, text.name, strict=settings.strict, measure=text.is_asked)
            self._folder.add(index, found.places, found.counts, found.malformed, series)
            self._show("asking" if text.is_asked else "reading", len(rows), len(found.places))

    def _write(self) -> None:
        job, text = self._job, self._job.asked
        writer = Writer(job.loaded.model, job.loaded.tokenizer, job.placer)
        size = min(job.settings.chunk, _WRITTEN_TOGETHER)
        for index, rows in text.source.chunks(size, job.settings.limit, self._folder.done(LEAK_SERIES)):
            examples, _ = text.asker.examples(rows, strict=False)
            self._folder.add(index, writer.write(examples), {"rows": len(rows)}, [], LEAK_SERIES)
            self._show("writing on", len(rows))

    def _show(self, doing: str, rows: int, places: int = 0) -> None:
        self._rows, self._places = self._rows + rows, self._places + places
        if self._see:
            self._see(UsageProgress(doing, self._rows, self._total, self._places))

    def _check(self) -> None:
        """Refuse a text without words of the terms, or in which all of them stand where nothing is taught."""
        text = self._job.asked
        counts = dict.fromkeys(PLACE_COUNTS, 0) | self._folder.counts(SERIES_OF[text.name])
        if counts["places"]:
            return
        first = next(iter(self._folder.malformed(SERIES_OF[text.name])), None)
        examples = (example for _, rows in self._chunks(text) for example in text.asker.examples(rows, strict=False)[0])
        refuse_empty(
            self._job.terms.terms, examples, self._job.placer, text.source.name, counts,
            None if first is None else (first["where"], first["reason"]), text.asker.supervised,
        )  # fmt: skip

    def _chunks(self, text: Text) -> Iterator[tuple[int, Sequence[Row]]]:
        return text.source.chunks(self._job.settings.chunk, self._job.settings.limit, ())
