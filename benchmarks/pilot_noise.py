"""How much of what a pilot's single places do is noise: the rule of ``borngap.pilot.design.noise_of``, fitted to runs.

    python benchmarks/pilot_noise.py FOLDER [FOLDER...] --method full

FOLDER is one that ``whole_runs.py --out`` wrote: runs done in two orders, and finished forecasts. One line a forecast:
rows that the pilot read, the dose, and r, by which the changes of places beside their pairs fit those of the runs best
(least squares, mean of both orders); orders right with r, with 9/11, and with today's rule. Then the powers of rows and
dose that r goes by (least squares of logarithms, each run left out once), and the median of r rows / root(dose) and of
r rows / dose.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from borngap.pilot.design import FULL_NOISE, LORA_NOISE, lengthened
from borngap.pilot.estimates import NOISE, foretell
from borngap.pilot.pilotfolder import read_forecast

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """A pilot held against its run."""

    name: str
    rows: float
    dose: float
    base: Floats
    ends: Floats  # of the pilot, lengthened
    truths: tuple[Floats, Floats]  # of both orders
    pairs: NDArray[np.int64]
    kinds: NDArray[np.int64]

    def noise(self) -> float:
        """The r that fits best."""
        count = np.bincount(self.pairs)
        own, true = (x - (np.bincount(self.pairs, x) / count)[self.pairs]
                     for x in (self.ends - self.base, (self.truths[0] + self.truths[1]) / 2 - self.base))  # fmt: skip
        return float((own**2).sum() / (own * true).sum() - 1)

    def right(self, noise: float) -> float:
        """Orders right, mean of both orders' runs."""
        found = foretell(self.base, self.ends[None], list(self.pairs), 0, list(self.kinds), noise)
        return float(np.mean([(found.gaps > 0) == (truth > 0) for truth in self.truths]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    options = parser.parse_args()
    found = [held for folder in options.folders for held in read(folder, options.method)]
    for one in sorted(found, key=lambda one: one.dose / one.rows):
        rule = (FULL_NOISE * one.dose**0.5 if options.method == "full" else LORA_NOISE * one.dose) / one.rows
        shares = " ".join(f"{one.right(r):.3f}" for r in (max(0.01, one.noise()), NOISE, min(NOISE, max(0.1, rule))))
        print(f"{one.name}: {one.rows:.0f} rows, dose {one.dose:.4f}, r {one.noise():.2f}; right {shares}")
    print(powers(found))


def read(folder: Path, method: str) -> Iterator[Held]:
    """Yield the finished forecasts of a folder."""
    for run in sorted(path.parent for path in folder.glob("*/order-1.json")):
        ends = [{tuple(key): gap for *key, gap in json.loads((run / f"order-{i}.json").read_text())} for i in (0, 1)]
        for file in sorted(run.glob("forecast-*/summary.json")):
            summary = read_forecast(file.parent).summary
            training = summary["run"]["training"]
            if training["method"] == method:
                yield held_of(f"{run.name} {file.parent.name[9:]}", file.parent, summary, ends)


def held_of(name: str, folder: Path, summary: dict, ends: Sequence[dict]) -> Held:
    """Read one forecast."""
    training, pilot, places = summary["run"]["training"], summary["all"]["pilot"], summary["places"]
    stable = [told for file in sorted((folder / "pilots").glob("*.json"))
              if (told := json.loads(file.read_text()))["is_stable"]]  # fmt: skip
    keys = [(p["row"], p["offset"], p["gold"], p["rival"]) for p in places]
    kept = [i for i, key in enumerate(keys) if key in ends[0] and key in ends[1]]
    base = [places[i]["base_gap"] for i in kept]
    words = [f"{places[i]['gold_id']} {places[i]['rival_id']} {places[i]['kind']}" for i in kept]
    steps = summary["run"]["steps"]
    dose = training["rate"] * steps * (1 if training["schedule"] == "constant" else 0.5)
    return Held(
        name, pilot["steps"] * pilot["share"] * training["batch_size"], dose, np.array(base),
        np.array(lengthened(base, [stable[-1]["gaps"][i] for i in kept], pilot["share"])),
        (np.array([ends[0][keys[i]] for i in kept]), np.array([ends[1][keys[i]] for i in kept])),
        np.unique(words, return_inverse=True)[1], np.array([int(places[i]["kind"] == "right") for i in kept]),
    )  # fmt: skip


def powers(found: Sequence[Held]) -> str:
    """The powers of rows and dose, and the constants."""
    fit = [one for one in found if one.noise() > 0]
    y, rows, dose = (np.log([f(one) for one in fit]) for f in (Held.noise, lambda o: o.rows, lambda o: o.dose))
    both = np.linalg.lstsq(np.c_[np.ones(len(fit)), rows, dose], y, rcond=None)[0]
    runs = np.array([one.name.rsplit(" ", 1)[0] for one in fit])
    alone = [np.polyfit(dose[runs != run], (y + rows)[runs != run], 1)[0] for run in np.unique(runs)]
    roots = [one.noise() * one.rows / one.dose**power for power in (0.5, 1) for one in found]
    return (
        f"{len(fit)} forecasts: r as rows^{both[1]:.2f} dose^{both[2]:.2f}; with rows^-1 dose^"
        f"{np.polyfit(dose, y + rows, 1)[0]:.2f} ({min(alone):.2f} to {max(alone):.2f} leaving out a run); median of r "
        f"rows / root(dose) {np.median(roots[: len(found)]):.0f}, of r rows / dose {np.median(roots[len(found) :]):.0f}"
    )


if __name__ == "__main__":
    main()
