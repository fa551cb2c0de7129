"""Training steps per second with and without the tracker, paired; and the cost of a probe against one forward.

Run ``.venv/bin/python benchmarks/tracker.py``; ``--small`` is a smoke test, ``--gpt2`` adds a model of GPT-2 small's
size with random weights (124 M parameters, V = 50,257), its last norm scaled so that pools are as large as a trained
model's. Rounds alternate between both kinds of run. Wall time suffers from whatever else the machine does; the
processor time of this process hardly does, so both are given. The first two steps of a run and what the tracker does
before the first and after the last step are left out of the rates; the latter is given on its own. "noise" is how much
two runs without the tracker differ, "own account" what the tracker says it took.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, default_data_collator

import borngap
from borngap.context import Target
from borngap.model.forward import forward
from borngap.model.load import Loaded, new_model, quiet
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from timing import interleaved, machine, ratio, table

WARM_UP = 2
SHARPNESS = 8.0  # logits of standard deviation 4 instead of 0.5


@dataclass(frozen=True)
class Size:
    """One model and what it is trained on."""

    name: str
    steps: int
    batch: int
    length: int
    rounds: int


class Stopwatch(TrainerCallback):
    """Notes wall and processor time after every step; stands behind the tracker."""

    def __init__(self):
        self.wall, self.processor = [], []

    def on_step_end(self, *_, **__):
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())


def load(name: str) -> Loaded:
    """Load a bundled model, or make one of GPT-2 small's size with a bundled tokenizer."""
    if name != "gpt2-small-size":
        return borngap.load(name)
    torch.manual_seed(0)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    model = new_model("gpt2", {"vocab_size": 50_257, "bos_token_id": 0, "eos_token_id": 0, **dropout})
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(SHARPNESS)
    tokenizer = borngap.load("docs-gpt2-s").tokenizer
    # rows beyond the tokenizer's length are padding: without these the pool would be what it holds of the nucleus
    tokenizer.add_tokens([f"<{number}>" for number in range(50_257 - len(tokenizer))])
    return Loaded(name, model, tokenizer)


def contexts(count: int) -> list[borngap.Context]:
    """Return contexts of the bundled file."""
    return borngap.read_contexts("docs10")[:count]


def train(size: Size, overhead: float | None) -> dict[str, Any]:
    """Train once; return seconds a step by wall and processor, and what the tracker says of itself."""
    loaded, watch = load(size.name), Stopwatch()
    rows = torch.randint(8_000, (size.batch * size.steps, size.length), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in rows]
    tracked = [] if overhead is None else [BornGapCallback(contexts(10), max_overhead=overhead, per_context=False)]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, max_steps=size.steps,
            per_device_train_batch_size=size.batch, logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        host = Trainer(
            loaded.model, settings, train_dataset=data, data_collator=default_data_collator,
            processing_class=loaded.tokenizer, callbacks=[*tracked, watch],
        )  # fmt: skip
        host.remove_callback(PrinterCallback)
        begin = time.perf_counter()
        host.train()
        total = time.perf_counter() - begin
    logs = [entry["born_gap/overhead"] for entry in host.state.log_history if "born_gap/overhead" in entry]
    inner = watch.wall[-1] - watch.wall[WARM_UP]
    counted = size.steps - 1 - WARM_UP
    return {
        "wall": inner / counted,
        "processor": (watch.processor[-1] - watch.processor[WARM_UP]) / counted,
        "outside": total - (watch.wall[-1] - begin) + (watch.wall[0] - begin),
        "probes": len(logs),
        "share": logs[-1] if logs else 0.0,
    }


def overhead(size: Size, budget: float) -> list[str]:
    """Compare runs with and without the tracker, in turn."""
    with_, without = [], []
    train(size, budget)
    for _ in range(size.rounds):
        without.append(train(size, None))
        with_.append(train(size, budget))
    extra = {
        clock: statistics.median(a[clock] / b[clock] - 1 for a, b in zip(with_, without, strict=True))
        for clock in ("wall", "processor")
    }
    ends = statistics.median(a["outside"] - b["outside"] for a, b in zip(with_, without, strict=True))
    walls = [run["wall"] for run in without]
    noise = statistics.median(abs(b / a - 1) for a, b in pairwise(walls)) if len(walls) > 1 else float("nan")
    rates = [1 / statistics.median(run["wall"] for run in runs) for runs in (without, with_)]
    return [
        size.name, f"{size.batch} x {size.length}", str(size.steps), str(size.rounds),
        f"{rates[0]:.3g}", f"{rates[1]:.3g}",
        f"{100 * extra['wall']:+.1f} %", f"{100 * extra['processor']:+.1f} %", f"{100 * noise:.1f} %",
        f"{100 * statistics.median(run['share'] for run in with_):.2f} %",
        str(statistics.median(run["probes"] for run in with_)), f"{ends:.2f}",
    ]  # fmt: skip


def probe_cost(name: str, trained: bool, rounds: int) -> list[str]:
    """Compare a probe of ten contexts with one forward of the same tokens."""
    loaded = load(name)
    loaded.model.requires_grad_(trained)
    tracker = Tracker(loaded.model, loaded.tokenizer, contexts(10), every=1)
    targets: list[Target] = tracker.targets
    steps = iter(range(1, 10_000))
    tasks = {"probe": lambda: tracker.step(next(steps), force=True), "forward": partial(forward, loaded.model, targets)}
    seconds = interleaved(tasks, rounds)
    medians = {key: 1e3 * statistics.median(times) for key, times in seconds.items()}
    pool = max(record["pool_size"] for record in tracker.records[-1][1].values())
    geometry = "trained" if trained else "at rest"
    times = ratio(seconds["probe"], seconds["forward"])
    return [name, geometry, f"{medians['forward']:.1f}", f"{medians['probe']:.1f}", f"{times:.2f}", f"{pool:.0f}"]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3, help="paired runs of the bundled model")
    options = parser.parse_args()
    quiet()
    sizes = (
        [Size("docs-gpt2-s", 12, 2, 32, 1)] if options.small else [Size("docs-gpt2-s", 130, 16, 128, options.rounds)]
    )
    if options.gpt2:
        sizes.append(Size("gpt2-small-size", 14, 4, 128, 1))
    print(machine())
    heads = [
        "model",
        "batch",
        "steps",
        "rounds",
        "steps/s without",
        "steps/s with",
        "wall",
        "processor",
        "noise",
        "own account",
        "probes",
        "ends (s)",
    ]
    print(f"\ntracker in Trainer, ten contexts, budget {100 * options.budget:g} %\n")
    for size in sizes:  # a table a model, so that an interrupted run keeps what it has
        print(table(heads, [overhead(size, options.budget)]), flush=True)
    heads = ["model", "geometry", "forward (ms)", "probe (ms)", "probe / forward", "largest pool"]
    print("\none probe of ten contexts against one forward of the same tokens\n")
    rounds = 3 if options.small else 20
    for size in sizes:
        print(table(heads, [probe_cost(size.name, trained, rounds) for trained in (False, True)]), flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
