"""A large vocabulary: the matrix is not copied, and not gone through where a look at few tokens will do."""

import pytest
import torch
from tests.cases import case
from torch.utils._python_dispatch import TorchDispatchMode

from borngap import measure
from borngap.choices import KINDS
from borngap.observables.geometry import Geometry
from borngap.observables.paircache import PairCache
from borngap.scanning.candidates import Candidates, Rule
from borngap.scanning.rivals import Rivals

TOKENS, DIMENSION = 3000, 24


class Made(TorchDispatchMode):
    """Notes the largest tensor of floats that comes out of any operation with storage of its own."""

    def __init__(self, matrix):
        super().__init__()
        self.largest, self._own = 0, matrix.untyped_storage().data_ptr()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for x in found if isinstance(found, tuple | list) else [found]:
            if isinstance(x, torch.Tensor) and x.is_floating_point() and x.untyped_storage().data_ptr() != self._own:
                self.largest = max(self.largest, x.numel())
        return found


@pytest.fixture
def geometry(monkeypatch):
    module = "borngap.observables.geometry"
    monkeypatch.setattr(f"{module}._BLOCK_ELEMENTS", 4 * DIMENSION * 100)
    monkeypatch.setattr(f"{module}._BULK_BLOCK", DIMENSION * 100)
    monkeypatch.setattr("borngap.observables.overlaprows._SMALL_MATRIX", DIMENSION * 100)

    def made(kind="readout"):
        generator = torch.Generator().manual_seed(1)
        return Geometry(torch.randn(TOKENS, DIMENSION, generator=generator) + 0.5, kind)

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_pairs_copies_no_matrix(geometry, kind):
    matrix = geometry(kind)
    with Made(matrix.matrix) as seen:
        matrix.sample(1000)
    assert seen.largest < TOKENS * DIMENSION / 10


@pytest.mark.parametrize("tokens", [2, 60])
def test_candidates_are_looked_up_without_a_copy_of_all_words(geometry, monkeypatch, tokens):
    monkeypatch.setattr("borngap.scanning.candidates._OVERLAP_ELEMENTS", 100 * DIMENSION)
    near = geometry()
    every = torch.arange(TOKENS)
    candidates = Candidates(near, Rule(every >= 0, every, 0.6))
    with Made(near.matrix) as seen:
        candidates.possible(every[:tokens])
    assert seen.largest < TOKENS * DIMENSION / 10
    for gold in range(tokens):
        overlaps = near.overlap(every, torch.tensor([gold]))
        wanted = [i for i in overlaps.argsort(descending=True).tolist() if i != gold and overlaps[i] >= 0.6]
        assert [i for i, _ in candidates.of(gold)] == wanted


def passes(monkeypatch):
    """Count passes over the matrix."""
    seen, plain = [], Geometry.unit_blocks
    monkeypatch.setattr(Geometry, "unit_blocks", lambda self: seen.append(1) or plain(self))
    return seen


def test_few_predictions_make_no_pass_over_the_matrix(geometry, monkeypatch):
    own, seen = geometry(), passes(monkeypatch)
    x = case(2, vocabulary=TOKENS, dimension=DIMENSION, batch=8, spread=6.0)
    every = torch.arange(TOKENS)
    table, names = PairCache(own), ["born_gap", "drag", "drive"]
    for _ in range(3):
        kept = measure(x.logits.float(), own, x.gold, x.rival, only=names, pairs=table, top_p=0.5)
    whole = measure(x.logits.float(), own, x.gold, x.rival, only=names, top_p=0.5)
    for name in names:
        torch.testing.assert_close(kept[name], whole[name], rtol=1e-5, atol=1e-6)
    rivals = Rivals(own, Candidates(own, Rule(every >= 0, every, 0.3)), 0.5)
    rivals.candidates.possible(x.gold)
    rivals.find(x.logits.float(), x.gold)
    assert not seen


def test_words_that_come_again_and_again_are_looked_up_in_a_pass_for_all(geometry, monkeypatch):
    own, seen = geometry(), passes(monkeypatch)
    x = case(2, vocabulary=TOKENS, dimension=DIMENSION, batch=8, spread=2.0)
    table = PairCache(own)
    for _ in range(100):
        measure(x.logits.float(), own, x.gold, x.rival, only=["drag"], pairs=table)
    assert len(seen) == 2, "one for golds, one for rivals"
