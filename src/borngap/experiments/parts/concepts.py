"""Figures 1 and 2, redrawn from the formulas: no run, no model."""

from __future__ import annotations

import math

from borngap.results.figures import Figure

_PAIR_OVERLAPS = (0.303, 0.573, 0.847)


def figures() -> list[Figure]:
    """Return the data of figures 1 and 2.

    Returns:
        Effective tokens of an even split between two words (eq 15), and burial depth of a pair with a third word
        orthogonal to both (eqs 16 and 19).
    """
    first = [
        {"overlap": g / 100, "tokens": count, "count": name}
        for g in range(0, 100, 2)
        for name, count in (("classical", 2.0), ("participation ratio", 2 / (1 + (g / 100) ** 2)))
    ]
    second = [
        {"mass": m / 100, "depth": _depth(g, m / 100), "overlap": f"Gmax {g}"}
        for g in _PAIR_OVERLAPS
        for m in range(0, 100, 2)
    ]
    return [
        Figure(
            "figure1",
            "Figure 1. How many words is an even split?",
            "Two words with half the probability each, by equation 15.",
            "line",
            ("overlap", "overlap of the two words"),
            ("tokens", "effective tokens"),
            first,
            "count",
        ),
        Figure(
            "figure2",
            "Figure 2. Is the cloud wider than the pair?",
            "Gold and rival share what a third word, orthogonal to both, leaves; above 1 "
            "the cloud is wider than the angle between them.",
            "line",
            ("mass", "probability of the third word"),
            ("depth", "burial depth B"),
            second,
            "overlap",
        ),
    ]


def _depth(overlap: float, mass: float) -> float:
    half, angle = (1 - mass) / 2, math.acos(overlap)
    # ordered pairs: gold and rival, and each of them with the third word
    square = 2 * half * half * angle**2 + 4 * half * mass * (math.pi / 2) ** 2
    return math.sqrt(square) / angle
