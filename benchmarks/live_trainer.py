"""A live forecast inside a real Trainer, held against what happened: a run of whole_runs.py under BornGapCallback.

    python benchmarks/live_trainer.py --run smollm2-135m:lora:1e-3:linear:house --steps 96 --sample 64 --every 8

The run is that of whole_runs.py in its first order, done by transformers' Trainer; it is forecast before at a tenth
of its cost, and its end at all places is kept in the folder of whole_runs.py. A line a look from a fifth of the dose
on: of the words that are behind, how many told to stay behind did (precision), how many that stayed were told (recall);
orders right, beside those of "as it is now"; gaps within their 90 % intervals; then what the looks cost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import Trainer, TrainingArguments

import borngap
from borngap.data.source import source_of
from borngap.model.load import quiet
from borngap.pilot.places.watched import find
from borngap.pilot.prepare import asked_of, forecast_run, prepare_run
from borngap.pilot.rows import model_inputs
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import RunJob
from borngap.train.methods import make_trainable
from borngap.usage.allowed import Allowed
from whole_runs import ALL, folder_name, planned


class Rows(torch.utils.data.Dataset[Any]):
    """Rows of a plan, by number."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="smollm2-135m:lora:1e-3:linear:house")
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--sample", type=int, default=64)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("whole-runs"))
    options = parser.parse_args()
    options.batch, options.max_length, options.limit, options.data = 8, 64, None, None
    options.packing, options.allowed_field = False, None
    quiet()
    folder = options.out / f"{folder_name(options.run)}-{options.steps}"
    if not (folder / "live" / "verdicts.json").exists():
        watched(options, folder)
    held(folder / "live")


def watched(options: argparse.Namespace, folder: Path) -> None:
    """Forecast a run, then do it by a Trainer with the callback in it."""
    loaded, (training, *_), settings, (data, watch, terms) = planned(options.run, options)
    forecast_run(loaded.model, loaded.tokenizer, data, watch, terms=terms, training=training, settings=settings,
                 budget=0.1, out=folder / "forecast-0.1", name=loaded.name)  # fmt: skip
    asked = asked_of(watch, terms, None, Allowed(None, settings.allowed_field))
    job = prepare_run(loaded, source_of(data), asked, training, settings)
    everything = Piloting(**vars(job.settings) | {"places": ALL})
    lookout = find(loaded, asked, training, everything, ALL).lookout
    model, _ = make_trainable(loaded.model, training)
    callback = borngap.BornGapCallback(
        terms=terms, dataset=watch, asking={"allowed_field": settings.allowed_field, "max_length": settings.max_length},
        tokenizer=loaded.tokenizer, sample=options.sample, every=options.every, out=folder / "live",
        forecast=folder / "forecast-0.1",
    )  # fmt: skip
    trainer = Trainer(model, arguments(job, folder), train_dataset=Rows(job.plan.rows), data_collator=model_inputs,
                      callbacks=[callback])  # fmt: skip
    trainer.train()
    cost = callback.tracker.cost
    told = {"probes": cost.probes, "seconds": cost.seconds, "training_seconds": cost.training_seconds}
    (folder / "live-cost.json").write_text(json.dumps(told))
    keys = [(s.example.row.number, s.offset, s.gold, s.rival) for s in lookout.spots]
    gaps = lookout.look(model.eval()).gaps.tolist()
    end = [[*key, gap] for key, gap in zip(keys, gaps, strict=True)]
    (folder / "order-0.json").write_text(json.dumps(end))


def arguments(job: RunJob, folder: Path) -> TrainingArguments:
    """Return the Trainer's arguments of a plan."""
    t = job.plan.training
    return TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=t.steps, per_device_train_batch_size=t.batch_size,
        learning_rate=t.learning_rate, lr_scheduler_type=t.schedule, weight_decay=t.weight_decay, max_grad_norm=t.clip,
        adam_beta1=t.beta1, adam_beta2=t.beta2, adam_epsilon=t.eps, seed=t.seed, use_cpu=True, save_strategy="no",
        logging_steps=8, disable_tqdm=True, report_to=[], remove_unused_columns=False,
    )  # fmt: skip


def held(folder: Path) -> None:
    """Hold what was told at each look against the end."""
    run = borngap.read_run(folder)
    gaps = run.steps.select("context", "step", "logit_gap")
    last = gaps.filter(pl.col("step") == gaps["step"].max()).select("context", end="logit_gap")
    due = pl.DataFrame([{"context": p["context"], "due": p["is_due"]} for p in run.plan["places"]])
    told = run.forecasts.join(gaps, on=("context", "step")).join(last, on="context").join(due, on="context")
    for (step,), rows in told.sort("step").group_by("step", maintain_order=True):
        words = rows.filter("due")
        lag, stay = (
            words.filter(pl.col("logit_gap") <= 0),
            words.filter((pl.col("logit_gap") <= 0) & (pl.col("end") <= 0)),
        )
        said = lag.filter(pl.col("high") <= 0)
        right = said.filter(pl.col("end") <= 0)
        now, order = ((rows[name] > 0) == (rows["end"] > 0) for name in ("logit_gap", "gap"))
        inside = rows.filter((pl.col("low") < pl.col("end")) & (pl.col("end") < pl.col("high")))
        print(f"step {step} ({rows['share'][0]:.2f} of the dose): {len(lag)} of {len(words)} lag, {len(stay)} stay, "
              f"{len(said)} told, {len(right)} right; orders {order.mean():.3f} (as now {now.mean():.3f}); inside "
              f"{len(inside) / len(rows):.2f} of {len(rows)}", flush=True)  # fmt: skip
    cost = json.loads((folder.parent / "live-cost.json").read_text())
    print(f"{cost['probes']} looks: {cost['seconds']:.1f} s beside {cost['training_seconds']:.0f} s of training, "
          f"{cost['seconds'] / cost['training_seconds']:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
