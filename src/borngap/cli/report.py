"""``borngap report``: a page, Markdown or JSON from RUN and SWEEP folders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from borngap.cli.show import say

if TYPE_CHECKING:
    from borngap.report.report import Report


class FormatName(StrEnum):
    """How a report is written."""

    html = "html"
    md = "md"
    json = "json"


Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write; standard output unless given (a page needs one).")
]
Format = Annotated[
    FormatName | None, typer.Option("--format", help="html, md or json; by the file's ending unless given.")
]
Charts = Annotated[Path | None, typer.Option("--charts", help="Folder for every chart as SVG and PNG.")]


def report(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="RUN or SWEEP folders, JSON of `borngap forecast` or `critical`; or one SCAN."
        ),
    ],
    out: Out = None,
    format: Format = None,  # noqa: A002
    charts: Charts = None,
    geometry: Annotated[
        bool, typer.Option("--geometry/--no-geometry", help="Measure the models' embedding geometry, where at hand.")
    ] = True,
) -> None:
    """Tell what came of runs, or of a scan: one self-contained page that works offline, or Markdown, or JSON."""
    chosen = check_output(out, format, further=charts is not None)
    from borngap.report.report import report_of

    made = report_of(*inputs, with_geometry=geometry)
    if charts is not None:
        save_charts(made, charts)
    if out is not None:
        path = made.save(out, chosen)
        say(f"written to {path}")
    elif chosen is not None:
        typer.echo(made.text(chosen), nl=False)


def save_charts(made: Report, folder: Path) -> None:
    """Write every chart of a report, and say where on standard error, so that standard output may hold the report."""
    files = made.save_charts(folder)
    typer.echo(f"{len(files)} files written to {folder}", err=True)


def check_output(out: Path | None, format: FormatName | None, *, further: bool = False) -> str | None:  # noqa: A002
    """Return the format to write, before anything is measured.

    Args:
        out: the file, or None for standard output.
        format: as given.
        further: whether there is other output, so that none of these is needed.

    Returns:
        ``html``, ``md`` or ``json``; None if nothing is to be written.

    Raises:
        UserError: the format can't be told, or a page would go to standard output.
    """
    from borngap.errors import UserError

    if out is None and (format is None or format is FormatName.html):
        if further and format is None:
            return None
        raise UserError("no file for the report", rule="-o FILE, or --format md or json", fix="add -o report.html")
    endings = {f".{name.value}": name.value for name in FormatName}
    if format is None and out is not None and out.suffix not in endings:
        fix = "end its name in .html, .md or .json, or give --format"
        raise UserError("the format of the report can't be told", rule="html, md or json", found=out.name, fix=fix)
    return format.value if format is not None else endings[out.suffix] if out is not None else None
