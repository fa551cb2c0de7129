"""Charts of a report, from its summary record: they place what is there and compute nothing.

A chart of one context reads two data sets by name, ``series`` (one row a record) and ``marks`` (flip and stop), so that
the page draws every context with the same few specifications.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import altair as alt

from borngap.cuts import DENSE_CROWDING, SPARSE_CROWDING
from borngap.report.page.palette import VARIABLES

Chart = Any  # of altair, whose types can't say it: layers, facets and single charts are drawn alike
Spec = dict[str, Any]  # Vega-Lite, as altair gives it
DASHES: dict[str, list[int]] = {
    "solid": [1, 0], "dashed": [6, 4], "dotted": [2, 3], "long": [10, 3, 2, 3], "wide": [12, 5],
    "short": [3, 3]}  # fmt: skip
STYLES = (
    ("rival", "solid"), ("gold", "dashed"), ("signal", "dotted"), ("drag", "long"), ("fourth", "wide"),
    ("main", "short"),
)  # fmt: skip
MARKS = {"flip": [1, 0], "stop": [4, 3]}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
_ROOM = 20
PRINT_FONT = "Arial, Helvetica, sans-serif"


@dataclass(frozen=True)
class Line:
    """One line of a panel: a column, its name in the legend, its colour and its dash."""

    column: str
    name: str
    colour: str = "main"
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """One chart of one context over steps.

    Attributes:
        id: its name on the page.
        title: what it shows.
        axis: title of the vertical axis, with the unit.
        lines: what is drawn.
        note: what to look for.
        zero: whether a line is drawn at 0.
        peak: whether the caption tells the largest value rather than both ends.
        reach: how far the vertical axis goes to both sides at least, so that what stands still looks still.
        shares: whether the vertical axis is one of shares, from 0 to 1.
    """

    id: str
    title: str
    axis: str
    lines: tuple[Line, ...]
    note: str
    zero: bool = False
    peak: bool = False
    reach: float = 0.0
    shares: bool = False


PANELS = (
    Panel("born_gap", "Born gap", "Born gap (−1 to 1)", (Line("born_gap", "Born gap"),),
          "Above 0, gold is ahead by the Born gap.", zero=True),
    Panel("signal_drag", "Signal and drag", "part of the Born gap (−1 to 1)",
          (Line("signal", "signal", "signal"), Line("drag", "drag", "drag", "dashed")),
          "They add up to the Born gap: drag below 0 works for the rival.", zero=True),
    Panel("probability", "Probability of gold and rival", "probability (0 to 1)",
          (Line("gold_probability", "gold", "gold"), Line("rival_probability", "rival", "rival", "dashed")),
          "Which of the two words the model would rather write."),
    Panel("logit_gap", "Logit gap", "logit gap / nat", (Line("logit_gap", "logit gap"),),
          "Above 0, gold is the more probable of the two.", zero=True),
    Panel("cross_entropy", "Cross-entropy", "cross-entropy / nat", (Line("cross_entropy", "cross-entropy"),),
          "The usual loss. It never looks at the rival."),
    Panel("participation_ratio", "Participation ratio", "participation ratio / tokens",
          (Line("participation_ratio", "participation ratio"),),
          "How many distinct directions the prediction is spread over."),
)  # fmt: skip
PHANTOM = (
    Panel("born_change", "Change of the Born gap, record by record", "change of the Born gap",
          (Line("born_change", "as it was"), Line("frozen_change", "embeddings as at the start", "gold", "dashed")),
          "A lone spike is a jump. Where both lines have it, the embeddings did not make it.", peak=True, zero=True),
    Panel("logit_change", "Change of the logit gap, record by record", "change of the logit gap / nat",
          (Line("logit_change", "logit gap"),),
          "Where this is smooth while the Born gap spikes, the scores themselves moved evenly.", peak=True, zero=True),
    Panel("stillness", "Movement of the embeddings", "since the start",
          (Line("embedding_rotation", "rotation of gold / rad", "signal"),
           Line("overlap_drift", "overlap’s change", "drag", "dashed")),
          "Flat and near 0: the geometry stands still. Exactly 0 where nothing trains it.", zero=True,
          reach=0.05),
)  # fmt: skip


COMPARED = (PANELS[3], PANELS[0], Panel("gold_probability", "Probability of gold", "probability (0 to 1)",
    (Line("gold_probability", "gold", "gold"),), "How likely the right word has become."), PANELS[4],
    Panel("drag", "Drag", "drag (−1 to 1)", (Line("drag", "drag", "drag"),), "Below 0 it works for the rival.",
          zero=True),
    PANELS[5])  # fmt: skip


TERM_PANEL = Panel("terms", "Terms over the steps", "share of places",
    (Line("success", "success"), Line("first", "first choice", "gold", "dashed"),
     Line("over_use", "over-use", "drag", "dotted")),
    "Success: the wanted word leads where it is due. Over-use: it leads where the other word is right.",
    shares=True)  # fmt: skip


def panel_chart(
    panel: Panel, colours: Mapping[str, str] = VARIABLES, runs: Sequence[str] = (), named: str = "nearest"
) -> Chart:
    """Return the chart of one panel, reading ``series`` and ``marks``.

    Args:
        panel: what to draw.
        colours: name -> colour.
        runs: names of the runs to be drawn over each other; then only the panel's first line is drawn, once a run.
        named: name of the selection under the pointer; it must be unique in a figure of several panels.

    Returns:
        A layered altair chart; vertical rules at flips and stops, a tooltip with all values of a step.
    """
    lines = _runs(panel.lines[0], runs) if runs else panel.lines
    x = alt.X("step:Q", title="optimiser step", axis=alt.Axis(tickMinStep=1, grid=False), scale=alt.Scale(nice=False))
    series = alt.Chart(alt.NamedData(name="series"))
    drawn = _drawn(series, x, lines, panel, colours)
    zero = [alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=colours["muted"]).encode(y="zero:Q")]
    if panel.reach:
        ends = alt.InlineData(values=[{"reach": -panel.reach}, {"reach": panel.reach}])
        zero.append(alt.Chart(ends).mark_point(opacity=0).encode(y="reach:Q"))
    return alt.layer(
        *(zero if panel.zero else ()), drawn, *_marks(x, colours), *_pointer(series, x, lines, colours, named)
    )


def terms_chart(columns: Collection[str], colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the chart of terms over the steps, reading ``series`` and ``marks``, of those columns that are known."""
    return panel_chart(
        replace(TERM_PANEL, lines=tuple(line for line in TERM_PANEL.lines if line.column in columns)), colours
    )


def overview_chart(count: int, colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the chart of where every context began and ended: an arrow along the logit gap.

    Args:
        count: how many contexts there are.
        colours: name -> colour.

    Returns:
        An altair chart that reads ``overview``: ``label``, ``start``, ``end``, ``outcome``, ``ahead``, ``order``.
    """
    base = alt.Chart(alt.NamedData(name="overview"), height=alt.Step(max(14, min(24, 720 // max(1, count)))))
    y = alt.Y(
        "label:N",
        sort=alt.SortField("order"),
        title=None,
        axis=alt.Axis(labelLimit=150, ticks=False, domain=False, labelPadding=12),
    )
    title = "logit gap / nat"
    states = ["ahead", "behind"]
    colour = alt.Color("state:N", scale=alt.Scale(domain=states, range=[colours["good"], colours["bad"]]), legend=None)
    shape = alt.Shape("state:N", scale=alt.Scale(domain=states, range=["circle", "cross"]), legend=None)
    tips = [alt.Tooltip(f"{field}:N", title=name) for field, name in _OVERVIEW_TIPS.items()]
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=colours["ink"]).encode(x="zero:Q")
    reach = base.mark_rule(strokeWidth=2).encode(
        y=y, x=alt.X("start:Q", title=title, axis=alt.Axis(tickCount=6)), x2="end:Q", color=colour
    )
    begin = base.mark_point(filled=False, size=40, fill=colours["page"]).encode(
        y=y, x="start:Q", stroke=colour, tooltip=tips
    )
    end = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=y, x="end:Q", color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(zero, reach, begin, end)


_OVERVIEW_TIPS = {"label": "gold / rival", "outcome": "outcome", "start": "logit gap at the start", "end": "at the end"}


def geometry_chart(colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the chart of crowding by matrix, reading ``bulk``: ``label``, ``crowding``, ``class``."""
    base = alt.Chart(alt.NamedData(name="bulk"), height=alt.Step(30))
    x = alt.X("crowding:Q", title="crowding (1: evenly spread)", scale=alt.Scale(type="log", domainMin=1, nice=False))
    y = alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=240, ticks=False, labelPadding=8))
    bars = base.mark_bar(color=colours["accent"], height=14).encode(x=x, y=y, x2=alt.datum(1))
    text = base.mark_text(align="left", dx=5, color=colours["ink"]).encode(x=x, y=y, text="words:N")
    cuts = alt.Chart(alt.InlineData(values=[{"cut": SPARSE_CROWDING}, {"cut": DENSE_CROWDING}]))
    rules = cuts.mark_rule(strokeDash=[4, 3], color=colours["muted"]).encode(x="cut:Q")
    return alt.layer(bars, rules, text)


def phase_chart(colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the phase diagram, reading ``points`` (``rate``, ``overlap``, ``character``) and ``boundary``."""
    base = alt.Chart(alt.NamedData(name="points"))
    x = alt.X("rate:Q", title="learning rate", scale=alt.Scale(type="log"), axis=alt.Axis(format=".0e"))
    y = alt.Y("overlap:Q", title="overlap of gold and rival", scale=alt.Scale(zero=False))
    kinds = ["catapult", "catapult-like", "intermediate", "borderline", "drift", "pre-resolved", "unknown"]
    shapes = ["triangle-up", "triangle-up", "diamond", "diamond", "circle", "cross", "stroke"]
    names = ["bad", "gold", "fourth", "fourth", "rival", "muted", "muted"]
    colour = alt.Color("character:N", scale=alt.Scale(domain=kinds, range=[colours[n] for n in names]), title=None)
    shape = alt.Shape("character:N", scale=alt.Scale(domain=kinds, range=shapes), title=None)
    tips = ["gold:N", "rival:N", "rate:Q", "overlap:Q", "character:N", "outcome:N"]
    points = base.mark_point(filled=True, size=60, opacity=0.9).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tips
    )
    edge = alt.Chart(alt.NamedData(name="boundary")).mark_line(color=colours["ink"], strokeDash=[4, 3])
    return alt.layer(points, edge.encode(x="rate:Q", y="overlap:Q"))


def spec(chart: Chart, description: str, *, font: str = FONT, colours: Mapping[str, str] = VARIABLES) -> Spec:
    """Return a chart's Vega-Lite specification: as wide as its container, with the house's style.

    Args:
        chart: an altair chart.
        description: its text alternative.
        font: font family.
        colours: name -> colour, for axes and legends.

    Returns:
        JSON-ready; data sets that it reads by name are to be filled in.
    """
    whole: Spec = chart.to_dict()
    whole.pop("config", None)
    whole |= {"width": "container", "description": description, "config": _config(font, colours), "background": None}
    whole.setdefault("height", 190)
    return whole


def filled(specification: Mapping[str, object], data: Mapping[str, Iterable[object]], width: int, height: int) -> Spec:
    """Return a specification with its data and a size of its own, for a picture file."""
    sized = dict(specification) | {"datasets": {name: list(rows) for name, rows in data.items()}, "width": width}
    return sized if isinstance(specification.get("height"), dict) else sized | {"height": height}


def run_columns(panel: Panel, runs: Sequence[str]) -> list[dict[str, str]]:
    """Return the columns that a panel of several runs reads, with the names of the runs."""
    return [{"column": line.column, "name": line.name} for line in _runs(panel.lines[0], runs)]


def _runs(line: Line, runs: Sequence[str]) -> tuple[Line, ...]:
    styles = (STYLES[i] for i in range(len(runs)))
    return tuple(
        Line(f"{line.column}_{i}", run, *style) for i, (run, style) in enumerate(zip(runs, styles, strict=True))
    )


def _drawn(base: Chart, x: alt.X, lines: Sequence[Line], panel: Panel, colours: Mapping[str, str]) -> Chart:
    """All lines of a panel, told apart by colour and dash alike."""
    columns, names = [line.column for line in lines], {line.column: line.name for line in lines}
    beside = sum(map(len, names.values())) < _ROOM  # on a phone a longer legend would be cut
    legend = alt.Legend(
        title=None, orient="top", offset=20, symbolType="stroke", symbolSize=500, columns=len(names) if beside else 1,
        labelExpr=f"{json.dumps(names)}[datum.label]",
    )  # fmt: skip
    shown = legend if len(names) > 1 else None
    colour = alt.Scale(domain=columns, range=[colours[line.colour] for line in lines])
    dash = alt.Scale(domain=columns, range=[DASHES[line.dash] for line in lines])
    scale = alt.Scale(domain=[0, 1], nice=False) if panel.shares else alt.Scale(zero=False)
    axis = alt.Axis(tickCount=5, format=".0%" if panel.shares else "~g")
    folded = base.transform_fold(columns, as_=["line", "value"]).transform_filter("isValid(datum.value)")
    return folded.mark_line(strokeWidth=2).encode(
        x=x,
        y=alt.Y("value:Q", title=panel.axis, scale=scale, axis=axis),
        color=alt.Color("line:N", scale=colour, legend=shown),
        strokeDash=alt.StrokeDash("line:N", scale=dash, legend=shown),
    )


_SIDES: dict[str, tuple[Literal["left", "right"], int]] = {"flip": ("right", 3), "stop": ("left", -3)}


def _marks(x: alt.X, colours: Mapping[str, str]) -> list[Chart]:
    """Vertical rules at flip and stop, each with its name above the plot; a stop never comes before its flip."""
    drawn = []
    for kind, dash in MARKS.items():
        base = alt.Chart(alt.NamedData(name="marks")).transform_filter(f"datum.kind == '{kind}'")
        drawn.append(base.mark_rule(color=colours["muted"], strokeWidth=1.2, strokeDash=dash).encode(x=x))
        align, dx = _SIDES[kind]
        text = base.mark_text(align=align, baseline="bottom", dx=dx, y=-4, color=colours["ink"], fontSize=11)
        drawn.append(text.encode(x=x, text="text:N"))
    return drawn


def _pointer(base: Chart, x: alt.X, lines: Sequence[Line], colours: Mapping[str, str], named: str) -> list[Chart]:
    """The nearest step under the pointer: a rule, and the values as a tooltip."""
    nearest = alt.selection_point(
        name=f"under_{named}", nearest=True, on="pointerover", clear="pointerout", fields=["step"], empty=False
    )
    tips = [alt.Tooltip("step:Q"), *(alt.Tooltip(f"{line.column}:Q", title=line.name, format=".4~g") for line in lines)]
    catch = base.mark_point(size=400, opacity=0).encode(x=x, y=f"{lines[0].column}:Q", tooltip=tips)
    catch = catch.properties(name=f"pointer_{named}").add_params(
        nearest
    )  # named: altair would count views over a process
    seen = alt.when(nearest).then(alt.value(1)).otherwise(alt.value(0))
    rule = base.mark_rule(color=colours["muted"], strokeWidth=1).encode(x=x, opacity=seen)
    dots = [
        base.mark_point(filled=True, size=45, color=colours[line.colour]).encode(
            x=x, y=f"{line.column}:Q", opacity=seen
        )
        for line in lines
    ]
    return [rule, *dots, catch]


def _config(font: str, colours: Mapping[str, str]) -> Spec:
    axis = {
        "labelColor": colours["muted"], "titleColor": colours["ink"], "domainColor": colours["muted"],
        "tickColor": colours["muted"], "gridColor": colours["line"], "gridOpacity": 0.6, "titleFontWeight": 400,
        "labelFontSize": 11.5, "titleFontSize": 12, "labelFont": font, "titleFont": font,
    }  # fmt: skip
    legend = {
        "labelColor": colours["ink"], "labelFont": font, "labelFontSize": 12, "labelLimit": 260,
        "titleColor": colours["ink"], "titleFont": font, "titleFontSize": 12, "titleFontWeight": 400,
    }  # fmt: skip
    return {
        "font": font,
        "title": {"font": font, "color": colours["ink"], "anchor": "start"},
        "view": {"stroke": None},
        "axis": axis,
        "legend": legend,
        "text": {"font": font},
    }
