"""A tracker that begins, or goes on, in the middle of a run; what a host sees of its randomness; a broken context."""

import math
import random
import time

import numpy as np
import pytest
from tests.hosts import CONTEXTS, prose

import borngap
from borngap.critical.brackets import Bracket, found
from borngap.critical.record import prospect
from borngap.critical.search import Searcher
from borngap.track.metrics import averages
from borngap.track.sample import sample_targets
from borngap.track.tracker import Tracker
from borngap.training import Training


def test_a_tracker_that_begins_late_goes_on_probing():
    loaded = borngap.load("docs-gpt2-s")
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], max_overhead=1.0)
    for step in range(1001, 1040):
        time.sleep(5e-3)
        tracker.step(step)
    assert tracker.cost.spacing < 1001
    assert tracker.cost.probes > 0


def test_a_resumed_tracker_may_be_told_its_own_step_again():
    loaded = borngap.load("docs-gpt2-s")
    tracker = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1])
    tracker.step(10, force=True)
    again = Tracker(loaded.model, loaded.tokenizer, CONTEXTS[:1], state=tracker.state())
    assert again.step(10, force=True)["born_gap/logit_gap"] == tracker.metrics()["born_gap/logit_gap"]
    again.step(11)


def test_a_context_that_broke_is_the_worst_wherever_it_stands():
    fine, broken = ({"logit_gap": x, "born_gap": x} for x in (1.0, math.nan))
    for records in ([fine, broken], [broken, fine]):
        assert math.isnan(averages(records, "rank")["worst_logit_gap"])


def test_choosing_targets_leaves_the_hosts_randomness():
    class Drawing(list):
        def __getitem__(self, index):
            random.random(), np.random.rand()
            return super().__getitem__(index)

    tokenizer = borngap.load("docs-gpt2-s").tokenizer
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    sample_targets(Drawing(prose(tokenizer)), tokenizer, 2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_rate_that_broke_the_run_is_no_promise():
    critical = found(Bracket(low=1e-3, broken=2e-3, checked=(1e-3,)), "bisect", 1e-2)
    assert (critical.status, critical.high) == ("diverged", None)
    assert [prospect(critical, rate) for rate in (1e-3, 1.5e-3, 3e-3)] == ["will fail", "unknown", "unknown"]


@pytest.mark.parametrize("by", ["ray", "path"])
def test_sign_paths_keep_to_the_largest_rate(by):
    training = Training(method="lora", steps=10)
    context = borngap.read_contexts("docs10")[:1]
    (free,) = Searcher(borngap.load("docs-gpt2-s"), context, training).search(by)
    rate = free.critical.rate
    (above,) = Searcher(borngap.load("docs-gpt2-s"), context, training, limit=1.05 * rate).search(by)
    assert above.critical.rate == pytest.approx(rate, rel=0.02)
    (below,) = Searcher(borngap.load("docs-gpt2-s"), context, training, limit=0.9 * rate).search(by)
    assert (below.critical.rate, below.critical.status) == (None, "abstained")
