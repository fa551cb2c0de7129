"""All nearest neighbours of an embedding matrix: `Geometry.neighbours` against faiss-cpu's exact flat index.

Run ``.venv/bin/python benchmarks/neighbours.py``; ``--small`` is a smoke test. Both get the same rows and threads and
run in turn. Target: not slower than faiss, under 1 GiB of extra memory, equal results up to ties.

Floor: each overlap once, V^2 d flops (half a V x V x d product), and one reading of the rows, 4 V d bytes.
"""

from __future__ import annotations

import argparse
import statistics
import threading
from collections.abc import Callable

import faiss
import psutil
import torch
from torch import Tensor

from borngap import Geometry
from timing import interleaved, machine, ratio, table

_K = 10
_EVERY = 0.005


def peak_extra_memory(task: Callable[[], object]) -> float:
    """Return by how many MiB the process's resident memory rose at most while the task ran."""
    process, done, highest = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def sample() -> None:
        while not done.wait(_EVERY):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        task()
    finally:
        done.set()
        watcher.join()
    return (highest[0] - before) / 2**20


def with_faiss(geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Search the unit rows with an exact inner-product index, and leave each row itself out."""
    unit = geometry.unit(geometry.ordinary()).numpy()
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    overlaps, found = (torch.from_numpy(part) for part in index.search(unit, _K + 1))
    other = found != torch.arange(len(found))[:, None]
    # a row whose twin stands before it may not be among its own neighbours: then the last one goes
    other[other.all(1), -1] = False
    return found[other].view(-1, _K), overlaps[other].view(-1, _K)


def check(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> int:
    """Compare overlaps, and ids wherever no tie can exchange them; return how many ids differ."""
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=2e-6)
    differ = ours[0] != theirs[0]
    gaps = (ours[1][:, :-1] - ours[1][:, 1:]).abs() < 4e-6
    edge = torch.ones(len(gaps), 1, dtype=torch.bool)
    tied = torch.cat([edge & False, gaps], 1) | torch.cat([gaps, edge], 1)
    assert not bool((differ & ~tied).any())
    return int(differ.sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a smoke test: 6,000 tokens")
    options = parser.parse_args()
    tokens, dimension = (6_000, 128) if options.small else (options.tokens, options.dimension)
    faiss.omp_set_num_threads(torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(tokens, dimension, generator=generator) + 0.5 * torch.randn(dimension, generator=generator)
    geometry = Geometry(rows)
    tasks = {"borngap": lambda: geometry.neighbours(k=_K), "faiss": lambda: with_faiss(geometry)}
    memory = {name: peak_extra_memory(task) for name, task in tasks.items()}
    differing = check(tasks["borngap"](), tasks["faiss"]())
    seconds = interleaved(tasks, options.repetitions)
    print(f"{machine()}; faiss {faiss.__version__}; {tokens:,} x {dimension} float32, k {_K}, medians of "
          f"{options.repetitions} interleaved rounds\n")  # fmt: skip
    lines = [
        [name, f"{statistics.median(seconds[name]):.3g}", f"{ratio(seconds[name], seconds['faiss']):.3g}",
         f"{memory[name]:.0f}", f"{tokens**2 * dimension / statistics.median(seconds[name]) / 1e9:.3g}"]
        for name in tasks
    ]  # fmt: skip
    print(table(["what", "s", "times faiss", "peak extra MiB", "GFLOP/s of the floor"], lines))
    print(f"\nFloor {tokens**2 * dimension / 1e9:.4g} GFLOP, {4 * tokens * dimension / 1e6:.4g} MB. "
          f"Results equal; {differing} of {tokens * _K} ids differ, all among ties to 4e-6.")  # fmt: skip


if __name__ == "__main__":
    main()
