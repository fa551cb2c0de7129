"""Remedies by name: what is changed in a run so that its words win; read from the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from borngap.errors import UserError
from borngap.losses.form import LOSS_KINDS, PENALTY_KINDS, LossForm, Penalty, read_form, read_penalty

NONE, BIAS, HEAD = "none", "bias", "head"
DEFAULT_REMEDIES = "margin:1,2,margin:3,2,weight:3,upsample:4,bias"
_RULE = (
    "margin:WEIGHT,MARGIN, logistic:WEIGHT, unlikelihood:WEIGHT, weight:WEIGHT, overlap:WEIGHT, decorrelation:WEIGHT, "
    "rate:TIMES, epochs:TIMES, upsample:TIMES, head, bias or none; several of one run joined by +, such as "
    "head+margin:3,2"
)
_TERMS = ("loss", "penalty")
_FACTORS = ("rate", "epochs", "upsample")
_ORDER = (HEAD, *_TERMS, *_FACTORS)  # of what is joined in a name


@dataclass(frozen=True)
class Remedy:
    """What is changed in a run.

    Attributes:
        name: as it is written, such as ``head+margin:3,2``.
        loss: what is added to the cross-entropy; None for nothing.
        penalty: what is added to the loss of each update, of the output matrix itself; None for nothing.
        rate: factor on the learning rate.
        epochs: factor on the number of epochs, or of steps.
        upsample: how often a row with a wanted word stands in the data.
        head: whether the output matrix is a target of the adapters too.
    """

    name: str
    loss: LossForm | None = None
    penalty: Penalty | None = None
    rate: float = 1.0
    epochs: float = 1.0
    upsample: int = 1
    head: bool = False

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return self.name.replace(":", "-").replace(",", "-")

    @property
    def is_as_noisy(self) -> bool:
        """Whether its pilot is as noisy as that of the planned run, so that their losses can be compared.

        Another rate and a head that is trained too change how far a pilot's long steps go; other epochs change how many
        there are and how long.
        """
        return self.rate == 1 and self.epochs == 1 and not self.head

    @property
    def words(self) -> str:
        """What is changed, in words."""
        if self.name in {NONE, BIAS}:
            return {NONE: "the run as planned", BIAS: "the run as planned, and a constant logit bias"}[self.name]
        told = [] if self.loss is None else [_loss_words(self.loss)]
        told += [] if self.penalty is None else [_PENALTIES[self.penalty.kind].format(self.penalty.weight)]
        told += [f"{self.rate:g} times the rate"] * (self.rate != 1)
        told += [f"{self.epochs:g} times the epochs"] * (self.epochs != 1)
        told += [f"rows with a wanted word {self.upsample} times"] * (self.upsample != 1)
        told += ["the head as a target"] * self.head
        return ", ".join(told)


def read_remedies(text: str | Sequence[str]) -> tuple[Remedy, ...]:
    """Read remedies.

    Args:
        text: such as ``margin:3,2,rate:2,head+margin:3,2,bias``, or each by itself.

    Returns:
        ``none`` first, whether it was named or not, then the others in their order.

    Raises:
        UserError: one can't be read, is out of range, or is there twice.

    Example:
        >>> [remedy.name for remedy in read_remedies("margin:3,2,head+weight:10")]
        ['none', 'margin:3,2', 'head+weight:10']
    """
    names = _names(text) if isinstance(text, str) else [str(name).strip() for name in text]
    found = [_remedy(name) for name in names if name != NONE]
    twice = sorted({remedy.name for remedy in found if [other.name for other in found].count(remedy.name) > 1})
    if twice or not found:
        rule = "each remedy once" if twice else "one at least"
        raise UserError("these remedies can't be tried", rule=rule, found=", ".join(twice) or text or "none")
    return Remedy(NONE), *found


def _names(text: str) -> list[str]:
    """Split at commas; what begins with a number goes on with what stands before it, as a margin does."""
    names: list[str] = []
    for part in text.split(","):
        if names and _is_number(part.partition("+")[0]):
            names[-1] += f",{part.strip()}"
        else:
            names.append(part.strip())
    return names


def _remedy(name: str) -> Remedy:
    if name == BIAS:
        return Remedy(BIAS)
    changes: dict[str, Any] = {}
    for part in name.split("+"):
        key, value = _change(part.strip(), name)
        if key in changes:
            raise UserError("a remedy changes one thing twice", rule="each once", found=name)
        changes[key] = value
    return Remedy("+".join(_written(key, changes[key]) for key in _ORDER if key in changes), **changes)


def _change(part: str, name: str) -> tuple[str, Any]:
    kind, _, rest = part.partition(":")
    if part == HEAD:
        return HEAD, True
    if kind in {*LOSS_KINDS, *PENALTY_KINDS}:
        term = read_form(part) if kind in LOSS_KINDS else read_penalty(part)
        if term is not None and not term.weight:
            raise UserError("a remedy changes nothing", rule="a weight above 0", found=part)
        return "loss" if kind in LOSS_KINDS else "penalty", term
    if kind not in _FACTORS:
        raise UserError("can't read the remedy", rule=_RULE, found=name or "nothing")
    if not _is_number(rest) or not _in_range(kind, float(rest)):
        rule = "a whole number from 2 to 1000" if kind == "upsample" else "a positive number other than 1"
        raise UserError(f"{kind} is out of range", rule=f"{kind}:TIMES, {rule}", found=part)
    return kind, int(float(rest)) if kind == "upsample" else float(rest)


def _in_range(kind: str, value: float) -> bool:
    if kind == "upsample":
        return value in range(2, 1001)
    return 0 < value < math.inf and value != 1


def _written(key: str, value: Any) -> str:
    if key in {HEAD, *_TERMS}:
        return HEAD if key == HEAD else str(value)
    return f"{key}:{value:g}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_PENALTIES = {
    "overlap": "penalty on the overlap of each pair of words, weight {:g}",
    "decorrelation": "penalty on the overlap of all words, weight {:g}",
}


def _loss_words(form: LossForm) -> str:
    margin = f", margin {form.margin:g} nat" if form.kind == "margin" else ""
    return f"{form.kind} loss, weight {form.weight:g}{margin}"
