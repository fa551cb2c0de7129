"""The text of a file, whatever it is compressed with and encoded in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, cast

from borngap.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstd.open}
COMPRESSED = tuple(_OPENERS)
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)  # and an OSError without a number
_LONE = re.compile("[\ud800-\udfff]")
_HEAD = 4  # bytes that tell the encoding


def extension_of(file: Path) -> str:
    """Return the suffix that names what a file holds, in lower case: of ``a.jsonl.gz`` it is ``.jsonl``."""
    name = file.name.lower()
    packed = next((suffix for suffix in COMPRESSED if name.endswith(suffix)), "")
    return Path(name.removesuffix(packed)).suffix


@contextmanager
def text_of(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file as text: unpacked by its suffix, decoded by its byte order mark or by its first four bytes.

    What is not UTF-8 in a UTF-8 file becomes lone surrogates, so that one bad row is not the end of the file.

    Args:
        file: UTF-8, UTF-16 or UTF-32, plain or compressed.
        newline: as of ``open``.

    Yields:
        The text.

    Raises:
        UserError: the file can't be read or unpacked to its end, or is not text.
    """
    try:
        with cast("IO[bytes]", _OPENERS.get(file.suffix.lower(), open)(file, "rb")) as raw:
            stream = io.BufferedReader(cast("io.RawIOBase", raw))
            encoding = json.detect_encoding(stream.peek(_HEAD)[:_HEAD])
            errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
            yield io.TextIOWrapper(stream, encoding, errors, newline)
    except (*_BROKEN, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise UserError(f"can't read {file}", found=getattr(error, "strerror", None)) from None
        rule, found = f"a whole {file.suffix} file", str(error) or type(error).__name__
        raise UserError(f"can't unpack all of {file}", rule=rule, found=found, fix="fetch or pack it again") from None
    except UnicodeError as error:
        raise UserError(f"{file} is not text", rule="UTF-8, UTF-16 or UTF-32", found=str(error)) from None


def lines_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers from 1; any line end ends one."""
    with text_of(file) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.removesuffix("\n")


def whole_text(file: Path) -> str:
    """Return all text of a file.

    Args:
        file: as of ``text_of``.

    Returns:
        The text.

    Raises:
        UserError: it can't be read, or a line holds what is no text.
    """
    with text_of(file) as stream:
        text = stream.read()
    try:
        check_text(text)
    except ValueError:
        _refuse_line(file, text)
    return text


def _refuse_line(file: Path, text: str) -> None:
    """Name the first line that is no text."""
    for number, line in enumerate(text.split("\n"), 1):
        try:
            check_text(line)
        except ValueError as error:
            where, fix = f"{file.name}, line {number}", "save the file as UTF-8"
            raise UserError(f"no text in {where}", rule="UTF-8, UTF-16 or UTF-32", found=str(error), fix=fix) from None


def check_text(text: str) -> None:
    """Refuse a text that no file in UTF-8 holds.

    Args:
        text: any text.

    Raises:
        ValueError: it holds bytes that were not UTF-8, half a surrogate pair, or a NUL; the message says which.
    """
    found = _LONE.search(text)
    if found is not None:
        byte = ord(found.group()) - 0xDC00
        what = f"byte 0x{byte:02x} is not UTF-8" if 0x80 <= byte <= 0xFF else "half of a surrogate pair"
        raise ValueError(f"{what}, at character {found.start() + 1}")
    if "\0" in text:
        raise ValueError(f"a NUL character at character {text.index(chr(0)) + 1}: the file is damaged, or no text")
