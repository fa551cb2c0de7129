"""Clock: times a host's steps and what an observer spends beside them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

_INTERVALS = 64


@dataclass(frozen=True)
class Cost:
    """What tracking took.

    Attributes:
        probes: how many times what is watched was measured since training began.
        seconds: time spent on that since training began, unit s.
        training_seconds: time of the host's own since then, unit s.
        spacing: steps between probes at present.
    """

    probes: int
    seconds: float
    training_seconds: float
    spacing: int

    @property
    def share(self) -> float:
        """Time spent over the host's own time; NaN before the first step."""
        return self.seconds / self.training_seconds if self.training_seconds > 0 else math.nan


class Clock:
    """Times the host's steps and the observer's measurements, devices synchronised around the latter.

    Attributes:
        probes: how many probes were timed since ``start``.
        spent: time of all measurements since ``start``, unit s.
        training: time of the host's own since ``start``, unit s.
        probe_seconds: time of the last probe, unit s; 0 before the first.
        expensive_seconds: time of the last measurement of expensive observables, a context, unit s.
    """

    def __init__(self, model: Any) -> None:
        """Start with nothing timed; the model tells which devices to wait for."""
        devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
        self._devices = sorted(devices, key=str)
        self.probes, self.spent, self.training, self.probe_seconds, self.expensive_seconds = 0, 0.0, 0.0, 0.0, 0.0
        self._steps: deque[float] = deque(maxlen=_INTERVALS)
        self._since: float | None = None

    @property
    def step_seconds(self) -> float:
        """Median time of one of the host's last 64 steps, unit s."""
        return median(self._steps)

    @property
    def mean_seconds(self) -> float:
        """Mean time of a probe since ``start``, expensive observables at flips included, unit s; 0 without one."""
        return self.spent / self.probes if self.probes else 0.0

    def spacing(self, budget: float) -> int:
        """Return the smallest power of 2 steps between probes for which one costs at most a share of these steps."""
        steps = max(self.probe_seconds, self.mean_seconds) / (budget * self.step_seconds)
        return 2 ** max(0, math.ceil(math.log2(steps))) if steps > 0 else 1

    def start(self) -> None:
        """Begin to time the host; what came before is no cost of the training."""
        self._since, self.probes, self.spent, self.training = time.perf_counter(), 0, 0.0, 0.0

    def tick(self, steps: int) -> None:
        """Note that the host did so many steps since the last time."""
        now = time.perf_counter()
        if self._since is not None and steps > 0:
            self.training += now - self._since
            self._steps.append((now - self._since) / steps)
            self._since = now

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Time a probe.

        Yields:
            Nothing.
        """
        before = self.spent
        with self._spending():
            yield
        self.probes += 1
        self.probe_seconds = self.spent - before

    @contextmanager
    def completing(self, contexts: int) -> Iterator[None]:
        """Time a measurement of the expensive observables of so many contexts.

        Yields:
            Nothing.
        """
        before = self.spent
        with self._spending():
            yield
        if contexts:
            self.expensive_seconds = (self.spent - before) / contexts

    @contextmanager
    def _spending(self) -> Iterator[None]:
        self._synchronise()
        begin = time.perf_counter()
        yield
        self._synchronise()
        end = time.perf_counter()
        self.spent += end - begin
        if self._since is not None:
            self._since += end - begin

    def _synchronise(self) -> None:
        for device in self._devices:
            torch.cuda.synchronize(device)
