"""The command line: one file a command. Heavy imports happen inside the commands, so that help is instant."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from borngap.cli.commands.compare import compare
from borngap.cli.commands.critical import critical
from borngap.cli.commands.demo import demo
from borngap.cli.commands.finetune import finetune
from borngap.cli.commands.forecast import forecast
from borngap.cli.commands.geometry import geometry
from borngap.cli.commands.methods import methods
from borngap.cli.commands.neighbours import neighbours
from borngap.cli.commands.planned.remedy import remedy
from borngap.cli.commands.probe import probe
from borngap.cli.commands.report import report
from borngap.cli.commands.reproduce import reproduce
from borngap.cli.commands.scan import scan
from borngap.cli.commands.sweep import sweep
from borngap.cli.commands.terms import terms
from borngap.cli.commands.zoo import zoo
from borngap.cli.interrupt import Command
from borngap.cli.options import from_settings
from borngap.errors import UserError

app = typer.Typer(
    name="borngap",
    help="See, predict and avoid near-synonym failures when fine-tuning causal language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    demo, probe, geometry, neighbours, forecast, remedy, critical, methods, finetune, sweep, scan, terms, report,
    compare, reproduce,
):  # fmt: skip
    app.command(cls=Command)(from_settings(command))
app.add_typer(zoo)


def _version(wanted: bool) -> None:
    if wanted:
        from borngap import __version__

        typer.echo(f"borngap {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See, predict and avoid near-synonym failures when fine-tuning causal language models."""


def main() -> None:
    """Run the command line; bad input ends with one message and exit code 2, never with a traceback."""
    _wait_asleep()
    try:
        app(prog_name="borngap")
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has said how they wait.

    By default they spin; beside another busy process they then hold the core that the other thread needs
    (docs/speed.md#threads). It counts only before torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
