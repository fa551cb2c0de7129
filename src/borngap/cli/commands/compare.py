"""``borngap compare``: the same contexts under several runs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from borngap.cli.commands.report import Charts, FormatOption, Out, check_output, deliver
from borngap.cli.progress import Progress


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Two to six RUN folders, of finetune or a callback.")
    ],
    out: Out = None,
    format: FormatOption = None,  # noqa: A002
    charts: Charts = None,
) -> None:
    """Put the same contexts side by side (full and LoRA, two rates): outcome, flip, needed rate, trajectories."""
    chosen = check_output(out, format)
    from borngap.report.report import comparison_of

    with Progress("making the comparison"):
        made = comparison_of(*runs)
    deliver(made, out, chosen, charts)
