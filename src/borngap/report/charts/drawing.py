"""Figures of a reproduction as pictures: one way of drawing lines and one of drawing points, in panels."""

from __future__ import annotations

import altair as alt

from borngap.report.charts import charts
from borngap.report.charts.pictures import Picture
from borngap.report.charts.rows import ChartRow
from borngap.report.page.palette import LIGHT
from borngap.results.figures import Figure

Axis = alt.X | alt.Y
_WIDTH, _HEIGHT = 230, 170
_SINGLE = (460, 260)
_TINY = 1e-2  # below it numbers are written with an exponent
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right")


def picture(figure: Figure) -> Picture:
    """Return a figure as a picture; series differ in colour and in dash or shape alike.

    Args:
        figure: its data.

    Returns:
        The picture; one that says so where there is no data.
    """
    rows = [dict(row) for row in figure.rows if None not in (row[figure.x[0]], row[figure.y[0]])]
    if not rows:
        return Picture(_finished(_absent(), figure))
    width, height = (_WIDTH, _HEIGHT) if figure.facet else _SINGLE
    layers = [_mark(figure, rows)] if not figure.joined else _points_and_lines(figure, rows)
    if figure.zero:
        layers.insert(0, alt.Chart().mark_rule(color=LIGHT["muted"]).encode(y=alt.datum(0)))
    # only the whole has data: a layer with its own would show all of it in every panel
    layered = alt.layer(*layers).properties(width=width, height=height)
    data = alt.InlineData(values=rows)
    if not figure.facet:
        return Picture(_finished(layered.properties(data=data), figure))
    order = list(dict.fromkeys(row[figure.facet] for row in rows))
    header = alt.Header(title=None, labelFontSize=12, labelFontWeight=600, labelAnchor="start")
    panels = alt.Facet(f"{figure.facet}:N", header=header, sort=order)
    drawn = layered.facet(facet=panels, columns=figure.columns, data=data)
    free = dict.fromkeys(figure.free, "independent")
    return Picture(_finished(drawn.resolve_scale(**free) if free else drawn, figure))  # type: ignore[arg-type]


def _mark(figure: Figure, rows: list[ChartRow]) -> charts.Chart:
    """Lines or points, told apart twice over."""
    encoded: dict[str, Axis | alt.Color | alt.StrokeDash | alt.Shape]
    encoded = {
        "x": _axis(alt.X, figure, "x"),
        "y": _axis(alt.Y, figure, "y"),
    }
    if figure.colour:
        names = list(dict.fromkeys(str(row[figure.colour]) for row in rows))
        legend = alt.Legend(title=None, orient="top", columns=4, symbolSize=90, symbolStrokeWidth=2)
        colours = [LIGHT[name] for name, _ in charts.STYLES]
        scale = alt.Scale(domain=names, range=[colours[i % len(colours)] for i in range(len(names))])
        encoded["color"] = alt.Color(f"{figure.colour}:N", scale=scale, legend=legend)
        if figure.mark == "line":
            dashes = [charts.DASHES[dash] for _, dash in charts.STYLES]
            dash = alt.Scale(domain=names, range=[dashes[i % len(dashes)] for i in range(len(names))])
            encoded["strokeDash"] = alt.StrokeDash(f"{figure.colour}:N", scale=dash, legend=legend)
        else:
            shapes = ["stroke" if name in figure.joined else _SHAPES[i % len(_SHAPES)] for i, name in enumerate(names)]
            shape = alt.Scale(domain=names, range=shapes)
            encoded["shape"] = alt.Shape(f"{figure.colour}:N", scale=shape, legend=legend)
    bare = alt.Chart()
    drawn = bare.mark_line(strokeWidth=2) if figure.mark == "line" else bare.mark_point(size=45, strokeWidth=1.6)
    return drawn.encode(**encoded)


def _points_and_lines(figure: Figure, rows: list[ChartRow]) -> list[charts.Chart]:
    """Lines of the joined series, from the lowest point up, below the points of the others."""
    joined = alt.FieldOneOfPredicate(field=str(figure.colour), oneOf=list(figure.joined))
    points = _mark(figure, rows).transform_filter(alt.LogicalNotPredicate(**{"not": joined}))
    line = _mark(figure, rows).mark_line(strokeWidth=1.6).transform_filter(joined)
    without = {name: value for name, value in line.encoding.to_dict().items() if name != "shape"}
    line.encoding = alt.FacetedEncoding(**without, order=alt.Order(f"{figure.y[0]}:Q"))
    return [line, points]


def _axis(kind: type[Axis], figure: Figure, side: str) -> Axis:
    column, title = figure.x if side == "x" else figure.y
    if any(isinstance(row[column], str) for row in figure.rows):
        return kind(f"{column}:N", title=title or None)
    largest = max((abs(row[column]) for row in figure.rows if row[column] is not None), default=0.0)
    numbers = ".1~e" if 0 < largest < _TINY else ".4~r"
    if side in figure.log:
        return kind(
            f"{column}:Q",
            title=title,
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(tickCount=4, format=numbers),
        )
    return kind(f"{column}:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format=numbers))


def _absent() -> charts.Chart:
    text = alt.Chart(alt.InlineData(values=[{"text": "no runs for this figure"}]))
    return text.mark_text(color=LIGHT["muted"], fontSize=13).encode(text="text:N").properties(width=300, height=60)


def _finished(chart: charts.Chart, figure: Figure) -> charts.Spec:
    whole = charts.spec(chart, figure.title, font=charts.PRINT_FONT, colours=LIGHT)
    sizes = chart.to_dict()
    for name in ("width", "height"):
        whole.pop(name, None)
        if name in sizes:
            whole[name] = sizes[name]
    title = {"text": figure.title, "anchor": "start", "fontSize": 14, "offset": 14}
    return whole | {"background": LIGHT["page"], "padding": 12, "title": title}
