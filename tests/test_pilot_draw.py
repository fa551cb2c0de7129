"""Which rows a pilot takes."""

import math

import numpy as np

from borngap.data.tokenised import plain
from borngap.pilot.draw import counts_of, pilot_steps
from borngap.pilot.plan import run_plan
from borngap.pilot.settings import Piloting
from borngap.training import Training


def toy_plan(words, steps, size):
    rows = [plain([9, w, 9], [9, w, 9]) for w in words]
    return run_plan(rows, Training(rate=1e-3, steps=steps, batch_size=size, seed=1), Piloting())


def test_drawn_rows_have_the_words_as_often_as_the_run():
    plan = toy_plan([1] * 120 + [2] * 60 + [3] * 20, 50, 4)
    counts = counts_of(plan, [1, 2, 3])
    assert counts.sum(0).tolist() == [120, 60, 20]
    pilot = pilot_steps(plan, 10, 0.5, counts, 0)
    assert [len(step) for step in pilot.rows] == [2] * 10
    drawn = counts[[i for step in pilot.rows for i in step]].sum(0)
    assert np.abs(drawn - [12, 6, 2]).max() <= 1
    edges = np.concatenate([[0], np.cumsum(pilot.spans)]).round(9)
    for start, end, rows in zip(edges[:-1], edges[1:], pilot.rows, strict=True):
        pool = [i for own in plan.steps[int(start) : math.ceil(end)] for i in own]
        assert set(rows) <= set(pool)
        assert len(set(rows)) == 2
    plainly = [pilot_steps(plan, 10, 0.5, counts[:, :0], seed) for seed in range(20)]
    off = [np.abs(counts[[i for s in p.rows for i in s]].sum(0) - [12, 6, 2]).max() for p in plainly]
    assert np.mean(off) > 1.5, "without counts rows are drawn as they come"


def test_rows_counted_in_parts_are_counted_as_a_whole(monkeypatch):
    plan = toy_plan([1] * 120 + [2] * 60 + [3] * 20, 50, 4)
    counts = counts_of(plan, [1, 2, 3])
    whole = [pilot_steps(plan, 10, 0.5, counts, seed) for seed in range(3)]
    monkeypatch.setattr("borngap.pilot.draw._PART", 7)
    assert [pilot_steps(plan, 10, 0.5, counts, seed) for seed in range(3)] == whole


def test_steps_of_a_pilot_are_as_uneven_as_those_of_the_run():
    plan = toy_plan([1] * 100 + [2] * 100, 50, 4)
    counts = counts_of(plan, [1, 2])
    drawn = np.array([[counts[list(rows)].sum(0) for rows in pilot_steps(plan, 10, 0.5, counts, seed).rows]
                      for seed in range(10)])  # fmt: skip
    assert (drawn.sum(1) == 10).all(), "together as balanced as can be"
    assert 0.3 < drawn[:, :, 0].var() < 0.8, (
        "two of two words: 0.5 where rows come as they come, 0 where each step is even"
    )


def test_rows_with_a_word_are_balanced_besides_its_counts():
    rows = [[1, 1, 1, 1]] * 25 + [[1, 9, 9, 9]] * 100 + [[9, 9, 9, 9]] * 75
    tokens = [plain([8, *row], [8, *row]) for row in rows]
    plan = run_plan(tokens, Training(rate=1e-3, steps=50, batch_size=4, seed=1), Piloting())
    counts = counts_of(plan, [1])
    for seed in range(5):
        own = counts[[i for step in pilot_steps(plan, 10, 0.5, counts, seed).rows for i in step], 0]
        assert abs(own.sum() - 20) <= 1, "200 in 200 rows"
        assert abs((own > 0).sum() - 12.5) <= 1, "125 of 200 rows"


def test_other_pilots_take_other_rows():
    plan = toy_plan([1, 2] * 40, 20, 4)
    counts = counts_of(plan, [1, 2])
    first = pilot_steps(plan, 4, 0.5, counts, 0)
    second = pilot_steps(plan, 4, 0.5, counts, 1, [first])
    assert all(not set(a) & set(b) for a, b in zip(first.rows, second.rows, strict=True))
    assert first == pilot_steps(plan, 4, 0.5, counts, 0)


def test_rows_that_others_have_taken_fill_up_and_no_row_is_twice_in_a_step():
    plan = toy_plan([1] * 8, 1, 8)
    counts = counts_of(plan, [1])
    first = pilot_steps(plan, 1, 0.5, counts, 0)
    for seed in range(5):
        second = pilot_steps(plan, 1, 0.75, counts, seed, [first])
        assert set(range(8)) - set(first.rows[0]) < set(second.rows[0]), "all four that are free, and two others"
    epochs = toy_plan([1, 2, 1, 2, 1, 2], 20, 4)
    for seed in range(5):
        steps = pilot_steps(epochs, 5, 1.0, counts_of(epochs, [1, 2]), seed).rows
        assert all(len(set(step)) == len(step) > 2 for step in steps)


def test_a_word_that_nothing_supervises_does_not_count():
    rows = [plain([9, 1, 1], [9, -100, 1]), plain([1, 2], [1, 2])]
    plan = run_plan(rows, Training(rate=1e-3, steps=2, batch_size=1), Piloting())
    assert counts_of(plan, [1, 2]).tolist() == [[1, 0], [0, 1]]
