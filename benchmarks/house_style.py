"""Does a fine-tuned model use the words of a house style? Before and after one run of each given kind.

    python benchmarks/house_style.py --model docs-gpt2-s --runs lora:2e-4,lora:2e-3,full:1e-3 --steps 100
    python benchmarks/house_style.py --model FOLDER --runs lora:1e-3,lora:1e-3:1,full:5e-5 --steps 60 --limit 300

A run is a method, a rate, and a seed where it is not 0. It draws LoRA's first weights, and the order of the rows, which
at seed 0 is that of ``borngap demo``, as the data is: prose of installed packages, seven terms, rows in which the other
words are right. Runs that a folder holds already are not made again. The folders beside the numbers are for
``borngap compare``. The table is in docs/terms.md.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

from borngap.model.load import load, quiet
from borngap.training import Training
from borngap.usage.terms import terms
from borngap.zoo.housestyle import house_style
from borngap.zoo.rowtraining import train_on_rows

SHARES = ("success", "first", "over_use", "leak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="docs-gpt2-s")
    parser.add_argument("--runs", default="lora:2e-4,full:1e-3")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, help="held-out rows")
    parser.add_argument("--leak", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("house-style"))
    options = parser.parse_args()
    quiet()
    style = house_style()
    files = style.save(options.out / "data")
    train, held_out = ([str(row["text"]) for row in rows] for rows in (style.train, style.held_out[: options.limit]))
    for run in ("before", *options.runs.split(",")):
        stored = options.out / f"{run.replace(':', '-')}-{options.steps}.json"
        if not stored.exists():
            loaded, losses, began = load(options.model), {}, time.time()
            if run != "before":
                training = training_of(run, options.steps, options.batch)
                made = train_on_rows(loaded, ordered(train, training.seed), held_out, training, options.out / "trainer")
                loaded, losses = made.loaded, {"loss_before": made.loss_before, "loss_after": made.loss_after}
            trained = time.time() - began
            usage = terms(
                loaded.model, loaded.tokenizer, files["held_out"], files["terms"], out=stored.with_suffix(""),
                allowed_field="allowed", leak=options.leak, limit=options.limit, name=loaded.name,
            )  # fmt: skip
            seconds = {"training_s": round(trained), "asking_s": round(time.time() - began - trained)}
            stored.write_text(json.dumps({"run": run, **losses, **seconds, **usage.summary["all"]}, indent=1))
        print(row(json.loads(stored.read_text())), flush=True)


def training_of(run: str, steps: int, batch: int) -> Training:
    """Return the settings of a run as it is written on the command line."""
    method, rate, *seed = run.split(":")
    return Training(method=method, rate=float(rate), steps=steps, schedule="linear", batch_size=batch, seed=int(*seed))


def ordered(rows: list[str], seed: int) -> list[str]:
    """Return the rows in an order of the seed; 0 keeps theirs."""
    return random.Random(seed).sample(rows, len(rows)) if seed else rows  # an order, no secret


def row(entry: dict) -> str:
    """Return a line of the table in docs/terms.md."""
    loss = f"{entry['loss_after']:.3f} (before {entry['loss_before']:.3f})" if "loss_after" in entry else ""
    shares = [DASH if entry[key] is None else f"{entry[key]:.0%}" for key in SHARES]
    interval = f"{entry['low']:.0%} to {entry['high']:.0%}"
    cells = (entry["run"], loss, shares[0], interval, entry["due"], *shares[1:], entry["right_avoid"])
    return f"| {' | '.join(map(str, cells))} |"


DASH = "—"

if __name__ == "__main__":
    main()
