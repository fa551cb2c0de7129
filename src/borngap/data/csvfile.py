"""Rows of CSV: quoted fields of any length, by commas, semicolons or tabs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from borngap.errors import UserError

if TYPE_CHECKING:
    from _csv import Reader as _Reader

CsvRecord = tuple[int, dict[str, str] | ValueError]
_DELIMITERS = ",;\t"
_LONGEST_FIELD = (1 << 31) - 1  # characters of a field; csv's own limit is 131,072
_CURE = "put fields with quotes or line breaks between quotes and double each quote within, or write JSON Lines"


def delimited(lines: Iterable[str], name: str, delimiter: str | None = None) -> tuple[list[str], Iterator[CsvRecord]]:
    """Read CSV with headings.

    Past a broken quote nobody knows which line starts a record, so reading ends there.

    Args:
        lines: physical lines with their ends, as a file opened with ``newline=""`` gives them.
        name: what to call the file in messages.
        delimiter: None for comma, semicolon or tab, whichever makes the most headings.

    Returns:
        The headings, none of an empty file, and the records: the line on which each starts, from 1, and heading ->
        field, or an error where their numbers differ. Reading on raises UserError where quotes are broken or a NUL
        character stands.
    """
    remaining = iter(lines)
    skipped, first = next(((at, line) for at, line in enumerate(remaining) if line.strip()), (0, None))
    if first is None:
        return [], iter(())
    reader = csv.reader(chain([first], remaining), delimiter=delimiter or _delimiter(first), strict=True)
    records = _records(reader, name, skipped)
    _, headings = next(records)
    _check_headings(headings, name)
    return headings, ((number, _record(headings, fields)) for number, fields in records)


def _record(headings: list[str], fields: list[str]) -> dict[str, str] | ValueError:
    if len(fields) != len(headings):
        return ValueError(f"{len(fields)} fields, but {len(headings)} headings")
    return dict(zip(headings, fields, strict=True))


def _delimiter(line: str) -> str:
    """The delimiter of the first line; a comma where none splits it."""
    return max(_DELIMITERS, key=lambda delimiter: len(_next(csv.reader([line], delimiter=delimiter))))


def _records(reader: _Reader, name: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Records with the line on which each starts; not those of white space alone."""
    while True:
        number = skipped + reader.line_num + 1
        try:
            fields = _next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"{name} can't be read from line {number} on"
            raise UserError(where, rule="CSV", found=f"{error} (line {skipped + reader.line_num})", fix=_CURE) from None
        if any("\0" in field for field in fields):
            where = f"{name} can't be read from line {number} on"
            raise UserError(where, rule="text", found="a NUL character", fix="the file is damaged: fetch it again")
        if fields and not (len(fields) == 1 and fields[0].isspace()):
            yield number, fields


def _next(reader: _Reader) -> list[str]:
    """The next record, with csv's limit, which is one for the whole process, raised for this moment only."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(before)


def _check_headings(headings: list[str], name: str) -> None:
    twice = sorted({heading for heading in headings if headings.count(heading) > 1})
    if twice:
        raise UserError(f"{name} has two columns of one name", rule="headings that differ", found=", ".join(twice))
