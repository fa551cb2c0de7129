"""Settings of one look at a model's use of terms: everything that decides what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from borngap.scanning.reading import Reading

DATA, HELD_OUT = "data", "held-out"  # texts in which places are looked for
Which = Literal["behind", "due", "over-used"]  # places that become contexts


@dataclass(frozen=True, kw_only=True)
class Asking(Reading):
    """How a model is asked for the words of terms.

    Attributes:
        allowed_field: name of the row field that says where words to avoid are right: true, or the words.
        leak: whether the model writes on from the beginning of each row, to see whether it writes words to avoid.

    Raises:
        UserError: a setting is out of range.
    """

    allowed_field: str | None = None
    leak: bool = True
