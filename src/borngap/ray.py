"""A Ray cluster, by default one on this machine: how the engines named ``ray`` reach it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

from borngap.errors import UserError

WARNING = "Ray listens on this machine's network interfaces; run it behind a firewall"
RETRIES = 3  # of a task whose worker was lost


@contextmanager
def connected(processors: int, address: str | None, *, instead: str, parts: tuple[str, ...] = ()) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one here, which is ended afterwards.

    What Ray itself prints in between (of a lost worker, say) goes to standard error: standard output is the command's.

    Args:
        processors: processors of a cluster that is started here.
        address: a running cluster; without, one is started here.
        instead: what works without Ray, for the message where it is not installed.
        parts: further modules of Ray that are needed, such as ``ray.data``.

    Yields:
        The module ``ray``.

    Raises:
        UserError: Ray is not installed or not reachable.
    """
    with redirect_stdout(sys.stderr):
        ray = _joined(processors, address, instead, parts)
        try:
            yield ray
        finally:
            ray.shutdown()


def _joined(processors: int, address: str | None, instead: str, parts: tuple[str, ...]) -> Any:
    """The module ``ray``, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
        for part in parts:
            import_module(part)
    except ImportError:
        raise UserError("Ray is not installed", fix=f"pip install 'borngap[ray]', or {instead}") from None
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"num_cpus": processors, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=address, **options)
    except Exception as error:  # noqa: BLE001  # Ray raises plain ones where a node does not start
        found = f"{address or 'local'}: {str(error).strip().splitlines()[0]}"
        raise UserError("no Ray cluster there", found=found, fix="ray start --head") from None
    return ray


def answers(
    carry_out: Callable[..., Any], setting: Any, tasks: Sequence[tuple[Any, ...]], processors: int, address: str | None,
    *, instead: str,
) -> Iterator[Any]:  # fmt: skip
    """Carry out tasks of one processor each on a cluster; those of a lost worker are carried out again.

    Args:
        carry_out: what is done, by its setting and the arguments of a task.
        setting: what all tasks have in common, sent to each worker once.
        tasks: arguments of each.
        processors: processors of a cluster that is started here.
        address: a running cluster; without, one is started here and ended afterwards.
        instead: what works without Ray.

    Yields:
        What each returns, in the order in which they finish.

    Raises:
        UserError: Ray is not installed or not reachable, a worker met bad input, or it was lost four times.
    """
    with connected(processors, address, instead=instead) as ray:
        try:
            task, common = ray.remote(num_cpus=1, max_retries=RETRIES)(carry_out), ray.put(setting)
            pending = [task.remote(common, *arguments) for arguments in tasks]
            while pending:
                done, pending = ray.wait(pending)
                yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            found = str(error).strip().splitlines()[0]
            raise UserError("Ray lost a task for good", found=found, fix="give the command again; it goes on") from None
