"""How far a command has come, on standard error: a bar on a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EVERY = 30.0  # seconds


class Progress:
    """The progress of one command; standard output stays free for its result.

    Args:
        what: what is counted, or what is being done.
        total: how much of it there is; None if not known.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        from rich.console import Console

        errors = Console(stderr=True)
        self._shown: _Bar | Lines = _Bar(errors) if errors.is_terminal else Lines()
        self._shown.show(what, None, total, "")
        self._what = what

    def __enter__(self) -> Progress:
        """Begin to show."""
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more."""
        self._shown.stop()

    def show(self, done: int | None = None, total: int | None = None, *, what: str = "", seen: str = "") -> None:
        """Say how far it is.

        Args:
            done: how much is done.
            total: how much there is; as before unless given.
            what: what is being done now; as before unless given.
            seen: what there is to see besides.
        """
        self._what = what or self._what
        self._shown.show(self._what, done, total, seen)


class _Bar:
    """A bar with the time left."""

    def __init__(self, errors: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[seen]}", markup=False), TimeRemainingColumn()]
        self._bar: Bar = Progress(*columns, console=errors, transient=True)
        self._task = self._bar.add_task("", total=None, seen="")
        self.start, self.stop = self._bar.start, self._bar.stop

    def show(self, what: str, done: int | None, total: int | None, seen: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, description=what, completed=done, total=total, seen=seen)


class Lines:
    """A line every 30 seconds, from a thread of its own: a log shows that a slow step is still at work.

    Args:
        write: takes a line.
        clock: seconds, from any start.
        wait: waits for so many seconds; returns whether the command has ended meanwhile.
    """

    def __init__(
        self,
        write: Callable[[str], None] = lambda line: typer.echo(line, err=True),
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._ended = threading.Event()
        self._write, self._clock, self._wait = write, clock, wait or self._ended.wait
        self._what, self._done, self._total, self._seen = "", None, None, ""  # type: str, int | None, int | None, str
        self._first: tuple[float, int] | None = None
        self._began = clock()

    def start(self) -> None:
        """Begin to write."""
        threading.Thread(target=self.run, daemon=True).start()

    def stop(self) -> None:
        """Write no more."""
        self._ended.set()

    def show(self, what: str, done: int | None, total: int | None, seen: str) -> None:
        """Keep how far it is, for the next line."""
        self._what, self._seen = what, seen
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        if self._first is None and done is not None:  # what a resumed command finds done tells nothing of its speed
            self._first = (self._clock(), done)

    def run(self) -> None:
        """Write a line every 30 seconds until the command ends."""
        while not self._wait(EVERY):
            self._write(self.line())

    def line(self) -> str:
        """Return what there is to say now."""
        of = "" if self._total is None else f" of {self._total}"
        count = "" if self._done is None else f"{self._done}{of}"
        parts = [f"{self._what}: {count}" if count else self._what, self._seen]
        parts += [f"{spoken(self._clock() - self._began)} so far", self._left()]
        return ", ".join(part for part in parts if part)

    def _left(self) -> str:
        if self._first is None or self._total is None or self._done is None or self._done <= self._first[1]:
            return ""
        since, before = self._first
        seconds = (self._clock() - since) / (self._done - before) * (self._total - self._done)
        return f"about {spoken(seconds)} left"


def paced(
    progress: Progress, total: int, what: str, clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """Return what shows how many are done, and says after the first one how long all may take, if that is long.

    Args:
        progress: shows it.
        total: how many there are.
        what: what they are.
        clock: seconds, from any start.
    """
    began = clock()

    def show(done: int) -> None:
        seconds = (clock() - began) * (total - 1)
        if done == 1 and seconds >= EVERY:
            typer.echo(f"{total} {what}: about {spoken(seconds)} left, by the time of the first", err=True)
        progress.show(done)

    return show


def spoken(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Example:
        >>> spoken(80), spoken(600), spoken(9000)
        ('80 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
