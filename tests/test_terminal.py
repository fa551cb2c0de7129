"""What a terminal, a log file and a shell get to see: progress, Ctrl-C, completion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from borngap.cli import main
from borngap.cli.commands.reproduce import _seen
from borngap.cli.interrupt import what_is_kept
from borngap.cli.progress import EVERY, Lines, Progress, paced, spoken
from borngap.context import BUNDLED
from borngap.sweep.workers import start_context
from borngap.zoo import local_names

BORNGAP = [sys.executable, "-c", "from borngap.cli import main; main()"]


class Clock:
    """A clock that only waiting moves, and a command that takes so many seconds."""

    def __init__(self, lasts, at=None):
        self.now, self.lasts, self.at = 0.0, lasts, at or {}

    def __call__(self):
        return self.now

    def wait(self, seconds):
        for moment in sorted(m for m in self.at if self.now < m <= self.now + seconds):
            self.now, act = moment, self.at[moment]
            act()
            del self.at[moment]
        self.now = (self.now // EVERY + 1) * EVERY
        return self.now > self.lasts


def written(lasts, at=None, before=lambda lines: None):
    told, clock = [], Clock(lasts)
    lines = Lines(told.append, clock, clock.wait)
    clock.at = {moment: (lambda act=act: act(lines)) for moment, act in (at or {}).items()}
    before(lines)
    lines.run()
    return told


def test_a_log_gets_a_line_every_30_seconds():
    def begins(lines):
        lines.show("contexts", None, 10, "")

    told = written(125, {40.0: lambda lines: lines.show("contexts", 0, None, ""),
                         100.0: lambda lines: lines.show("contexts", 4, None, "loss 2")}, begins)  # fmt: skip
    assert told == [
        "contexts, 30 s so far",
        "contexts: 0 of 10, 60 s so far",
        "contexts: 0 of 10, 90 s so far",
        # 4 in 80 s, so 6 more in 120 s; the 40 s before the first were spent on loading
        "contexts: 4 of 10, loss 2, 2 min so far, about 2 min left",
    ]


def test_what_a_resumed_command_found_tells_nothing_of_its_speed():
    told = written(65, {1.0: lambda lines: lines.show("runs", 90, 100, ""),
                        59.0: lambda lines: lines.show("runs", 95, 100, "")})  # fmt: skip
    assert told[1] == "runs: 95 of 100, 60 s so far, about 59 s left"


@pytest.mark.parametrize(("runs", "told"), [
    (0, ["m, base model", "m, critical rates: full (3 of 12)"]),
    (20, ["m, base model; runs: 0 of 20", "m, critical rates: full (3 of 12); runs: 0 of 20"]),
])  # fmt: skip
def test_a_reproduction_without_runs_says_what_is_searched(runs, told):
    lines = Lines(clock=lambda: 0.0)
    bar = SimpleNamespace(show=lambda done=None, total=None, what="": lines.show(what, done, total, ""))
    see, seen = _seen(bar, runs), []
    for what, count, of in (("base model", 0, 1), ("critical rates: full", 3, 12)):
        see("m", what, count, of)
        seen.append(lines.line().removesuffix(", 0 s so far"))
    assert seen == told


def test_a_short_command_writes_nothing():
    assert written(29) == []


@pytest.mark.parametrize(("first", "told"), [
    (12.0, "11 contexts: about 2 min left, by the time of the first\n"), (0.1, ""),
])  # fmt: skip
def test_the_first_of_many_says_how_long_all_take(capsys, first, told):
    times = iter([100.0, 100.0 + first, 200.0])
    done = []
    show = paced(SimpleNamespace(show=done.append), 11, "contexts", lambda: next(times))
    show(1)
    show(2)
    assert capsys.readouterr().err == told
    assert done == [1, 2]


def test_times_are_spoken():
    assert [spoken(s) for s in (0, 99, 110, 5399, 5400)] == ["0 s", "99 s", "2 min", "90 min", "1.5 h"]


def test_the_line_comes_though_nothing_moves(monkeypatch, capsys):
    monkeypatch.setattr("borngap.cli.progress.EVERY", 0.01)
    with Progress("contexts", 3) as progress:
        progress.show(1)
        deadline = time.monotonic() + 10
        while "contexts: 1 of 3" not in (told := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told.splitlines()[0].startswith("contexts: 1 of 3, 0 s so far")


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("probe", {}, "nothing was kept"),
        ("report", {"out": "report.html"}, "nothing was kept"),
        ("scan", {"out": None}, "nothing was kept; with --out FOLDER the same command goes on where it was"),
        ("scan", {"out": "there"}, "what is finished is in there; the same command goes on from there"),
        ("terms", {"out": "there"}, "what is finished is in there; the same command goes on from there"),
        ("finetune", {"out": "there"}, "what is finished is in there; the same command goes on from there"),
        ("sweep", {"out": "there", "plan": True}, "nothing was kept yet; give the same command again"),
        ("sweep", {"out": "new"}, "nothing was kept yet; give the same command again"),
        ("fetch", {"name": "smollm2-135m"}, "what is finished is in there; the same command goes on from there"),
        ("train", {"work": "there"}, "what is finished is in there; the same command goes on from there"),
    ],
)
def test_an_interrupted_command_says_what_is_kept(tmp_path, monkeypatch, command, options, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BORNGAP_CACHE", "there")
    (tmp_path / "there").mkdir()
    assert what_is_kept(command, options) == told


def started(arguments, folder):
    return subprocess.Popen(
        [*BORNGAP, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
    )  # fmt: skip


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path):
    finetune = ["finetune", "-m", "docs-gpt2-s", "--steps", "15", "--out", "RUN"]
    process = started(finetune, tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "RUN" / "verdicts.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: what is finished is in RUN; the same command goes on from there\n"


def complete(monkeypatch, capsys, *words):
    monkeypatch.setenv("_BORNGAP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "borngap " + " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setattr(sys, "argv", ["borngap"])
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["probe", "-m", ""], local_names()),
        (["scan", "--model", "docs-gpt2-s"], ["docs-gpt2-s", "docs-gpt2-s-untied"]),
        (["forecast", "--contexts", ""], list(BUNDLED)),
        (["reproduce", "-c", "paper"], ["paper10", "paper120"]),
        (["zoo", "verify", "docs-neox"], ["docs-neox-m", "docs-neox-s"]),
        (["probe", "-m", "./my"], []),  # then the shell completes files
        (["critical", "--criterion", ""], ["rank", "top1", "born"]),
        (["fine"], ["finetune"]),
    ],
)
def test_the_shell_completes(monkeypatch, capsys, words, offered):
    assert complete(monkeypatch, capsys, *words) == offered


def test_completion_can_be_installed_and_loads_nothing_heavy():
    environment = os.environ | {
        "_BORNGAP_COMPLETE": "complete_bash", "COMP_WORDS": "borngap probe -m ", "COMP_CWORD": "3",
    }  # fmt: skip
    script = (
        "import sys, borngap.cli as c; sys.argv = ['borngap']\ntry: c.main()\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'polars', 'scipy'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == [*local_names(), "HEAVY", "[]"]
    shown = subprocess.run([*BORNGAP, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown


def test_the_fork_server_never_sees_ctrl_c(monkeypatch):
    def blocked():
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    started = []
    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", lambda: started.append(blocked()))
    start_context()
    assert started == [True]
    assert not blocked()
