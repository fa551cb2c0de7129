"""A Ray cluster, by default one on this machine: how the engines named ``ray`` reach it."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Any

from borngap.errors import UserError

WARNING = "Ray listens on this machine's network interfaces; run it behind a firewall"


def connected(processors: int, address: str | None, *, instead: str, parts: tuple[str, ...] = ()) -> Any:
    """Connect to a Ray cluster, or start one here; ``ray.shutdown()`` ends what was started.

    Args:
        processors: processors of a cluster that is started here.
        address: a running cluster; without, one is started here.
        instead: what works without Ray, for the message where it is not installed.
        parts: further modules of Ray that are needed, such as ``ray.data``.

    Returns:
        The module ``ray``.

    Raises:
        UserError: Ray is not installed or not reachable.
    """
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
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = f"{address or 'local'}: {str(error).strip().splitlines()[0]}"
        raise UserError("no Ray cluster there", found=found, fix="ray start --head") from None
    return ray
