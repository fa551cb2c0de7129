"""What a worker process of a reproduction does; importing this loads nothing heavy, so that Ctrl-C finds it ready."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from borngap.experiments.folder import Plan


def end_quietly() -> None:
    """End a worker on Ctrl-C without a traceback of its own: files are written whole or not at all."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def one_model(folder: Path, model: str, plan: Plan, news: Any, device: str) -> None:
    """Do and store everything of one model, and tell the parent process of it; end if there is none any more.

    Args:
        folder: the reproduction.
        model: bundled name, local folder, or hub id.
        plan: the plan.
        news: a queue for reports of progress.
        device: torch device.
    """
    from borngap.experiments.campaign import reproduce_model

    parent = multiprocessing.parent_process()

    def report(*told: Any) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)
        news.put(told)

    reproduce_model(folder, model, plan, report, device)
