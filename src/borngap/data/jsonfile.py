"""Rows of a ``.json`` file: elements of an array, decoded as they come; documents one after the other; JSON Lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from borngap.data.layout import known_layout
from borngap.data.textfile import lines_of, text_of
from borngap.errors import UserError

PIECE = 1 << 16  # characters that are read at a time
_SPACE = re.compile(r"[ \t\r\n]*")
_CUT = 32  # an error within so many characters of the end may come from the cut
_DECODER = json.JSONDecoder()


def json_rows(file: Path, split: str) -> Iterator[Any]:
    """Yield the rows of a ``.json`` file; a broken line of JSON Lines as an exception.

    Elements of arrays are rows, and so are objects that follow one another. Of one object alone, which is held in
    memory, the rows are its list of objects; of several lists the one under the name of the split; an object that is a
    row itself is one row.

    Args:
        file: an array, objects, or JSON Lines.
        split: which of several lists.

    Yields:
        Rows as they were decoded, or the exception of a line.

    Raises:
        UserError: the text is broken so that the next row can't be told, or no list is the rows.
    """
    with text_of(file) as stream:
        array = _Reader(stream).peek() == "["  # it may be one long line, so no line is read
    if array:
        yield from _documents(file)
        return
    lines = not isinstance(next(_lines(file), ValueError()), ValueError)
    objects = _lines(file) if lines else _documents(file)
    first = list(islice(objects, 2))
    yield from _under_a_key(first[0], file, split) if len(first) == 1 else chain(first, objects)


def parsed_json(line: str) -> Any:
    """Return what a line of JSON Lines holds, or the exception that says why it holds nothing."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return ValueError(f"{error.msg}, at character {error.pos + 1}")
    except ValueError as error:  # a number of too many digits
        return ValueError(str(error).partition(";")[0])
    except RecursionError:
        return ValueError("nested too deeply")


def _lines(file: Path) -> Iterator[Any]:
    return (parsed_json(line) for _, line in lines_of(file))


def _documents(file: Path) -> Iterator[Any]:
    number = 0
    with text_of(file) as stream:
        reader = _Reader(stream)
        try:
            while mark := reader.peek():
                for value in reader.elements() if mark == "[" else (reader.value(),):
                    number += 1
                    yield value
        except ValueError as error:
            where, rule = f"{file.name} can't be read from record {number + 1} on", "JSON, or JSON Lines"
            raise UserError(where, rule=rule, found=str(error), fix="write the file again") from None


def _under_a_key(value: Any, file: Path, split: str) -> list[Any]:
    if not isinstance(value, dict) or known_layout(value) is not None:
        return [value]
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)}
    if len(lists) > 1 and split not in lists:
        found, fix = ", ".join(list(lists)[:8]), "name one with --split"
        raise UserError(f"{file.name} holds several lists of rows", rule="one, or one a split", found=found, fix=fix)
    return lists[split] if split in lists else next(iter(lists.values()), [value])


class _Reader:
    """A JSON text with a place in it. Pieces grow with what they hold, so that time is linear."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._text, self._at = stream, "", 0

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches everywhere
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """Decode the next value.

        Returns:
            The value.

        Raises:
            ValueError: there is none, or a broken one.
        """
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _CUT
                if not (cut and self._more()):
                    raise ValueError(error.msg) from None
            else:
                if end < len(self._text) or not self._more():  # a number at the end may go on in the next piece
                    self._at = end
                    return value

    def elements(self) -> Iterator[Any]:
        """Decode the elements of the array that starts here.

        Yields:
            Elements.

        Raises:
            ValueError: the array ends early or is broken.
        """
        self._at += 1
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            mark = self.peek()
            if mark not in {",", "]"}:
                raise ValueError(f"',' or ']' was expected, not {mark!r}" if mark else "the array ends early")
            self._at += 1
            if mark == "]":
                return

    def _more(self) -> bool:
        piece = self._stream.read(max(PIECE, len(self._text) - self._at))
        if piece:
            self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)
