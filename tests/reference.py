"""Every observable of one prediction, slowly and literally in float64: sums are loops, rho is built.

Written from the paper's equations, without a look at the package: this is what `measure` is compared with.
"""

from __future__ import annotations

import math

import numpy as np


def softmax(logits):
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()


def unit_rows(matrix, kind, size):
    rows = np.array(matrix[:size], dtype=np.float64)
    if kind == "centered":
        rows -= rows.mean(axis=0)
    return np.array([row / math.sqrt(sum(x * x for x in row)) for row in rows])


def nucleus(probs, top_p):
    """Ids of the most probable tokens until top_p is reached, with all that tie with the last of them."""
    if top_p == 1:
        return set(range(len(probs)))
    kept, total = [], 0.0
    for token in sorted(range(len(probs)), key=lambda t: -probs[t]):
        if total >= top_p and probs[token] != probs[kept[-1]]:
            break
        kept.append(token)
        total += probs[token]
    return set(kept)


def density_matrix(probs, rows):
    """rho = sum_k p_k e_k e_k^T."""
    rho = np.zeros((rows.shape[1], rows.shape[1]))
    for token, p in probs.items():
        rho += p * np.outer(rows[token], rows[token])
    return rho


def pool_of(probs, gold, rival, top_p):
    """Renormalised probabilities of the pool, and what they summed to."""
    tokens = sorted(nucleus(probs, top_p) | {gold, rival})
    mass = sum(probs[k] for k in tokens)
    return {k: probs[k] / mass for k in tokens}, mass


def reference(logits, matrix, gold, rival, hidden, top_p=0.9, kind="readout", size=None):
    """All observables of one prediction; logits (V,), matrix (rows, d), hidden (d,), all float64."""
    size = matrix.shape[0] if size is None else size
    rows = unit_rows(matrix, kind, size)
    everything = softmax(logits)
    p, mass = pool_of(everything[:size], gold, rival, top_p)
    overlap = {(j, k): float(rows[j] @ rows[k]) for j in p for k in p}
    background = [k for k in p if k not in {gold, rival}]
    gmax = overlap[gold, rival]
    rho = density_matrix(p, rows)
    born = [float(row @ rho @ row) for row in rows]
    values = {
        "gold_born_probability": sum(p[k] * overlap[k, gold] ** 2 for k in p),
        "rival_born_probability": sum(p[k] * overlap[k, rival] ** 2 for k in p),
        "born_gap": sum(p[k] * (overlap[k, gold] ** 2 - overlap[k, rival] ** 2) for k in p),
        "gold_overlap": gmax,
        "throttle": 1 - gmax**2,
        "signal": (1 - gmax**2) * (p[gold] - p[rival]),
        "drag": sum(p[k] * (overlap[k, gold] ** 2 - overlap[k, rival] ** 2) for k in background),
        "flat_drive": 1 - gmax,
        "drive": (1 - gmax) * (1 - p[gold] + p[rival])
        - sum(p[k] * (overlap[k, gold] - overlap[k, rival]) for k in background),
        "born_rank": 1 + sum(b > born[gold] for b in born),
        "pool_size": len(p),
        "pool_mass": mass,
    }
    values |= _spread(p, rows, overlap, gold, gmax)
    values |= _model(logits[:size], everything, gold, rival)
    return values | _hidden(rows, hidden, gold, rival)


def _spread(p, rows, overlap, gold, gmax):
    purity = float(np.trace(density_matrix(p, rows) @ density_matrix(p, rows)))
    squares = 0.0
    for j in p:
        for k in p:
            theta = 0.0 if j == k else math.acos(max(-1.0, min(1.0, overlap[j, k])))
            squares += p[j] * p[k] * theta**2
    return {
        "purity": purity,
        "participation_ratio": 1 / purity,
        "classical_participation_ratio": 1 / sum(q * q for q in p.values()),
        "localisation_length": math.sqrt(squares),
        "burial_depth": math.sqrt(squares) / math.acos(gmax),
        "geometric_efficiency": gmax**2 / sum(overlap[k, gold] ** 2 for k in p if k != gold),
    }


def _model(logits, probs, gold, rival):
    return {
        "logit_gap": logits[gold] - logits[rival],
        "top1_margin": logits[gold] - max(x for k, x in enumerate(logits) if k != gold),
        "gold_rank": 1 + sum(x > logits[gold] for x in logits),
        "rival_rank": 1 + sum(x > logits[rival] for x in logits),
        "gold_probability": probs[gold],
        "rival_probability": probs[rival],
        "cross_entropy": -math.log(probs[gold]),
        "entropy": -sum(q * math.log(q) for q in probs if q > 0),
    }


def _hidden(rows, hidden, gold, rival):
    return {
        "gold_alignment": float(rows[gold] @ hidden),
        "rival_alignment": float(rows[rival] @ hidden),
        "hidden_norm": math.sqrt(sum(x * x for x in hidden)),
    }
