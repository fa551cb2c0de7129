"""A training that is tracked and, run as a program, kills itself in the middle."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

import borngap
from borngap.context import Context
from borngap.files import write_whole
from borngap.track.tracker import Tracker

ROUNDS = 4
WATCHED = [Context("The function raises an", " error", " exception"), Context("Call this", " method")]


def train(out, on_step=lambda *_: None, kept=None):
    """Train a little; the weights of each step are known, so that going on needs no checkpoint of them."""
    torch.set_num_threads(1)
    loaded = borngap.load("docs-gpt2-s")
    loaded.model.requires_grad_(requires_grad=False)  # what would need the whole geometry of the start is known, too
    bias = loaded.model.transformer.ln_f.bias.requires_grad_()
    start, first = bias.detach().clone(), 0 if kept is None else kept["step"]

    def move(step):
        with torch.no_grad():
            bias.copy_(start + 0.01 * step)

    move(first)
    state = None if kept is None else kept["state"]
    tracker = Tracker(loaded.model, loaded.tokenizer, WATCHED, out=out, every=1, state=state)
    for step in range(first + 1, ROUNDS + 1):
        move(step)
        tracker.step(step)
        on_step(step, tracker)
    tracker.finish()


def _die(step, tracker):
    tracker.save()
    kept = json.dumps({"step": step, "state": tracker.state()})
    write_whole(Path(sys.argv[1]).with_suffix(".json"), kept.encode())
    if step == ROUNDS // 2:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train(Path(sys.argv[1]), _die)
