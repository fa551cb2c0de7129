"""Does `borngap remedy` order remedies as the runs do? Its pilots held against the stored runs of remedies.py.

    python benchmarks/remedy_pilots.py FOLDER --budgets 0.1,0.3 [--out PILOTS]

FOLDER holds folders MODEL-METHOD-RATE-SCHEDULE-CORPUS-STEPS of remedies.py. The same places of base forms, the same
held-out rows, the same rows to train on; a pilot a remedy, of the budget that `--budget` gives it, looked at at all
places (in runs so short the budget would buy few of them). One line a remedy: success, over-use and loss above
cross-entropy's run, as the pilot foretells them with 90 % intervals, and as the run of the same seed has them; then the
rank correlations, how often intervals hold the truth, and which remedy pilots and runs would take.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from borngap.losses.form import LOSS_KINDS
from borngap.model.load import quiet
from borngap.pilot.pilotfolder import read_forecast
from borngap.pilot.places.look import Lookout
from borngap.pilot.places.watched import WatchList
from borngap.pilot.wholerun import RunJob
from borngap.remedies.choice import Candidate, Evidence, remedy_choice
from borngap.remedies.outcomes import Measure, RemedyOutcome
from borngap.remedies.paste import NamedFiles
from borngap.remedies.remedy import NONE, Remedy, read_remedies
from borngap.remedies.settings import Remedying
from borngap.remedies.trying import RemedyTrial, search
from borngap.rivals.rivalloss import RivalLoss
from remedies import LOSS_ROWS, Bench, bench_of
from remedy_losses import PENALTIES

_MEASURES = ("success", "over_use", "gain", "over_use_more", "loss")
_PRICE = {"gain": "success", "over_use_more": "over-use", "loss": "nat"}
_LIMITS = ((0.02, 2.0), (0.02, 5.0), (0.02, 10.0), (0.02, 20.0), (0.05, 10.0), (0.1, 20.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stored", type=Path)
    parser.add_argument("--budgets", default="0.1")
    parser.add_argument("--only", default="", help="part of a folder's name")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("remedy-pilots"))
    options = parser.parse_args()
    quiet()
    pooled: dict[float, list[dict[str, Any]]] = {}
    for folder in sorted(f for f in options.stored.iterdir() if (f / "places.json").exists()):
        if options.only in folder.name:
            for budget in map(float, options.budgets.split(",")):
                rows = list(held(folder, budget, options))
                print(f"\n{folder.name}, budget {budget:g}\n{told(rows)}", flush=True)
                pooled.setdefault(budget, []).append(rows)
    for budget, runs in pooled.items():
        print(f"\nall {len(runs)}, budget {budget:g}: {coverage([row for rows in runs for row in rows])}")


def held(folder: Path, budget: float, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row a remedy: as foretold, and as the run has it."""
    names = {file: entry["remedy"] for file in folder.glob("*-0.json") if (entry := json.loads(file.read_text()))}
    known = [name for name in names.values() if is_known(name)]
    truth = {named(names[file]): true_numbers(folder, file) for file in names if names[file] in known}
    pilots = options.out / f"{folder.name}-{budget:g}"
    if not (pilots / "summary.json").exists():
        tried(folder.name, sorted(name for name in known if name != NONE), budget, options, pilots)
    summary = json.loads((pilots / "summary.json").read_text())
    files = {named(name): file for file, name in names.items()}
    for entry in summary["remedies"]:
        if entry["remedy"] in truth:
            run, plain = truth[entry["remedy"]], truth[NONE]
            more = {"gain": run["success"] - plain["success"], "over_use_more": run["over_use"] - plain["over_use"],
                    "loss": run["loss"] - plain["loss"]}  # fmt: skip
            foretold = {name: None if entry[name] is None else Measure(**entry[name]) for name in _MEASURES}
            places = place_errors(folder, files[entry["remedy"]], pilots)
            yield {"remedy": entry["remedy"], "run": run | more, "pilot": foretold, "places": places}


def place_errors(folder: Path, file: Path, pilots: Path) -> str:
    """Orders right of the remedy's forecast and of "nothing changes", and the median error of its gaps."""
    remedy = read_remedies(named(json.loads(file.read_text())["remedy"]) + ",bias")[-2]
    forecast = read_forecast(pilots / "tried" / remedy.folder)
    kind, form = (np.array(json.loads((folder / "places.json").read_text())[name]) for name in ("kind", "form"))
    end = np.array(json.loads(file.read_text())["places"])[(kind == "right") | (form == "base"), 0]
    base, gap = (forecast.places[name].to_numpy() for name in ("base_gap", "forecast_gap"))
    if gap.dtype == object or np.isnan(gap).any():
        return "none"
    right, idle = (((x > 0) == (end > 0)).mean() for x in (gap, base))
    return f"{right:.0%} (nothing {idle:.0%}), error {np.median(np.abs(gap - end)):.2f} nat"


def is_known(name: str) -> bool:
    """Whether the command has a remedy; its margin is 2 nat in remedies.py."""
    kind = name.removeprefix("head+").partition(":")[0]
    return kind in {*LOSS_KINDS, *PENALTIES, "rate", "upsample", "head"} or name == NONE


def true_numbers(folder: Path, file: Path) -> dict[str, float]:
    """Success at base forms, over-use, and the held-out loss of a run."""
    places, entry = json.loads((folder / "places.json").read_text()), json.loads(file.read_text())
    kind, form, gaps = np.array(places["kind"]), np.array(places["form"]), np.array(entry["places"])[:, 0]
    rows = np.array(entry["rows"])
    return {
        "success": float((gaps[(kind == "due") & (form == "base")] > 0).mean()),
        "over_use": float((gaps[kind == "right"] < 0).mean()), "loss": float(rows[:, 1].sum() / rows[:, 0].sum()),
    }  # fmt: skip


def tried(name: str, remedies: list[str], budget: float, options: argparse.Namespace, out: Path) -> None:
    """Do the pilots."""
    model, method, rate, schedule, corpus, steps = re.fullmatch(
        r"(.+)-(full|lora)-(.+)-(\w+)-(\w+)-(\d+)", name
    ).groups()
    options.steps = int(steps)
    bench = bench_of(":".join((model, method, rate, schedule, corpus)), replaced(options, out))
    settings = Remedying(budget=budget, remedies=",".join(map(named, remedies)))
    jobs = {}
    for stored, remedy in zip([NONE, *remedies], read_remedies(settings.remedies), strict=True):
        jobs[remedy.name] = job_of(bench, stored, remedy, budget)
    spots = [s for s, form in zip(bench.spots, bench.forms, strict=True) if s.kind == "right" or form == "base"]
    rows = [example for example in bench.examples if example.row.number < LOSS_ROWS]
    lookout = Lookout(bench.loaded.model, spots, rows, options.max_length)
    lookout.tokens = 0  # all places are looked at, whatever it costs
    found = WatchList(lookout, len(spots), 0, 0)
    given = NamedFiles(model, "train.jsonl", "held-out.jsonl", "style.csv")
    trial = RemedyTrial(read_remedies(settings.remedies), jobs, settings, given, found)
    search(trial, out, lambda _: None)


def replaced(options: argparse.Namespace, out: Path) -> argparse.Namespace:
    """Options of remedies.py: it writes its places beside the pilots, not into the stored runs."""
    return argparse.Namespace(**{**vars(options), "out": out.parent / "benches"})


def named(stored: str) -> str:
    """The name of the command for a remedy of remedies.py."""
    head, _, rest = stored.rpartition("+")
    kind, _, weight = rest.partition(":")
    if kind in PENALTIES:
        return f"{PENALTIES[kind]}:{weight}"
    return f"{head}+{rest},2".removeprefix("+") if kind == "margin" else stored


def job_of(bench: Bench, stored: str, remedy: Remedy, budget: float) -> RunJob:
    """The run as remedies.py has it, watched by all there is: the looks are not the budget's."""
    job, pairs, _ = bench.job(stored, 0)
    looks = 2 / 3 * budget  # what the command leaves for gradients
    job = replace(job, settings=replace(job.settings, budget=looks))
    form = remedy.loss
    if form is None:
        return job
    rivals = RivalLoss(list(pairs["use"].items()), kind=form.kind, weight=form.weight, margin=form.margin)
    return replace(job, rivals=rivals)


def told(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, and what they come to."""
    lines = [f"| {' | '.join(('remedy', *(f'{name}, pilot | run' for name in _MEASURES[:2] + _MEASURES[4:])))} |"]
    for row in rows:
        cells = [f"{shown(row['pilot'][name])} | {row['run'][name]:.3f}" for name in _MEASURES[:2] + _MEASURES[4:]]
        lines.append(f"| {row['remedy']} | {' | '.join(cells)} | {row['places']} |")
    parts = [f"{name} {correlation(rows, name)}" for name in ("success", "over_use", "loss")]
    return "\n".join([*lines, f"rank correlations: {'; '.join(parts)}", *picks(rows), coverage(rows)])


def shown(measure: Measure | None) -> str:
    if measure is None:
        return "-"
    return f"{measure.value:.3f}" + ("" if measure.low is None else f" ({measure.low:.3f} to {measure.high:.3f})")


def correlation(rows: list[dict[str, Any]], name: str) -> str:
    """Spearman's rank correlation and Kendall's tau over the remedies."""
    both = [(row["pilot"][name].value, row["run"][name]) for row in rows if row["pilot"][name] is not None]
    if len(both) < 2:
        return f"- (n {len(both)})"
    one, other = zip(*both, strict=True)
    return (
        f"{stats.spearmanr(one, other).statistic:.2f} (tau {stats.kendalltau(one, other).statistic:.2f}, n {len(one)})"
    )


def picks(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What pilots and runs would take, under several limits."""
    for loss, over in _LIMITS:
        by_pilot, by_run = (_choice(rows, side, (loss, over)) for side in ("pilot", "run"))
        truth = {row["remedy"]: row["run"] for row in rows}
        own = truth.get(by_pilot, {})
        price = ", ".join(f"{own[name]:+.3f} {words}" for name, words in _PRICE.items()) if own else "nothing"
        best = "" if by_run is None else f", {truth[by_run]['gain']:+.3f}"
        yield f"within {loss:g} nat and {over:g} points: pilots take {by_pilot} ({price}); runs {by_run}{best}"


def _choice(rows: list[dict[str, Any]], side: str, limits: tuple[float, float]) -> str | None:
    return remedy_choice(candidates(rows, side), *limits, Evidence(1, "more rows", "a larger budget")).remedy


def candidates(rows: list[dict[str, Any]], side: str) -> list[Candidate]:
    found = []
    for row in rows:
        values = {name: row[side][name] for name in _MEASURES}
        if side == "run":
            values = {name: Measure(value) for name, value in values.items()}
        found.append(Candidate(Remedy(row["remedy"]), RemedyOutcome(**values), 1.0))
    return found


def coverage(rows: list[dict[str, Any]]) -> str:
    """How often the 90 % intervals hold what the run has."""
    parts = []
    for name in _MEASURES:
        inside = [
            row["pilot"][name].low <= row["run"][name] <= row["pilot"][name].high
            for row in rows
            if row["pilot"][name] is not None and row["pilot"][name].low is not None and row["remedy"] != NONE
        ]
        errors = [
            abs(row["pilot"][name].value - row["run"][name])
            for row in rows
            if row["pilot"][name] is not None and row["remedy"] != NONE
        ]
        parts.append(f"{name} {sum(inside)} of {len(inside)}, median error {np.median(errors):.3f}")
    return "in the interval: " + "; ".join(parts)


if __name__ == "__main__":
    main()
