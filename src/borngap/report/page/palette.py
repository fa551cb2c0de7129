"""Colours: one set for the light page and for print, one for the dark page; every pair is tested for contrast."""

from __future__ import annotations

LIGHT = {
    "page": "#ffffff",
    "panel": "#f6f8fa",
    "ink": "#1f2328",
    "muted": "#57606a",
    "line": "#d0d7de",
    "accent": "#0550ae",
    "gold": "#8a5a00",
    "rival": "#0550ae",
    "main": "#1f2328",
    "signal": "#0f6b63",
    "drag": "#a3285f",
    "good": "#116329",
    "bad": "#b3261e",
    "fourth": "#6639ba",
}
DARK = {
    "page": "#0d1117",
    "panel": "#161b22",
    "ink": "#e6edf3",
    "muted": "#9da7b1",
    "line": "#3d444d",
    "accent": "#79c0ff",
    "gold": "#e3b341",
    "rival": "#79c0ff",
    "main": "#e6edf3",
    "signal": "#5ee0d0",
    "drag": "#f59ac4",
    "good": "#7ee08f",
    "bad": "#ff9a92",
    "fourth": "#d2a8ff",
}
GRAPHIC = frozenset({"line"})  # separates, carries no meaning
SURFACES = frozenset({"page", "panel"})
VARIABLES = {name: f"var(--{name})" for name in LIGHT}  # on the page: the theme changes and nothing is drawn again


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it, in [1, 21].

    Args:
        first: #rrggbb.
        second: #rrggbb.

    Returns:
        (lighter + 0.05) / (darker + 0.05) of the relative luminances.

    Example:
        >>> contrast("#000000", "#ffffff")
        21.0
    """
    low, high = sorted(map(_luminance, (first, second)))
    return round((high + 0.05) / (low + 0.05), 4)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
