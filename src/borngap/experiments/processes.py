"""What a worker process of a reproduction does; importing this loads nothing heavy, so that Ctrl-C finds it ready."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from borngap.experiments.folder import Plan


def end_quietly() -> None:
    """End a worker on Ctrl-C, and when its parent is gone, without a traceback: files are written whole or not at all.

    The parent holds the folder's lock; a worker that outlived it would be a second writer.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    end_with_parent()


def end_with_parent() -> None:
    """End a process as soon as the one that started it is gone, however that ended."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def one_model(folder: Path, model: str, plan: Plan, news: Any, device: str) -> None:
    """Do and store everything of one model, and tell the parent process of it.

    Args:
        folder: the reproduction.
        model: bundled name, local folder, or hub id.
        plan: the plan.
        news: a queue for reports of progress.
        device: torch device.
    """
    from borngap.experiments.campaign import reproduce_model

    reproduce_model(folder, model, plan, lambda *told: news.put(told), device)
