"""How the command line shows things: JSON, tables, sentences, words and numbers."""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from borngap.cli.tables import Fitted
from borngap.report.text import MISSING

if TYPE_CHECKING:  # rich is imported on first use: it would slow down help
    from rich.console import Console

_LEAD = re.compile(r"\s*(\d+  )?")  # a number, and what is said of it


def console() -> Console:
    """Return a console on standard output: as wide as the terminal or COLUMNS, else 100 columns."""
    from rich.console import Console

    plain = Console()
    return plain if has_width(plain) else Console(width=max(100, plain.width))


def has_width(out: Console) -> bool:
    """Return whether lines must be broken: on a terminal, or where COLUMNS says how wide they may be."""
    return out.is_terminal or "COLUMNS" in os.environ


def say(text: str = "", *, style: str | None = None) -> None:
    """Print text, broken between words if the output has a width; what has no blanks, such as a path, stays whole."""
    out = console()
    if has_width(out):
        text = "\n".join(_broken(line, out.width) for line in text.split("\n"))
    out.print(text, markup=False, highlight=False, soft_wrap=True, style=style)


def say_notes(general: Iterable[str], contexts: Iterable[Mapping[str, str]] = ()) -> None:
    """Print notes on a model, each once: general ones, and what single contexts say of its geometry."""
    for note in dict.fromkeys([*general, *(notes["geometry"] for notes in contexts if "geometry" in notes)]):
        say(f"note: {note}")


def _broken(line: str, width: int) -> str:
    """Break a line; what follows stands under its first word."""
    lead = _LEAD.match(line)
    indent = " " * (lead.end() if lead else 0)
    lines = textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join(lines)


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON document; NaN is not JSON and is refused."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def short_number(value: float | None, digits: int = 4) -> str:
    """Show a number with so many significant digits; whole numbers as they are; None and NaN as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, int):
        return str(value)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.{digits - 2}e}"
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.{digits}g}"


def fitted_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1, keys: int = 1
) -> Fitted:
    """Return a table: the first ``left`` columns flush left, the first ``keys`` repeated where it goes on below."""
    return Fitted(title, headings, rows, left, keys)


def print_table(shown: Fitted) -> None:
    """Print a table."""
    console().print(shown)


def model_line(info: dict[str, Any]) -> str:
    """Return one line about a model."""
    head = "tied head" if info["tied"] else "untied head"
    stored = f", stored in {info['stored_dtype']}" if info["stored_dtype"] not in {None, info["dtype"]} else ""
    ending = f", norm and head in {info['measured_in']}" if info["measured_in"] != info["dtype"] else ""
    return (
        f"{info['name']}: {info['family']}, {info['parameters'] / 1e6:.3g} M parameters, d = {info['dimension']}, "
        f"{info['tokens']} tokens, {head}, {info['dtype']}{stored}{ending} on {info['device']}"
    )
