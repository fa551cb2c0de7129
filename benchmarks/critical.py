"""Critical rates by collocation against plain bisection, and against our own search: seconds and forward passes.

Run ``.venv/bin/python benchmarks/critical.py``; ``--small`` is a smoke test. Plain bisection is what a user would
write: whole runs of N steps one after the other, the rate doubled until the criterion is met, then the bracket halved
to 1 %. The floor is one gradient a node: what it takes to know the run's gradients on the coarsest grid that is used.
"""

from __future__ import annotations

import argparse
import math
import time

import borngap
from borngap.critical.course import pieces_for
from borngap.critical.search import Searcher
from borngap.critical.trials import Trials
from borngap.methods import METHODS
from borngap.model.load import quiet
from borngap.training import Training
from timing import machine, table


def plain(searcher: Searcher, trials: Trials, index: int) -> float:
    """Double the rate from a sixteenth of the standard one, then halve the bracket to 1 %."""
    training = searcher.training

    def met(rate: float) -> bool:
        return trials.run(index, rate, training.steps) is not None

    high = METHODS[training.method].rate * 50 / training.steps / 16
    if met(high):
        while met(high / 2):
            high /= 2
        low = high / 2
    else:
        while not met(2 * high):
            high *= 2
        low, high = high, 2 * high
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def compare(name: str, method: str, steps: int, wanted: list[int]) -> list[str]:
    """Do the same contexts in three ways, in turn."""
    searcher = Searcher(borngap.load(name), borngap.read_contexts("docs10"), Training(method=method, steps=steps))
    land, trials = searcher.land, Trials(searcher.land, "rank", 0, whole=True)
    spent: dict[str, list[float]] = {way: [0.0, 0] for way in ("collocation", "bisect", "plain")}
    worst = 0.0
    with land.evaluating():
        for index in wanted:
            rates = {}
            for way in spent:
                before, begin = land.spent.copy(), time.perf_counter()
                if way == "plain":
                    rates[way] = plain(searcher, trials, index)
                elif way == "bisect":
                    ((_, found),) = searcher.by_runs("bisect", [index], None)
                    rates[way] = found.rate
                else:
                    rates[way] = searcher.collocate(index)[0].rate
                cost = land.spent.since(before)
                seconds = time.perf_counter() - begin
                spent[way] = [spent[way][0] + seconds, spent[way][1] + cost.forward_passes]
            worst = max(worst, abs(math.log(rates["collocation"] / rates["plain"])))
    per = {way: [value / len(wanted) for value in values] for way, values in spent.items()}
    mine, other = per["collocation"], per["plain"]
    return [
        name, method, str(steps), str(len(wanted)), *(f"{per[way][0]:.2f}" for way in spent),
        *(f"{per[way][1]:.0f}" for way in spent), str(pieces_for(method) + 1),
        f"1/{other[0] / mine[0]:.1f}", f"1/{other[1] / mine[1]:.1f}", f"{100 * worst:.1f} %",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    quiet()
    print(machine(), flush=True)
    open_contexts = [0, 1, 2, 4, 5, 6, 8, 9]
    cases = [
        ("docs-gpt2-s", "lora", 50, open_contexts), ("docs-gpt2-s", "full", 50, open_contexts[:4]),
        ("docs-gpt2-s", "lora", 500, open_contexts[:2]), ("docs-gpt2-s", "full", 500, open_contexts[:1]),
    ]  # fmt: skip
    if options.small:
        cases = [("docs-gpt2-s", "lora", 8, [0])]
    heads = ["model", "method", "steps", "contexts", "collocation (s)", "our bisection (s)", "plain bisection (s)"]
    heads += ["forwards: collocation", "ours", "plain", "floor", "time", "forwards", "apart"]
    for case in cases:
        print(table(heads, [compare(*case)]), flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
