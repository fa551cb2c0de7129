"""Scan a data set: which supervised targets have a near-synonym in front? One pass of forwards, no training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from borngap.context import write_contexts
from borngap.data.layout import Layout
from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource, Row
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.model.length import context_length
from borngap.model.load import Loaded, model_facts
from borngap.model.precision import full_float32, precision_of
from borngap.model.vocabulary import tokenizer_digest
from borngap.runfolder import clean, environment
from borngap.scanning.exports import exported, written
from borngap.scanning.pairs import ORDERS, headline_of, notes_of, relations_of
from borngap.scanning.positions import Chunk, Scanner
from borngap.scanning.scanfolder import CONTEXTS_FILE, PAIRS_FILE, POSITIONS_FILE, Scan, ScanFolder, read_scan
from borngap.scanning.search import RivalSearch, rival_search, thesaurus_digest
from borngap.scanning.settings import Scanning
from borngap.scanning.supervised import Supervision, shared_tokens
from borngap.train.finetune import weights_digest

_WORST_PAIRS = 20  # pairs that the summary repeats
Chunks = Iterable[tuple[int, Chunk]]
ScanEngine = Callable[["Job", frozenset[int]], Chunks]


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan has come.

    Attributes:
        rows: rows done, those of an earlier start included.
        total: rows in all; None if unknown.
        targets: supervised targets so far.
        fresh_targets: of these, since this start.
        seconds: since this start.
    """

    rows: int
    total: int | None
    targets: int
    fresh_targets: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Job:
    """A scan ready to run.

    Attributes:
        loaded: model and tokenizer.
        source: the data.
        layout: how its rows are read.
        settings: what counts as a rival.
        window: tokens that the model reads at once.
        search: what is looked for.
        scanner: scans rows.
    """

    loaded: Loaded
    source: DataSource
    layout: Layout
    settings: Scanning
    window: int
    search: RivalSearch
    scanner: Scanner

    def chunk(self, index: int, rows: Iterable[Row]) -> tuple[int, Chunk]:
        """Scan the rows of one chunk."""
        return index, self.scanner.scan(rows, strict=self.settings.strict)

    @property
    def plan(self) -> dict[str, Any]:
        """Everything needed to repeat the scan, JSON-ready."""
        settings = asdict(self.settings) | {"thesaurus_digest": thesaurus_digest(self.settings)}
        head = {"data": self.source.name, "stamp": self.source.stamp(), "layout": str(self.layout)}
        head |= {"split": self.source.split, "supervised": self.scanner.supervised}
        model = {"model": self.loaded.name, "digest": weights_digest(self.loaded.model), "window": self.window}
        model |= {"tokenizer": tokenizer_digest(self.loaded.tokenizer)} | precision_of(self.loaded.model)
        return head | settings | model


@full_float32()
def scan(
    model: Any,
    tokenizer: Any,
    dataset: Any,
    *,
    out: str | Path | None = None,
    settings: Scanning | None = None,
    export_contexts: int = 0,
    export_by: str = "median",
    split: str = "train",
    name: str | None = None,
    engine: ScanEngine | None = None,
    on_progress: Callable[[ScanProgress], None] | None = None,
    **options: Any,
) -> Scan:
    """Find the supervised targets of a data set whose near-synonym rival stands in the nucleus, and who leads.

    Targets are those that a trainer would supervise: of plain text all tokens, of prompt and completion the
    completion, of chat messages the assistant's. Gold is a target that is a whole word. Its rival is a whole word of
    the nucleus: a synonym of gold or gold in another spelling, and where there is none, a word that overlaps with gold
    above a percentile of the model's random pairs; of several the one with the largest overlap.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT, on any device; it is left as it was.
        tokenizer: its tokenizer.
        dataset: a path, a hub name, a ``datasets`` object, or a sequence of texts or mappings.
        out: folder for the results; a scan of the same plan that was cut off there goes on. Without it the results
            are returned only.
        settings: what counts as a rival, and how rows are read.
        export_contexts: how many contexts to write to ``contexts.jsonl``, one of each of the worst pairs, then a second
            round; needs ``out``.
        export_by: which target of a pair comes first: ``median`` by its logit gap, ``worst``, or ``spread``: the median
            one, the worst, the mildest, and on between them.
        split: which split of a hub data set.
        name: the model's name in the results.
        engine: runs the chunks; in this process unless given.
        on_progress: called after each chunk.
        **options: single settings, as fields of ``Scanning``.

    Returns:
        Counts, pairs and positions.

    Raises:
        UserError: the data can't be read, its layout is unknown, it has no supervised targets, the folder holds
            something else, or contexts have no folder to go to.
    """
    _check_export(export_contexts, export_by, out)
    chosen = replace(settings or Scanning(), **options)
    named = Loaded(name or str(model.config._name_or_path or type(model).__name__), model, tokenizer)
    job = job_of(named, source_of(dataset, split), chosen)
    if out is not None:
        return run(job, out, export_contexts, export_by, engine, on_progress)
    with tempfile.TemporaryDirectory() as folder:
        found = run(job, folder, engine=engine, on_progress=on_progress)
        return replace(found, folder=None, held=found.positions)


def _check_export(count: int, by: str, out: str | Path | None) -> None:
    if by not in ORDERS:
        raise UserError("export_by is out of range", rule=f"one of {', '.join(ORDERS)}", found=by)
    if count < 0:
        raise UserError("export_contexts is out of range", rule="a number from 0", found=count)
    if count and out is None:
        raise UserError(
            "contexts have no place to go", rule="exported contexts need a folder", fix="give --out, or out="
        )


def job_of(loaded: Loaded, source: DataSource, settings: Scanning) -> Job:
    """Recognise the data's layout and measure how the model's words lie.

    Args:
        loaded: model and tokenizer.
        source: the data.
        settings: what counts as a rival.

    Returns:
        The job.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    layout = layout_of(source, settings.fields)
    supervision = Supervision(tokenizer, layout, settings.max_length, settings.loss)
    search = rival_search(model, tokenizer, settings)
    window = settings.window_of(context_length(model))
    scanner = Scanner(model, tokenizer, supervision, search.words, search.rivals, search.relation, window)
    return Job(loaded, source, layout, settings, window, search, scanner)


def run(
    job: Job,
    out: str | Path,
    export_contexts: int = 0,
    export_by: str = "median",
    engine: ScanEngine | None = None,
    on_progress: Callable[[ScanProgress], None] | None = None,
) -> Scan:
    """Run a job into a folder, or go on with it.

    Args:
        job: the job.
        out: the folder.
        export_contexts: how many contexts to write.
        export_by: which target of a pair comes first.
        engine: runs the chunks.
        on_progress: called after each chunk.

    Returns:
        The scan.

    Raises:
        UserError: no row has a supervised target.
    """
    plan = job.plan | {"export_contexts": export_contexts, "export_by": export_by}
    with ScanFolder(out, plan, environment()) as folder:
        if not folder.finished:
            counts = _scanned(folder, job, engine or in_process, on_progress)
            _finish(folder, job, counts, export_contexts, export_by)
    return read_scan(out)


def _scanned(
    folder: ScanFolder, job: Job, engine: ScanEngine, on_progress: Callable[[ScanProgress], None] | None
) -> dict[str, int]:
    """Scan the chunks that are missing; return the counts of all."""
    start, fresh, total = time.perf_counter(), 0, total_rows(job) if on_progress else None
    counts = folder.counts()
    for index, chunk in engine(job, folder.done()):
        folder.add(index, chunk.positions, chunk.counts, chunk.malformed)
        counts = {name: counts.get(name, 0) + number for name, number in chunk.counts.items()}
        fresh += chunk.counts["targets"]
        if on_progress:
            on_progress(ScanProgress(counts["rows"], total, counts["targets"], fresh, time.perf_counter() - start))
    if not counts.get("targets"):
        read = f"{counts.get('rows', 0)} rows, {counts.get('malformed', 0)} malformed"
        found = f"{read}, none with a target; supervised: {job.scanner.supervised}"
        rule = "at least one token to predict after the first one"
        raise UserError(f"no supervised tokens in {job.source.name}", rule=rule, found=found, fix=_first_reason(folder))
    return counts


def _finish(folder: ScanFolder, job: Job, counts: dict[str, int], export_contexts: int, export_by: str) -> None:
    """Make the results of the chunks."""
    pairs, totals = folder.merge(job.settings.counted)
    contexts = exported(
        pairs, folder.path / POSITIONS_FILE, export_contexts, export_by, job.source, job.scanner, job.loaded.tokenizer
    )
    told = {"file": CONTEXTS_FILE, "by": export_by, **written(contexts)}
    kinds = relations_of(folder.path / POSITIONS_FILE)
    body = _summary(job, counts | totals, folder) | {
        "headline": headline_of(kinds, job.settings.counted),
        "relations": kinds,
        "notes": notes_of(kinds, job.settings.counted),
        "pairs": len(pairs),
        "worst": pairs.head(_WORST_PAIRS).to_dicts(),
        "contexts": told if export_contexts else None,
    }
    folder.finish(clean(body), write_contexts(contexts))


def in_process(job: Job, done: frozenset[int]) -> Iterator[tuple[int, Chunk]]:
    """Scan chunk after chunk in this process, those that are done left out.

    Args:
        job: the job.
        done: indices of chunks that are safely written.

    Yields:
        Index and chunk.
    """
    for index, rows in job.source.chunks(job.settings.chunk, job.settings.limit, done):
        yield job.chunk(index, rows)


def total_rows(job: Job) -> int | None:
    """Return how many rows the job will read; None if that can't be known without reading a stream."""
    return job.source.total(job.settings.limit)


def _first_reason(folder: ScanFolder) -> str | None:
    first = next(iter(folder.malformed()), None)
    return f"see {first['where']}: {first['reason']}" if first else None


def _summary(job: Job, counts: dict[str, int], folder: ScanFolder) -> dict[str, Any]:
    head, search, settings = job.loaded, job.search, job.settings
    by_overlap = search.least is not None and settings.min_overlap is None
    with_rival = counts["with_rival"]
    return {
        "data": job.source.name,
        "files": len(job.source.parts),
        "files_left_out": list(job.source.left_out),
        "layout": str(job.layout),
        "supervised": job.scanner.supervised,
        "model": model_facts(head),
        "geometry": settings.geometry,
        "top_p": settings.top_p,
        "thesaurus": settings.thesaurus,
        "find_by": None if search.least is None else settings.find_by,
        "percentile": settings.percentile if by_overlap else None,
        "least_overlap": search.least,
        "given_pairs": None if search.given is None else len(search.given.tokens),
        "pairs_left_out": [] if search.given is None else search.given.left_out,
        "terms": None if settings.terms is None else len(settings.terms) - len(search.unfound),
        "terms_left_out": [{"use": use, "avoid": avoid} for use, avoid in search.unfound],
        "window": job.window,
        "shared_tokens": shared_tokens(job.window),
        "bulk": {**asdict(search.bulk), "class": search.bulk.embedding_class},
        "counts": counts,
        "share_with_rival": with_rival / counts["targets"],
        "share_rival_ahead": counts["rival_ahead"] / with_rival if with_rival else None,
        "malformed": folder.malformed(),
        "positions_file": POSITIONS_FILE,
        "pairs_file": PAIRS_FILE,
    }
