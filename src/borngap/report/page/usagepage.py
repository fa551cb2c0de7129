"""Pages on how words are used: their charts, and what the templates need beside the record."""

from __future__ import annotations

from collections.abc import Mapping

from borngap.report.charts.usagecharts import DRAWN, Drawn, drawn, shares_chart
from borngap.report.foretold.records import ForetoldSummary
from borngap.report.foretold.shown import drawn_forecast
from borngap.report.page.pagedata import PageData, still, still_page
from borngap.report.tried.records import TriedSummary
from borngap.report.tried.shown import PASTED, PRICES, between, bias_words, drawn_prices, nat, price_alt, price_chart
from borngap.report.usage.markdown import harm_tables
from borngap.report.usage.records import ChangeSummary, UsageSummary
from borngap.report.usage.wording import LEAD_WORDS, LEAKED, OVER_USED

_HEIGHT = 300


def change_content(s: ChangeSummary) -> tuple[PageData, dict[str, object]]:
    """Return what the page of a comparison before and after shows beside its record."""
    whole = s["all"]
    named = ((LEAD_WORDS[s["of"]], whole["success"]), (OVER_USED, whole["over_use"]), (LEAKED, whole["leak"]))
    tiles = [(name, numbers) for name, numbers in named if numbers and numbers["places"]]
    data, content = _charts(s)
    return data, content | {"tiles": tiles, "harms": harm_tables(s), "more": _more(len(s["rows"]))}


def usage_content(s: UsageSummary) -> tuple[PageData, dict[str, object]]:
    """Return what the page of a TERMS folder shows beside its record."""
    data, content = _charts(s)
    return data, content | {"more": _more(len(s["terms"]))}


def forecast_content(s: ForetoldSummary) -> tuple[PageData, dict[str, object]]:
    """Return what the page of a FORECAST folder shows beside its record."""
    return _of_charts(drawn_forecast(s))


def remedies_content(s: TriedSummary) -> tuple[PageData, dict[str, object]]:
    """Return what the page of a REMEDIES folder shows beside its record."""
    found = drawn_prices(s)
    stills = {f"still-{price}": still(price_chart(price), data, height=_HEIGHT) for price, data in found.items()}
    figures = [(f"still-{price}", f"Success against {PRICES[price]}", price_alt(s, price)) for price in found]
    return still_page(stills), {
        "figures": figures, "pasted": [r for r in s["remedies"] if r["lines"]], "nat": nat, "between": between,
        "bias_words": bias_words, "told": PASTED, "knows": _known(s),
    }  # fmt: skip


def _known(s: TriedSummary) -> dict[str, bool]:
    """Which columns of the table say something."""
    rows = s["remedies"]
    return {
        "over_use": any(r["over_use"]["value"] is not None for r in rows),
        "loss": any(r["loss"]["value"] is not None for r in rows),
        "bias": any(r["bias_nat"] is not None for r in rows), "verdict": any(r["verdict"] for r in rows),
    }  # fmt: skip


def _more(number: int) -> int | None:
    """How many are drawn, where that is not all."""
    return DRAWN if number > DRAWN else None


def _charts(s: ChangeSummary | UsageSummary) -> tuple[PageData, dict[str, object]]:
    return _of_charts(drawn(s))


def _of_charts(found: Mapping[str, Drawn]) -> tuple[PageData, dict[str, object]]:
    charts = {f"still-{name}": chart for name, chart in found.items()}
    stills = {name: still(shares_chart(chart.sides), {"shares": chart.rows}) for name, chart in charts.items()}
    told = {
        name: "; ".join(f"{row['label']}, {row['side']} {row['words']}" for row in chart.rows)
        for name, chart in charts.items()
    }
    figures = [(name, chart.title, f"{chart.title}: {told[name]}") for name, chart in charts.items()]
    return still_page(stills), {"figures": figures}
