"""What each thing costs on a pretrained model, in processor time and memory, against bare forwards.

Run ``.venv/bin/python benchmarks/real_models.py --model smollm2-135m`` (fetched before: ``borngap zoo fetch``);
``--rows probe,scan`` chooses, ``--small`` is a smoke test on a bundled model. Each row runs in a process of its own.
Processor time is given, which other work on the machine disturbs little. Memory is the highest resident set during a
task less that after the imports, so the weights are in it. Contexts are those of ``paper120`` that the tokenizer does
not split.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import borngap
from borngap.critical.search import critical_rates
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.model.forward import forward
from borngap.model.load import Loaded, quiet
from borngap.model.probe import named
from borngap.scanning.scan import job_of, run
from borngap.scanning.settings import Scanning
from borngap.track.callback import BornGapCallback
from borngap.track.tracker import Tracker
from borngap.training import Training
from scan import bare, batches, texts
from timing import lacks, machine, table

MIB = 1024
TERMS = [
    ("argument", "parameter"),
    ("folder", "directory"),
    ("exception", "error"),
    ("use", "utilize"),
    ("run", "execute"),
]
Timed = tuple[float, float]


def resident(what: str) -> float:
    """Return this process's resident memory in MiB: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / MIB


class Account:
    """Processor seconds and highest memory of tasks, by name; the memory less that of the imports."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []
        self._imports = resident("VmRSS")

    def take(self, name: str, task: Callable[[], Any], times: int = 1) -> Any:
        """Run a task and note it; of several times the median."""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # begins a new highest value
        spent = []
        for _ in range(times):
            begin = time.process_time()
            found = task()
            spent.append(time.process_time() - begin)
        peak = resident("VmHWM") - self._imports
        self.rows.append({"task": name, "seconds": statistics.median(spent), "peak": peak})
        return found


def contexts_for(loaded: Loaded, count: int) -> list[borngap.Context]:
    """Return contexts that the tokenizer does not split, spread over the file."""
    found = []
    for context in borngap.read_contexts("paper120"):
        try:
            named(context, loaded.tokenizer)
        except UserError:
            continue
        found.append(context)
    return found[:: max(1, len(found) // count)][:count]


def by_hand(loaded: Loaded, prompts: list[tuple[int, ...]]) -> None:
    """What one does without borngap: a forward a prompt, and the ten most probable tokens."""
    with torch.no_grad():
        for ids in prompts:
            logits = loaded.model(torch.tensor([ids])).logits[0, -1]
            found = logits.softmax(0).topk(10)
            loaded.tokenizer.convert_ids_to_tokens(found.indices.tolist())


def probe(account: Account, loaded: Loaded, size: argparse.Namespace) -> None:
    """A probe of ten contexts, and the forwards that it needs."""
    contexts = contexts_for(loaded, 10)
    targets = [named(context, loaded.tokenizer) for context in contexts]
    account.take("forward of ten contexts", partial(forward, loaded.model, targets), size.times)
    account.take("by hand, ten most probable tokens", partial(by_hand, loaded, [t.ids for t in targets]), size.times)
    probed = partial(borngap.probe, loaded.model, loaded.tokenizer, contexts)
    account.take("probe of ten contexts", probed, size.times)
    some = [name for name in borngap.OBSERVABLES if name != "born_rank"]
    account.take("probe without born_rank", partial(probed, only=some), size.times)


def scan(account: Account, loaded: Loaded, size: argparse.Namespace) -> None:
    """A scan: its set-up, the first and the second time, and all logits of the same windows."""
    rows = texts(size.tokens, loaded.tokenizer)
    job = account.take("scan: set-up", lambda: job_of(loaded, source_of(rows), Scanning()))

    def whole() -> dict[str, int]:
        with tempfile.TemporaryDirectory() as folder:
            return run(job, folder).summary["counts"]

    counts = account.take("scan: first", whole)
    account.take("scan: again", whole)
    account.take(
        f"all logits of the same windows ({counts['targets']} targets)", partial(bare, loaded.model, batches(job))
    )


def terms(account: Account, loaded: Loaded, size: argparse.Namespace) -> None:
    """Terms: places of five of them."""
    rows = texts(8 * size.tokens, loaded.tokenizer)
    found = account.take("terms", lambda: borngap.terms(loaded.model, loaded.tokenizer, rows, TERMS))
    account.rows[-1]["task"] += f" ({len(found.places)} places)"


def tracked(account: Account, loaded: Loaded, size: argparse.Namespace) -> None:
    """The tracker: its begin, a probe, its end; ten contexts, the geometry at rest and trained."""
    contexts = contexts_for(loaded, 10)
    targets = [named(context, loaded.tokenizer) for context in contexts]
    account.take("forward of ten contexts", partial(forward, loaded.model, targets), size.times)
    for trained in (False, True):
        loaded.model.requires_grad_(trained)
        state = "trained" if trained else "at rest"
        tracker = account.take(
            f"tracker: begin, {state}", lambda: Tracker(loaded.model, loaded.tokenizer, contexts, every=1)
        )
        steps = iter(range(1, 100))
        account.take(f"tracker: probe, {state}", lambda t=tracker, s=steps: t.step(next(s), force=True), size.times)
        account.take(f"tracker: end, {state}", lambda t=tracker, s=steps: t.step(next(s), last=True))


def sft(account: Account, loaded: Loaded, size: argparse.Namespace) -> None:
    """TRL's SFTTrainer with LoRA, with and without the callback, in turn; a fresh model each time."""
    for turn in range(size.pairs):
        for watched in (turn % 2 == 1, turn % 2 == 0):
            fresh = borngap.load(loaded.name)
            callbacks = [BornGapCallback(contexts_for(fresh, 10), per_context=False)] if watched else []
            name = f"SFTTrainer, {size.steps} steps" + (", watched" if watched else "")
            host = account.take(name, partial(_train, fresh, callbacks, size))
            logs = [entry["born_gap/overhead"] for entry in host.state.log_history if "born_gap/overhead" in entry]
            account.rows[-1] |= {"account": logs[-1] if logs else None, "probes": len(logs)}
            del host, fresh, callbacks  # else the next turn's peak holds this turn's model
            gc.collect()


def _train(loaded: Loaded, callbacks: list[Any], size: argparse.Namespace) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_dict({"text": texts(size.steps * size.batch * size.length, loaded.tokenizer)})
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            folder, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, max_steps=size.steps,
            per_device_train_batch_size=size.batch, max_length=size.length, packing=True, logging_steps=1, bf16=False,
        )  # fmt: skip
        host = SFTTrainer(
            loaded.model, settings, train_dataset=rows, processing_class=loaded.tokenizer, callbacks=callbacks,
            peft_config=LoraConfig(r=8, task_type="CAUSAL_LM"),
        )  # fmt: skip
        host.train()
    return host


def forecast(account: Account, loaded: Loaded, size: argparse.Namespace, method: Any = "lora") -> None:
    """Critical rates by collocation of ten contexts, and by real runs of two of them."""
    probed = borngap.probe(loaded.model, loaded.tokenizer, contexts_for(loaded, 60), only=["logit_gap"])
    behind = [gap < 0 for gap in probed["logit_gap"]]
    contexts = [c for c, is_behind in zip(contexts_for(loaded, 60), behind, strict=True) if is_behind][: size.contexts]
    training = Training(method=method, steps=50)
    for by, some in (("collocation", contexts), ("collocation", contexts[:2]), ("bisect", contexts[:2])):
        fresh = borngap.load(loaded.name)
        name = f"{method}: {by}, {len(some)} contexts"
        found = account.take(name, partial(critical_rates, fresh, some, training, by))
        account.rows[-1]["rates"] = [entry.critical.rate for entry in found]


ROWS: dict[str, Callable[[Account, Loaded, argparse.Namespace], None]] = {
    "probe": probe, "scan": scan, "terms": terms, "tracker": tracked, "sft": sft, "lora": forecast,
    "full": partial(forecast, method="full"),
}  # fmt: skip


def one(row: str, size: argparse.Namespace) -> None:
    """Do one row in this process and print it as JSON."""
    quiet()
    torch.set_num_threads(1)
    account = Account()
    loaded = account.take("load", lambda: borngap.load(size.model))
    weights = sum(p.numel() * p.element_size() for p in loaded.model.parameters()) / MIB**2
    ROWS[row](account, loaded, size)
    print(json.dumps([entry | {"weights": weights} for entry in account.rows]))


def shown(row: str, entries: list[dict[str, Any]]) -> list[list[str]]:
    """Cells of one row's tasks."""
    cells = []
    for entry in entries:
        more = (
            [f"{100 * entry['account']:.2f} % by its own account, {entry['probes']} probes"]
            if entry.get("account")
            else []
        )
        more += [", ".join("-" if rate is None else f"{rate:.4g}" for rate in entry.get("rates", []))]
        over = f"{entry['peak'] / entry['weights']:.1f}"
        cells.append([row, entry["task"], f"{entry['seconds']:.2f}", f"{entry['peak']:.0f}", over, *more[:1]])
    return cells


def main() -> None:
    """Print a table a row, each from a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", default="probe,scan,terms,tracker")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    for name, value in {
        "times": 3,
        "tokens": 700,
        "steps": 40,
        "batch": 8,
        "length": 128,
        "pairs": 1,
        "contexts": 10,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.small:
        vars(options).update(
            model="docs-gpt2-s", rows=",".join(ROWS), times=1, tokens=200, steps=3, batch=2, length=32, contexts=2
        )
    if options.one:
        one(options.one, options)
        return
    if lacks(options.model):
        return
    print(machine(), flush=True)
    heads = ["row", "task", "processor s", "peak MiB", "times the weights", ""]
    numbers = ("times", "tokens", "steps", "batch", "length", "pairs", "contexts")
    given = [text for name in numbers for text in (f"--{name}", str(getattr(options, name)))]
    for row in options.rows.split(","):
        command = [sys.executable, __file__, "--one", row, "--model", options.model, *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        print(table(heads, shown(row, json.loads(done.stdout.splitlines()[-1]))), flush=True)


if __name__ == "__main__":
    main()
