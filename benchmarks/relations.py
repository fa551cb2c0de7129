"""What relations cost a scan, of its processor time.

Run ``.venv/bin/python benchmarks/relations.py --model docs-gpt2-s``. Three cases: *new process*, its first scan;
*warm*, a second scan of the same rows in it; *other rows*, a scan of the next ones in it. Counted is all that relations
take (opening the books of words, looking the vocabulary up, labels), less what an empty look-up is counted with.
Times are processor times of ``borngap.scan`` (rows read, forwards, rivals, results), without imports and loading.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import borngap
from borngap.model.load import quiet
from borngap.model.tokenrelations import TokenRelations
from borngap.zoo import local_path
from borngap.zoo.corpus import package_prose
from timing import machine, table

PACKAGES = ("rich", "pydantic", "aiohttp", "datasets")
EMPTY = 10_000  # look-ups that do nothing
CASES = ("new process", "warm", "other rows")


class Account:
    """Notes how long the program's look-ups of relations take."""

    def __init__(self) -> None:
        """Take the place of the program's own look-ups."""
        self.seconds = self._empty = 0.0
        nothing = self._timed(lambda: None)
        for _ in range(EMPTY):
            nothing()
        self._empty = self.seconds / EMPTY
        for name in ("synonyms", "relation"):
            setattr(TokenRelations, name, self._timed(getattr(TokenRelations, name)))

    def _timed(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begin = time.thread_time()
            try:
                return look_up(*arguments)
            finally:
                self.seconds += time.thread_time() - begin - self._empty

        return timed


def one(model: str, rows: int) -> None:
    """Scan rows twice, then the next ones; print of each scan the processor time, that of relations, and the counts."""
    loaded = borngap.load(model)
    every = itertools.chain.from_iterable(map(package_prose, PACKAGES))
    texts, account = list(itertools.islice(every, 2 * rows)), Account()
    for first in (0, 0, rows):
        account.seconds, begin = 0.0, time.process_time()
        found = borngap.scan(loaded.model, loaded.tokenizer, texts[first : first + rows])
        told = {"scan": time.process_time() - begin, "relations": account.seconds}
        print(json.dumps(told | {"counts": found.summary["counts"]}))


def rounds(model: str, rows: int, count: int) -> list[str]:
    """Run each case so many times; return a line of the table, medians."""
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(count):
        command = [sys.executable, __file__, "--one", model, str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for case, line in zip(CASES, done.stdout.splitlines()[-len(CASES) :], strict=True):
            found[case].append(json.loads(line))
    cells = []
    for case in CASES:
        seconds = [statistics.median(one[key] for one in found[case]) for key in ("scan", "relations")]
        share = statistics.median(one["relations"] / one["scan"] for one in found[case])
        cells.append(f"{share:.2%} ({seconds[1]:.3f} of {seconds[0]:.1f} s)")
    counts = found[CASES[0]][0]["counts"]
    return [Path(model).name, str(counts["rows"]), str(counts["targets"]), str(counts["with_rival"]), *cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="docs-gpt2-s")
    parser.add_argument("--rows", type=int, nargs="+", default=[498])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.one:
        one(options.one[0], int(options.one[1]))
        return
    named = Path(options.model)
    model = str(named.resolve() if named.is_dir() else local_path(options.model))
    print(machine() + "\n")
    for rows in options.rows:
        heads = ["model", "rows", "targets", "with rival", *CASES]
        print(table(heads, [rounds(model, rows, options.rounds)]) + "\n", flush=True)
    print(machine())


if __name__ == "__main__":
    main()
