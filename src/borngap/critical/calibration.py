"""How far off each way of finding a critical rate is: measured on the bundled models, the widths of 90 % intervals."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any

from borngap.critical.record import By
from borngap.methods import WHOLE, Method

FLOOR = 5e-4


@lru_cache
def _calibration() -> dict[str, Any]:
    return json.loads((files("borngap.critical") / "calibration.json").read_text(encoding="utf-8"))


def half_width(by: By, method: Method) -> float:
    """Return the half width of a 90 % interval on log rate, measured on the bundled models.

    Args:
        by: the way, not collocation, whose courses estimate their own errors.
        method: what is trained; readout-only is taken for full, what adds weights for LoRA.

    Returns:
        The 90th percentile of |log(rate / bisected rate)|.
    """
    return float(_calibration()["half_width"][by][_measured(method)])


def collocation_half_width(error: float, method: Method) -> float:
    """Return the half width of collocation's 90 % interval on log rate.

    Args:
        error: the solution's own estimate of its error; iterations and roots add ``FLOOR`` to it.
        method: what is trained; readout-only is taken for full, what adds weights for LoRA.

    Returns:
        The estimate times the 90th percentile of ``|log(rate / true rate)|`` over it, measured on the bundled models
        under every schedule.
    """
    return float(_calibration()["collocation"][_measured(method)]) * (error + FLOOR)


def _measured(method: Method) -> str:
    """The method whose intervals were measured that comes next."""
    return "full" if method in WHOLE else "lora"


def around(rate: float | None, spread: float) -> tuple[float | None, float | None]:
    """Return both ends of an interval around a rate, of half width ``spread`` on its logarithm; None without a rate."""
    return (None, None) if rate is None else (rate * math.exp(-spread), rate * math.exp(spread))
