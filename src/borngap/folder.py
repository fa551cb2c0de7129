"""Result folders: one rule for all of them.

A folder holds one plan, in its head file, and is written by one process at a time. A file is there as a whole or not at
all, and what says that something is done is written after it: killed at any moment, a folder loses and repeats nothing
that it says is done. Reading takes no lock.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

from borngap.errors import UserError
from borngap.files import PART, checked, json_bytes, make_folder, refuse_unwritable, whole
from borngap.kinds import kind_of

LOCK_FILE, SUMMARY_FILE = "lock", "summary.json"
_BRIEF = 60  # characters of a setting that are shown
_WRITERS = {
    "RUN": "`borngap finetune` or a callback", "SWEEP": "`borngap sweep`", "scan": "`borngap scan --out`",
    "TERMS": "`borngap terms --out`", "reproduction": "`borngap reproduce`",
    "FORECAST": "`borngap forecast --out`", "REMEDIES": "`borngap remedy --out`",
}  # fmt: skip
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP}  # some file systems of clusters have none


@dataclass(frozen=True)
class FolderKind:
    """A kind of result folder.

    Attributes:
        name: what the user calls it.
        head: its JSON file with schema, plan and environment.
        schema: version of its JSON files.
    """

    name: str
    head: str
    schema: int = 1


class Folder:
    """A result folder while it is written; use it in a ``with``, or close it.

    Attributes:
        kind: what it holds.
        path: where it lies.
    """

    kind: FolderKind

    def __init__(self, path: str | Path, plan: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Start a folder, or go on with one of the same plan.

        Args:
            path: made if it is not there.
            plan: everything needed to repeat it, JSON-ready.
            environment: versions and machine, JSON-ready; kept from the first start.

        Raises:
            UserError: the folder can't be written, is being written, holds something else, or is of another schema or
                plan.
        """
        self.path = Path(path)
        self._lock: Lock | None = None
        if self._is_new() or os.access(self.path, os.W_OK):  # what is finished can be taken from a read-only disk
            self._lock = Lock(self.path)
        try:
            self._claim(json.loads(json.dumps(plan)), environment)
            self._take_up()
        except BaseException:
            self.close()
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder as a whole or not at all.

        Args:
            name: its path in the folder.
            content: its bytes.
        """
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a file of the folder that takes its place once it is written as a whole.

        Args:
            name: its path in the folder.

        Yields:
            The file to write to.

        Raises:
            UserError: the path leaves the folder, the disk is full, or the folder can't be written or is being written.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise UserError("a path leaves its folder", rule=f"inside {self.path}", found=name)
        self._lock = self._lock or Lock(self.path)
        with whole(path) as file:
            yield file

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder's schema as a whole or not at all.

        Args:
            name: its path in the folder.
            value: JSON-ready, without NaN.
        """
        self.write(name, json_bytes({"schema": self.kind.schema} | dict(value)))

    def remove(self, *paths: Path) -> None:
        """Remove what is needed no more: files, and folders that are empty by then; what can't be removed stays.

        Args:
            paths: files and folders, in this order.
        """
        for path in paths:
            with suppress(OSError):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _take_up(self) -> None:
        """Read what a folder holds that is gone on with."""

    def _is_new(self) -> bool:
        """Make the folder, and refuse one of something else; nothing is put into that."""
        make_folder(self.path)
        try:
            names = sorted(path.name for path in self.path.iterdir())
        except OSError as error:
            refuse_unwritable(self.path, error)
        if self.kind.head in names:
            return False
        others = [name for name in names if name != LOCK_FILE and not name.endswith(PART)]
        if others:
            rule, fix = f"a new or empty folder, or a {self.kind.name}", "choose another folder with --out"
            held = kind_of(self.path)
            what = f"{self.path} holds {'a ' + held if held else 'other files'}"
            raise UserError(what, rule=rule, found=", ".join(others[:8]), fix=fix)
        return True

    def _claim(self, plan: dict[str, Any], environment: Mapping[str, Any]) -> None:
        if (self.path / self.kind.head).exists():
            _refuse_other_plan(self.path, self.kind, plan)
        else:
            self.write_json(self.kind.head, {"plan": plan, "environment": dict(environment)})


class Lock:
    """Keeps other writers out of a folder; the system lets go of it when the process ends, however it ends.

    A file that a killed process left behind locks nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Lock a folder.

        Args:
            folder: where it lies; must exist.

        Raises:
            UserError: something else writes there, or the folder can't be written.
        """
        path = folder / LOCK_FILE
        try:
            file = _locked(path)
        except BlockingIOError:
            fix = "wait for it, end it, or choose another folder with --out"
            raise UserError(f"{folder} is being written", rule="one writer", found=_owner(path), fix=fix) from None
        except OSError as error:
            refuse_unwritable(folder, error)
        # lets go when nobody holds the lock any more, too: a tracker may just be dropped
        self.release = weakref.finalize(self, _let_go, path, file, os.getpid())
        _held.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _locked(path: Path) -> int:
    """Return the descriptor of a file that this process alone has locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _flock(file)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):  # else its owner has just removed it
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()} on {platform.node()}".encode())
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _flock(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _owner(path: Path) -> str:
    try:
        owner = path.read_text(encoding="utf-8")
    except OSError:
        owner = ""
    return f"process {owner or 'unknown'}" + (" (this one)" if owner.split(" ")[0] == str(os.getpid()) else "")


def _let_go(path: Path, file: int, owner: int) -> None:
    try:
        if os.getpid() == owner:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(file)


def _let_go_in_child() -> None:
    """In a forked process, a data loader's worker say, which may outlive the one that took the lock."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def refuse_other_kind(folder: str | Path, kind: FolderKind) -> NoReturn:
    """Say that a folder is not of the kind that is wanted, and what it is.

    Args:
        folder: what was given.
        kind: what is wanted.

    Raises:
        UserError: always.
    """
    path, held = Path(folder), kind_of(folder)
    there = "no folder" if not path.is_dir() else f"a {held}" if held else "a folder without a result of borngap"
    fix = f"`borngap report {folder}` shows this {held}" if held in {"RUN", "SWEEP", "scan"} else "check the path"
    rule = f"a folder with {kind.head}, which {_WRITERS[kind.name]} wrote"
    raise UserError(f"no {kind.name} there", rule=rule, found=f"{folder}: {there}", fix=fix)


def read_head(folder: str | Path, kind: FolderKind) -> dict[str, Any]:
    """Read the head file of a result folder.

    Args:
        folder: where it lies.
        kind: what it holds.

    Returns:
        ``schema``, ``plan`` and ``environment``.

    Raises:
        UserError: there is none, or it is damaged or of another schema version.
    """
    path = Path(folder) / kind.head
    if not path.is_file():
        refuse_other_kind(folder, kind)
    return checked(path, kind.schema, ("plan", "environment"))


def read_summary(
    folder: str | Path, kind: FolderKind, *, what: str, command: str, keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Read the summary of a finished result folder, ``summary.json``.

    Args:
        folder: where it lies.
        kind: what it holds.
        what: what the result is called, for the message.
        command: what makes it.
        keys: what the summary must have.

    Returns:
        The summary.

    Raises:
        UserError: there is none, it is not finished, or it is damaged.
    """
    read_head(folder, kind)
    file = Path(folder) / SUMMARY_FILE
    if not file.is_file():
        raise UserError(f"the {what} in {folder} is not finished", fix=f"give the same {command} command again")
    return checked(file, kind.schema, keys)


def _refuse_other_plan(folder: Path, kind: FolderKind, plan: Mapping[str, Any]) -> None:
    there = read_head(folder, kind)["plan"]
    differing = list(_differing("", there, plan))
    if differing:
        found = "; ".join(differing[:6])
        fix = f"choose another folder with --out, or the settings of {kind.head}"
        raise UserError(f"{folder} holds a run of another plan", rule="the same plan", found=found, fix=fix)


def _differing(name: str, there: Any, now: Any) -> Iterator[str]:
    """Say what differs: of settings within settings those alone that do, by their whole names."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in sorted(there.keys() | now.keys()):
            yield from _differing(f"{name}.{key}" if name else key, there.get(key), now.get(key))
    elif there != now:
        texts = [json.dumps(value, ensure_ascii=False) for value in (there, now)]
        shared = next((i for i, (old, new) in enumerate(zip(*texts, strict=False)) if old != new), 0)
        yield "{}: {} there, {} now".format(name, *(_brief(text, shared) for text in texts))


def _brief(text: str, shared: int) -> str:
    """Cut a text; one that is long from shortly before where it begins to differ."""
    if len(text) > _BRIEF and shared > _BRIEF // 2:
        text = "..." + text[shared - _BRIEF // 4 :]
    return text if len(text) <= _BRIEF else text[: _BRIEF - 3] + "..."
