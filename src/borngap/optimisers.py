"""Optimisers by name: what each is called in a sentence, and which settings it has (docs/methods.md#optimisers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Optimiser = Literal["adamw", "adamw_8bit", "adafactor", "lion", "muon", "schedule_free_adamw", "sgd"]
OPTIMISERS: tuple[Optimiser, ...] = get_args(Optimiser)
TUNED = ("beta1", "beta2", "eps")  # settings that not every optimiser has


@dataclass(frozen=True)
class OptimiserFacts:
    """What is known of an optimiser before anything is loaded.

    Attributes:
        words: its name in a sentence.
        settings: which of ``TUNED`` it has.
        package: what must be installed for it beside torch and transformers; empty if nothing.
    """

    words: str
    settings: tuple[str, ...] = TUNED
    package: str = ""


FACTS_OF: dict[Optimiser, OptimiserFacts] = {
    "adamw": OptimiserFacts("AdamW"),
    "adamw_8bit": OptimiserFacts("AdamW with moments of 8 bit", package="bitsandbytes"),
    "adafactor": OptimiserFacts("Adafactor", ()),
    "lion": OptimiserFacts("Lion", ("beta1", "beta2"), "lion-pytorch"),
    "muon": OptimiserFacts("Muon"),
    "schedule_free_adamw": OptimiserFacts("schedule-free AdamW", package="schedulefree"),
    "sgd": OptimiserFacts("SGD with momentum", ("beta1",)),
}
