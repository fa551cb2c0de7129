"""How often does the sign of the Born gap tell which of two words is more probable? Base models; no speed.

Run ``.venv/bin/python benchmarks/signs.py``. All pairs that docs10 and docs40 were chosen from, in both geometries of
the readout and for several pools; which of the two words is called gold does not matter, since both signs turn with it.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import polars as pl

import borngap
from borngap.context import Context
from borngap.model.load import quiet
from borngap.zoo import bundled_names
from borngap.zoo.choose import CANDIDATES
from timing import machine, table

USUAL = ("readout", 0.9)
WAYS = (USUAL, ("readout", 0.5), ("readout", 1.0), ("centered", 0.9), ("centered", 1.0))
FAR = math.log(2)  # one word twice as probable as the other


def main() -> None:
    """Print a line a geometry and pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    names = bundled_names()[:1] if parser.parse_args().small else bundled_names()
    quiet()
    rows = [json.loads(line) for line in CANDIDATES.read_text(encoding="utf-8").splitlines()]
    contexts = [Context(row["prompt"], *row["words"]) for row in rows]
    found: dict[tuple[str, float], list[np.ndarray]] = {way: [] for way in WAYS}
    for name in names:
        loaded, usual = borngap.load(name), np.array([])
        for geometry, top_p in WAYS:
            wanted = ("logit_gap", "born_gap", "signal", "drag")
            seen = borngap.probe(
                loaded.model, loaded.tokenizer, contexts, geometry=geometry, top_p=top_p, only=wanted
            ).filter(~pl.col("fragment"))
            gap, born, signal, drag = (seen[name].to_numpy() for name in wanted)
            agree, far = (gap > 0) == (born > 0), abs(gap) > FAR
            usual = born if (geometry, top_p) == USUAL else usual
            found[geometry, top_p].append(
                np.array(
                    [
                        len(gap),
                        agree.sum(),
                        far.sum(),
                        (agree & far).sum(),
                        (abs(drag) > abs(signal)).sum(),
                        ((born > 0) != (usual > 0)).sum(),
                    ]
                )
            )
    lines = []
    for (geometry, top_p), parts in found.items():
        n, agree, far, both, drag, other = sum(parts)
        shares = [f"{100 * x:.0f} %" for x in (agree / n, both / far, drag / n, other / n)]
        lines.append([geometry, f"{top_p:g}", f"{n:.0f}", *shares])
    print(machine())
    print(
        table(
            [
                "geometry",
                "top_p",
                "pairs",
                "same sign",
                "of those a factor 2 apart",
                "drag over signal",
                "sign other than in the first line",
            ],
            lines,
        )
    )


if __name__ == "__main__":
    main()
