"""Rows of a data set, one at a time: JSON Lines, JSON, CSV, Parquet, plain text, a folder of them, or Python objects.

Nothing is held but the row at hand (of Parquet, a slice; of JSON, one object that holds all rows). A row that can't be
read is a row with an error; a reader that can't tell where the next row starts ends with a UserError.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from borngap.data.csvfile import delimited
from borngap.data.jsonfile import json_rows, parsed_json
from borngap.data.textfile import COMPRESSED, check_text, extension_of, lines_of, text_of
from borngap.errors import UserError
from borngap.kinds import refuse_result

_SLICE = 1024  # rows of a Parquet file at a time
_SHOWN_NAME = 80  # characters of a name in a message
RawRecord = tuple[int, Any]
"""Line or record number from 1, and what stands there: not parsed yet, or the exception that reading it raised."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        number: its place in the data set, from 0, malformed rows counted.
        where: its place in words: file and line.
        value: what was read, None if it could not be.
        error: why it could not be read, None if it was.
    """

    number: int
    where: str
    value: Any
    error: str | None = None


@dataclass(frozen=True)
class DataPart:
    """One file, or one object, that rows come from.

    Attributes:
        name: as the user knows it.
        unit: what the number of a record counts: ``line`` or ``record``.
        records: starts reading from the beginning.
        parse: turns a record into a row's value, raising ValueError.
        stamp: tells whether it has changed since: size and time of a file, a hash of an object's
            rows, made when asked for; None of a stream.
    """

    name: str
    unit: str
    records: Callable[[], Iterable[RawRecord]]
    parse: Callable[[Any], Any]
    stamp: tuple[int, int] | Callable[[], tuple[str]] | None = None

    def place(self, number: int) -> str:
        """Return where a record stands, in words."""
        return f"{self.name}, {self.unit} {number}"


@dataclass(frozen=True)
class DataSource:
    """A data set that can be read from the start any number of times.

    Attributes:
        name: as the user gave it.
        parts: files in the order of their names, or one object.
        left_out: names of files in a folder that are of no known kind.
        split: which split of the data it is, where there are several.
    """

    name: str
    parts: tuple[DataPart, ...]
    left_out: tuple[str, ...] = ()
    split: str = "train"

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Yield rows ``start`` to ``stop``; those before are skipped without being parsed."""
        everything = ((part, number, raw) for part in self.parts for number, raw in part.records())
        for index, (part, number, raw) in enumerate(islice(everything, start, stop), start):
            yield _row(index, part, number, raw)

    def chunks(self, size: int, limit: int | None, done: Collection[int]) -> Iterator[tuple[int, list[Row]]]:
        """Yield the rows in chunks, those that are done left out.

        Args:
            size: rows a chunk.
            limit: number of rows; None for all.
            done: indices of chunks that are not wanted.

        Yields:
            Index and rows.
        """
        first = next(index for index in range(len(done) + 1) if index not in done)
        rows = self.rows(first * size, limit)
        for index in count(first):
            part = list(islice(rows, size))
            if not part:
                return
            if index not in done:
                yield index, part

    def count(self) -> int:
        """Return the number of rows: reads everything once, without parsing."""
        return sum(1 for part in self.parts for _ in part.records())

    def total(self, limit: int | None) -> int | None:
        """Return how many rows there are up to a limit; None if only reading a stream would tell."""
        if any(part.stamp is None for part in self.parts):
            return limit
        return self.count() if limit is None else min(self.count(), limit)

    def stamp(self) -> list[Any]:
        """Return what tells this data from other data, JSON-ready."""
        stamps = [part.stamp() if callable(part.stamp) else part.stamp for part in self.parts]
        return [[part.name, *(stamp or ())] for part, stamp in zip(self.parts, stamps, strict=True)]


def readable(file: Path) -> bool:
    """Return whether a file is of a known kind, by its name alone; Parquet is not unpacked."""
    kind = extension_of(file)
    return kind in FILE_KINDS and (kind != ".parquet" or file.suffix.lower() == kind)


def open_source(path: str | Path, split: str = "train") -> DataSource:
    """Open a file or a folder.

    Args:
        path: a file of one of the ``FILE_KINDS``, all but Parquet also compressed, or a folder of such files.
        split: the rows' key in a ``.json`` file that holds several lists.

    Returns:
        The source.

    Raises:
        UserError: there is nothing, or nothing of a known kind.
    """
    target, kinds = Path(path).expanduser(), f"{', '.join(FILE_KINDS)}, or compressed ({', '.join(COMPRESSED)})"
    refuse_result(target, "data: a file, or a folder of files")
    if not os.path.exists(target):  # noqa: PTH110  # of a name that is too long a Path raises
        named = str(path) if len(str(path)) <= _SHOWN_NAME else f"{str(path)[:_SHOWN_NAME]}..."
        fix = f"a file of kind {kinds}, a folder of such files, or the name of a data set on the hub"
        raise UserError(f"no data at {named}", fix=fix)
    if target.is_dir():
        files = sorted(file for file in target.rglob("*") if file.is_file() and not _hidden(file, target))
        known = [file for file in files if readable(file)]
        others = tuple(str(file.relative_to(target)) for file in files if not readable(file))
        if not known:
            rule, found = f"files of these kinds: {kinds}", ", ".join(others[:8]) or "an empty folder"
            raise UserError(f"no data in {target}", rule=rule, found=found)
        return DataSource(str(path), tuple(_part(file, str(file.relative_to(target)), split) for file in known), others)
    if not readable(target):
        raise UserError(f"unknown kind of file: {target.name}", rule=f"one of {kinds}", found=target.suffix or "none")
    return DataSource(str(path), (_part(target, target.name, split),))


def of_objects(rows: Any, name: str = "data") -> DataSource:
    """Read rows from a Python object that can be iterated any number of times.

    Args:
        rows: texts or mappings: a sequence, a ``datasets`` object, or a data set of torch that has a length.
        name: what to call it in messages.

    Returns:
        The source.

    Raises:
        UserError: it can be iterated once only, or not at all.
    """
    if not hasattr(rows, "__iter__") and hasattr(rows, "__getitem__") and hasattr(rows, "__len__"):
        rows = _Indexed(rows)
    if not hasattr(rows, "__iter__") or iter(rows) is rows:
        rule, fix = "rows that can be read twice", "give a list, a file name, or a datasets.Dataset"
        raise UserError("the data can't be read again from the start", rule=rule, found=type(rows).__name__, fix=fix)
    stamp = partial(_content, rows) if hasattr(rows, "__len__") else None  # a stream may have no end
    return DataSource(name, (DataPart(name, "record", lambda: enumerate(rows, 1), _object, stamp),))


class _Indexed:
    """Rows that are reached by their index, one after the other."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return (self._rows[index] for index in range(len(self)))


def _object(value: Any) -> Any:
    """A row; what a tokenizer returns is a mapping, but no dictionary."""
    return dict(value) if isinstance(value, Mapping) else value


def _content(rows: Any) -> tuple[str]:
    """What tells rows in memory from others: the fingerprint of a ``datasets`` object, or a hash of all of them."""
    known = getattr(rows, "_fingerprint", None)
    if isinstance(known, str):
        return (known,)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode() + b"\n")
    return (digest.hexdigest(),)


def _row(index: int, part: DataPart, number: int, raw: Any) -> Row:
    try:
        value, error = (None, raw) if isinstance(raw, Exception) else (part.parse(raw), None)
    except ValueError as raised:
        value, error = None, raised
    return Row(index, part.place(number), value, None if error is None else str(error))


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _part(file: Path, name: str, split: str) -> DataPart:
    unit, records, parse = FILE_KINDS[extension_of(file)]
    status = file.stat()
    return DataPart(name, unit, lambda: records(file, split), parse, (status.st_size, status.st_mtime_ns))


def _text(line: str) -> str:
    check_text(line)
    return line


def _json_line(line: str) -> Any:
    value = parsed_json(line)
    if isinstance(value, ValueError):
        raise value
    return value


def _csv(file: Path, delimiter: str | None = None) -> Iterator[RawRecord]:
    with text_of(file, newline="") as stream:
        yield from delimited(stream, file.name, delimiter)[1]


def _parquet(file: Path) -> Iterator[RawRecord]:
    import polars as pl

    try:
        frame = pl.scan_parquet(file, glob=False)
        total = frame.select(pl.len()).collect().item()
        for start in range(0, total, _SLICE):
            yield from enumerate(frame.slice(start, _SLICE).collect().iter_rows(named=True), start + 1)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"unreadable Parquet: {file}", found=str(error).splitlines()[0]) from None


def _csv_row(row: dict[str, str]) -> dict[str, str]:
    check_text("".join(row.values()))
    return row


def _same(value: Any) -> Any:
    return value


_Kind = tuple[str, Callable[[Path, str], Iterator[RawRecord]], Callable[[Any], Any]]
FILE_KINDS: dict[str, _Kind] = {
    ".jsonl": ("line", lambda file, _: lines_of(file), _json_line),
    ".ndjson": ("line", lambda file, _: lines_of(file), _json_line),
    ".json": ("record", lambda file, split: enumerate(json_rows(file, split), 1), _same),
    ".csv": ("line", lambda file, _: _csv(file), _csv_row),
    ".tsv": ("line", lambda file, _: _csv(file, "\t"), _csv_row),
    ".parquet": ("record", lambda file, _: _parquet(file), _same),
    ".txt": ("line", lambda file, _: lines_of(file), _text),
}


def fields_of(value: Any) -> Sequence[str]:
    """Return the names of a row's fields; of a row that has none, what it is."""
    return sorted(map(str, value)) if isinstance(value, dict) else [type(value).__name__]
