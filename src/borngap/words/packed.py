"""Packed data of words: lists of them, and links between their numbers; opened at once, without being parsed.

A file is a NumPy archive without objects (no pickle): texts as UTF-8 bytes, whole numbers as one plane a byte, which
compresses better. ``docs/make_thesaurus.py`` and ``docs/make_lexicon.py`` write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def packed_data(name: str) -> Arrays:
    """Return the arrays of one of the package's own files of words."""
    with (files("borngap.words") / name).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return dict(archive)


def lines(text: NDArray[np.uint8]) -> list[str]:
    """Return the lines of a packed text."""
    return text.tobytes().decode("utf-8").split("\n")


def packed_lines(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return lines as a packed text, uint8."""
    return np.frombuffer("\n".join(texts).encode("utf-8"), np.uint8)


@dataclass(frozen=True, eq=False)
class Links:
    """Links from some numbers to others, both from 0.

    Attributes:
        starts: where the links of each number begin in ``ends``, and after the last one how many there are.
        ends: what they lead to, ascending for each number.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def of(self, number: int) -> list[int]:
        """Return what a number leads to."""
        return self.ends[self.starts[number] : self.starts[number + 1]].tolist()

    def reversed(self, size: int) -> Links:
        """Return the same links the other way, where they lead to numbers below ``size``."""
        left = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        keys = np.sort(self.ends << 32 | left)
        return Links(_starts(np.bincount(self.ends, minlength=size)), keys & 0xFFFFFFFF)


def unpacked(arrays: Arrays, name: str) -> Links:
    """Return packed links."""
    counts, steps = arrays[f"{name}_counts"], arrays[f"{name}_steps"]
    starts, held = _starts(counts), counts > 0
    ends = np.ascontiguousarray(steps.T).view("<i4").ravel().astype(np.int64)
    firsts = ends[starts[:-1][held]].cumsum()
    ends[starts[:-1][held]] = 0
    return Links(starts, ends + np.repeat(firsts, counts[held]))


def packed_pairs(name: str, size: int, left: Sequence[int], right: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return pairs of numbers as arrays: of each number how many, and what each leads to.

    The first one of a number is told as the difference from that of the number before, the others from the first.

    Args:
        name: of the arrays.
        size: how many numbers links may come from.
        left: where they come from, in any order.
        right: where they lead to.

    Returns:
        ``NAME_counts``, uint8 or uint16, shape (size,), and ``NAME_steps``, uint8, shape (4, n): planes of int32.
    """
    pairs = np.array(sorted(set(zip(left, right, strict=True))), dtype=np.int64)
    counts = np.bincount(pairs[:, 0], minlength=size)
    counts = counts.astype(np.uint8 if counts.max() < 256 else np.uint16)
    held = counts > 0
    begin = _starts(counts)[:-1][held]
    firsts = pairs[begin, 1]
    steps = pairs[:, 1] - np.repeat(firsts, counts[held])
    steps[begin] = np.diff(firsts, prepend=0)
    planes = np.ascontiguousarray(steps.astype("<i4").view(np.uint8).reshape(-1, 4).T)
    return {f"{name}_counts": counts, f"{name}_steps": planes}


def _starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where the links of each number begin, and where the last ones end."""
    return np.concatenate([[0], counts.cumsum(dtype=np.int64)])
