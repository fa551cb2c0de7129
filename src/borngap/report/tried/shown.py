"""A search for a remedy as tables, as Markdown, and as its charts: success against each price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import altair as alt

from borngap.report.charts.charts import Chart
from borngap.report.charts.rows import ChartRow
from borngap.report.facts.typed import as_number
from borngap.report.markup import escaped, table
from borngap.report.page.palette import VARIABLES
from borngap.report.text import MISSING, number
from borngap.report.tried.records import TriedRemedy, TriedSummary, WithInterval
from borngap.report.usage.wording import in_points, percent

Price = Literal["over_use", "loss"]
PRICES: dict[Price, str] = {
    "over_use": "over-use, share of places", "loss": "held-out loss above the planned run, nat a token",
}  # fmt: skip
GAINS = ["remedy", "success", "gain", "90 %", "bias instead", ""]
COSTS = ["remedy", "over-use", "more", "90 %", "loss", "90 %", "run"]
ABOVE = {"gains": "in points above the planned run", "costs": "in points and nat above the planned run"}
PASTED = (
    "Into a training script; a line that begins with $ is a command, for the folder in which you ran borngap remedy. "
    "Paths such as data/rows.jsonl are as you gave them; of those that begin with /, ~ or .. the file's name is left: "
    "summary.json in the folder has them whole."
)
_TIPS = {"remedy": "remedy", "told": "success", "price_words": "price"}
_NEAR = 0.15  # of a chart's width: nearer points have their numbers on either side
_SMALL, _NOTHING = 0.00095, 0.00005  # nat: less has four decimals; less is shown as 0


def nat(value: float | None) -> str:
    """Return a change of loss, with its sign.

    Example:
        >>> nat(0.0164), nat(-0.00037), nat(0.00004), nat(None)
        ('+0.016', '−0.0004', '0', '–')
    """
    if value is None:
        return MISSING
    if abs(value) < _NOTHING:
        return "0"
    return f"{value:+.{4 if abs(value) < _SMALL else 3}f}".replace("-", "−")


def between(estimate: WithInterval, shown: Callable[[float | None], str]) -> str:
    """Return the interval of a number; nothing where it has none."""
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    return f"{shown(estimate['low'])} to {shown(estimate['high'])}"


def bias_words(r: TriedRemedy) -> str:
    """Return what a constant bias does instead; of the bias itself its size."""
    if r["bias_nat"] is None:
        return ""
    size = f"{round(r['bias_nat'], 1) or 0.0:.1f} nat".replace("-", "−")
    return size if r["bias_success"] is None else f"{percent(r['bias_success'])} at {size}"


def without_empty(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns in which no row says anything.

    Example:
        >>> without_empty(["remedy", "over-use", "run"], [["none", "–", "1"], ["bias", "", "1"]])
        (['remedy', 'run'], [['none', '1'], ['bias', '1']])
    """
    kept = [i for i in range(len(headings)) if any(line[i] not in {"", MISSING} for line in lines)]
    return [headings[i] for i in kept], [[line[i] for i in kept] for line in lines]


def gain_lines(remedies: Sequence[TriedRemedy]) -> list[list[str]]:
    """Return a row a remedy, in the order of ``GAINS``."""
    return [
        [r["remedy"], percent(r["success"]["value"]), *_both(r["gain"], in_points), bias_words(r), r["verdict"]]
        for r in remedies
    ]


def cost_lines(remedies: Sequence[TriedRemedy]) -> list[list[str]]:
    """Return a row a remedy, in the order of ``COSTS``."""
    return [
        [r["remedy"], percent(r["over_use"]["value"]), *_both(r["more"], in_points), *_both(r["loss"], nat),
         number(r["run_cost"])]
        for r in remedies
    ]  # fmt: skip


def _both(estimate: WithInterval, shown: Callable[[float | None], str]) -> tuple[str, str]:
    return shown(estimate["value"]), between(estimate, shown) or MISSING


def tried_blocks(s: TriedSummary) -> list[str]:
    """Return the blocks of a REMEDIES folder's report, those that all reports share left out.

    Args:
        s: what ``tried_summary`` returned.

    Returns:
        Markdown; nothing that the user named is read as markup or HTML.
    """
    parts = [f"**{escaped(s['verdict'])}**", escaped(s["rule"]), *(f"> {escaped(text)}" for text in s["notes"])]
    parts += [
        f"## What each gains, {ABOVE['gains']}",
        table(*without_empty(GAINS, _numbered(gain_lines(s["remedies"])))),
    ]
    parts += [
        f"## What each costs, {ABOVE['costs']}",
        table(*without_empty(COSTS, _numbered(cost_lines(s["remedies"])))),
    ]
    parts += [f"* {escaped(r['remedy'])}: {escaped(r['why'])}" for r in s["remedies"] if r["why"]]
    if any(r["lines"] for r in s["remedies"]):
        parts += ["## Lines to paste", PASTED]
    for r in s["remedies"]:
        if r["lines"]:
            parts += [f"{escaped(r['remedy'])}: {escaped(r['words'])}", "\n".join(f"    {line}" for line in r["lines"])]
    return parts


def _numbered(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows with the numbers that the charts have."""
    return [[f"{place}. {name}", *cells] for place, (name, *cells) in enumerate(lines)]


def drawn_prices(s: TriedSummary) -> dict[Price, dict[str, list[ChartRow]]]:
    """Return what the charts show, by price that is known: remedies (``tried``), the bias (``bias``), the ``limit``."""
    found: dict[Price, dict[str, list[ChartRow]]] = {}
    for price in PRICES:
        rows = [row for r in s["remedies"] if (row := _row(r, price)) is not None]
        for row, side in zip(rows, _sides([as_number(row["price"]) or 0.0 for row in rows]), strict=True):
            row["side"] = side
        if len(rows) > 1:
            curve: list[ChartRow] = [
                {"price": point[price], "success": point["success"], "bias": point["bias"]} for point in s["bias_curve"]
            ]
            found[price] = {"tried": rows, "bias": curve, "limit": _limit(s["limits"][price], rows)}
    return found


def _limit(limit: float | None, rows: Sequence[ChartRow]) -> list[ChartRow]:
    """The limit, unless it lies so far off that drawing it would crowd the points."""
    prices = [as_number(row["price"]) or 0.0 for row in rows]
    is_near = limit is not None and limit <= max(prices) + max(prices) - min(prices)
    return [{"price": limit}] if is_near else []


def _sides(prices: Sequence[float]) -> list[str]:
    """Return on which side of its point each number stands: away from a near neighbour.

    Args:
        prices: where the points lie.

    Returns:
        ``left`` or ``right``, one a point.

    Example:
        >>> _sides([0.1, 0.60, 0.62, 0.9])
        ['right', 'left', 'right', 'right']
    """
    found, near = [], _NEAR * (max(prices, default=0.0) - min(prices, default=0.0))
    for price in prices:
        before = min((price - other for other in prices if other < price), default=float("inf"))
        behind = min((other - price for other in prices if other > price), default=float("inf"))
        found.append("left" if behind < min(before, near) else "right")
    return found


def _row(r: TriedRemedy, price: Price) -> ChartRow | None:
    cost, success = r[price]["value"], r["success"]
    if r["remedy"] == "none" and price == "loss":
        cost = 0.0
    if cost is None or success["value"] is None:
        return None
    told = f"{percent(success['value'])} ({_both(success, percent)[1]})"
    state = "take" if r["verdict"] == "take" else "tried"
    return {
        "number": str(r["number"]), "remedy": r["remedy"], "price": cost, "success": success["value"],
        "low": success["low"], "high": success["high"], "state": state, "told": told,
        "price_words": percent(cost) if price == "over_use" else nat(cost),
    }  # fmt: skip


def price_chart(price: Price, colours: Mapping[str, str] = VARIABLES) -> Chart:
    """Return success against a price: numbered points of ``tried``, a line of the ``bias``, and one at the ``limit``.

    Args:
        price: which.
        colours: name -> colour.

    Returns:
        An altair chart.
    """
    shares = alt.Axis(format=".0%", tickCount=5)
    x = alt.X("price:Q", title=PRICES[price], scale=alt.Scale(zero=False, padding=14, nice=False),
              axis=shares if price == "over_use" else alt.Axis(tickCount=5))  # fmt: skip
    y = alt.Y(
        "success:Q", title="success, share of places", scale=alt.Scale(zero=False, padding=8, nice=False), axis=shares
    )
    tried = alt.Chart(alt.NamedData(name="tried"))
    kinds = ["take", "tried"]
    colour = alt.Color(
        "state:N", scale=alt.Scale(domain=kinds, range=[colours["good"], colours["accent"]]), legend=None
    )
    shape = alt.Shape("state:N", scale=alt.Scale(domain=kinds, range=["diamond", "circle"]), legend=None)
    tips = [alt.Tooltip(f"{field}:N", title=name) for field, name in _TIPS.items()]
    bias = alt.Chart(alt.NamedData(name="bias")).mark_line(color=colours["muted"], strokeDash=[5, 4], strokeWidth=1.5)
    spans = tried.mark_rule(opacity=0.35).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    dots = tried.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
    names = [
        tried.transform_filter(f"datum.side === '{side}'").mark_text(
            align="right" if side == "left" else "left", dx=-7 if side == "left" else 7, dy=9 if side == "left" else -7,
            fontSize=11, color=colours["ink"],
        ).encode(x=x, y=y, text="number:N")
        for side in ("left", "right")
    ]  # fmt: skip
    limit = alt.Chart(alt.NamedData(name="limit")).mark_rule(color=colours["muted"], strokeDash=[1, 3], strokeWidth=2)
    return alt.layer(limit.encode(x=x), bias.encode(x=x, y=y, order="bias:Q"), spans, dots, *names)


def price_alt(s: TriedSummary, price: Price) -> str:
    """Return what a chart shows, in words."""
    rows = drawn_prices(s)[price]["tried"]
    told = "; ".join(f"{row['number']} {row['remedy']} {row['told']} at {row['price_words']}" for row in rows)
    return f"Success against {PRICES[price]}: {told}"
