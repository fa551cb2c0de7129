"""The data of a figure, and how it is stored; how it is drawn is decided above this layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from borngap.runfolder import clean


@dataclass(frozen=True)
class Figure:
    """The data of one figure.

    Attributes:
        id: name of its files.
        title: what it shows.
        note: how to read it.
        mark: ``line`` or ``point``.
        x: column and axis title.
        y: column and axis title.
        rows: long form.
        colour: column that tells series apart; None for one series.
        facet: column that tells panels apart; None for one panel.
        log: axes with a logarithmic scale: ``x``, ``y``.
        free: axes on which each panel has a scale of its own: ``x``, ``y``.
        zero: whether a line is drawn at y = 0.
        columns: panels in a row.
        joined: series whose points are drawn as a line, in a figure of points.
    """

    id: str
    title: str
    note: str
    mark: str
    x: tuple[str, str]
    y: tuple[str, str]
    rows: Sequence[Mapping[str, Any]]
    colour: str | None = None
    facet: str | None = None
    log: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    zero: bool = False
    columns: int = 4
    joined: tuple[str, ...] = ()


def figure_json(figure: Figure) -> dict[str, Any]:
    """Return a figure JSON-ready: ``schema`` and its attributes; ``joined``, which came later, where there is any."""
    told: dict[str, Any] = clean({"schema": 1} | asdict(figure))
    return told if figure.joined else {name: value for name, value in told.items() if name != "joined"}


def stored_figure(stored: Mapping[str, Any]) -> Figure:
    """Return the figure that ``as_json`` told."""
    pairs = {"x", "y", "log", "free", "joined"}
    told: dict[str, Any] = {key: tuple(v) if key in pairs else v for key, v in stored.items() if key != "schema"}
    return Figure(**told)
