"""Targets a second of a scan against the bare forward of the same batches, and its memory at 1x and 10x the data.

Run ``.venv/bin/python benchmarks/scan.py``; ``--small`` is a smoke test, ``--gpt2`` adds a model of GPT-2 small's size
with random weights, ``--model FOLDER`` another one. Times are processor times. The text is prose of docstrings of
installed packages. The floor computes all logits of the same windows in the same batches and does nothing with them;
the scan reads rows, makes tokens, finds rivals, measures them and writes its chunks. What it does once, before the
first row (the bulk, the vocabulary), is left out and given apart. Rounds alternate between both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import borngap
from borngap.data.source import source_of
from borngap.model.load import Loaded, quiet
from borngap.model.readout import observing
from borngap.scanning.scan import Job, in_process, job_of, run
from borngap.scanning.settings import Scanning
from borngap.zoo.corpus import package_prose
from timing import interleaved, machine, ratio, table
from tracker import load as load_sized

PACKAGES = ("rich", "pydantic", "jsonschema", "aiohttp", "datasets", "trl")


def texts(tokens: int, tokenizer: Any) -> list[str]:
    """Return so many tokens of prose, a docstring a row."""
    found, total = [], 0
    for text in itertools.chain.from_iterable(package_prose(name) for name in PACKAGES):
        found.append(text)
        total += len(tokenizer(text)["input_ids"])
        if total >= tokens:
            break
    return found


def batches(job: Job) -> list[dict[str, Tensor]]:
    """Return the scan's own batches: the same windows, cut after the last target that needs a forward."""
    found = []
    rows = job.source.rows()
    while part := list(itertools.islice(rows, job.settings.chunk)):
        for batch in job.scanner.batches([job.scanner.example(row) for row in part], {}):
            prompts = [torch.tensor(w.example.ids[w.start : int(at[-1])]) for w, at in batch]
            ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(p) for p in prompts])[:, None]
            found.append({"input_ids": ids, "attention_mask": mask.long()})
    return found


def bare(model: Any, inputs: list[dict[str, Tensor]]) -> None:
    """Compute all logits of some batches."""
    with observing(model):
        for batch in inputs:
            model(**batch, use_cache=False)


def whole(job: Job) -> None:
    """Scan into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        run(job, folder)


def _exhaust(job: Job) -> None:
    for _ in in_process(job, frozenset()):
        pass


def speed(name: str, tokens: int, rounds: int) -> list[str]:
    """Compare a scan with the floor."""
    loaded: Loaded = load_sized(name)
    rows = texts(tokens, loaded.tokenizer)
    begin = time.process_time()
    job = job_of(loaded, source_of(rows), Scanning())
    once = time.process_time() - begin
    engine = partial(_exhaust, job)
    tasks = {"bare": partial(bare, loaded.model, batches(job)), "scan": partial(whole, job), "engine": engine}
    seconds = interleaved(tasks, rounds, time.process_time)
    counts = borngap.scan(loaded.model, loaded.tokenizer, rows).summary["counts"]
    rates = {key: counts["targets"] / statistics.median(times) for key, times in seconds.items()}
    share = {key: ratio(seconds["bare"], seconds[key]) for key in ("engine", "scan")}
    return [
        name, str(counts["targets"]), str(counts["with_rival"]),
        *(f"{rates[key]:.0f}" for key in ("bare", "engine", "scan")),
        f"{share['engine']:.2f}", f"{share['scan']:.2f}", f"{once:.1f}",
    ]  # fmt: skip


def memory(times: int) -> list[str]:
    """Scan a file of so many times the same rows in a process of its own; return rows, targets and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(times), folder], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        f"{times}x",
        str(found["rows"]),
        str(found["targets"]),
        str(found["with_rival"]),
        f"{found['peak']:.0f}",
        f"{found['end']:.0f}",
    ]


def one(times: int, folder: str) -> None:
    """Write the rows, scan them, print what the process needed, at most and at the end (MiB)."""
    loaded = borngap.load("docs-gpt2-s")
    data = Path(folder) / "data.jsonl"
    rows = texts(15_000, loaded.tokenizer)
    with data.open("w", encoding="utf-8") as file:
        for _ in range(times):
            file.writelines(json.dumps({"text": text}) + "\n" for text in rows)
    found = borngap.scan(loaded.model, loaded.tokenizer, data, out=Path(folder) / "scan", chunk=128)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    end = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20
    print(json.dumps(found.summary["counts"] | {"peak": peak, "end": end}))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--model", help="a folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1_000, help="for these models")
    parser.add_argument("--skip-bundled", action="store_true")
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.one:
        one(int(options.one[0]), options.one[1])
        return
    sizes = [("docs-gpt2-s", 3_000 if options.small else 20_000, 1 if options.small else options.rounds)]
    sizes = [] if options.skip_bundled else sizes
    if options.gpt2:
        sizes.append(("gpt2-small-size", options.tokens, 3))
    if options.model:
        sizes.append((options.model, options.tokens, options.rounds))
    print(machine())
    rates, shares = ["bare (targets/s)", "engine", "scan"], ["engine / bare", "scan / bare"]
    heads = ["model", "targets", "with rival", *rates, *shares, "once (s)"]
    for size in sizes:
        print("\n" + table(heads, [speed(*size)]), flush=True)
    if not options.skip_memory:
        heads = ["data", "rows", "targets", "with rival", "peak memory (MiB)", "at the end"]
        print("\n" + table(heads, [memory(times) for times in ((1, 2) if options.small else (1, 10))]), flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
