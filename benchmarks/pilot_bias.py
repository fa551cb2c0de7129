"""How much of a pilot's error is bias, and how much is the draw of its few rows.

    python benchmarks/whole_runs.py --runs miniatures --budgets "" --out FOLDER
    python benchmarks/pilot_bias.py --runs miniatures --out FOLDER

Two pilots of the design that docs/runs has of the run's forecast, one of rows of the run's first order and one of its
second, held against the run in both orders: what the pilots have in common with each other and with the runs is free of
the noise of rows. One line a run, three levels: the mean change of all places of a kind (the wanted word due, or the
other right); of a pair of words beside its kind; of a place beside its pair. Signal: the mean product of both runs'
changes, nat^2. As shares of it: the variance of the noise of a run, that of a pilot, and the square of a pilot's bias.
Correlation: of a pilot of endless rows with a run without noise; 1 where only rows are missing. Slope: of the true
change over a pilot's. Then the orders right: of forecasts from these pilots, and of ones that knew besides what the run
does to the kinds, the pairs, or the places. All places count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from borngap.data.source import source_of
from borngap.model.load import quiet
from borngap.pilot.design import Design, lengthened, noise_of
from borngap.pilot.draw import counts_of, pilot_steps
from borngap.pilot.estimates import foretell
from borngap.pilot.places.watched import find
from borngap.pilot.prepare import asked_of, prepare_run
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import prepared
from borngap.usage.allowed import Allowed
from whole_runs import ALL, folder_name, names, planned, run_options
from whole_runs_table import Key

Floats = NDArray[np.float64]
LEVELS = ("kind", "pair", "place")
KNOWN = ("nothing", *LEVELS)
RECORDS = Path(__file__).parents[1] / "docs" / "runs"
COLUMNS = ("signal", "run", "pilot", "bias", "correlation", "slope")


def main() -> None:
    parser = run_options(__doc__.splitlines()[0])
    parser.add_argument("--budget", default="0.1", help="of the recorded forecast whose design the pilots have")
    options = parser.parse_args()
    quiet()
    found: dict[str, list[tuple[Floats, Floats]]] = {}
    for run in names(options):
        file = options.out / f"{folder_name(run)}-{options.steps}" / f"bias-{options.budget}.json"
        if not file.exists():
            file.write_text(json.dumps(pilots_of(run, options, file.parent)))
        stored = json.loads(file.read_text())
        tables = apart(stored["places"]), known(**stored)
        found.setdefault(run.split(":")[1], []).append(tables)
        print(run, shown(*tables), flush=True)
    found["all"] = [tables for own in found.values() for tables in own]
    for method, own in found.items():
        levels, rights = zip(*own, strict=True)
        print(f"{method}, {len(own)} runs, median, and all orders", shown(np.median(levels, 0), np.sum(rights, 0)))


def pilots_of(run: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train a pilot of the rows of either order; return what is noise by the rule, and of each place its kind,
    its words and five gaps: before the runs, at the end of both pilots, at the end of both runs.
    """
    loaded, plans, settings, (data, watch, terms) = planned(run, options)
    record = json.loads((RECORDS / f"{folder_name(run)}.json").read_text())
    chosen = record["forecasts"][options.budget]["pilot"]
    seen: list[dict[Key, float]] = []
    for plan in plans:
        asked = asked_of(watch, terms, None, Allowed(None, settings.allowed_field))
        job = prepare_run(loaded, source_of(data), asked, plan, settings)
        spots = (lookout := find(loaded, asked, plan, Piloting(**vars(settings) | {"places": ALL}), ALL).lookout).spots
        keys = [(s.example.row.number, s.offset, s.gold, s.rival) for s in spots]
        kinds = dict(zip(keys, ([s.kind, s.gold_id, s.rival_id] for s in spots), strict=True))
        drawn = pilot_steps(
            job.plan, chosen["steps"], chosen["share"], counts_of(job.plan, {s.gold_id for s in spots}), plan.seed
        )
        with prepared(job) as trainee:
            base = lookout.look(trainee.model).gaps.tolist()
            trainee.train(job.plan, drawn, plan.seed)
            ends = lengthened(base, lookout.look(trainee.model).gaps.tolist(), chosen["share"])
        seen = [dict(zip(keys, base, strict=True)), *seen[1:], dict(zip(keys, ends, strict=True))]
    for order in (0, 1):
        ended = json.loads((folder / f"order-{order}.json").read_text())
        seen.append({(row, at, gold, rival): gap for row, at, gold, rival, gap in ended})
    noise = noise_of(job.plan, Design(1, chosen["steps"], chosen["share"]))
    return {"noise": noise, "places": [[*kinds[key], *(gaps[key] for gaps in seen)] for key in seen[0]]}


def apart(places: list[list]) -> Floats:
    """Split the changes into levels, and tell what is signal, noise and bias at each; shape (levels, columns)."""
    gaps, kinds, pairs = arrays(places)
    levels = [split(gaps[:, i] - gaps[:, 0], kinds, pairs) for i in range(1, 5)]
    return np.array([told(*(one[level] for one in levels)) for level in range(len(LEVELS))])


def known(noise: float, places: list[list]) -> Floats:
    """Count the orders right of forecasts that know one thing besides, and all; shape (known + 1,)."""
    gaps, kinds, pairs = arrays(places)
    found = np.zeros(len(KNOWN) + 1)
    for pilot, run in ((1, 3), (2, 4)):
        told = foretell(gaps[:, 0], gaps[None, :, pilot], list(pairs), 0, list(kinds), noise).gaps - gaps[:, 0]
        true = split(gaps[:, run] - gaps[:, 0], kinds, pairs)
        swaps = [0.0, *(a - b for a, b in zip(true, split(told, kinds, pairs), strict=True))]
        found[:-1] += [((gaps[:, 0] + told + swap > 0) == (gaps[:, run] > 0)).sum() for swap in swaps]
        found[-1] += len(gaps)
    return found


def arrays(places: list[list]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Gaps, numbers of kinds, and of pairs."""
    names = [place[0] for place in places], [str(place[:3]) for place in places]
    kinds, pairs = (np.unique(name, return_inverse=True)[1] for name in names)
    return np.array([place[3:] for place in places]), kinds, pairs


def split(change: Floats, kinds: NDArray[np.int64], pairs: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    of_kind, of_pair = ((np.bincount(i, change) / np.bincount(i))[i] for i in (kinds, pairs))
    return of_kind, of_pair - of_kind, change - of_pair


def told(one: Floats, two: Floats, run: Floats, again: Floats) -> tuple[float, ...]:
    """Of two pilots and two runs, whose noises are independent of one another."""
    signal, common = float(np.mean(run * again)), float(np.mean(one * two))
    cross = float(np.mean((one + two) * (run + again)) / 4)
    noises = (float(np.mean((a - b) ** 2)) / 2 for a, b in ((run, again), (one, two)))
    correlation = cross / np.sqrt(signal * common) if signal > 0 and common > 0 else np.nan
    return (signal, *(n / signal for n in noises), (common - 2 * cross + signal) / signal, correlation, cross / common)


def shown(table: Floats, rights: Floats) -> str:
    levels = "; ".join(
        f"{level}: " + ", ".join(f"{name} {x:.2f}" for name, x in zip(COLUMNS, row, strict=True))
        for level, row in zip(LEVELS, table, strict=True)
    )
    shares = zip(KNOWN, rights[:-1] / rights[-1], strict=True)
    return f"{levels}; right: " + ", ".join(f"{name} {share:.3f}" for name, share in shares)


if __name__ == "__main__":
    main()
