"""``borngap report``: a page, Markdown or JSON from result folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from borngap.cli.arguments import Json
from borngap.cli.progress import Progress
from borngap.cli.show import say

if TYPE_CHECKING:
    from borngap.report.report import Report


Format = Literal["html", "md", "json"]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="File to write: .html, .md or .json; unless given, a summary is printed."),
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="html, md or json; by the file's ending unless given.")
]
NoText = Annotated[
    bool, typer.Option("--no-text", help="Leave the data's text out: prompts, and what stands around words.")
]
Charts = Annotated[Path | None, typer.Option("--charts", help="Folder for every chart as SVG and PNG.")]


def report(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="RUN or SWEEP folders, JSON of `forecast` or `critical`; or one scan, TERMS, FORECAST or REMEDIES.",
        ),
    ],
    out: Out = None,
    format: FormatOption = None,  # noqa: A002
    charts: Charts = None,
    geometry: Annotated[
        bool, typer.Option(rich_help_panel="Options", help="Measure the models' embedding geometry, where at hand.")
    ] = True,
    no_text: NoText = False,
    json: Json = False,
) -> None:
    """Report on runs, a scan, the use of terms, a forecast, remedies: a page that works offline, Markdown or JSON."""
    chosen = check_output(out, format, json=json)
    from borngap.report.report import report_of

    with Progress("making the report"):
        made = report_of(*inputs, with_geometry=geometry)
    deliver(made.without_text() if no_text else made, out, chosen, charts)


def deliver(made: Report, out: Path | None, format: str | None, charts: Path | None) -> None:  # noqa: A002
    """Write a report where it is wanted, or print what it says.

    Args:
        made: the report.
        out: file; None for standard output.
        format: html, md or json; None to print a summary, where no charts are wanted either.
        charts: folder for the charts, if they are wanted.
    """
    if charts is not None:
        _save_charts(made, charts)
    if out is not None:
        path = made.save(out, format)
        say(f"written to {path}")
    elif format is not None:
        typer.echo(made.text(format), nl=False)
    elif charts is None:
        from borngap.cli.summaries import print_summary

        print_summary(made.summary)
        say("\nAdd -o report.html for the page, with charts and what the words mean.")


def _save_charts(made: Report, folder: Path) -> None:
    """Write every chart of a report, and say where on standard error, so that standard output may hold the report."""
    files = made.save_charts(folder)
    typer.echo(f"{len(files)} files written to {folder}", err=True)


def check_output(out: Path | None, format: Format | None, *, json: bool = False) -> Format | None:  # noqa: A002
    """Return the format to write, before anything is measured.

    Args:
        out: the file, or None for standard output.
        format: as given.
        json: whether JSON is to be printed, as other commands do.

    Returns:
        ``html``, ``md`` or ``json``; None for a summary on the terminal.

    Raises:
        UserError: the format can't be told, or a page would go to standard output.
    """
    from borngap.errors import UserError

    if json and (out is not None or format not in {None, "json"}):
        rule, fix = "JSON on standard output, and nothing else", "name a file by -o FILE.json"
        raise UserError("--json does not go with -o or another --format", rule=rule, fix=fix)
    if json:
        return "json"
    if out is None and format == "html":
        raise UserError("no file for the report", rule="-o FILE, or --format md or json", fix="add -o report.html")
    endings: dict[str, Format] = {f".{name}": name for name in get_args(Format)}
    if format is None and out is not None and out.suffix not in endings:
        fix = "end its name in .html, .md or .json, or give --format"
        raise UserError("the format of the report can't be told", rule="html, md or json", found=out.name, fix=fix)
    return format if format is not None else endings[out.suffix] if out is not None else None
