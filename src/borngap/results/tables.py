"""A table of results, and how it is written and read back: Markdown, JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from borngap.files import json_bytes, write_whole
from borngap.runfolder import clean
from borngap.shown import visible

DASH = "–"
_LONG = 80  # rows that a report shows


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        id: name of its files.
        title: what it shows.
        note: how to read it.
        rows: our numbers.
        paper: the paper's table beside it; None where the paper has none.
        paper_title: what the paper's shows.
        split: columns by whose values the table is cut into sections when it is printed.
        main: name of the rate that a report shows where it can't show all; empty if there is none.
    """

    id: str
    title: str
    note: str
    rows: pl.DataFrame
    paper: pl.DataFrame | None = None
    paper_title: str = ""
    split: tuple[str, ...] = ()
    main: str = ""


def write_table(table: Table, folder: Path) -> None:
    """Write a table as Markdown, JSON and CSV, each as a whole or not at all.

    Args:
        table: the table.
        folder: there already.
    """
    write_whole(folder / f"{table.id}.md", table_markdown(table).encode())
    write_whole(folder / f"{table.id}.json", json_bytes(table_json(table)))
    write_whole(folder / f"{table.id}.csv", table.rows.write_csv().encode())


def table_json(table: Table) -> dict[str, Any]:
    """Return a table JSON-ready: ``schema``, ``id``, ``title``, ``note``, ``rows``, ``paper``."""
    head = {"schema": 1, "id": table.id, "title": table.title, "note": table.note}
    paper = None if table.paper is None else {"title": table.paper_title, "rows": table.paper.to_dicts()}
    told: dict[str, Any] = clean(head | {"rows": table.rows.to_dicts(), "paper": paper})
    return told


def layout(table: Table) -> dict[str, Any]:
    """Return what a table's JSON does not tell: how it is cut into sections, and the types of its columns."""
    paper = None if table.paper is None else _types(table.paper)
    types = {"columns": _types(table.rows), "paper": paper}
    return {"id": table.id, "split": list(table.split), "main": table.main, **types}


def table_of(stored: Mapping[str, Any], laid_out: Mapping[str, Any]) -> Table:
    """Return the table that ``as_json`` and ``layout`` told."""
    paper = stored["paper"]
    return Table(
        stored["id"], stored["title"], stored["note"], _frame(stored["rows"], laid_out["columns"]),
        None if paper is None else _frame(paper["rows"], laid_out["paper"]), "" if paper is None else paper["title"],
        tuple(laid_out["split"]), laid_out["main"],
    )  # fmt: skip


def table_markdown(table: Table, level: int = 1) -> str:
    """Return a table as Markdown, the paper's beside it.

    Args:
        table: the table.
        level: of its heading.

    Returns:
        Text that ends with a line feed.
    """
    parts = [f"{'#' * level} {table.title}", table.note]
    parts += [part for name, rows in sections(table) for part in ([f"**{name}**"] if name else []) + [grid(rows)]]
    if not table.rows.height:
        parts.append("No runs for this table.")
    if table.paper is not None:
        parts += [f"The paper: {table.paper_title}", grid(table.paper)]
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(table: Table) -> Table:
    """Return a table as a report shows it: of a long one only the rows at its main rate, and the note says so."""
    if table.rows.height <= _LONG or not table.main:
        return table
    rows = table.rows.filter(pl.col("label") == table.main)
    more = f"Here at {table.main} only; all {table.rows.height} rows: tables/{table.id}.md."
    return replace(table, rows=rows, note=f"{table.note} {more}")


def sections(table: Table) -> list[tuple[str, pl.DataFrame]]:
    """Return the printed parts of a table: name and rows, without the columns that name them."""
    if not table.split or not table.rows.height:
        return [("", table.rows)] if table.rows.height else []
    return [
        (", ".join(str(value) for value in key), part.drop(table.split))
        for key, part in table.rows.group_by(*table.split, maintain_order=True)
    ]


def grid(rows: pl.DataFrame) -> str:
    """Return rows as a Markdown table."""
    head = [name.replace("_", " ") for name in rows.columns]
    marks = ["---:" if dtype.is_numeric() else "---" for dtype in rows.dtypes]
    lines = [head, marks, *([cell(value) for value in row] for row in rows.iter_rows())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    r"""Write a value: four significant digits, a dash for what does not exist, nothing that breaks a table.

    Args:
        value: a number, a text, a boolean or None.

    Returns:
        The text.

    Example:
        >>> cell(0.12345), cell(None), cell(True), cell("a|b"), cell(-2e-05)
        ('0.1235', '–', 'yes', 'a\\|b', '−2e-05')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−", 1) if value < 0 else f"{value:.4g}"
    if isinstance(value, str):
        shown = visible(value.strip())
        return shown.replace("\\", "\\\\").replace("|", "\\|") or json.dumps(value)
    return str(value).replace("-", "−", 1)


def _types(rows: pl.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in rows.schema.items()}


def _frame(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: getattr(pl, dtype) for name, dtype in types.items()})
