"""Scores of forecasts of whole runs, from small records of each run: lines, and tables of docs/forecast-runs*.md.

    python benchmarks/whole_runs_table.py docs/runs docs/runs/other  # together; single runs are of the first folder
    python benchmarks/whole_runs_table.py --further docs/runs/long docs/runs/warm  # of others the last table alone
    python benchmarks/whole_runs_table.py --pooled docs/runs/short docs/runs/short/other  # or the second one
    python benchmarks/whole_runs_table.py --by-budget docs/runs docs/runs/other  # runs that have more than two budgets

A record holds what the run ended at, the same run in another order, and each forecast, at the places that a forecast
looked at: logit gaps in thousandths of a nat, a sign never rounded away. Intervals (90 %) draw the runs again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from borngap.pilot.estimates import BIAS
from borngap.pilot.pilotfolder import RunForecast
from borngap.pilot.record import idle_notes

Key = tuple[int, int, str, str]
Score = dict[str, Any]
FLIPPING = 0.1  # share of places that change sides from which on balanced accuracy is judged
_DRAWS = 2000
_NAMES = {"house": "house style", "chat": "questions", "domain": "domain"}


def record_of(
    run: str, found: dict[str, RunForecast], end: dict[Key, float], again: dict[Key, float]
) -> dict[str, Any]:
    """Return the record of a run.

    Args:
        run: its name.
        found: forecasts by budget.
        end: gaps at the end of the run.
        again: the same in the other order.

    Returns:
        JSON-ready.
    """
    places = {budget: _known(one.summary["places"], end, again) for budget, one in found.items()}
    keys = sorted({key for own in places.values() for key in own}, key=str)
    first = {key: place for own in places.values() for key, place in own.items()}
    forecasts = {
        budget: _forecast(one.summary, places[budget], keys) for budget, one in found.items() if places[budget]
    }
    return {
        "run": run, "due": "".join(str(int(first[key]["kind"] != "right")) for key in keys),
        "base": [_milli(first[key]["base_gap"]) for key in keys], "end": [_milli(end[key]) for key in keys],
        "again": [_milli(again[key]) for key in keys], "forecasts": forecasts,
    }  # fmt: skip


def _known(places: Sequence[dict[str, Any]], end: dict[Key, float], again: dict[Key, float]) -> dict[Key, Any]:
    told = (p for p in places if p["forecast_gap"] is not None)
    keyed = {(p["row"], p["offset"], p["gold"], p["rival"]): p for p in told}
    return {key: place for key, place in keyed.items() if key in end and key in again}


def _forecast(summary: dict[str, Any], places: dict[Key, Any], keys: Sequence[Key]) -> dict[str, Any]:
    told, cost = summary["all"], summary["cost"]
    gaps = [_milli(places[key]["forecast_gap"]) if key in places else None for key in keys]
    # the square of a half-width is that of the scatter's part plus that of the change's
    own = min(places.values(), key=lambda p: abs(p["forecast_gap"] - p["base_gap"]))
    half = (own["high"] - own["low"]) / 2
    scatter = float(np.sqrt(max(0.0, half**2 - (BIAS * (own["forecast_gap"] - own["base_gap"])) ** 2)))
    return {
        "gaps": gaps, "half": round(scatter, 4), "pilot": told["pilot"],
        **{name: round(told[name], 4) for name in ("ahead_after", "low", "high", "right_expected",
                                                   "right_if_nothing_changes", "matched_by_nothing_changes",
                                                   "held_out_loss_before", "pilot_loss")},
        "of_run": round(cost["of_run"], 4), "seconds": round(cost["seconds"], 1),
    }  # fmt: skip


def _milli(gap: float) -> int:
    """A gap in thousandths of a nat, never 0, so that who leads stays as it is."""
    return (1 if gap > 0 else -1) * max(1, round(1000 * abs(gap)))


def score_of(record: dict[str, Any], budget: str) -> Score | None:
    """Hold a forecast of a record against its run; None where there is none."""
    told = record["forecasts"].get(budget)
    if told is None:
        return None
    seen = [i for i, gap in enumerate(told["gaps"]) if gap is not None]
    base, end, again = (np.array(record[name])[seen] / 1000 for name in ("base", "end", "again"))
    gap = np.array([told["gaps"][i] for i in seen]) / 1000
    due = np.array([record["due"][i] == "1" for i in seen])
    half = np.hypot(told["half"], BIAS * (gap - base))
    sides = {"gap": gap > 0, "base": base > 0, "again": again > 0}
    right = {f"right_{name}": side == (end > 0) for name, side in sides.items()}
    model, method, rate, schedule, *_ = record["run"].split(":")
    return told | right | {
        "run": record["run"], "model": model, "method": method, "n": len(seen), "base": base, "change": end - base,
        "told_change": gap - base, "flips": (base > 0) != (end > 0), "told_flips": (base > 0) != (gap > 0),
        "error": np.abs(gap - end), "floor": np.abs(again - end), "inside": np.abs(gap - end) < half,
        "ahead_true": float((end[due] > 0).mean()), "ahead_again": float((again[due] > 0).mean()),
        "idle": bool(idle_notes(told | {"rate": float(rate)}, method, 1)), "schedule": schedule,
    }  # fmt: skip


def figures(scores: Sequence[Score]) -> dict[str, float]:
    """Return what the places of some runs come to, pooled."""
    joined = {
        name: np.concatenate([s[name] for s in scores])
        for name in ("right_gap", "right_base", "right_again", "flips", "told_flips", "inside", "base",
                     "error", "floor", "change", "told_change")
    }  # fmt: skip
    flips, near = joined["flips"], np.abs(joined["base"]) < 1
    agreed = joined["told_flips"] == flips
    halves = [agreed[part].mean() for part in (flips, ~flips) if part.any()]
    return {
        "n": len(flips), "flips": int(flips.sum()), "right": joined["right_gap"].mean(),
        "nothing": joined["right_base"].mean(), "again": joined["right_again"].mean(), "balanced": np.mean(halves),
        "near": joined["right_gap"][near].mean(), "near_nothing": joined["right_base"][near].mean(),
        "inside": joined["inside"].mean(), "error": np.median(joined["error"]), "floor": np.median(joined["floor"]),
        "behind": joined["right_again"].mean() - joined["right_gap"].mean(),
        "slope": (joined["change"] * joined["told_change"]).sum() / (joined["told_change"] ** 2).sum(),
    }  # fmt: skip


def intervals(scores: Sequence[Score]) -> dict[str, tuple[float, float]]:
    """Return 90 % intervals of the shares among ``figures``, drawing runs again, each with both of its orders."""
    random, runs = np.random.default_rng(0), list(dict.fromkeys(s["run"] for s in scores))
    counts = np.array([np.sum([_counted(s) for s in scores if s["run"] == run], 0) for run in runs])
    drawn = np.array([counts[random.integers(0, len(runs), len(runs))].sum(0) for _ in range(_DRAWS)], dtype=float)
    n, right, again, inside, flips, told, stays, kept = drawn.T
    with np.errstate(invalid="ignore"):  # a draw without any flips has the other half alone
        balanced = np.nanmean([told / flips, kept / stays], 0)
    shares = {"right": right / n, "again": again / n, "behind": (again - right) / n, "inside": inside / n}
    ends = {name: np.percentile(v, (5, 95)) for name, v in (shares | {"balanced": balanced}).items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _counted(s: Score) -> list[int]:
    """Places of a forecast: all; right, also by the other order; in their intervals; flips and others, and right."""
    flips, agreed = s["flips"], s["told_flips"] == s["flips"]
    parts = (s["right_gap"], s["right_again"], s["inside"], flips, flips & agreed, ~flips, ~flips & agreed)
    return [len(flips), *(int(part.sum()) for part in parts)]


def line(name: str, s: Score) -> str:
    """Return a score in a line."""
    f = figures([s])
    return (
        f"{name}: {f['n']} places, {f['flips']} flips; right {f['right']:.3f} (nothing {f['nothing']:.3f}, other order "
        f"{f['again']:.3f}; near even {f['near']:.3f}); balanced {f['balanced']:.3f}; error {f['error']:.3f} over "
        f"{f['floor']:.3f}; in the interval {f['inside']:.3f}; slope {f['slope']:.2f}; ahead {s['ahead_after']:.1%} "
        f"({s['low']:.1%} to {s['high']:.1%}), truth {s['ahead_true']:.1%}; idle {s['idle']}; {s['of_run']:.3f} of the "
        f"run, {s['seconds']:.0f} s"
    )


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder, full fine-tuning first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda r: (r["run"].startswith("smol"), r["run"].split(":")[1], r["run"].split(":")[4:]))


def scores(records: Sequence[dict[str, Any]], budget: str) -> list[Score]:
    """Return the scores of all records that have a forecast at a budget."""
    return [s for record in records if (s := score_of(record, budget)) is not None]


def named(run: str) -> str:
    """Return a run's name as the docs have it."""
    model, method, rate, schedule, *corpus = run.split(":")
    schedule, _, warm = schedule.partition("+")
    shape = f"{schedule} after {warm} steps of warm-up" if warm else schedule
    return ", ".join(
        [model, f"{'LoRA' if method == 'lora' else method} {rate}", shape, *(_NAMES[one] for one in corpus)]
    )


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def row(s: Score) -> list[Any]:
    """Return a row of the table of runs."""
    f = figures([s])
    ahead = f"{percent(s['ahead_after'])} ({100 * s['low']:.0f} to {100 * s['high']:.0f})"
    return [named(s["run"]), f["n"], f["flips"], percent(f["right"]), percent(f["nothing"]), percent(f["again"]),
            f"{f['balanced']:.2f}", f"{f['error']:.2f}", f"{f['floor']:.2f}", percent(f["inside"]), f"{f['slope']:.1f}",
            ahead, percent(s["ahead_true"]), "said" if s["idle"] else ""]  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows))


def runs_table(records: Sequence[dict[str, Any]], *budgets: str) -> str:
    """Return the table of runs at a budget; with several budgets a column says which."""
    heads = ["run", *["budget"][: len(budgets) > 1], "places", "change sides", "orders right", "nothing changes",
             "other order", "balanced", "error, nat", "floor", "in the interval", "slope", "ahead", "truth",
             "no better"]  # fmt: skip
    rows = []
    for record in records:
        for budget in budgets:
            for score in scores([record], budget):
                name, *cells = row(score)
                rows.append([name, *[budget][: len(budgets) > 1], *cells])
    return table(heads, rows)


def parts(found: Sequence[Score]) -> dict[str, list[Score]]:
    """Return groups of runs by their names in the docs."""
    real = [s for s in found if s["model"].startswith("smollm2")]
    mini = [s for s in found if s not in real]
    return {
        "miniatures": mini, "full": [s for s in mini if s["method"] == "full"],
        "LoRA": [s for s in mini if s["method"] == "lora"], "SmolLM2, LoRA": real,
        "a tenth or more change sides": [s for s in found if s["flips"].mean() >= FLIPPING],
    }  # fmt: skip


def pooled_table(records: Sequence[dict[str, Any]], budgets: Sequence[str]) -> str:
    """Return the table of groups of runs, with intervals."""
    heads = ["runs", "budget", "forecasts", "places", "change sides", "orders right", "nothing changes", "other order",
             "behind it, points", "balanced", "in the interval"]  # fmt: skip
    rows = []
    for budget in budgets:
        for name, own in parts(scores(records, budget)).items():
            if own:
                rows.append([name, budget, len(own), *_pooled(own)])
    return table(heads, rows)


def _pooled(own: Sequence[Score]) -> list[str]:
    f, between = figures(own), intervals(own) if len(own) > 1 else {}

    def told(name: str, digits: int = 0, scale: float = 100, unit: str = " %") -> str:
        ends = [f"{scale * end:.{digits}f}" for end in between.get(name, ())]
        return f"{scale * f[name]:.{digits}f}{unit}" + (f" ({' to '.join(ends)})" if ends else "")

    return [f"{f['n']:,}", f"{f['flips']:,}", told("right"), percent(f["nothing"]), told("again"),
            told("behind", 1, unit=""), told("balanced", 2, 1, ""), told("inside")]  # fmt: skip


def bars_table(records: Sequence[dict[str, Any]], budgets: Sequence[str]) -> str:
    """Return what was asked, and what came of it at each budget."""
    rows = [[*heads, *(of(scores(records, budget)) for budget in budgets)] for heads, of in _BARS]
    return table(["asked", "of", *(f"budget {budget}" for budget in budgets)], rows)


def _orders(found: Sequence[Score]) -> str:
    reached = sum(s["right_gap"].mean() >= 0.95 for s in found)
    low, high = intervals(found)["right"]
    return (
        f"{percent(figures(found)['right'])} ({100 * low:.0f} to {100 * high:.0f}); {reached} of {len(found)} forecasts"
    )


def _again(found: Sequence[Score]) -> str:
    reached = sum(s["right_again"].mean() >= 0.95 for s in found)
    return f"{percent(figures(found)['again'])}; {reached} of {len(found)} forecasts"


def _balanced(found: Sequence[Score]) -> str:
    own = parts(found)["a tenth or more change sides"]
    low, high = intervals(own)["balanced"]
    return f"{figures(own)['balanced']:.2f} ({low:.2f} to {high:.2f}), {len(own)} forecasts"


def _shares(found: Sequence[Score]) -> str:
    near = sum(abs(s["ahead_after"] - s["ahead_true"]) <= 0.03 for s in found)
    other = sum(abs(s["ahead_again"] - s["ahead_true"]) <= 0.03 for s in found)
    return f"{near} of {len(found)} (other order: {other})"


def _held(found: Sequence[Score]) -> str:
    # the ends are stored with four decimals: a truth that lies on one is within
    held = sum(s["low"] <= round(s["ahead_true"], 4) <= s["high"] for s in found)
    return f"{held} of {len(found)}"


def _errors(found: Sequence[Score]) -> str:
    ratios = _ratios(found)
    return f"{np.median(ratios):.1f} in the median, {min(ratios):.1f} to {max(ratios):.1f}"


def _ratios(found: Sequence[Score]) -> list[float]:
    """Median error over the floor's, of each forecast."""
    return [float(np.median(s["error"]) / np.median(s["floor"])) for s in found]


def _inside(found: Sequence[Score]) -> str:
    each = [s["inside"].mean() for s in found]
    within = sum(0.85 <= share <= 0.95 for share in each)
    pooled = percent(figures(found)["inside"])
    return (
        f"{pooled}; single ones {100 * min(each):.0f} to {100 * max(each):.0f} %, {within} of {len(each)} in 85 to 95"
    )


def _worse(found: Sequence[Score]) -> str:
    gains = [(int(s["right_gap"].sum()) - int(s["right_base"].sum()), s["idle"]) for s in found]
    worse, said = [idle for gain, idle in gains if gain < 0], [gain for gain, idle in gains if idle]
    needless = sum(gain > 0 for gain in said)
    return f"{sum(worse)} of {len(worse)}; said of {len(said)}, of which {needless} were better than it"


_BARS: tuple[tuple[list[str], Callable[[Sequence[Score]], str]], ...] = (
    (["95 % of orders", "orders right; forecasts that reach 95 %"], _orders),
    (["", "the other order's"], _again),
    (["balanced 0.85 at a tenth, 0.9 at a fifth", "where a tenth or more of the places change sides"], _balanced),
    (["share ahead within 3 points in 90 %", "forecasts"], _shares),
    (["", "in its own 90 % interval"], _held),
    (["error at most 4 floors at a tenth, fewer at a fifth", "median error over the floor, by forecast"], _errors),
    (["85 to 95 % in their intervals", "places"], _inside),
    (["worse than \"nothing changes\": recognised", "forecasts that are and say so"], _worse),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--further", action="store_true", help="they are not among the runs of the protocol")
    parser.add_argument("--pooled", action="store_true", help="the second table alone, at all of their budgets")
    parser.add_argument("--by-budget", action="store_true", help="what was asked, a line a budget")
    options = parser.parse_args()
    if options.by_budget:
        print(by_budget(options.folders))
        return
    if options.pooled:
        print(pooled(options.folders))
        return
    print("\n".join(map(further, options.folders)) if options.further else markdown(options.folders))


def further(folder: Path) -> str:
    """Return the table of runs that are not among those of the protocol."""
    return runs_table(read(folder), "0.1", "0.2")


def pooled(folders: Sequence[Path]) -> str:
    """Return the table of groups of runs, of some folders together, at all of their budgets."""
    records = [record for folder in folders for record in read(folder)]
    return pooled_table(records, _budgets(records))


def _budgets(records: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({budget for record in records for budget in record["forecasts"]})


def by_budget(folders: Sequence[Path]) -> str:
    """Return what came of what was asked, a line a budget, of runs that were foretold at more than two."""
    records = [record for folder in folders for record in read(folder) if len(record["forecasts"]) > 2]
    heads = ["budget", "forecasts", "orders right", "other order", "balanced", "error over the floor",
             "share ahead within 3 points", "in the interval", "seconds"]  # fmt: skip
    rows = []
    for budget in _budgets(records):
        found = scores(records, budget)
        held, low, high = figures(found), *intervals(found)["right"]
        seconds = np.median([s["seconds"] for s in found])
        rows.append([budget, len(found), f"{100 * held['right']:.1f} % ({100 * low:.0f} to {100 * high:.0f})",
                     f"{100 * held['again']:.1f} %", _balanced(found).partition(",")[0],
                     f"{np.median(_ratios(found)):.1f}", _shares(found), percent(held["inside"]),
                     f"{seconds:.0f}"])  # fmt: skip
    return table(heads, rows)


def markdown(folders: Sequence[Path]) -> str:
    """Return all tables of the docs: the first two of all records, single runs of the first folder."""
    records, budgets = [record for folder in folders for record in read(folder)], ("0.1", "0.2")
    return "\n\n".join(
        (bars_table(records, budgets), pooled_table(records, budgets), runs_table(read(folders[0]), "0.1"))
    )


if __name__ == "__main__":
    main()
