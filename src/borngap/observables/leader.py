"""Who is ahead, gold or its rival, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def standing(observation: Mapping[str, Any]) -> str:
    """Say in one sentence who leads at this prediction, and what that means for training.

    Two orders are compared: the model's own ranking (logit gap) and the Born gap. They can differ, since the
    background's drag enters the second only; then the ranking is what a user sees.

    Args:
        observation: a record with ``gold``, ``rival`` and the observables.

    Returns:
        One sentence.
    """
    gold, rival = observation["gold"].strip(), observation["rival"].strip()
    leads, born_leads = observation["logit_gap"] > 0, observation["born_gap"] > 0
    return _SENTENCES[leads, born_leads](observation, gold, rival)


def _both(o: Mapping[str, Any], gold: str, rival: str) -> str:
    return f"{gold!r} leads {rival!r} by {o['logit_gap']:.2f} nat ({_place(o)}) and by the Born gap."


def _neither(o: Mapping[str, Any], gold: str, rival: str) -> str:
    lost = 100 * (1 - o["throttle"])
    return (
        f"{rival!r} is {_times(o)} as probable as {gold!r} and ahead by the Born gap too: training must close "
        f"{-o['logit_gap']:.2f} nat, and the overlap takes {lost:.0f} % of each gain from the Born gap."
    )


def _rank_only(o: Mapping[str, Any], gold: str, rival: str) -> str:
    return (
        f"{gold!r} leads {rival!r} by {o['logit_gap']:.2f} nat ({_place(o)}), but not by the Born gap: the other "
        f"candidates lie nearer to {rival!r} (drag {o['drag']:+.3f})."
    )


def _born_only(o: Mapping[str, Any], gold: str, rival: str) -> str:
    return (
        f"{rival!r} is {_times(o)} as probable as {gold!r}, though the Born gap is positive: the other candidates lie "
        f"nearer to {gold!r} (drag {o['drag']:+.3f}). Training must close {-o['logit_gap']:.2f} nat."
    )


_SENTENCES = {(True, True): _both, (False, False): _neither, (True, False): _rank_only, (False, True): _born_only}


def _times(o: Mapping[str, Any]) -> str:
    ratio = math.exp(-o["logit_gap"])
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _place(o: Mapping[str, Any]) -> str:
    return "the model's first choice" if o["gold_rank"] == 1 else f"rank {o['gold_rank']} of all tokens"
