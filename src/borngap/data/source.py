"""Whatever a user may call a data set, as a source of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.data.rows import FILE_KINDS, DataPart, DataSource, RawRecord, of_objects, open_source, readable
from borngap.errors import UserError


def source_of(data: Any, split: str = "train") -> DataSource:
    """Return the source of a data set.

    Args:
        data: a path, the name of a data set on the hub (``name`` or ``name:config``), a folder written by
            ``datasets.save_to_disk``, a ``datasets`` object, or a sequence of texts or mappings.
        split: which split of a hub or saved data set, or of a JSON file that holds several lists of rows.

    Returns:
        The source.

    Raises:
        UserError: there is no such data set.
    """
    if isinstance(data, DataSource):
        return data
    if not isinstance(data, str | Path):
        return of_objects(data)
    return replace(_named(str(data), split), split=split)


def _named(name: str, split: str) -> DataSource:
    path = os.path.expanduser(name)  # noqa: PTH111  # of a Path that is too long for a name every question is an error
    if any(os.path.isfile(os.path.join(path, file)) for file in ("state.json", "dataset_dict.json")):  # noqa: PTH113, PTH118
        return _saved(Path(path), split)
    if os.path.exists(path) or _like_a_path(name):  # noqa: PTH110
        return open_source(name, split)
    return _hub(name, split)


def _like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or readable(Path(name))


def _saved(path: Path, split: str) -> DataSource:
    datasets = _datasets(str(path))
    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        fix = "save it again with save_to_disk, or give its files"
        raise UserError(f"{path} can't be read as a saved data set", found=first, fix=fix) from None
    return of_objects(_split(saved, split, str(path)), path.name)


def _hub(name: str, split: str) -> DataSource:
    datasets = _datasets(name)
    base, _, config = name.partition(":")
    try:
        stream = datasets.load_dataset(base, config or None, split=split, streaming=True)
    except (OSError, ValueError, ConnectionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        rule = f"a file of kind {', '.join(FILE_KINDS)}, a folder of such files, or the name of a data set on the hub"
        raise UserError(f"no data at {name}", rule=rule, found=first) from None
    return DataSource(name, (DataPart(name, "record", lambda: _streamed(stream, name), lambda value: value),))


def _streamed(stream: Any, name: str) -> Iterator[RawRecord]:
    try:
        yield from enumerate(stream, 1)
    except (OSError, ConnectionError) as error:
        fix = "give the command again: with --out it goes on"
        raise UserError(f"the connection to {name} was lost", found=str(error), fix=fix) from None


def _split(saved: Any, split: str, name: str) -> Any:
    if not isinstance(saved, dict):
        return saved
    if split not in saved:
        raise UserError(f"no split {split!r} in {name}", rule=f"one of {', '.join(saved)}", fix="name it with --split")
    return saved[split]


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        rule, fix = "a file or a folder, or datasets installed", 'pip install "borngap[datasets]"'
        raise UserError(f"{name!r} is no file here", rule=rule, fix=fix) from None
    return datasets
