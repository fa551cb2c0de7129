"""What relations cost a scan, of its processor time.

Run ``.venv/bin/python benchmarks/relations.py --model docs-gpt2-s``. Three cases: *first ever*, a process that finds
nothing on the disk; *from the disk*, another process, which finds what the first one stored; *warm*, a second scan in
that process. *Other rows* are scanned by a process that finds on the disk what belongs to the rows before them. Counted
is all that relations take: reading what is stored, opening thesaurus and lexicon, looking words up, storing. Times
are processor times of ``borngap.scan`` (rows read, forwards, rivals, results), without imports and loading the model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import borngap
from borngap.model.load import quiet
from borngap.model.tokenrelations import TokenRelations
from borngap.scanning import scan, search
from borngap.zoo import local_path
from borngap.zoo.corpus import package_prose
from timing import machine, table

PACKAGES = ("rich", "pydantic", "aiohttp", "datasets")
CASES = ("first ever", "from the disk", "warm", "other rows")


class Account:
    """Notes how long the program's look-ups of relations take."""

    def __init__(self) -> None:
        """Take the place of the program's own look-ups."""
        self.seconds = 0.0
        for owner, name in (
            (TokenRelations, "synonyms"), (TokenRelations, "relation"), (search, "vocabulary_relations"),
            (scan, "keep_relations"),
        ):  # fmt: skip
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begin = time.thread_time()
            try:
                return look_up(*arguments)
            finally:
                self.seconds += time.thread_time() - begin

        return timed


def one(model: str, first: int, rows: int, scans: int) -> None:
    """Scan some rows; print of each scan the processor time, that of relations, and the counts."""
    loaded = borngap.load(model)
    every = itertools.chain.from_iterable(map(package_prose, PACKAGES))
    texts, account = list(itertools.islice(every, first, first + rows)), Account()
    for _ in range(scans):
        account.seconds, begin = 0.0, time.process_time()
        found = borngap.scan(loaded.model, loaded.tokenizer, texts)
        told = {"scan": time.process_time() - begin, "relations": account.seconds}
        print(json.dumps(told | {"counts": found.summary["counts"]}))


def rounds(model: str, rows: int, count: int) -> list[str]:
    """Run each case so many times; return a line of the table, medians."""
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for cases, first in ((CASES[:1], 0), (CASES[1:3], 0), (CASES[3:], rows)):
                command = [sys.executable, __file__, "--one", model, str(first), str(rows), str(len(cases))]
                environment = os.environ | {"BORNGAP_CACHE": folder}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                for case, line in zip(cases, done.stdout.splitlines()[-len(cases) :], strict=True):
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
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.one:
        model, *numbers = options.one
        one(model, *map(int, numbers))
        return
    named = Path(options.model)
    model = str(named.resolve() if named.is_dir() else local_path(options.model))  # whatever the cache folder is
    print(machine() + "\n")
    for rows in options.rows:
        heads = ["model", "rows", "targets", "with rival", *CASES]
        print(table(heads, [rounds(model, rows, options.rounds)]) + "\n", flush=True)
    print(machine())


if __name__ == "__main__":
    main()
