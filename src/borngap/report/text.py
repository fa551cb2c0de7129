"""How a report writes words and numbers: nothing invisible, nothing endless, nothing that turns the line around."""

from __future__ import annotations

import math
from typing import TypeVar

from borngap.shown import quoted, visible

Value = TypeVar("Value")
MISSING = "–"
LONGEST_WORD = 60
_TEXTS = frozenset({"before", "after", "prompt", "prompt_end", "reason"})  # a row's error may quote the row


def word(text: str | None) -> str:
    """Return a word without its leading space, or a dash for None; white space is quoted, what is endless is cut."""
    if text is None:
        return MISSING
    shown = visible(text.strip()) or quoted(text)
    return shown if len(shown) <= LONGEST_WORD else shown[:LONGEST_WORD] + "…"


def ending(text: str, limit: int) -> str:
    """Return the last characters of a text: those next to the word that is predicted.

    Args:
        text: any text.
        limit: how many characters at most, the mark of the cut not counted.

    Returns:
        The text, or an ellipsis and its end, cut at a space if one is near.
    """
    if len(text) <= limit:
        return text
    kept = text[-limit:]
    space = kept.find(" ", 0, limit // 4)
    return "…" + kept[space + 1 :].lstrip()


def number(value: object, digits: int = 3) -> str:
    """Write a number with so many significant digits; what does not exist as a dash, never as 0.

    Args:
        value: a number, None or NaN.
        digits: significant digits.

    Returns:
        The text, with a true minus sign.

    Example:
        >>> number(-0.05012), number(1234567), number(None), number(3.2e-5)
        ('−0.0501', '1234567', '–', '3.2e−5')
    """
    if isinstance(value, int):
        return str(value).replace("-", "−")
    if not isinstance(value, float) or not math.isfinite(value):
        return MISSING
    if value != 0 and abs(value) < 1e-3:
        return rate(value, digits)
    shown = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return shown.replace("-", "−")


def rate(value: float | None, digits: int = 2) -> str:
    """Write a learning rate: 2e−4, 0.01; None as a dash."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0 or 1e-2 <= abs(value) < 1e3:
        return f"{value:.{digits}g}".replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def count(number: int, thing: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def without_text(record: Value) -> Value:
    """Return a summary record without texts of the data: they are empty, words and all numbers stay.

    Example:
        >>> without_text({"gold": "shame", "examples": [{"before": "She felt", "logit_gap": -1.0}]})
        {'gold': 'shame', 'examples': [{'before': '', 'logit_gap': -1.0}]}
    """
    told: object = record
    if isinstance(told, dict):
        told = {k: "" if k in _TEXTS and isinstance(v, str) else without_text(v) for k, v in told.items()}
    elif isinstance(told, list):
        told = [without_text(item) for item in told]
    return told  # type: ignore[return-value]
