"""Threads: as many as pay while single contexts are worked on, the user's own choice, and how they wait."""

import os
import subprocess
import sys

import pytest
import torch

from borngap import Training, critical_rates, load, read_contexts
from borngap.train.threads import as_many_as_pay


@pytest.fixture
def two(monkeypatch):
    """Two threads that nobody asked for."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Work:
    """Work of known length, by the number of threads."""

    def __init__(self, **seconds):
        self.seconds, self.now, self.times = seconds, 0.0, 0

    def __call__(self):
        self.times += 1
        self.now += self.seconds["one" if torch.get_num_threads() == 1 else "two"]


@pytest.mark.parametrize(("one", "wide", "threads"), [
    (1.0, 0.5, 2), (1.0, 0.85, 1), (1.0, 40.0, 1),  # nothing beside; small products; beside a busy process
])  # fmt: skip
def test_threads_that_do_not_pay_are_left_idle(two, one, wide, threads):
    work = Work(one=one, two=wide)
    with as_many_as_pay(work, lambda: work.now):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_the_users_own_number_stands(two, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    work = Work(one=1.0, two=40.0)
    with as_many_as_pay(work, lambda: work.now):
        assert (torch.get_num_threads(), work.times) == (2, 0)


def test_the_number_is_put_back_after_an_error(two):
    work = Work(one=1.0, two=40.0)
    with pytest.raises(KeyError), as_many_as_pay(work, lambda: work.now):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_a_search_books_none_of_it(two):
    loaded, contexts = load("docs-gpt2-s"), read_contexts("docs10")[:1]
    books = []
    for _ in range(2):
        found = critical_rates(load(loaded.name), contexts, Training(method="lora", steps=10))
        books.append((found[0].critical.forward_passes, found[0].critical.rate))
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    del os.environ["OMP_NUM_THREADS"]
    assert books[0][0] == books[1][0]
    assert books[0][1] == pytest.approx(books[1][1], rel=1e-3)


@pytest.mark.parametrize(("given", "told"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active"),
                                             ({"GOMP_SPINCOUNT": "10"}, "None")])  # fmt: skip
def test_a_command_lets_threads_sleep_before_torch_is_there(given, told):
    code = (
        "import os, sys\n"
        "from borngap import cli\n"
        "cli.app = lambda **_: print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)\n"
        "cli.main()"
    )
    unset = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    env = {key: value for key, value in os.environ.items() if key not in unset} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == [told, "False"]
