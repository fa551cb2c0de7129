"""Where a word to avoid is right: by a file of rows, or by a field of the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.data.rows import DataSource, Row, open_source
from borngap.errors import UserError, did_you_mean
from borngap.usage.asking import DATA, HELD_OUT
from borngap.words.term import Term

_RULE = '{"row": 12} or {"row": 12, "avoid": "customer", "offset": 40}: a row from 0, a word, a token; or CSV'
_FIX = "set `allowed` to true where the word to avoid is right"
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


@dataclass(frozen=True)
class AllowedPlace:
    """Places at which a word to avoid is right.

    Attributes:
        row: number of the row, from 0.
        avoid: the word, as the terms write it; None for all.
        offset: the token at which it is measured; None for all places in the row.
    """

    row: int
    avoid: str | None = None
    offset: int | None = None

    def fits(self, avoid: str, offset: int | None) -> bool:
        """Return whether a place of the row is meant, by the word to avoid and the token at which it is measured."""
        word = self.avoid is None or self.avoid.lower() == avoid.lower()
        return word and (self.offset is None or self.offset == offset)


class Allowed:
    """Tells where words to avoid are right.

    Attributes:
        marks: marked places; None where none are told.
        field: name of the row field that tells it; None where there is none.
    """

    def __init__(self, marks: Iterable[AllowedPlace] | None = None, field: str | None = None) -> None:
        """Prepare.

        Args:
            marks: marked places; None where none are told.
            field: name of the row field that tells it; None where there is none.
        """
        self.marks = None if marks is None else tuple(marks)
        self.field = field
        self._by_row: dict[int, list[AllowedPlace]] = {}
        for mark in self.marks or ():
            self._by_row.setdefault(mark.row, []).append(mark)

    @property
    def told(self) -> bool:
        """Whether anything says where words to avoid are right."""
        return self.marks is not None or self.field is not None

    def without_marks(self) -> Allowed:
        """Return what holds of other data: the rows' own field."""
        return Allowed(None, self.field)

    def right(self, row: Row, term: Term, text: str, offset: int | None) -> bool:
        """Return whether a word to avoid is right.

        Args:
            row: where it stands.
            term: whose word it is.
            text: it, as it stands.
            offset: the token at which it is measured.

        Returns:
            Whether its row says so, or a mark.
        """
        marked = any(mark.fits(term.avoid, offset) for mark in self._by_row.get(row.number, ()))
        return marked or self._by_field(row, term, text)

    def _by_field(self, row: Row, term: Term, text: str) -> bool:
        value = row.value.get(self.field) if self.field is not None and isinstance(row.value, Mapping) else None
        if value is None or isinstance(value, bool):
            return bool(value)
        if isinstance(value, str):
            flag = _FLAGS.get(value.strip().lower())
            if flag is not None:
                return flag
            value = value.replace(";", ",").split(",")
        if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
            rule = f"the field {self.field!r} is true or false, a word, or a list of words"
            raise UserError(f"malformed row: {row.where}", rule=rule, found=repr(value))
        return bool({word.strip().lower() for word in value} & {term.avoid.lower(), text.lower()})


def check_field(source: DataSource, field: str | None, limit: int | None) -> None:
    """Refuse a field that no row has.

    Args:
        source: the data.
        field: its name; None for none.
        limit: number of rows.

    Raises:
        UserError: no row has it.
    """
    if field is None:
        return
    names: dict[str, None] = {}
    for row in source.rows(0, limit):
        if isinstance(row.value, Mapping):
            names |= dict.fromkeys(map(str, row.value))
            if field in names:
                return
    fix = did_you_mean(field, names)
    raise UserError(f"no row of {source.name} has the field {field!r}", found=", ".join(names) or "no fields", fix=fix)


def marks_of(given: Any) -> tuple[AllowedPlace, ...] | None:
    """Return marks as a caller may give them.

    Args:
        given: a path of JSON Lines, CSV or Parquet; a sequence of row numbers, mappings or marks; None. Of entries
            with a field ``allowed`` only those are marks in which it is true.

    Returns:
        The marks; None where nothing is given.

    Raises:
        UserError: an entry is none, or there are none.
    """
    if given is None:
        return None
    rows: Iterable[tuple[str, Any]] = (
        ((row.where, row.error if row.value is None else row.value) for row in open_source(given).rows())
        if isinstance(given, str | Path)
        else ((f"allowed entry {number}", value) for number, value in enumerate(given, 1))
    )
    entries = list(rows)
    marks = tuple(_mark(value, where) for where, value in _own(entries))
    if not marks:
        found = f"none of {len(entries)} entries has a true `allowed`" if entries else f"{given} is empty"
        raise UserError("no allowed places", rule=_RULE, found=found, fix=_FIX if entries else None)
    return marks


def _own(entries: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The entries that are marks: of those of ``places.parquet`` the allowed ones, of the text that was asked."""
    asked = any(isinstance(value, Mapping) and value.get("data") == HELD_OUT for _, value in entries)
    for where, value in entries:
        told = isinstance(value, Mapping)
        marked = not told or "allowed" not in value or _flag(value["allowed"], where)
        if marked and not (asked and told and value.get("data") == DATA):
            yield where, value


def _flag(value: Any, where: str) -> bool:
    flag = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else value
    if value is not None and not isinstance(flag, bool):
        raise UserError(f"malformed allowed place in {where}", rule="`allowed` is true or false", found=repr(value))
    return bool(flag)


def _mark(value: Any, where: str) -> AllowedPlace:
    if isinstance(value, AllowedPlace):
        return value
    fields = value if isinstance(value, Mapping) else {"row": value}
    row, offset = (_whole(fields.get(key)) for key in ("row", "offset"))
    avoid = fields.get("avoid") or None
    wrong = row is None or (offset is None and fields.get("offset") not in {None, ""})
    if wrong or not (avoid is None or isinstance(avoid, str)):
        raise UserError(f"malformed allowed place in {where}", rule=_RULE, found=repr(value))
    return AllowedPlace(row or 0, avoid and " ".join(avoid.split()), offset)


def _whole(value: Any) -> int | None:
    """A whole number from 0, of CSV as text; None for anything else."""
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
