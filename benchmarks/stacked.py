"""Fifty runs: stacked against one after the other, and against a loop of Hugging Face Trainer; paired, in turn.

Run ``.venv/bin/python benchmarks/stacked.py``, ``--method full`` (LoRA unless given), ``--device cuda``; ``--small`` is
a smoke test. Ten contexts at five rates. Three readings:

* ``none``: nothing is observed (the stack measures margins at every step, which it cannot leave out);
* ``margins``: both sides measure the three margins, drag and loss at every step, what a search for a rate needs;
* ``light``: both sides measure at every step what a sweep keeps: all but the angles of pairs and the Born rank.

Results are compared run by run. The floor of LoRA is the arithmetic of the shared trunk: forward and backward of its
matrix products for these tokens (activations' gradients only), at the rate this machine reaches on one such product.
The floor of the other methods is what each run moves through memory: its weights read by forward and backward, its
gradient written, AdamW reading four numbers a weight and writing three; at the rate of a copy of that size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

import borngap
from borngap.model.load import quiet
from borngap.train.finetune import FineTune, Step
from borngap.train.observe import Observe
from borngap.train.stacked import Lane, stacked
from borngap.training import Training
from timing import interleaved, machine, ratio, table


def sequential(tuner: FineTune, lanes: list[Lane], level: Observe) -> list[list[Step]]:
    """Carry the lanes out one after the other."""
    return [list(tuner.alone(lane.index, observe=level, rate=lane.rate)) for lane in lanes]


def together(tuner: FineTune, lanes: list[Lane], level: Observe) -> list[list[Step]]:
    """Carry the lanes out in stacks; they measure margins at least."""
    runs: list[list[Step]] = [[] for _ in lanes]
    for number, step in stacked(tuner, lanes, observe="margins" if level == "none" else level):
        runs[number].append(step)
    return runs


def trainer_loop(tuner: FineTune, lanes: list[Lane], steps: int) -> None:
    """Carry the lanes out by a Trainer each, as a user would do today: nothing observed, nothing logged or saved."""
    for lane in lanes:
        tuner.restore()
        target = tuner.targets[lane.index]
        ids = [*target.ids, target.gold_id]
        data = [{"input_ids": ids, "labels": [-100] * len(target.ids) + [target.gold_id]}] * steps
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(
                folder, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
                use_cpu=tuner.model.device.type == "cpu",
                max_steps=steps, per_device_train_batch_size=1, learning_rate=lane.rate, lr_scheduler_type="constant",
                max_grad_norm=0.0, dataloader_pin_memory=False,
            )  # fmt: skip
            host = Trainer(tuner.model, settings, train_dataset=data)
            host.remove_callback(PrinterCallback)
            host.train()
        tuner.model.eval()


def differences(left: list[list[Step]], right: list[list[Step]], lanes: list[Lane]) -> Iterator[tuple[float, float]]:
    """Yield rate and largest difference of the Born gap at any step of every run."""
    for lane, one, other in zip(lanes, left, right, strict=True):
        gaps = [[step.records[lane.index]["born_gap"] for step in run] for run in (one, other)]
        yield lane.rate, max(abs(a - b) for a, b in zip(*gaps, strict=True))


def traffic(tuner: FineTune, lanes: list[Lane], steps: int) -> tuple[float, float]:
    """What a stack of weights moves through memory in GB, and the seconds it takes at the speed of a copy."""
    own = [p for p in tuner.model.parameters() if p.requires_grad]
    size = len(lanes) * sum(p.numel() * p.element_size() for p in own)
    work = size * (3 + 7) * steps
    block, rounds = torch.empty(min(size, 1 << 28) // 4, device=tuner.model.device), 5
    other = torch.zeros_like(block)
    block.copy_(other).sum().item()
    begin = time.perf_counter()
    for _ in range(rounds):
        block.copy_(other)
    block[0].item()
    speed = 2 * rounds * 4 * len(block) / (time.perf_counter() - begin)
    return work / 1e9, work / speed


def floor(tuner: FineTune, lanes: list[Lane], steps: int) -> tuple[float, float]:
    """Arithmetic of the stack in GFLOP, and the seconds it takes at the speed of one matrix product of its shape."""
    config = tuner.model.config.get_text_config()
    inner = tuner.model.get_base_model()
    trunk = sum(
        p.numel() for name, p in inner.named_parameters() if p.ndim == 2 and "emb" not in name and "wte" not in name
        and "wpe" not in name and "lora" not in name and "lm_head" not in name
    )  # fmt: skip
    tokens = sum(len(tuner.targets[lane.index].ids) for lane in lanes)
    head = len(lanes) * config.vocab_size * config.hidden_size
    work = 2 * (tokens * trunk + head) * (2 * steps + 1)
    device = tuner.model.device
    left = torch.randn(tokens, config.hidden_size, device=device)
    right = torch.randn(config.hidden_size, 4 * config.hidden_size, device=device)
    (left @ right).sum().item()
    begin, rounds = time.perf_counter(), 50
    for _ in range(rounds):
        found = left @ right
    found[0, 0].item()
    speed = 2 * rounds * left.numel() * right.shape[1] / (time.perf_counter() - begin)
    return work / 1e9, work / speed


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--model", default="docs-gpt2-s")
    parser.add_argument("--method", default="lora", choices=["lora", "full", "readout-only"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--levels", default="none,margins,light")
    parser.add_argument("--no-trainer", action="store_true")
    options = parser.parse_args()
    quiet()
    steps, rounds = (3, 1) if options.small else (options.steps, options.rounds)
    contexts = borngap.read_contexts("docs10")[: 3 if options.small else 10]
    tuner = FineTune(borngap.load(options.model, options.device), contexts, Training(options.method, steps=steps))
    scale = 1.0 if options.method == "lora" else 0.1
    rates = tuple(scale * rate for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)[: 2 if options.small else 5])
    lanes = [Lane(index, rate) for index in range(len(contexts)) for rate in rates]
    print(machine())
    print(
        f"\n{options.model}, {options.method}, {len(lanes)} runs of {steps} steps, {rounds} rounds in turn; medians\n"
    )
    heads = [
        "observed",
        "one by one (s)",
        "stacked (s)",
        "times as fast",
        "largest difference of the Born gap, by rate",
    ]
    for level in options.levels.split(","):
        kept: dict[str, list[list[Step]]] = {}
        tasks = {
            "one": lambda level=level, kept=kept: kept.update(one=sequential(tuner, lanes, level)),
            "many": lambda level=level, kept=kept: kept.update(many=together(tuner, lanes, level)),
        }
        if level == "none" and not options.no_trainer:
            tasks["host"] = lambda: trainer_loop(tuner, lanes, steps)
        seconds = interleaved(tasks, rounds)
        worst: dict[float, float] = {}
        if level != "none":
            for rate, value in differences(kept["one"], kept["many"], lanes):
                worst[rate] = max(worst.get(rate, 0.0), value)
        equal = ", ".join(f"{rate:g}: {value:.0e}" for rate, value in worst.items()) or "-"
        medians = [f"{statistics.median(seconds[name]):.2f}" for name in ("one", "many")]
        print(table(heads, [[level, *medians, f"{ratio(seconds['one'], seconds['many']):.1f}", equal]]), flush=True)
        if "host" in seconds:
            host = f"{statistics.median(seconds['host']):.2f}"
            print(f"\nloop of Trainer: {host} s, {ratio(seconds['host'], seconds['many']):.1f} times the stack's\n")
    if options.method == "lora":
        work, least = floor(tuner, lanes, steps)
        print(f"\nfloor: {work:.1f} GFLOP of matrix products, {least:.2f} s at the speed of one; {machine()}")
    else:
        work, least = traffic(tuner, lanes, steps)
        print(f"\nfloor: {work:.0f} GB through memory, {least:.2f} s at the speed of a copy; {machine()}")


if __name__ == "__main__":
    main()
