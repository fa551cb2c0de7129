"""Packed data of words: sorted lists of them, and links between their numbers; opened as they lie, nothing is parsed.

A book is a folder of plain NumPy arrays (no pickle), mapped into memory: of its pages the system reads those that are
looked at. ``docs/make_thesaurus.py``, ``docs/make_lexicon.py`` and ``docs/make_synonyms.py`` write them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_FEW = 2000  # look-ups one by one that take as long as making a dictionary


def packed_data(name: str) -> Arrays:
    """Return the arrays of one of the package's own books of words."""
    return {
        file.stem: np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        for file in Path(__file__).with_name(name).glob("*.npy")
    }


def write_packed(folder: Path, arrays: Arrays) -> str:
    """Write a book, and return what it holds."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    return f"{folder}: {', '.join(f'{name} {len(array):,}' for name, array in arrays.items())}"


def packed_words(words: Sequence[str]) -> NDArray[np.bytes_]:
    """Return sorted words as an array: UTF-8, all as wide as the longest, shape (n,)."""
    return np.array([word.encode() for word in words])


class WordList:
    """Sorted words; one is found by halving, many at once, and after many by a dictionary that is made then."""

    def __init__(self, words: NDArray[np.bytes_]) -> None:
        """Begin with packed words."""
        self._words, self._asked = words, 0

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, number: int) -> str:
        return bytes(self._words[number]).decode()

    def number(self, word: str) -> int | None:
        """Return a word's number; None where it is not held."""
        self._asked += 1
        key = _key(word)
        if self._asked > _FEW:
            return self._numbers.get(key)
        number = bisect_left(self._words, key)
        return number if number < len(self) and self._words[number] == key else None

    def numbers(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of words, -1 where one is not held, shape (n,)."""
        width = self._words.dtype.itemsize
        keys = np.array([key if len(key) <= width else b"" for key in map(_key, words)], self._words.dtype)
        found = np.searchsorted(self._words, keys) % len(self)
        return np.where((self._words[found] == keys) & (keys != b""), found, -1)

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        return dict(zip(self._words.tolist(), range(len(self)), strict=True))


def _key(word: str) -> bytes:
    """A word as it may be held: an array of bytes drops a zero at the end of one."""
    return b"" if word.endswith("\0") else word.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, eq=False)
class Links:
    """Links from some numbers to others, both from 0.

    Attributes:
        starts: where the links of each number begin in ``ends``, and after the last one how many there are.
        ends: what they lead to, ascending for each number.
    """

    starts: NDArray[np.integer]
    ends: NDArray[np.integer]

    @classmethod
    def made(cls, size: int, left: NDArray[np.integer], right: NDArray[np.integer]) -> Links:
        """Return links from pairs of numbers, in any order; of equal ones each once."""
        keys = np.sort(left.astype(np.int64) << 32 | right)
        keys = keys[np.diff(keys, prepend=-1) > 0]
        counts = np.bincount(keys >> 32, minlength=size)
        return cls(np.concatenate([[0], counts.cumsum()]).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32))

    def of(self, number: int) -> list[int]:
        """Return what a number leads to."""
        return self.ends[self.starts[number] : self.starts[number + 1]].tolist()

    def of_all(self, numbers: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
        """Return all links of some numbers: which of these each comes from, by place, and what it leads to."""
        starts = self.starts[numbers].astype(np.int64)
        counts = self.starts[numbers + 1] - starts
        left = np.repeat(np.arange(len(numbers)), counts)
        within = np.arange(len(left)) - np.repeat(counts.cumsum() - counts, counts)
        return left, self.ends[starts[left] + within]

    def reversed(self) -> Links:
        """Return the same links the other way."""
        left, right = self.of_all(np.arange(len(self.starts) - 1))
        return Links.made(int(right.max()) + 1, right, left)


def unpacked(arrays: Arrays, name: str) -> Links:
    """Return packed links."""
    return Links(arrays[f"{name}_starts"], arrays[f"{name}_ends"])


def packed_pairs(name: str, size: int, left: Sequence[int], right: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return pairs of numbers as arrays.

    Args:
        name: of the arrays.
        size: how many numbers links may come from.
        left: where they come from, in any order.
        right: where they lead to.

    Returns:
        ``NAME_starts``, int32, shape (size + 1,), and ``NAME_ends``, int32, shape (n,): the fields of ``Links``.
    """
    links = Links.made(size, np.array(left), np.array(right))
    return {f"{name}_starts": links.starts, f"{name}_ends": links.ends}
