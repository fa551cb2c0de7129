"""What the page's script reads: what is chosen, charts that follow it, and charts that stand still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from borngap.report.charts import charts
from borngap.report.records import Mark, Series


class Column(TypedDict):
    """A column of the table of values."""

    column: str
    name: str


class Item(TypedDict):
    """What is chosen on the page: a context."""

    label: str
    series: Series | None
    marks: list[Mark]


class Still(TypedDict):
    """A chart that does not change with the choice."""

    spec: charts.Spec
    data: Mapping[str, object]


class PageData(TypedDict):
    """What the page's script reads."""

    items: list[Item]
    panels: list[dict[str, object]]
    stills: dict[str, Still]
    first: int
    columns: list[Column]


def still(chart: charts.Chart, data: Mapping[str, object], **size: int) -> Still:
    """Return a chart with its data; a size of its own takes the place of the usual one."""
    return {"spec": charts.spec(chart, "") | size, "data": data}


def still_page(stills: dict[str, Still]) -> PageData:
    """Return the data of a page on which nothing is chosen."""
    return {"items": [], "panels": [], "stills": stills, "first": 0, "columns": []}
