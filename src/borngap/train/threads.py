"""How many threads a run of single contexts takes: one, unless more of them are clearly faster at the moment.

Products with a prompt of some ten tokens are small: two threads gain little by sharing them, and where one of the two
has no core for itself, the other waits for it at every product (docs/speed.md#threads).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_FASTER = 1.25  # so much faster threads must be: on two free cores they are 1.2 times, and cost twice the processor


@contextmanager
def as_many_as_pay(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Go on with one thread if more are not clearly faster, and put their number back afterwards.

    ``OMP_NUM_THREADS``, where it is set, is the user's own choice and stands.

    Args:
        work: a piece of what is to be done, without effects; done two or four times to measure, if there are threads
            to choose from.
        clock: seconds, from any start.

    Yields:
        Nothing.
    """
    threads = torch.get_num_threads()
    try:
        if threads > 1 and "OMP_NUM_THREADS" not in os.environ:
            alone = _seconds(work, 1, clock)
            torch.set_num_threads(threads if _seconds(work, threads, clock) * _FASTER < alone else 1)
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(work: Callable[[], object], threads: int, clock: Callable[[], float]) -> float:
    """Time a piece of work after doing it once, which starts the threads."""
    torch.set_num_threads(threads)
    work()
    began = clock()
    work()
    return clock() - began
