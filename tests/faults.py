"""Faults of a disk: a writer is cut off at the k-th thing that it does to files, as by a kill or by a full disk."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import pathlib
from contextlib import contextmanager

_DOES = ("replace", "rename", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "truncate", "ftruncate", "write")
_WRITES = set("wax+")


class Killed(BaseException):
    """The process is no more; nothing that it would have done after happens."""


class Disk:
    """Counts what is done to files, and breaks at one of these times.

    ``kill``: a write is done by half, anything else not at all, and nothing is done after. ``full``: no write succeeds
    from then on.
    """

    def __init__(self, at, fault):
        self.at, self.fault, self.done, self.broken = at, fault, 0, False

    def step(self, *, frees=False):
        """Count one thing that is about to be done to a file; whether it is to be cut off at its middle."""
        if self.broken and self.fault == "kill":
            raise Killed
        self.done += 1
        self.broken = self.broken or self.done == self.at
        if self.broken and not (frees and self.fault == "full"):
            self.fail()

    def fail(self):
        """Break."""
        if self.fault == "kill":
            raise Killed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class File:
    """A file that is open for writing."""

    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, content):
        """Write; where it breaks here, by half."""
        try:
            self._disk.step()
        except BaseException:
            if self._disk.done == self._disk.at:
                self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __iter__(self):
        return iter(self._file)


@contextmanager
def breaking(at, fault, monkeypatch):
    """Within it, the ``at``-th thing that is done to files goes wrong.

    Yields:
        The disk, whose ``broken`` says whether it came to that.
    """
    disk, opened, opened_low, make = Disk(at, fault), io.open, os.open, os.mkdir

    def open_file(path, mode="r", *args, **more):
        if not _WRITES & set(mode):
            return opened(path, mode, *args, **more)
        disk.step()
        return File(opened(path, mode, *args, **more), disk)

    def open_low(path, flags, *args, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            disk.step()
        return opened_low(path, flags, *args, **more)

    def counted(function, *, frees):
        def call(path, *args, **more):
            if function is not make or not pathlib.Path(path).is_dir():
                disk.step(frees=frees)
            return function(path, *args, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", open_file)
        patch.setattr(builtins, "open", open_file)
        patch.setattr(os, "open", open_low)
        patch.setattr(os, "fsync", lambda _: disk.step())  # what it waits for is not what is tested
        for name in _DOES:
            patch.setattr(os, name, counted(getattr(os, name), frees=name in {"unlink", "remove", "rmdir"}))
        yield disk


def every_fault(fault, attempt, monkeypatch):
    """Let a writer break at its first, second, third ... time, until it gets through.

    Args:
        fault: ``kill`` or ``full``.
        attempt: a function of the number of the attempt that writes.
        monkeypatch: pytest's.

    Yields:
        The number of the attempt, after it broke, and its exception.
    """
    for at in itertools.count(1):
        error = None
        with breaking(at, fault, monkeypatch) as disk:
            try:
                attempt(at)
            except BaseException as raised:  # noqa: BLE001  # a library may wrap what the disk raised
                error = raised
        if not disk.broken:
            assert error is None, error
            return
        yield at, error
