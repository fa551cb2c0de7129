"""The engine ``processes``: each worker has one thread and a model of its own; one that dies costs its run only."""

from __future__ import annotations

import json
import signal
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing import forkserver, get_all_start_methods, get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from borngap.errors import UserError
from borngap.model.load import quiet
from borngap.sweep.engines import Worker
from borngap.sweep.plan import SweepPlan, SweepRun
from borngap.sweep.sweepfolder import Result

ATTEMPTS = 3


def in_processes(
    plan: SweepPlan, runs: Sequence[SweepRun], workers: int, device: str = "cpu"
) -> Iterator[list[Result]]:
    """Carry out runs in processes.

    Args:
        plan: the plan.
        runs: what to run.
        workers: how many processes.
        device: torch device.

    Yields:
        One result at a time, in the order in which they finish.

    Raises:
        UserError: a run's worker died three times, or the run is refused.
    """
    pool = _Pool(plan, runs, device)
    try:
        for _ in range(min(workers, len(runs))):
            pool.start()
        while pool.busy:
            yield from ([result] for result in pool.finished())
    finally:
        pool.end()


class _Pool:
    """Workers, what each is at, and what is left to do."""

    def __init__(self, plan: SweepPlan, runs: Sequence[SweepRun], device: str) -> None:
        self._setting = (json.dumps(plan.to_json()), device)
        self._todo = deque(run.number for run in runs)
        self._attempts: Counter[int] = Counter()
        self.busy: dict[Connection, tuple[Any, int]] = {}

    def start(self) -> None:
        """Start a worker on the next run, if there is one."""
        if not self._todo:
            return
        context = start_context()
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, *self._setting), daemon=True)
        process.start()
        there.close()
        self._hand(here, process)

    def finished(self) -> Iterator[Result]:
        """Wait until something happens; yield what has been finished."""
        for connection in wait(list(self.busy)):
            assert isinstance(connection, Connection)  # noqa: S101  # wait knows sockets and handles too
            process, run = self.busy.pop(connection)
            try:
                answer = json.loads(connection.recv_bytes())
            except (EOFError, ConnectionError):
                self._lost(process, run)
                continue
            result = result_of(answer)
            self._hand(connection, process)
            yield result

    def end(self) -> None:
        """End all workers, whatever they are at."""
        for process, _ in self.busy.values():
            process.terminate()
            process.join()

    def _hand(self, connection: Connection, process: Any) -> None:
        """Give a worker the next run, or let it go."""
        if not self._todo:
            connection.close()
            process.join()
            return
        run = self._todo.popleft()
        self.busy[connection] = (process, run)
        try:
            connection.send_bytes(str(run).encode())
        except ConnectionError:  # it died before it was asked; reading from it will say so
            return

    def _lost(self, process: Any, run: int) -> None:
        """Put the run of a dead worker back and start another worker."""
        process.join()
        self._attempts[run] += 1
        if self._attempts[run] >= ATTEMPTS:
            found = f"run {run}, exit code {process.exitcode}"
            fix = "look at its memory (-9: killed by the system), use fewer --workers, or give the command again"
            raise UserError(f"a worker died {ATTEMPTS} times at the same run", found=found, fix=fix)
        self._todo.appendleft(run)
        self.start()


def start_context() -> Any:
    """Return a multiprocessing context whose processes inherit no threads, as those of a plain fork would.

    A fork server imports the libraries once for all workers; where there is none, each does so itself.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    _start_server()
    return context


def _start_server() -> None:
    """Start the fork server with Ctrl-C blocked, for all of its processes: it is the parent's business."""
    resource_tracker.ensure_running()  # the server's start asks for it too, and it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(connection: Connection, plan: str, device: str) -> None:
    """Carry out run after run until the other side hangs up; the main function of a worker.

    Args:
        connection: numbers of runs come in, JSON goes out.
        plan: the plan, JSON.
        device: torch device.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    quiet()
    torch.set_num_threads(1)
    worker = None
    while True:
        try:
            number = int(connection.recv_bytes())
        except EOFError:
            return
        try:
            worker = worker or Worker(SweepPlan.from_json(json.loads(plan)), device)
            answer = answer_of(worker.sequential(worker.plan.runs[number]))
        except UserError as error:
            answer = {"refused": {name: getattr(error, name) for name in ("what", "rule", "found", "fix")}}
        except Exception:  # noqa: BLE001  # whatever it is, the parent shows it
            answer = {"failed": traceback.format_exc()}
        connection.send_bytes(json.dumps(answer, default=str).encode())


def answer_of(result: Result) -> dict[str, Any]:
    """Return a result as it crosses between processes."""
    return asdict(result)


def result_of(answer: dict[str, Any]) -> Result:
    """Return the result in a worker's answer.

    Args:
        answer: what the worker sent.

    Returns:
        The result.

    Raises:
        UserError: the worker refused the run.
        RuntimeError: the worker failed; its own traceback is the message.
    """
    if "refused" in answer:
        raise UserError(**answer["refused"])
    if "failed" in answer:
        raise RuntimeError(f"a worker failed:\n{answer['failed']}")
    return Result(answer["entry"], answer["records"])
