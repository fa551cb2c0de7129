"""Files of results: there as a whole or not at all, and what can't be written or read ends with one clear message."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import polars as pl

from borngap.errors import UserError

PART = ".part"


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its place once it is written as a whole, and is on the disk then.

    Args:
        path: the file; what stands there is replaced, and its folder is made where it is not there.

    Yields:
        The file to write to.
    """
    part = path.with_name(f"{path.name}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            refuse_unwritable(path.parent, error)
        raise
    with suppress(OSError):  # not every system lets a folder be opened
        _sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse_unwritable(folder, error)


def check_new_file(file: Path, what: str) -> None:
    """Refuse a file that is there already or can't be written; its folder is made.

    Args:
        file: where something is to be written later.
        what: what goes there, in words.

    Raises:
        UserError: it can't be written, or is there.
    """
    make_folder(file.parent)
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        found = "a folder" if file.is_dir() else "its folder can't be written"
        raise UserError(f"can't write {what} to {file}", rule="a file", found=found)
    if file.exists():
        fix = "choose another name, or remove the file"
        raise UserError(f"{file} is there already", rule="nothing is overwritten", fix=fix)


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file as a whole or not at all, and on the disk before this returns.

    Args:
        path: the file; what stood there is replaced, and its folder is made where it is not there.
        content: its bytes.

    Returns:
        The path.
    """
    with whole(path) as file:
        file.write(content)
    return path


def checked(path: Path, schema: int = 1, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read a JSON file of a known schema version.

    Args:
        path: the file.
        schema: the version.
        keys: those that it must have.

    Returns:
        What it holds.

    Raises:
        UserError: it is damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged", rule="JSON", found=str(error)) from None
    except OSError as error:
        raise UserError(f"can't read {path}", found=error.strerror or str(error)) from None
    version = data.get("schema") if isinstance(data, dict) else None
    if version != schema:
        fix = "read it with the borngap that wrote it, or choose another folder"
        raise UserError(f"{path} is of another schema version", rule=f"schema {schema}", found=version, fix=fix)
    _refuse_lacking(path, keys, data, "keys")
    return data


def read_table(path: Path, columns: Collection[str] = ()) -> pl.DataFrame:
    """Read a Parquet file.

    Args:
        path: the file.
        columns: those that it must have.

    Returns:
        Its table.

    Raises:
        UserError: it is damaged, or another version of this program wrote it, without all of the columns.
    """
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} is damaged", found=str(error).splitlines()[0]) from None
    _refuse_lacking(path, columns, table.columns, "columns")
    return table


def _refuse_lacking(path: Path, names: Collection[str], there: Collection[str], what: str) -> None:
    """Refuse what another version of this program wrote."""
    lacking = [name for name in names if name not in there]
    if lacking:
        rule, fix = f"{len(names)} {what}", "give the command that made it again, with another --out"
        found = f"without {', '.join(lacking)}"
        raise UserError(f"{path} is of another version of borngap", rule=rule, found=found, fix=fix)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return a JSON document; NaN is not JSON and is refused."""
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return a table as Parquet."""
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def refuse_unwritable(folder: Path, error: OSError) -> NoReturn:
    """Turn the error of a folder that can't be written into one for the user.

    Args:
        folder: the folder.
        error: what happened.

    Raises:
        UserError: always.
    """
    fix = "free space or choose another folder with --out; what was finished before is kept"
    found = error.strerror or str(error)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        found = "a file where a folder should be"
    raise UserError(f"can't write to {folder}", found=found, fix=fix) from error


def _sync(folder: Path) -> None:
    """Put a folder's own entries on the disk: renames, in their order."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
