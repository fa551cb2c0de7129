"""RUN folders made up from closed forms, so that every outcome is there without training anything."""

from __future__ import annotations

import math

from borngap.context import Context, Target
from borngap.judge.trajectory import Trajectory
from borngap.judge.watch import judge
from borngap.runfolder import Store, environment
from borngap.sweep.sweepfolder import Result, SweepStore, entry_of

OVERLAP = 0.8
PLAN = {
    "command": "finetune", "model": "docs-gpt2-s", "weights": "0123456789abcdef", "notes": [], "method": "full",
    "rate": 2e-4, "steps": 50, "freeze": [], "seed": 0, "lora_rank": 8, "lora_targets": ["attention"],
    "schedule": "constant", "warmup": 0, "joint": False, "geometry": "readout", "top_p": 0.9, "criterion": "rank",
    "stop": "none",
}  # fmt: skip
_BULK = {
    "mean": 0.4, "std": 0.2, "anisotropy": 2.0, "mean_square": 0.2, "crowding": 25.6, "fraction_above": 0.7,
    "ks_gaussian": 0.1, "ks_exponential": 0.05, "pairs": 1000, "tokens": 100, "dimension": 128, "class": "A",
}  # fmt: skip
GEOMETRY = {
    "model": "docs-gpt2-s", "tied": True, "missing": "",
    "matrices": {"readout": _BULK, "input": _BULK, "centered": _BULK | {"crowding": 5.2, "class": "intermediate"}},
}  # fmt: skip
STORIES = {  # logit gap at the start and at the end, drag at both, where gold catches up (as a share of the run)
    "resolved": (-1.0, 3.0, -0.02, -0.02, 0.3),
    "jump": (-1.0, 3.0, -0.02, -0.02, 0.5),
    "pre-resolved": (0.5, 2.5, 0.01, 0.01, 0.3),
    "unresolved": (-3.0, -1.0, -0.02, -0.02, 0.5),
    "structural": (-3.0, -1.0, -0.02, -0.06, 0.5),
    "lost": (0.8, -1.2, 0.01, -0.01, 0.5),
}


def records(story, steps=50):
    """Return one record a step: a gap that goes from start to end, and everything that follows from it."""
    start, end, first_drag, last_drag, middle = STORIES[story]
    width = 0.5 if story == "jump" else 4.0
    rows = []
    for step in range(steps + 1):
        done = 1 / (1 + math.exp(-(step - middle * steps) / width))
        gap, drag = start + (end - start) * done, first_drag + (last_drag - first_drag) * step / max(1, steps)
        both = 0.05 + 0.9 * step / max(1, steps)
        gold = both / (1 + math.exp(-gap))
        signal = (1 - OVERLAP**2) * (2 * gold - both)
        row = {
            "step": step, "born_gap": signal + drag, "signal": signal, "drag": drag, "logit_gap": gap,
            "top1_margin": gap - 0.1, "gold_probability": gold, "rival_probability": both - gold,
            "cross_entropy": -math.log(gold), "participation_ratio": 8.0 - 6 * step / max(1, steps),
            "gold_overlap": OVERLAP, "throttle": 1 - OVERLAP**2, "gold_rank": 1 if gap > 0 else 5, "born_rank": 3,
            "overlap_drift": 0.0, "embedding_rotation": 1e-3 * step, "frozen_born_gap": signal + drag,
        }  # fmt: skip
        rows.append(row)
    return rows


def judged(context, rows, criterion="rank"):
    """Return the verdict's entry of a context from its records."""
    columns = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "step"}
    target = Target(context, (1, 2), 3, 4, {}, fragment=False)
    return judge(target, Trajectory(tuple(row["step"] for row in rows), columns), criterion)


def make_run(folder, stories=tuple(STORIES), *, steps=50, words=None, **plan):
    """Write a RUN with one context a story.

    ``words`` gives (prompt, gold, rival) of each; what else is given replaces a setting of the plan.
    """
    told = [(f"The {story} story of context {i} is", f" gold{i}", f" rival{i}") for i, story in enumerate(stories)]
    contexts = [Context(*texts) for texts in words or told]
    entries = [{"prompt": c.prompt, "gold": c.gold, "rival": c.rival} for c in contexts]
    whole = PLAN | {"contexts": entries, "steps": steps} | plan
    store = Store(folder, whole, environment() | {"started": "2026-01-01T00:00:00+00:00", "device": "cpu"})
    rows = {index: records(story, steps) for index, story in enumerate(stories)}
    if rows:
        store.add(rows, {i: judged(context, rows[i], whole["criterion"]) for i, context in enumerate(contexts)})
    return folder


def make_sweep(folder, rates=(1e-5, 1e-4, 1e-3)):
    """Write a SWEEP of two contexts: unresolved at the lowest rate, a drift above, a catapult at the highest."""
    contexts = [Context(f"Prompt {i} is", f" gold{i}", f" rival{i}") for i in range(2)]
    entries = [{"prompt": c.prompt, "gold": c.gold, "rival": c.rival} for c in contexts]
    plan = PLAN | {"command": "sweep", "contexts": entries, "rates": list(rates), "seeds": [0]}
    with SweepStore(folder, plan, environment() | {"started": "2026-01-01T00:00:00+00:00"}) as store:
        for number, (rate, index) in enumerate((rate, i) for rate in rates for i in range(2)):
            rows = records(("unresolved", "resolved", "jump")[rates.index(rate)])
            verdict = {"context": index} | judged(contexts[index], rows)
            entry = entry_of(number, rate, 0, "sequential", verdict, (rows[0], rows[-1]))
            store.add([Result(entry, rows)])
        store.merge()
    return folder
