"""``borngap compare``: the same contexts under several runs, or the same places under several models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from borngap.cli.arguments import Json
from borngap.cli.commands.report import Charts, FormatOption, NoText, Out, check_output, deliver
from borngap.cli.progress import Progress


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER FOLDER...",
            help="Two to six folders of one kind, in order: RUNs, results of `scan --out`, or of `terms --out`.",
        ),
    ],
    out: Out = None,
    format: FormatOption = None,  # noqa: A002
    charts: Charts = None,
    no_text: NoText = False,
    json: Json = False,
) -> None:
    """Compare runs (outcome, flip, needed rate), or models before and after training (gained and lost, with a test)."""
    chosen = check_output(out, format, json=json)
    from borngap.report.report import comparison_of

    with Progress("making the comparison"):
        made = comparison_of(*folders)
    deliver(made.without_text() if no_text else made, out, chosen, charts)
