"""``borngap compare``: the same contexts under several runs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from borngap.cli.report import Charts, Format, Out, check_output, save_charts
from borngap.cli.show import print_table, say, table


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Two to six RUN folders, of finetune or a callback.")
    ],
    out: Out = None,
    format: Format = None,  # noqa: A002
    charts: Charts = None,
) -> None:
    """Put the same contexts side by side (full and LoRA, two rates): outcome, flip, needed rate, trajectories."""
    chosen = check_output(out, format, further=True)
    from borngap.report.report import comparison_of

    made = comparison_of(*runs)
    if charts is not None:
        save_charts(made, charts)
    if out is not None:
        path = made.save(out, chosen)
        say(f"written to {path}")
    elif chosen is not None:
        typer.echo(made.text(chosen), nl=False)
    elif charts is None:
        _show(made.summary)


def _show(summary: dict[str, Any]) -> None:
    from borngap.report.markdown import compared_cell

    names = [f"{number}: {run['label']}" for number, run in enumerate(summary["runs"], 1)]
    say(summary["verdict"])
    for run in summary["runs"]:
        for text in run["missing"]:
            say(f"{run['label']}: {text}")
    rows = [
        [c["number"], c["gold"], c["rival"], *map(compared_cell, c["entries"]), ", ".join(c["differs"]) or "nothing"]
        for c in summary["contexts"]
    ]
    if rows:
        print_table(table("\nSide by side", ["", "gold", "rival", *names, "differs in"], rows, 4 + len(names), keys=2))
    for c in summary["only"]:
        words = f"{c['gold']} against {c['rival']}"
        say(f"only in {summary['runs'][c['run']]['label']}: {words} ({c['outcome']})")
