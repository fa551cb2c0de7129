"""Paired tests: is a change of the same places from one model to another more than chance would give?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-99  # a p value below it is given as it: the tails of the sum are cut there


def sign_flip_p(changes: NDArray[Any]) -> float:
    """Exact two-sided p value of a sum of changes, one of each row, under flips of their signs.

    If before and after were interchangeable, each row's change could as well have the other sign, all of its places
    together, however much these depend on each other. With one place a row this is McNemar's exact test::

        p = P(|sum of s_r d_r| >= |sum of d_r|), each s_r either 1 or -1, both with probability 1/2

    Args:
        changes: d_r of each row, its places gained less its places lost, integers.

    Returns:
        p in (0, 1]; 1 where nothing changes. Values below ``SMALLEST`` are given as it.

    Example:
        >>> sign_flip_p(np.array([1, 1, 1, 1, 0])), sign_flip_p(np.array([3, -1]))
        (0.125, 0.5)
    """
    chances = np.ones(1)  # of the sums that are so far possible, from the least to the largest, in steps of 1
    for size, rows in sorted(Counter(abs(change) for change in changes.tolist() if change).items()):
        chances = np.convolve(chances, _of_equal(size, rows))
    sums = np.arange(len(chances)) - len(chances) // 2
    return float(np.clip(chances[np.abs(sums) >= abs(int(changes.sum()))].sum(), SMALLEST, 1.0))


def _of_equal(size: int, rows: int) -> NDArray[np.float64]:
    """Chances of the sums of rows that all change by as much; those too small to count at both ends are left out."""
    from scipy import stats

    heads = stats.binom(rows, 0.5).pmf(np.arange(rows + 1))
    heads = heads[heads > SMALLEST]  # symmetric: as many at either end
    chances = np.zeros(2 * size * (len(heads) - 1) + 1)
    chances[:: 2 * size] = heads
    return chances


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact p value of McNemar's test, which takes all places as independent.

    Args:
        gained: places that changed in one direction.
        lost: places that changed in the other.

    Returns:
        p in (0, 1]; 1 where nothing changes.

    Example:
        >>> mcnemar_p(5, 1)
        0.21875
    """
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
