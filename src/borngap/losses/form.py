"""What is added to a loss, in a word: a loss on rivals, or a penalty on the geometry; checked, with its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from borngap.errors import UserError

LossKind = Literal["margin", "logistic", "unlikelihood", "weight"]
LOSS_KINDS: tuple[LossKind, ...] = get_args(LossKind)
PenaltyKind = Literal["overlap", "decorrelation"]
PENALTY_KINDS: tuple[PenaltyKind, ...] = get_args(PenaltyKind)
NO_TERM = "none"
_LOSSES = "margin:WEIGHT,MARGIN, logistic:WEIGHT, unlikelihood:WEIGHT or weight:WEIGHT, such as margin:3,2; or none"
_PENALTIES = "overlap:WEIGHT or decorrelation:WEIGHT, such as overlap:1; or none"
_NUMBERS, _FINITE = ("weight", "margin"), "a finite number, at least 0"


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
        _check_kind("loss on rivals", self.kind, LOSS_KINDS)
        _check_number("weight", self.weight)
        _check_number("margin", self.margin)

    def __str__(self) -> str:
        """Write it as ``read_form`` reads it."""
        return f"{self.kind}:{self.weight:g}" + (f",{self.margin:g}" if self.kind == "margin" else "")


@dataclass(frozen=True)
class Penalty:
    """What is added to the loss of every update, of the output matrix itself (docs/remedies.md).

    Attributes:
        kind: ``overlap``, of given pairs of rows; or ``decorrelation``, of all rows.
        weight: factor on it, finite, at least 0; 0 adds nothing.

    Raises:
        UserError: the kind is unknown, or the weight is not finite or negative.
    """

    kind: PenaltyKind
    weight: float

    def __post_init__(self) -> None:
        """Check kind and weight.

        Raises:
            UserError: the kind is unknown, or the weight is not finite or negative.
        """
        _check_kind("penalty", self.kind, PENALTY_KINDS)
        _check_number("weight", self.weight)

    def __str__(self) -> str:
        """Write it as ``read_penalty`` reads it."""
        return f"{self.kind}:{self.weight:g}"


def read_form(text: str) -> LossForm | None:
    """Read a loss on rivals as the command line has it.

    Args:
        text: such as ``margin:3,2``, ``logistic:3``, ``unlikelihood:30`` or ``weight:10``; or ``none``.

    Returns:
        The form; None of ``none``.

    Raises:
        UserError: it is none of these, or a number is not finite or negative.
    """
    if text == NO_TERM:
        return None
    kind, numbers = _read("loss on rivals", text, {kind: 1 + (kind == "margin") for kind in LOSS_KINDS}, _LOSSES)
    return LossForm(kind, *numbers)


def read_penalty(text: str) -> Penalty | None:
    """Read a penalty as the command line has it.

    Args:
        text: such as ``overlap:1`` or ``decorrelation:10``; or ``none``.

    Returns:
        The penalty; None of ``none``.

    Raises:
        UserError: it is none of these, or the weight is not finite or negative.
    """
    if text == NO_TERM:
        return None
    kind, numbers = _read("penalty", text, dict.fromkeys(PENALTY_KINDS, 1), _PENALTIES)
    return Penalty(kind, *numbers)


def loss_words(*terms: LossForm | Penalty | None) -> str:
    """Return a loss in words where something is added to the cross-entropy, as in ``cross-entropy + overlap:1``.

    Args:
        terms: what is added.

    Returns:
        The words; none of the cross-entropy alone.
    """
    added = [str(term) for term in terms if term is not None and term.weight]
    return " + ".join(("cross-entropy", *added)) if added else ""


def _read(what: str, text: str, counts: Mapping[str, int], rule: str) -> tuple[Any, list[float]]:
    """Kind and numbers, as many as the kind has."""
    kind, _, rest = text.partition(":")
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if counts.get(kind) != len(numbers):
        raise UserError(f"can't read the {what}", rule=rule, found=text)
    for name, number in zip(_NUMBERS, numbers, strict=False):
        _check_number(name, number, f"{rule}; the {name} is {_FINITE}", text)
    return kind, numbers


def _check_kind(what: str, kind: str, kinds: Sequence[str]) -> None:
    if kind not in kinds:
        raise UserError(f"unknown {what}", rule=f"one of {', '.join(kinds)}", found=kind)


def _check_number(name: str, value: Any, rule: str = _FINITE, text: str | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(f"the {name} is out of range", rule=rule, found=repr(value) if text is None else text)
