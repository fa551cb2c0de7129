"""What makes runs jump, on small models and on real ones? Runs at given fields H, with one thing varied at a time.

Run ``.venv/bin/python benchmarks/jumps.py --out DIR``: sets of contexts on models, each with critical rates of
their own by rank and a SWEEP, all in DIR, so that a second call goes on where the first was stopped.
``--only model:set:method:steps`` does one; ``--table`` prints what DIR holds. ``--study DIR`` adds the runs of a
reproduction to the table (docs/reproduce.md). What the columns mean: docs/real-models.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import borngap
from borngap.context import Context
from borngap.critical.search import critical_rates
from borngap.experiments.study import read_study
from borngap.files import write_whole
from borngap.model.forward import forward
from borngap.model.load import Loaded, quiet
from borngap.model.probe import named
from borngap.model.words import words_of
from borngap.zoo.choose import keep
from timing import machine, table

FIELDS = (1.0, 3.0, 10.0, 30.0, 100.0)
DECISIVE = (10.0, 30.0)  # of sets other than docs40
COUNT = 8  # contexts a set
NEAR = 0.25  # how far, in nat, a made context may lie from what was asked for
# made contexts: gold's probability at the base model, and by how much the rival leads, nat; both words are any two
# and within which bounds gold's ceiling lies, the largest probability that any hidden state gives it
MADE = {
    "p=0.01": (0.01, -1.0, 0.0, 1.0), "p=0.001": (0.001, -1.0, 0.0, 1.0),
    "gap=-0.3": (0.01, -0.3, 0.0, 1.0), "gap=-3": (0.01, -3.0, 0.0, 1.0),
    "low ceiling": (0.001, -1.0, 0.0, 0.4), "high ceiling": (0.001, -1.0, 0.9, 1.0),
}  # fmt: skip
SAMPLE = 400  # words of a vocabulary among which such contexts look for their gold
JOBS = (
    *(("docs-gpt2-s", "docs40", method, 50) for method in ("lora", "full")),
    *(("docs-gpt2-s", name, "lora", 50) for name in MADE),
    *((f"docs-gpt2-s*{factor}", "docs40", "lora", 50) for factor in (2, 3)),
    *(("docs-gpt2-s", "docs40", method, 200) for method in ("lora", "full")),
    *((model, "docs40", method, 50) for method in ("lora", "full") for model in ("docs-gpt2-m", "docs-llama")),
)
Job = tuple[str, str, str, int]


def sharpened(name: str, out: Path) -> str:
    """Return a model's name; of ``NAME*2`` that of a copy whose last norm, and so every logit, is twice as large."""
    plain, star, factor = name.partition("*")
    folder = out / name.replace("*", "-times-")
    if star and not folder.exists():
        loaded = borngap.load(plain)
        with torch.no_grad():
            for value in last_norm(loaded.model).parameters():
                value.mul_(float(factor))
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    return str(folder) if star else name


def last_norm(model: Any) -> Any:
    """Return the module whose output the readout multiplies."""
    return [m for name, m in model.base_model.named_children() if "norm" in name or name == "ln_f"][-1]


def contexts_of(loaded: Loaded, name: str) -> list[Context]:
    """Return the contexts of a set: of a list, those in which the rival leads; or made for this model."""
    if name in MADE:
        return made(loaded, *MADE[name])
    found = borngap.read_contexts(name)
    return [found[i] for i in keep(loaded, found, "rival-ahead", COUNT)[0]]


def ceilings(model: Any, golds: torch.Tensor, rounds: int = 150) -> torch.Tensor:
    """Return the largest probability that any output of the model's last norm gives each of some tokens, shape (n,).

    The norm's input is moved uphill from the token's own row; what it can put out is bounded, as its gain is, and so
    are logits. A local search: the true ceiling may be higher.
    """
    rows, norm = model.get_output_embeddings().weight.detach(), last_norm(model)
    point = torch.nn.Parameter(rows[golds] - rows.mean(0))
    uphill = torch.optim.Adam([point], lr=0.05 * float(point.detach().std()))
    for _ in range(rounds):
        log = (norm(point) @ rows.T).log_softmax(1).gather(1, golds[:, None])
        uphill.zero_grad()
        (-log.sum()).backward()
        uphill.step()
    model.zero_grad()
    return log.detach().exp().flatten()


def made(loaded: Loaded, probability: float, gap: float, lowest: float, highest: float) -> list[Context]:
    """Make contexts whose gold starts at a probability, with the rival ahead by a gap (nat), one a prompt."""
    prompts = list(dict.fromkeys(c.prompt for c in borngap.read_contexts("natural100")))
    words = words_of(loaded.tokenizer, loaded.model.config.get_text_config().vocab_size)
    whole = words.whole.nonzero().flatten()
    allowed = torch.ones(len(whole), dtype=torch.bool)
    if (lowest, highest) != (0.0, 1.0):
        sample = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:SAMPLE]
        found = ceilings(loaded.model, whole[sample])
        allowed[:] = False
        allowed[sample[(found >= lowest) & (found <= highest)]] = True
    chosen: list[Context] = []
    for prompt in prompts:
        target = named(Context(prompt, *(words.text[i] for i in whole[:2])), loaded.tokenizer)
        with torch.inference_mode():
            log = forward(loaded.model, [target])[0][0].log_softmax(0)[whole]
        near = (log - math.log(probability)).abs()
        golds = ((near < NEAR) & allowed).nonzero().flatten()
        away = near[golds, None] + (log[golds, None] - log[None] - gap).abs()
        if away.numel() and float(away.min()) < NEAR:
            gold, rival = divmod(int(away.argmin()), len(whole))
            chosen.append(Context(prompt, words.text[whole[golds[gold]]], words.text[whole[rival]]))
        if len(chosen) == COUNT:
            break
    return chosen


def do(job: Job, out: Path) -> None:
    """Find the critical rates of a set and run it at fields of its own."""
    model, name, method, steps = sharpened(job[0], out), *job[1:]
    kept = home(job, out) / "set.json"
    training = borngap.Training(method=method, steps=steps, criterion="rank")
    if not kept.exists():
        loaded = borngap.load(model)
        contexts = contexts_of(loaded, name)
        tops = ceilings(loaded.model, torch.tensor([named(c, loaded.tokenizer).gold_id for c in contexts]))
        found = critical_rates(loaded, contexts, training)
        rows = [
            {"prompt": c.prompt, "gold": c.gold, "rival": c.rival, "overlap": r.overlap, "critical": r.critical.rate}
            | {"ceiling": top}
            for c, r, top in zip(contexts, found, tops.tolist(), strict=True)
        ]
        write_whole(kept, json.dumps({"theta": theta(rows), "contexts": rows}).encode())
    stored = json.loads(kept.read_text(encoding="utf-8"))
    contexts = [Context(row["prompt"], row["gold"], row["rival"]) for row in stored["contexts"]]
    wanted = FIELDS if (job[0], name, method) == ("docs-gpt2-s", "docs40", "lora") else DECISIVE
    rates = [rate for rate, field in rates_of(stored).items() if field in wanted]
    plan = borngap.plan_sweep(model, contexts, rates, training=training)
    borngap.run_sweep(plan, home(job, out) / "sweep")


def home(job: Job, out: Path) -> Path:
    """Return a job's folder."""
    return out / "-".join(map(str, job)).replace("*", "-times-").replace(" ", "-")


def theta(rows: Sequence[dict[str, Any]]) -> float:
    """Return theta*, the mean of critical rate times overlap."""
    return statistics.mean(row["critical"] * row["overlap"] for row in rows if row["critical"] is not None)


def rates_of(stored: dict[str, Any]) -> dict[float, float]:
    """Return the rates of a set: rate -> field H."""
    unit = stored["theta"] / statistics.mean(row["overlap"] for row in stored["contexts"])
    return {float(f"{h * unit:.6g}"): h for h in FIELDS}


def measured(row: dict[str, Any], steps: Any) -> dict[str, float]:
    """Return what the table says of a run, from its steps."""
    gap, born = (np.array(steps[name]) for name in ("logit_gap", "born_gap"))
    jump = int(np.abs(np.diff(born)).argmax())
    nat = float(np.abs(np.diff(gap))[jump])
    odds = np.log(np.array(steps["gold_probability"]))
    odds = odds - np.log1p(-np.exp(np.minimum(odds, -1e-12)))
    speed = float(np.abs(np.diff(odds))[jump])
    return {
        "ratio": row["jump_ratio"], "nat": nat, "speed": speed, "total": float(gap[-1] - gap[0]),
        "start": float(steps["gold_probability"][0]), "end": float(steps["gold_probability"][-1]),
        "gap": float(gap[0]), "sigmoid": (len(born) - 1) * math.tanh(speed / 4),
        "climbed": float(np.abs(np.diff(born)).sum()), "smooth": nat / float(np.abs(np.diff(gap)).mean()),
    }  # fmt: skip


def rows_of(job: Job, out: Path) -> Iterator[dict[str, Any]]:
    """Yield a row a run of a job."""
    job = (sharpened(job[0], out), *job[1:])
    folder = home(job, out)
    if not (folder / "sweep" / "sweep.json").exists():
        return
    stored, sweep = json.loads((folder / "set.json").read_text(encoding="utf-8")), borngap.read_sweep(folder / "sweep")
    fields = rates_of(stored)
    for row in sweep.runs.iter_rows(named=True):
        critical = stored["contexts"][row["context"]]["critical"]
        yield (
            dict(zip(("model", "set", "method", "steps"), job, strict=True))
            | {"H": fields[row["rate"]], "h": row["rate"] / critical if critical else math.nan}
            | {"overlap": row["gold_overlap"], "rate": row["rate"], "context": row["context"]}
            | {"ceiling": stored["contexts"][row["context"]]["ceiling"]}
            | measured(row, sweep.steps.filter(sweep.steps["run"] == row["run"]).sort("step"))
        )


def rows_of_study(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row a run of a reproduction, H by its own labels and, at the paper's rates, by its theta*."""
    study = read_study(folder)
    critical = {
        (r["model"], r["method"], r["context"]): r["critical_rate"]
        for r in study.critical.filter((pl.col("criterion") == "rank") & (pl.col("by") == "collocation")).to_dicts()
    }
    for (model, arm), sweep in study.sweeps.items():
        mine = study.runs.filter((pl.col("model") == model) & (pl.col("arm") == arm))
        unit = mine.filter(pl.col("label") == "H=10")["rate"].unique().item() / 10
        for row in mine.iter_rows(named=True):
            found = critical.get((model, row["method"], row["context"]))
            yield (
                {
                    "model": model,
                    "set": "study",
                    "method": arm,
                    "steps": row["steps"],
                    "H": round(row["rate"] / unit, 1),
                }
                | {"h": row["rate"] / found if found else math.nan, "overlap": row["gold_overlap"], "rate": row["rate"]}
                | {"context": row["context"], "ceiling": math.nan}
                | measured(row, sweep.steps.filter(pl.col("run") == row["run"]).sort("step"))
            )


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return medians by set, method and field."""
    heads = [
        "model",
        "set",
        "method",
        "N",
        "H",
        "runs",
        "rival leads by",
        "gold starts at",
        "its ceiling",
        "gold ends at",
    ]
    heads += ["jump ratio (range)", "logit gap in the jump, nat", "over its mean step", "log-odds v in the jump"]
    heads += ["N tanh(v/4)"]
    names = ("gap", "start", "ceiling", "end", "ratio", "nat", "smooth", "speed", "sigmoid")
    lines = []
    for key in dict.fromkeys((r["model"], r["set"], r["method"], r["steps"], r["H"]) for r in rows):
        mine = [r for r in rows if (r["model"], r["set"], r["method"], r["steps"], r["H"]) == key and r["ratio"]]
        gap, start, top, end, ratio, nat, smooth, speed, sigmoid = (
            statistics.median(r[n] for r in mine) for n in names
        )
        low, high = (f(r["ratio"] for r in mine) for f in (min, max))
        lines.append([
            Path(key[0]).name, *map(str, key[1:4]), f"{key[4]:g}", str(len(mine)), f"{-gap:.2f}", f"{start:.2g}",
            f"{top:.2f}", f"{end:.2f}", f"{ratio:.1f} ({low:.1f} to {high:.1f})", f"{nat:.2f}", f"{smooth:.1f}",
            f"{speed:.2f}", f"{sigmoid:.1f}",
        ])  # fmt: skip
    return table(heads, lines)


def main() -> None:
    """Do what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/jumps"))
    parser.add_argument("--only", action="append", default=[], help="model:set:method:steps")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--study", type=Path, action="append", default=[], help="a reproduction, for the table")
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    jobs: list[Job] = [(m, s, k, int(n)) for m, s, k, n in (o.split(":") for o in options.only)] or list(JOBS)
    print(machine(), flush=True)
    for job in jobs if not options.table else ():
        do(job, options.out)
        print(f"{job} done", flush=True)
    rows = [row for job in jobs for row in rows_of(job, options.out)]
    print(summary([*rows, *(row for folder in options.study for row in rows_of_study(folder))]))


if __name__ == "__main__":
    main()
