"""Ctrl-C: one line that says what was kept, exit code 130, no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from borngap.zoo import cache_folder

_FOLDERS = {
    "demo": "out", "finetune": "out", "forecast": "out", "remedy": "out", "reproduce": "out", "scan": "out",
    "sweep": "out", "terms": "out", "train": "work",
}  # fmt: skip


class Command(TyperCommand):
    """A command that can be interrupted."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Args:
            ctx: its context, arguments included.

        Returns:
            What the command returns.

        Raises:
            Exit: it was interrupted.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(f"interrupted: {what_is_kept(str(self.name), ctx.params)}", err=True)
            raise typer.Exit(130) from None


def what_is_kept(command: str, options: dict[str, Any]) -> str:
    """Say what an interrupted command leaves, and how to go on.

    Args:
        command: its name.
        options: what it was given.

    Returns:
        A sentence without its full stop.
    """
    alone = (
        command == "forecast" and options.get("data") is None
    )  # contexts each alone: of a run only there is a folder
    if alone or command not in {*_FOLDERS, "fetch"}:
        return "nothing was kept"
    folder = cache_folder() if command == "fetch" else options.get(_FOLDERS[command])
    if folder is None:
        return "nothing was kept; with --out FOLDER the same command goes on where it was"
    if options.get("plan") or options.get("estimate") or not Path(folder).exists():
        return "nothing was kept yet; give the same command again"
    return f"what is finished is in {folder}; the same command goes on from there"
