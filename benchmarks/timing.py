"""Paired, interleaved timing and Markdown tables, shared by the benchmarks."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from borngap.zoo import FETCHABLE, local_names


def interleaved(
    tasks: dict[str, Callable[[], object]], repetitions: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time tasks in turn, so that each sees the same state of the machine; one round before it warms up.

    Args:
        tasks: name -> what to time.
        repetitions: number of counted rounds.
        clock: in seconds; ``time.process_time`` where other work shares the machine.

    Returns:
        name -> seconds, one a round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for round_number in range(repetitions + 1):
        for name, task in tasks.items():
            start = clock()
            task()
            if round_number:
                seconds[name].append(clock() - start)
    return seconds


def ratio(left: list[float], right: list[float]) -> float:
    """Median over rounds of left / right: pairs of neighbours in time."""
    return statistics.median(a / b for a, b in zip(left, right, strict=True))


def machine() -> str:
    """Return one line on what this ran on."""
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    date = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    if torch.cuda.is_available():
        cpu = f"{torch.cuda.get_device_name()}, {cpu}"
    return (
        f"{date}; {cpu}, {os.cpu_count()} CPUs, load {load}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def lacks(model: str) -> bool:
    """Whether a pretrained model is to be fetched first; then one line says so."""
    missing = model in FETCHABLE and model not in local_names()
    if missing:
        print(f"{model} is not fetched, nothing is measured: borngap zoo fetch {model}", flush=True)
    return missing


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
