"""Learning rates: what may be one, what may be a list of them, and how a list is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from borngap.errors import UserError

RULE = "a positive, finite number"
MOST_PASSES = 100  # numbers of epochs that one forecast takes


def is_rate(rate: float) -> bool:
    """Return whether a number can be a learning rate: positive and finite."""
    return 0 < rate < math.inf


def check_rate(rate: float, name: str = "the learning rate") -> None:
    """Check one learning rate.

    Args:
        rate: a number.
        name: what the message calls it.

    Raises:
        UserError: it is not positive or not finite.
    """
    if not is_rate(rate):
        raise UserError(f"{name} is out of range", rule=RULE, found=rate)


def check_rates(rates: Sequence[float]) -> None:
    """Check learning rates that are to be tried one after the other.

    Args:
        rates: numbers.

    Raises:
        UserError: there are none, or they are not positive, finite and increasing.
    """
    if not rates:
        raise UserError("no learning rates", rule="at least one")
    if not all(map(is_rate, rates)):
        raise UserError("learning rates are out of range", rule="positive and finite", found=list(rates))
    if any(b <= a for a, b in pairwise(rates)):
        raise UserError("learning rates do not increase", rule="each larger than the last", found=list(rates))


def read_rates(text: str) -> tuple[float, ...]:
    """Read rates as the command line takes them: ``1e-5,1e-4`` or a grid ``lowest:highest:count``, evenly in the log.

    Args:
        text: the rates.

    Returns:
        The rates as given, not yet checked.

    Raises:
        UserError: the text is neither.

    Example:
        >>> read_rates("1e-5:1e-3:3")
        (1e-05, 0.0001, 0.001)
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        low, high, count = text.split(":")
        return _grid(float(low), float(high), int(count))
    except ValueError:
        rule = "rates separated by commas, or lowest:highest:count"
        raise UserError("can't read the rates", rule=rule, found=text, fix="such as 1e-5:1e-3:7") from None


def read_passes(text: str) -> tuple[float, ...]:
    """Read numbers of epochs as the command line takes them: ``3``, ``1,2,5``, or ``1:5`` for 1, 2, 3, 4, 5.

    Args:
        text: the numbers.

    Returns:
        The numbers as given, not yet checked.

    Raises:
        UserError: the text is neither, or has over 100 numbers.

    Example:
        >>> read_passes("1:3"), read_passes("0.5,2")
        ((1.0, 2.0, 3.0), (0.5, 2.0))
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last = map(int, text.split(":"))
        found = tuple(map(float, range(first, min(last, first + MOST_PASSES) + 1)))
    except ValueError:
        found = ()
    if len(found) > MOST_PASSES:
        raise UserError("too many numbers of epochs", rule=f"{MOST_PASSES} at most", found=text)
    if not found:
        rule = "a number of epochs, several separated by commas, or first:last"
        raise UserError("can't read the epochs", rule=rule, found=text, fix="such as 3, or 1:5")
    return found


def _grid(low: float, high: float, count: int) -> tuple[float, ...]:
    if not (0 < low < high < math.inf and count >= 2):
        found = f"{low:g}:{high:g}:{count}"
        raise UserError("a grid of rates is out of range", rule="0 < lowest < highest, at least 2 rates", found=found)
    # rounded, so that a grid reads as it was meant: 1e-4, not 9.999999999999999e-05
    inner = (float(f"{low * (high / low) ** (i / (count - 1)):.6g}") for i in range(1, count - 1))
    return (low, *inner, high)
