"""Does `borngap remedy` order remedies as the runs do? Its pilots held against the stored runs of remedies.py.

    python benchmarks/remedy_pilots.py FOLDER --budgets 0.1,0.3 [--out PILOTS] [--within-budget] [--record RECORD.json]

FOLDER holds folders MODEL-METHOD-RATE-SCHEDULE-CORPUS-STEPS of remedies.py. The same places of base forms, the same
held-out rows, the same rows to train on; a pilot a remedy, of the budget that `--budget` gives it. It is looked at at
all places (in runs so short the budget would buy few of them), or, with --within-budget, at the places and held-out
rows that the command would look at for that budget. One line a remedy: success, over-use and loss above cross-entropy's
run, as the pilot foretells them with 90 % intervals, and as the run of the same seed has them there; then the rank
correlations, how often intervals hold the truth, there and at all places, and which remedy pilots and runs would take.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from borngap.files import write_whole
from borngap.losses.form import LOSS_KINDS
from borngap.model.load import quiet
from borngap.pilot.design import look_tokens
from borngap.pilot.pilotfolder import read_forecast
from borngap.pilot.places.look import Lookout, row_price
from borngap.pilot.places.spots import Spot, chosen_spots
from borngap.pilot.places.watched import WatchList
from borngap.pilot.wholerun import RunJob
from borngap.remedies.choice import Candidate, Evidence, remedy_choice
from borngap.remedies.outcomes import Measure, RemedyOutcome
from borngap.remedies.paste import NamedFiles
from borngap.remedies.remedy import NONE, Remedy, read_remedies
from borngap.remedies.settings import Remedying
from borngap.remedies.trying import RemedyTrial, search
from borngap.rivals.rivalloss import RivalLoss
from borngap.scanning.supervised import Example
from remedies import LOSS_ROWS, Bench, bench_of
from remedy_losses import PENALTIES

_MEASURES = ("success", "over_use", "gain", "over_use_more", "loss")
_PRICE = {"gain": "success", "over_use_more": "over-use", "loss": "nat"}
_OF_LOSS = 0.5  # of what a look may read, as in the command
_LIMITS = ((0.02, 2.0), (0.02, 5.0), (0.02, 10.0), (0.02, 20.0), (0.05, 10.0), (0.1, 20.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stored", type=Path)
    parser.add_argument("--budgets", default="0.1")
    parser.add_argument("--only", default="", help="expression that is found in a folder's name")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--remedies", help="those to hold, as remedies.py calls them; all that the command has")
    parser.add_argument("--within-budget", action="store_true", help="places and rows are those that the budget buys")
    parser.add_argument("--record", type=Path, help="file for all numbers")
    parser.add_argument("--out", type=Path, default=Path("remedy-pilots"))
    options = parser.parse_args()
    quiet()
    pooled: dict[float, dict[str, list[dict[str, Any]]]] = {}
    for folder in sorted(f for f in options.stored.iterdir() if (f / "places.json").exists()):
        if re.search(options.only, folder.name):
            for budget in map(float, options.budgets.split(",")):
                rows = list(held(folder, budget, options))
                print(f"\n{folder.name}, budget {budget:g}\n{told(rows)}", flush=True)
                pooled.setdefault(budget, {})[folder.name] = rows
    for budget, runs in pooled.items():
        print(f"\nall {len(runs)}, budget {budget:g}: {coverage([row for rows in runs.values() for row in rows])}")
    if options.record:
        write_whole(options.record, (json.dumps(record(pooled), indent=1) + "\n").encode())


def record(pooled: dict[float, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """All that was held, JSON-ready, numbers to five digits."""
    return {"schema": 1, "held": [
        {"run": name, "budget": budget, "places": rows[0]["looked"], "remedies": [told_json(row) for row in rows]}
        for budget, runs in pooled.items() for name, rows in runs.items()
    ]}  # fmt: skip


def told_json(row: dict[str, Any]) -> dict[str, Any]:
    pilot = {name: None if found is None else digits(found) for name, found in row["pilot"].items()}
    sides = {side: {name: round(value, 5) for name, value in row[side].items()} for side in ("run", "everywhere")}
    return {"remedy": row["remedy"], "pilot": pilot, **sides, "orders": row["places"]}


def digits(found: Measure) -> list[float | None]:
    return [None if x is None else round(x, 5) for x in (found.value, found.low, found.high)]


def held(folder: Path, budget: float, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row a remedy: as foretold, and as the run has it."""
    names = {file: entry["remedy"] for file in folder.glob("*-0.json") if (entry := json.loads(file.read_text()))}
    chosen = None if options.remedies is None else {NONE, *options.remedies.split(",")}
    known = [name for name in names.values() if is_known(name) and (chosen is None or name in chosen)]
    pilots = options.out / f"{folder.name}-{budget:g}"
    if not (pilots / "watched.json").exists():
        tried(folder, sorted(name for name in known if name != NONE), budget, options, pilots)
    summary, watched = (json.loads((pilots / name).read_text()) for name in ("summary.json", "watched.json"))
    files = {named(name): file for file, name in names.items() if name in known}
    there = {name: true_numbers(folder, file, **watched) for name, file in files.items()}
    everywhere = {name: true_numbers(folder, file) for name, file in files.items()}
    looked = {"due": summary["places"], "right": summary["right_avoid"], "rows": len(watched["rows"])}
    for entry in summary["remedies"]:
        if (name := entry["remedy"]) in files:
            foretold = {one: None if entry[one] is None else Measure(**entry[one]) for one in _MEASURES}
            runs = {"run": against(there, name), "everywhere": against(everywhere, name)}
            places = place_errors(files[name], watched["places"], pilots)
            yield {"remedy": name, **runs, "pilot": foretold, "places": places, "looked": looked}


def against(truth: dict[str, dict[str, float]], name: str) -> dict[str, float]:
    """Numbers of a run, what it has more than the planned one among them; the loss is above the planned run's."""
    run, plain = truth[name], truth[NONE]
    return run | {
        "gain": run["success"] - plain["success"], "over_use_more": run["over_use"] - plain["over_use"],
        "loss": run["loss"] - plain["loss"],
    }  # fmt: skip


def place_errors(file: Path, watched: list[int], pilots: Path) -> str:
    """Orders right of the remedy's forecast and of "nothing changes", and the median error of its gaps."""
    remedy = read_remedies(named(json.loads(file.read_text())["remedy"]) + ",bias")[-2]
    forecast = read_forecast(pilots / "tried" / remedy.folder)
    end = np.array(json.loads(file.read_text())["places"])[watched, 0]
    base, gap = (forecast.places[name].to_numpy() for name in ("base_gap", "forecast_gap"))
    if gap.dtype == object or np.isnan(gap).any():
        return "none"
    right, idle = (((x > 0) == (end > 0)).mean() for x in (gap, base))
    return f"{right:.0%} (nothing {idle:.0%}), error {np.median(np.abs(gap - end)):.2f} nat"


def is_known(name: str) -> bool:
    """Whether the command has a remedy; its margin is 2 nat in remedies.py."""
    kind = name.removeprefix("head+").partition(":")[0]
    return kind in {*LOSS_KINDS, *PENALTIES, "rate", "upsample", "head"} or name == NONE


def true_numbers(
    folder: Path, file: Path, places: list[int] | None = None, rows: list[int] | None = None
) -> dict[str, float]:
    """Success at base forms, over-use, and the held-out loss of a run, at some places and rows or at all."""
    about, entry = json.loads((folder / "places.json").read_text()), json.loads(file.read_text())
    kind, form, gaps = np.array(about["kind"]), np.array(about["form"]), np.array(entry["places"])[:, 0]
    losses = np.array(entry["rows"])[slice(None) if rows is None else rows]
    is_asked = np.full(len(kind), places is None)
    is_asked[places or []] = True
    return {
        "success": float((gaps[is_asked & (kind == "due") & (form == "base")] > 0).mean()),
        "over_use": float((gaps[is_asked & (kind == "right")] < 0).mean()),
        "loss": float(losses[:, 1].sum() / losses[:, 0].sum()),
    }  # fmt: skip


def tried(folder: Path, remedies: list[str], budget: float, options: argparse.Namespace, out: Path) -> None:
    """Do the pilots."""
    model, method, rate, schedule, corpus, steps = re.fullmatch(
        r"(.+)-(full|lora)-(.+)-(\w+)-(\w+)-(\d+)", folder.name
    ).groups()
    options.steps = int(steps)
    bench = bench_of(":".join((model, method, rate, schedule, corpus)), replaced(options, out))
    assert bench.described() == json.loads((folder / "places.json").read_text()), "not the places of the stored runs"
    settings = Remedying(budget=budget, remedies=",".join(map(named, remedies)))
    jobs = {}
    for stored, remedy in zip([NONE, *remedies], read_remedies(settings.remedies), strict=True):
        jobs[remedy.name] = job_of(bench, stored, remedy, budget if options.within_budget else 2 / 3 * budget)
    plan = jobs[NONE].plan
    tokens = look_tokens(plan, budget, 1) if options.within_budget else float("inf")
    spots, rows = places_within(bench, tokens), rows_within(bench, _OF_LOSS * tokens)
    lookout = Lookout(bench.loaded.model, spots, rows, options.max_length)
    if not options.within_budget:
        lookout.tokens = 0  # all places are looked at, whatever it costs; job_of leaves the looks' share out
    found = WatchList(lookout, len(base_spots(bench)), 0, 0)
    given = NamedFiles(model, "train.jsonl", "held-out.jsonl", "style.csv")
    trial = RemedyTrial(read_remedies(settings.remedies), jobs, settings, given, found)
    search(trial, out, lambda state: print(state, flush=True) if state.done is None else None)
    numbers = {"places": positions(spots, bench.spots), "rows": positions(rows, loss_rows(bench))}
    write_whole(out / "watched.json", json.dumps(numbers).encode())


def base_spots(bench: Bench) -> list[Spot]:
    return [s for s, form in zip(bench.spots, bench.forms, strict=True) if s.kind == "right" or form == "base"]


def loss_rows(bench: Bench) -> list[Example]:
    return [example for example in bench.examples if example.row.number < LOSS_ROWS]


def places_within(bench: Bench, tokens: float) -> list[Spot]:
    """The places that the command would choose; all where there is room for all."""
    spots = base_spots(bench)
    if tokens == float("inf"):
        return spots
    return chosen_spots(spots, bench.settings.places, (1 - _OF_LOSS) * tokens, bench.training.seed)


def rows_within(bench: Bench, tokens: float) -> list[Example]:
    """Held-out rows in a random order, as many as a look may read, in the order of the data."""
    rows = loss_rows(bench)
    shuffled = random.Random(bench.training.seed).sample(rows, len(rows))
    fit = np.cumsum([row_price(row) for row in shuffled]) <= tokens
    chosen = {id(row) for row, fits in zip(shuffled, fit, strict=True) if fits}
    return [row for row in rows if id(row) in chosen]


def positions(some: list[Any], all_of_them: list[Any]) -> list[int]:
    number = {id(one): i for i, one in enumerate(all_of_them)}
    return [number[id(one)] for one in some]


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
    """The run as remedies.py has it."""
    job, pairs, _ = bench.job(stored, 0)
    job = replace(job, settings=replace(job.settings, budget=budget))
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
    """How often the 90 % intervals hold what the run has where the pilots looked, and how large the errors are."""
    parts, known = [], [row for row in rows if row["remedy"] != NONE]
    for name in _MEASURES:
        told = [(row["pilot"][name], row["run"][name], row["everywhere"][name]) for row in known]
        told = [(pilot, *truth) for pilot, *truth in told if pilot is not None]
        if not told:
            parts.append(f"{name}: none")
            continue
        bounded = [one for one in told if one[0].low is not None]
        inside = [sum(one[0].low <= one[side] <= one[0].high for one in bounded) for side in (1, 2)]
        error = np.median([abs(pilot.value - there) for pilot, there, _ in told])
        parts.append(f"{name} {inside[0]} of {len(bounded)} (of all places {inside[1]}), median error {error:.3f}")
    return "in the interval: " + "; ".join(parts)


if __name__ == "__main__":
    main()
