"""Terms from rows with the fields ``use`` and ``avoid``: CSV, TSV, JSON Lines, JSON, Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from borngap.data.rows import fields_of, open_source
from borngap.errors import UserError
from borngap.words.term import LeftOut, Term

_RULE = 'the headings use,avoid, or JSON Lines: {"use": "client", "avoid": "customer"}'
_FIX = "name the wanted word use and the other avoid: which of the two is wanted can't be guessed"
_YES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


def read_term_table(path: Path) -> Iterator[Term | LeftOut]:
    """Read terms row by row; other fields than ``use``, ``avoid`` and ``cased`` are passed over.

    Args:
        path: the file.

    Yields:
        Terms.

    Raises:
        UserError: a row can't be read, or lacks a word.
    """
    for row in open_source(path).rows():
        if row.error is not None:
            raise UserError(f"malformed term in {row.where}", rule=_RULE, found=row.error)
        value = {str(key).strip().casefold(): held for key, held in row.value.items()} if _is_row(row.value) else {}
        if not {"use", "avoid"} <= value.keys():
            found = f"the fields {', '.join(map(str, fields_of(row.value)))}"
            raise UserError(f"no terms in {row.where}", rule=_RULE, found=found, fix=_FIX)
        use, avoid = (_word(value[key], key, row.where) for key in ("use", "avoid"))
        yield Term(use, avoid, row.where, cased=_flag(value.get("cased"), row.where))


def _is_row(value: Any) -> bool:
    return isinstance(value, dict)


def _word(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        fix = "a line for each of the words" if isinstance(value, list) else None
        raise UserError(f"malformed term in {where}", rule=f"{key!r} is a word or a phrase", found=repr(value), fix=fix)
    return " ".join(value.split())


def _flag(value: Any, where: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, str) or value.strip().casefold() not in _YES:
        raise UserError(f"malformed term in {where}", rule="'cased' is true or false", found=repr(value))
    return _YES[value.strip().casefold()]
