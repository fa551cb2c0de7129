"""Contexts and searchers for critical rates of bundled models."""

import borngap
from borngap.context import Context
from borngap.critical.search import Searcher
from borngap.training import Training

BEHIND = [
    Context("Use this helper to", " build", " create"),
    Context("If the key is missing from the", " dictionary", " list"),
]
AHEAD = Context("The function raises an", " error", " exception")
STEPS = 12
ALONE = "each context trained alone, 12 steps on its one prompt; a run on a data set moves it far less"


def contexts(count=3):
    """Contexts of docs10 in which the rival leads on docs-gpt2-s."""
    return [borngap.read_contexts("docs10")[i] for i in (0, 4, 1)][:count]


def searcher(name="docs-gpt2-s", count=2, **settings):
    return Searcher(borngap.load(name), contexts(count), Training(**{"method": "lora", "steps": STEPS} | settings))


def ahead_within(tuner, index, rate, name="logit_gap"):
    return any(step.records[index][name] > 0 for step in tuner.alone(index, rate=rate))
