"""How the command line shows things: JSON, rich tables, words and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:  # rich is imported on first use: it would slow down help
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MISSING = "–"


def console() -> Console:
    """Return a console on standard output, at least 100 columns wide where it is no terminal."""
    from rich.console import Console

    plain = Console()
    return plain if plain.is_terminal else Console(width=max(100, plain.width))


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON document; NaN is not JSON and is refused."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def word(text: str) -> Text:
    """Show a word on one line, control characters made visible, without its leading space."""
    from rich.text import Text

    shown = text.strip() or repr(text)
    return Text("".join(c if c.isprintable() else repr(c)[1:-1] for c in shown))


def number(value: float | None, digits: int = 4) -> str:
    """Show a number with so many significant digits; whole numbers as they are; None and NaN as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, int):
        return str(value)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.{digits - 2}e}"
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.{digits}g}"


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> Table:
    """Return a table: the first ``left`` columns flush left, numbers flush right."""
    from rich.table import Table
    from rich.text import Text

    built = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1))
    for index, heading in enumerate(headings):
        built.add_column(Text(heading), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        built.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return built


@contextmanager
def counting(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left on a terminal's standard error.

    Args:
        what: what is counted.
        total: how many there are.
        quiet: whether to show nothing.

    Yields:
        A function that takes how many are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def model_line(info: dict[str, Any]) -> str:
    """Return one line about a model."""
    head = "tied head" if info["tied"] else "untied head"
    return (
        f"{info['name']}: {info['family']}, {info['parameters'] / 1e6:.3g} M parameters, d = {info['dimension']}, "
        f"{info['tokens']} tokens, {head}, {info['dtype']} on {info['device']}"
    )
