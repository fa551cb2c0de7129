"""The form of a loss on rivals: which formula, with which weight and margin; checked, and written in a word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from borngap.errors import UserError

LossKind = Literal["margin", "logistic", "unlikelihood", "weight"]
LOSS_KINDS: tuple[LossKind, ...] = get_args(LossKind)
NO_RIVAL_LOSS = "none"
_WRITTEN = "margin:WEIGHT,MARGIN, logistic:WEIGHT, unlikelihood:WEIGHT or weight:WEIGHT, such as margin:3,2; or none"


@dataclass(frozen=True)
class LossForm:
    """What is added to the cross-entropy of a target that has a rival (docs/remedies.md#the-losses).

    Attributes:
        kind: which formula.
        weight: factor on it, finite, at least 0; 0 adds nothing.
        margin: of ``margin`` the logit gap beyond which nothing is added, unit nat, finite, at least 0.

    Raises:
        UserError: the kind is unknown, or a number is not finite or negative.
    """

    kind: LossKind = "margin"
    weight: float = 3.0
    margin: float = 2.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: the kind is unknown, or a number is not finite or negative.
        """
        if self.kind not in LOSS_KINDS:
            raise UserError("unknown loss on rivals", rule=f"one of {', '.join(LOSS_KINDS)}", found=self.kind)
        for name in ("weight", "margin"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UserError(f"the {name} is out of range", rule="a finite number, at least 0", found=value)

    def __str__(self) -> str:
        """Write it as ``read_form`` reads it."""
        return f"{self.kind}:{self.weight:g}" + (f",{self.margin:g}" if self.kind == "margin" else "")


def read_form(text: str) -> LossForm | None:
    """Read a loss on rivals as the command line has it.

    Args:
        text: such as ``margin:3,2``, ``logistic:3``, ``unlikelihood:30`` or ``weight:10``; or ``none``.

    Returns:
        The form; None of ``none``.

    Raises:
        UserError: it is none of these, or a number is not finite or negative.
    """
    if text == NO_RIVAL_LOSS:
        return None
    kind, _, rest = text.partition(":")
    parts = rest.split(",")
    known = [name for name in LOSS_KINDS if name == kind]
    if not known or len(parts) != 1 + (kind == "margin"):
        raise UserError("can't read the loss on rivals", rule=_WRITTEN, found=text)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise UserError("can't read the loss on rivals", rule=_WRITTEN, found=text) from None
    return LossForm(known[0], *numbers)
