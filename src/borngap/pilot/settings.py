"""Settings of a whole run that is to be forecast, and of what its forecast may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from borngap.scanning.reading import InRange, Reading

RowOrder = Literal["shuffled", "sequential"]
FEWEST_STEPS = 4  # of a pilot
_HALF = 0.5


def leads_at_half(share: float | None) -> bool:
    """Return whether a word leads at half of its places or more; not where the share is not known."""
    return share is not None and share >= _HALF


@dataclass(frozen=True, kw_only=True)
class Piloting(Reading):
    """How a run on a data set goes through its rows, and what its forecast may cost.

    Attributes:
        epochs: passes over the rows; takes the place of the steps.
        accumulation: batches whose gradients make one step.
        warmup_ratio: share of the steps that warm up; takes the place of the steps of warm-up.
        packing: pack rows into sequences of ``max_length`` tokens, as SFTTrainer does.
        order: rows ``shuffled`` anew each epoch, as Trainer's loader does by its seed, or ``sequential``.
        drop_last: leave the last batch of an epoch out where it is smaller.
        end_of_text: put an end-of-text token after each row of plain text, as SFTTrainer does.
        allowed_field: name of the row field that says where words to avoid are right: true, or the words.
        budget: what the forecast may cost, as a share of the run: pilots and the looks at the watched places.
        places: how many places are watched at most.
        pilots: pilots of other rows, whose mean is taken; they share the budget.

    Raises:
        UserError: a setting is out of range.
    """

    epochs: float | None = None
    accumulation: int = 1
    warmup_ratio: float = 0.0
    packing: bool = False
    order: RowOrder = "shuffled"
    drop_last: bool = False
    end_of_text: bool = False
    allowed_field: str | None = None
    budget: float = 0.1
    places: int = 300
    pilots: int = 1

    def rules(self) -> Mapping[str, InRange]:
        """Return the range of each setting that has one."""
        own: dict[str, InRange] = {
            "epochs": (self.epochs is None or 0 < self.epochs < 1e6, "a positive number"),
            "accumulation": (self.accumulation >= 1, "at least 1 batch"),
            "warmup_ratio": (0 <= self.warmup_ratio < 1, "in [0, 1)"),
            "packing": (not self.packing or self.max_length is not None, "needs max_length"),
            "order": (self.order in get_args(RowOrder), f"one of {', '.join(get_args(RowOrder))}"),
            "budget": (0 < self.budget <= 1, "in (0, 1]"),
            "places": (self.places >= 1, "at least 1 place"),
            "pilots": (self.pilots >= 1, "at least 1 pilot"),
        }
        return own | dict(super().rules())
