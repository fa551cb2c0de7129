"""One vector added to every row of a readout is no property of the model: nothing it does changes, but its geometry."""

from __future__ import annotations

import pytest
import torch

import borngap
from borngap.model.readout import geometry_of
from borngap.train.finetune import FineTune
from borngap.training import Training


def trained(centered):
    """Class of the readout, and the logit and Born gap at each of 12 LoRA steps."""
    loaded = borngap.load("docs-neox-s")
    if centered:
        weight = loaded.model.get_output_embeddings().weight
        with torch.no_grad():
            weight.sub_(weight.mean(0))
    bulk = geometry_of(loaded.model, "readout", loaded.tokenizer).bulk(100_000)
    tuner = FineTune(loaded, borngap.read_contexts("docs10")[:1], Training(method="lora", steps=12, rate=2e-3))
    records = [step.records[0] for step in tuner.alone(0)]
    return bulk.embedding_class, *([record[name] for record in records] for name in ("logit_gap", "born_gap"))


def test_the_same_model_has_two_classes_and_two_born_gaps():
    (kind, gaps, born), (other_kind, other_gaps, other_born) = trained(False), trained(True)
    assert gaps[-1] - gaps[0] > 1
    assert other_gaps == pytest.approx(gaps, abs=1e-4)
    assert (kind, other_kind) == ("A", "intermediate")
    assert max(abs(a - b) for a, b in zip(born, other_born, strict=True)) > 0.01
