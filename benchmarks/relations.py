"""What relations cost a scan: its processor time with them looked up, and with the same ones found in a table.

Run ``.venv/bin/python benchmarks/relations.py --model docs-gpt2-s``. A pair of runs is two scans of the same rows, each
in a process of its own: one as it is, one whose relations a first run has stored, so that all else is equal. *Share* is
by the program's own account: the time spent in what the table replaces. *Warm* is a second scan in the same process.
Times are processor times of ``borngap.scan`` (rows read, forwards, rivals, results), without imports and the loading of
the model.
"""

from __future__ import annotations

import argparse
import itertools
import json
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
from borngap.zoo.corpus import package_prose
from timing import machine, table

PACKAGES = ("rich", "pydantic", "aiohttp", "datasets")


class Account:
    """Looks relations up as the program does, and notes what is found and how long it takes."""

    def __init__(self) -> None:
        """Take the place of the program's own look-ups."""
        self.seconds, self.found = 0.0, {"synonyms": {}, "relation": {}}
        for name in self.found:
            setattr(TokenRelations, name, self._timed(name, getattr(TokenRelations, name)))

    def _timed(self, name: str, look_up: Callable[..., Any]) -> Callable[..., Any]:
        def timed(relations: TokenRelations, *tokens: int) -> Any:
            known = self.found[name]
            key = ",".join(map(str, tokens))
            if key not in known:
                begin = time.thread_time()
                known[key] = look_up(relations, *tokens)
                self.seconds += time.thread_time() - begin
            return known[key]

        return timed


def stored(file: Path) -> None:
    """Find relations in a table alone."""
    for name, found in json.loads(file.read_text(encoding="utf-8")).items():
        setattr(TokenRelations, name, lambda _, *tokens, found=found: found[",".join(map(str, tokens))])


def one(model: str, rows: int, file: Path, as_stored: bool) -> None:
    """Scan twice; print the processor time of each, that of relations by their own account, and the counts."""
    loaded = borngap.load(model)
    texts = list(itertools.islice(itertools.chain.from_iterable(map(package_prose, PACKAGES)), rows))
    account = None if as_stored else Account()
    if as_stored:
        stored(file)
    told = []
    for _ in range(2):
        begin = time.process_time()
        found = borngap.scan(loaded.model, loaded.tokenizer, texts)
        told.append({"scan": time.process_time() - begin, "relations": account.seconds if account else 0.0})
        if account and not file.exists():
            file.write_text(json.dumps(account.found), encoding="utf-8")
        if account:
            account.seconds, account.found["synonyms"], account.found["relation"] = 0.0, {}, {}
    print(json.dumps({"runs": told, "counts": found.summary["counts"]}))


def pairs(model: str, rows: int, count: int) -> list[str]:
    """Run pairs; return a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for _, as_stored in itertools.product(range(count), (False, True)):
            command = [sys.executable, __file__, "--one", model, str(rows), f"{folder}/found.json", str(int(as_stored))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[as_stored].append(json.loads(done.stdout.splitlines()[-1]))
    cells = []
    for run in (0, 1):
        looked_up, same = ([one["runs"][run] for one in found[kind]] for kind in (False, True))
        own = statistics.median(one["relations"] / one["scan"] for one in looked_up)
        paired = statistics.median(a["scan"] / b["scan"] - 1 for a, b in zip(looked_up, same, strict=True))
        seconds = [statistics.median(one[key] for one in looked_up) for key in ("scan", "relations")]
        cells += [f"{seconds[0]:.1f}", f"{seconds[1]:.2f}", f"{own:.1%}", f"{paired:+.1%}"]
    counts = found[False][0]["counts"]
    return [model, str(counts["rows"]), str(counts["targets"]), str(counts["with_rival"]), *cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="docs-gpt2-s")
    parser.add_argument("--rows", type=int, nargs="+", default=[498])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.one:
        model, rows, file, as_stored = options.one
        one(model, int(rows), Path(file), as_stored == "1")
        return
    heads = ["model", "rows", "targets", "with rival"]
    for name in ("first", "warm"):
        heads += [f"{name}: scan (s)", "relations (s)", "share", "paired"]
    print(machine() + "\n")
    for rows in options.rows:
        print(table(heads, [pairs(options.model, rows, options.pairs)]) + "\n", flush=True)
    print(machine())


if __name__ == "__main__":
    main()
