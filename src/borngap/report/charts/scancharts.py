"""Charts of a scan, from its summary record: they place what is there and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from borngap.report.charts.charts import Chart
from borngap.report.charts.labels import MARGIN, ROOM, placed
from borngap.report.charts.rows import ChartRow, isolated
from borngap.report.page.palette import VARIABLES
from borngap.report.scanrecords import Gap, PairPoint

_TIPS = {
    "targets": "targets", "rival_ahead": "rival ahead", "overlap": "overlap", "logit_gap": "median logit gap / nat",
}  # fmt: skip
_NAMED = 40  # worst pairs whose dots get their names
_STATES = ["rival ahead", "gold ahead"]


def pairs_chart(colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the chart of all pairs, reading ``points``: share ahead against overlap, area by number of targets."""
    base = alt.Chart(alt.NamedData(name="points"))
    # the padding keeps dots at either end inside the frame
    across = alt.Scale(zero=False, nice=False, padding=MARGIN)
    x = alt.X("overlap:Q", title="overlap of gold and rival", scale=across, axis=alt.Axis(tickCount=4))
    up = alt.Scale(domain=[0, 1], nice=False, padding=MARGIN)
    shares = alt.Axis(format=".0%", values=[0, 0.2, 0.4, 0.6, 0.8, 1])
    y = alt.Y("share_ahead:Q", title="share with the rival ahead", scale=up, axis=shares)
    legend = alt.Legend(orient="top", direction="horizontal", symbolType="circle", values=[1, 10, 100, 1000])
    # the log keeps rare pairs visible beside those of a thousand targets
    size = alt.Size("targets:Q", scale=alt.Scale(type="log", range=[25, 500]), title="targets", legend=legend)
    tips = [alt.Tooltip("label:N", title="gold / rival")]
    tips += [alt.Tooltip(f"{name}:Q", title=title, format="~g") for name, title in _TIPS.items()]
    dots = base.mark_point(filled=True, color=colours["rival"], opacity=0.55, stroke=colours["page"]).encode(
        x=x, y=y, size=size, tooltip=tips
    )
    ink = colours["ink"]
    names = [
        base.mark_text(fontSize=11, color=ink, align="left", dx=ROOM).encode(x=x, y=y, text="right:N"),
        base.mark_text(fontSize=11, color=ink, align="right", dx=-ROOM).encode(x=x, y=y, text="left:N"),
        base.mark_text(fontSize=11, color=ink, baseline="bottom", dy=-ROOM).encode(x=x, y=y, text="above:N"),
    ]
    return alt.layer(dots, *names)


def gaps_chart(colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the distribution of logit gaps, reading ``gaps``: targets by interval, and a rule at 0."""
    base = alt.Chart(alt.NamedData(name="gaps"))
    x = alt.X("low:Q", title="logit gap / nat", axis=alt.Axis(tickCount=8, grid=False), bin="binned")
    scale = alt.Scale(domain=_STATES, range=[colours["bad"], colours["good"]])
    tips = [
        alt.Tooltip("words:N", title="logit gap / nat"), alt.Tooltip("targets:Q", title="targets"),
        alt.Tooltip("state:N", title="first"),
    ]  # fmt: skip
    bars = base.mark_bar(stroke=colours["page"], strokeWidth=0.5).encode(
        x=x, x2="high:Q", y=alt.Y("targets:Q", title="targets", axis=alt.Axis(tickCount=5)),
        color=alt.Color("state:N", scale=scale, legend=None), tooltip=tips,
    )  # fmt: skip
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    rule = zero.mark_rule(color=colours["ink"], strokeWidth=1.5).encode(x="zero:Q")
    return alt.layer(bars, rule)


def point_rows(points: Sequence[PairPoint]) -> list[ChartRow]:
    """Return the rows of the chart of pairs; those without a finite overlap are left out.

    The worst pairs are named beside their dots (``right``, ``left`` or ``above``), as far as there is room.
    """
    known = [
        (point, overlap, share)
        for point in points
        if (overlap := point["overlap"]) is not None and (share := point["share_ahead"]) is not None
    ]
    overlaps = [overlap for _, overlap, _ in known]
    least, most = min(overlaps, default=0.0), max(overlaps, default=0.0)
    dots = [((overlap - least) / (most - least or 1.0), share) for _, overlap, share in known]
    labels = [f"{isolated(point['gold'])} / {isolated(point['rival'])}" for point, _, _ in known]
    worst = [n < _NAMED and point["rival_ahead"] > 0 for n, (point, _, _) in enumerate(known)]
    names = [label if shown else "" for label, shown in zip(labels, worst, strict=True)]
    return [
        {**point, "label": label} | {side: name if side == chosen else "" for side in ("right", "left", "above")}
        for (point, _, _), label, name, chosen in zip(known, labels, names, placed(dots, names), strict=True)
    ]


def gap_rows(gaps: Sequence[Gap]) -> list[ChartRow]:
    """Return the rows of the distribution of logit gaps."""
    return [
        {**gap, "state": _STATES[gap["high"] > 0], "words": f"{gap['low']:g} to {gap['high']:g}".replace("-", "−")}
        for gap in gaps
    ]
