"""Charts of how words are used, from summary records: the share of each term, of one model or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from borngap.report.charts.charts import STYLES, Chart
from borngap.report.charts.rows import ChartRow, isolated
from borngap.report.page.palette import VARIABLES
from borngap.report.records import Number
from borngap.report.text import ending
from borngap.report.usage.records import ChangeSummary, UsageSummary
from borngap.report.usage.wording import LEAD_WORDS, OVER_USED

DRAWN = 20  # terms or pairs
_ALL = "all"
_NAMED = 28  # characters of each word
_ROOM = 30  # characters of a legend on one line
_LANE = 11  # pixels a model
_BETWEEN = 12  # pixels between two terms
_SHAPES = ["circle", "diamond", "square", "triangle-up", "triangle-down", "cross"]
_TIPS = {"label": "term", "side": "model", "words": "share", "interval": "95 % interval", "places": "places"}


@dataclass(frozen=True)
class Drawn:
    """A chart of shares.

    Attributes:
        title: what is shared.
        sides: names of the models.
        rows: one a term and model.
    """

    title: str
    sides: list[str]
    rows: list[ChartRow]


def shares_chart(sides: Sequence[str], colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return the chart of shares, reading ``shares`` (``Drawn.rows``): a lane a model, joined in each term.

    Args:
        sides: names of the models, in order.
        colours: name -> colour.

    Returns:
        An altair chart.
    """
    step = alt.Step(_LANE * len(sides) + _BETWEEN, **{"for": "position"})
    base = alt.Chart(alt.NamedData(name="shares"), height=step)
    label = alt.Axis(labelLimit=170, ticks=False, domain=False, labelPadding=8)
    y = alt.Y("label:N", sort=alt.SortField("order"), title=None, axis=label)
    lane = alt.YOffset("side:N", sort=list(sides), scale=alt.Scale(domain=list(sides)))
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    x = alt.X("share:Q", title="share of places", scale=alt.Scale(domain=[0, 1], nice=False, padding=6), axis=axis)
    chosen = [colours[name] for name in _colours(len(sides))]
    several = len(sides) > 1
    columns = len(sides) if sum(map(len, sides)) < _ROOM else 1
    legend = alt.Legend(title=None, orient="top", columns=columns) if several else None
    colour = alt.Color("side:N", scale=alt.Scale(domain=list(sides), range=chosen), legend=legend)
    shape = alt.Shape("side:N", scale=alt.Scale(domain=list(sides), range=_SHAPES[: len(sides)]), legend=legend)
    tips = [alt.Tooltip(f"{field}:N", title=name) for field, name in _TIPS.items()]
    joins = base.mark_line(strokeWidth=1, opacity=0.6, color=colours["muted"]).encode(
        x=x, y=y, yOffset=lane, detail="label:N", order="turn:Q"
    )
    spans = base.mark_rule(strokeWidth=2, opacity=0.75).encode(x="low:Q", x2="high:Q", y=y, yOffset=lane, color=colour)
    dots = base.mark_point(filled=True, size=75, opacity=1).encode(
        x=x, y=y, yOffset=lane, color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(*([joins] if several else []), spans, dots)


def _colours(models: int) -> list[str]:
    """One model in the accent; before in grey and after in the accent; of more, the colours of runs."""
    return [["accent"], ["muted", "accent"]][models - 1] if models < 3 else [name for name, _ in STYLES[:models]]


def drawn(s: ChangeSummary | UsageSummary) -> dict[str, Drawn]:
    """Return what the charts of a record show: all together first; what has no place is left out.

    Args:
        s: the record.

    Returns:
        ``success`` and ``over_use``, each only if some place is known.
    """
    lead = LEAD_WORDS[s["of"] if s["kind"] == "change" else "TERMS"]
    titles = {"success": lead[0].upper() + lead[1:], "over_use": OVER_USED[0].upper() + OVER_USED[1:]}
    sides = s["sides"] if s["kind"] == "change" else ["share"]
    rows = {name: _changes(s, name) if s["kind"] == "change" else _shares(s, name) for name in titles}
    return {name: Drawn(titles[name], sides, own) for name, own in rows.items() if own}


def _changes(s: ChangeSummary, measure: str) -> list[ChartRow]:
    rows: list[ChartRow] = []
    for order, record in enumerate([s["all"], *s["rows"][:DRAWN]]):
        numbers = record["success"] if measure == "success" else record["over_use"]
        if numbers is not None and numbers["places"]:
            label = term_label(record["use"], record["avoid"])
            each = zip(numbers["shares"], numbers["lows"], numbers["highs"], strict=True)
            rows += [
                share_row(order, label, side, shares, numbers["places"]) | {"turn": turn}
                for turn, (side, shares) in enumerate(zip(s["sides"], each, strict=True))
            ]
    return rows


def _shares(s: UsageSummary, measure: str) -> list[ChartRow]:
    rows: list[ChartRow] = []
    for order, record in enumerate([s["all"], *s["terms"][:DRAWN]]):
        success = (record["success"], record["low"], record["high"]), record["due"]
        over_use = (record["over_use"], record["over_use_low"], record["over_use_high"]), record["right_avoid"]
        shares, places = success if measure == "success" else over_use
        if shares[0] is not None:
            rows.append(
                share_row(order, term_label(record["use"], record["avoid"]), "share", shares, places) | {"turn": 0}
            )
    return rows


def term_label(use: str | None, avoid: str | None) -> str:
    """Return what a term is called in a chart; all terms where both words are None."""
    if use is None or avoid is None:
        return _ALL
    return " / ".join(isolated(ending(text, _NAMED)) for text in (use, avoid))


def share_row(order: int, label: str, side: str, shares: tuple[Number, Number, Number], places: int) -> ChartRow:
    """Return a row of ``shares_chart``: share, low and high of a term and side."""
    share, low, high = shares
    words = f"{100 * share:.0f} %" if share is not None else ""
    interval = "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"
    return {
        "order": order, "label": label, "side": side, "share": share, "low": low, "high": high, "places": places,
        "words": words, "interval": interval,
    }  # fmt: skip
