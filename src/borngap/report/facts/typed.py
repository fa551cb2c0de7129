"""Values of stored JSON by their types: what is missing or of another type is None, or empty."""

from __future__ import annotations

import math


def as_text(value: object) -> str | None:
    """Return a text."""
    return value if isinstance(value, str) else None


def as_whole(value: object) -> int | None:
    """Return a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_number(value: object) -> float | None:
    """Return a finite number."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine else None  # type: ignore[arg-type]


def as_flag(value: object) -> bool | None:
    """Return a boolean."""
    return value if isinstance(value, bool) else None


def as_table(value: object) -> dict[str, object]:
    """Return an object with its fields."""
    return value if isinstance(value, dict) else {}


def as_items(value: object) -> list[object]:
    """Return a list."""
    return value if isinstance(value, list) else []


def as_texts(value: object) -> list[str]:
    """Return the texts of a list."""
    return [item for item in as_items(value) if isinstance(item, str)]
