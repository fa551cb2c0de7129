"""What a step costs with a loss on rivals, against the host's own: time (paired), and peak memory (processes apart).

usage: MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 python benchmarks/rival_loss.py [ROUNDS [LENGTH]]

A Llama of two layers and random weights, so that nearly all of a step is its vocabulary; a step is forward and
backward of 2 x 512 tokens (or LENGTH), gradients set to None after it. The two variables keep glibc from giving memory
back: else each step takes a GiB of pages anew, and single rounds differ by a factor of two. Peaks are without them. One
target in 64 is a place. ``Trainer``: the model's own loss, against RivalLoss on its logits. ``SFTTrainer``: TRL's
chunked head, against the same joined. One kind needs two logits of a place (margin), the other all of them
(unlikelihood). Then what it takes to find words in labels.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import borngap
from borngap import RivalLoss
from borngap.rivals.fusedhead import join_fused_head
from borngap.rivals.spots import TermSpots
from borngap.words.termfile import terms_of
from timing import interleaved, machine, ratio

WIDTH, ROWS, LENGTH, EVERY = 128, 2, 512, 64
VOCABULARIES = (49_152, 262_144)
HOSTS = ("Trainer", "SFTTrainer")
LOSSES = {"own": None, "margin": 3.0, "unlikelihood": 30.0}


def batch(size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels: token 1 at every 64th place, token 2 nowhere."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, size, (ROWS, length), generator=generator)
    ids[:, EVERY // 2 :: EVERY] = 1
    return ids, ids.clone()


def model_of(size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2, num_attention_heads=4,
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def step_of(host: str, kind: str, size: int, length: int = LENGTH) -> Callable[[], None]:
    """Return what does one step."""
    model, (ids, labels) = model_of(size), batch(size, length)
    items = int((labels[:, 1:] != -100).sum())
    loss = None if kind == "own" else RivalLoss([(1, 2)], kind=kind, weight=LOSSES[kind])
    if host == "SFTTrainer":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if loss is not None:
            join_fused_head(model, loss)

    def step() -> None:
        if host == "SFTTrainer":
            value = -model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs.sum() / items
        elif loss is None:
            value = model(input_ids=ids, labels=labels, num_items_in_batch=items).loss
        else:
            value = loss(model(input_ids=ids), labels, items)
        value.backward()
        model.zero_grad()

    return step


def peak(host: str, kind: str, size: int, length: int) -> float:
    """Return the peak of a process that does two steps, unit MiB."""
    command = [sys.executable, __file__, "peak", host, kind, str(size), str(length)]
    given = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=given).stdout)


def resident() -> float:
    """Return this process's largest resident set so far, unit MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def steps(rounds: int, length: int = LENGTH) -> None:
    print("| host | vocabulary | loss | time, of its own | 80 % of rounds | peak, MiB | of its own |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in VOCABULARIES:
        for host in HOSTS:
            taken = interleaved({k: step_of(host, k, size, length) for k in LOSSES}, rounds, time.process_time)
            memory = {kind: peak(host, kind, size, length) for kind in LOSSES}
            for kind in LOSSES:
                each = sorted(a / b for a, b in zip(taken[kind], taken["own"], strict=True))
                spread = f"{each[len(each) // 10]:.3f} to {each[-1 - len(each) // 10]:.3f}"
                times = f"{ratio(taken[kind], taken['own']):.3f} | {spread}"
                print(
                    f"| {host} | {size:,} | {kind} | {times} | {memory[kind]:.0f} | "
                    f"{memory[kind] / memory['own']:.3f} |",
                    flush=True,
                )


def finding() -> None:
    """Time to find the words of twenty terms in rows of 512 tokens, new ones and ones seen before."""
    tokenizer = borngap.load("docs-gpt2-s").tokenizer
    text = " ".join(context.prompt + context.gold for context in borngap.read_contexts("docs40")) * 40
    ids = torch.tensor(tokenizer(text)["input_ids"][: 16 * 512]).view(16, 512)
    words = ("argument", "folder", "exception", "function", "string", "key", "value", "module", "file", "name")
    terms = terms_of([(word, f"other{word}") for word in words] + [(f"some{word}", f"any{word}") for word in words])
    finder, seconds = TermSpots(terms, tokenizer), []
    for rows in (ids, ids):
        start = time.process_time()
        found = sum(len(finder.find(row[None])) for row in rows)
        seconds.append((time.process_time() - start) / len(ids))
    new, seen = (1e3 * x for x in seconds)
    print(f"\nfinding words in a row of 512 tokens: {new:.2f} ms new, {seen:.2f} ms seen before")
    print(f"({found / len(ids):.1f} places a row)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["peak"]:
        step = step_of(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        step()
        step()
        print(resident())
    else:
        print(machine())
        steps(*map(int, sys.argv[1:] or ["15"]))
        finding()
