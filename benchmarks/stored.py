"""Rows that a benchmark keeps in a file, so that it can be interrupted, and the options that such benchmarks share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def parser(about: str | None, models: Sequence[str], methods: Sequence[str], criteria: Sequence[str]) -> Any:
    """Return a parser of the options that all of them have.

    Args:
        about: the benchmark's docstring.
        models: names by default.
        methods: the same.
        criteria: the same.

    Returns:
        The parser; ``lists`` reads what is separated by commas.
    """
    found = argparse.ArgumentParser(description=about)
    found.add_argument("--small", action="store_true")
    found.add_argument("--out", type=Path, help="where rows are kept; those that are there are not made again")
    found.add_argument("--table", type=Path, help="only print what this file holds")
    for name, values in (("models", models), ("methods", methods), ("criteria", criteria)):
        found.add_argument(f"--{name}", default=",".join(values))
    return found


def lists(options: Any, *names: str) -> list[list[str]]:
    """Return options that are lists separated by commas."""
    return [getattr(options, name).split(",") for name in names]


def read(path: Path | None) -> list[dict[str, Any]]:
    """Return the rows of a file; none where there is no file."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def add(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a file, if there is to be one."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
