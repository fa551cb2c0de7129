"""Pairs kept between steps give the purity and the localisation length that a pass over all pairs gives."""

import pytest
import torch
from tests.cases import case

from borngap import measure
from borngap.observables.geometry import Geometry
from borngap.observables.paircache import PairCache
from borngap.train.finetune import FineTune

NAMES = (
    "drag",
    "drive",
    "geometric_efficiency",
    "purity",
    "participation_ratio",
    "localisation_length",
    "burial_depth",
    "born_gap",
)


def steps(count=4, batch=5):
    """Yield batches of predictions that drift apart; three share their gold and rival."""
    first = case(3, vocabulary=60, batch=batch)
    gold, rival = (ids.clone() for ids in (first.gold, first.rival))
    gold[:3], rival[:3] = 7, 9
    for step in range(count):
        yield first.logits + 0.7 * step * case(step, vocabulary=60, batch=batch).logits, gold, rival, first.matrix


@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_kept_pairs_change_no_number(top_p):
    matrix = next(steps())[3]
    matrix[11] = 2 * matrix[12]  # two tokens of one direction: their angle is exactly 0
    geometry = Geometry(matrix)
    table = PairCache(geometry)
    for logits, gold, rival, _ in steps():
        whole = measure(logits, geometry, gold, rival, top_p=top_p, only=NAMES)
        kept = measure(logits, geometry, gold, rival, top_p=top_p, only=NAMES, pairs=table)
        for name in NAMES:
            torch.testing.assert_close(kept[name], whole[name], rtol=1e-12, atol=1e-12)
    assert len(table._tables) == len({*zip(gold.tolist(), rival.tolist(), strict=True)}) < 5


def test_the_budget_is_kept_and_changes_no_number():
    for budget in (0, 300):
        table = PairCache(Geometry(next(steps())[3]), budget)
        for logits, gold, rival, matrix in steps():
            whole = measure(logits, matrix, gold, rival, only=NAMES)
            kept = measure(logits, table._geometry, gold, rival, only=NAMES, pairs=table)
            torch.testing.assert_close(kept["localisation_length"], whole["localisation_length"])
            assert sum(len(one.rows) ** 2 for one in table._tables.values()) <= budget
    assert table._tables


def test_a_prediction_without_spread_has_angle_0():
    rows = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    logits = torch.tensor([[50.0, 50.0, -50.0]], dtype=torch.float64)
    table = PairCache(Geometry(rows))
    found = measure(logits, table._geometry, 0, 1, only=["purity", "localisation_length"], pairs=table)
    assert (float(found["purity"]), float(found["localisation_length"])) == (1.0, 0.0)


def test_only_a_geometry_at_rest_is_kept():
    import borngap
    from borngap.train.observe import Observer

    for method, at_rest in (("lora", True), ("full", False)):
        tuner = FineTune(
            borngap.load("docs-gpt2-s"), borngap.read_contexts("docs10")[:1], borngap.Training(method=method)
        )
        assert (Observer(tuner.model, tuner.tokenizer, tuner.targets)._kept is not None) == at_rest
