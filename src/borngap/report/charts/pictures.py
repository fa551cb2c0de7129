"""Charts as files, and a trajectory in a notebook: SVG and PNG, in colours for print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import altair as alt

from borngap.choices import Criterion
from borngap.errors import UserError
from borngap.files import write_whole
from borngap.judge.trajectory import Trajectory
from borngap.report.anyrecord import Shown
from borngap.report.charts import charts, scancharts, usagecharts
from borngap.report.charts.rows import bulk_rows, context_label, overview_rows, series_rows
from borngap.report.charts.scancharts import gap_rows, point_rows
from borngap.report.charts.series import series
from borngap.report.foretold.shown import drawn_forecast
from borngap.report.page.palette import LIGHT
from borngap.report.records import ComparisonSummary, ScanSummary, Summary
from borngap.report.tried.shown import drawn_prices, price_chart

_WIDTH, _HEIGHT, _SCALE = 300, 190, 3  # PNG at 3 times the size: some 290 dots per inch at 8 cm a panel
_UNSEEN = re.compile(r'<(?:path|line) [^>]*opacity="0"/>')  # half of the file


@dataclass(frozen=True)
class Picture:
    """A chart that a notebook shows inline, offline, and that can be saved.

    Attributes:
        specification: Vega-Lite, data included.
    """

    specification: charts.Spec

    def __repr__(self) -> str:
        """Say what can be done with it."""
        return "<Picture: shown by the last line of a notebook's cell; save(path) writes SVG or PNG>"

    @cached_property
    def svg(self) -> str:
        """It as SVG, without what a page shows under the pointer."""
        import vl_convert

        return _UNSEEN.sub("", vl_convert.vegalite_to_svg(dict(self.specification)))

    @property
    def png(self) -> bytes:
        """It as PNG, three times the size."""
        import vl_convert

        return vl_convert.svg_to_png(self.svg, scale=_SCALE)

    def save(self, path: str | Path) -> Path:
        """Write it.

        Args:
            path: ends in .svg or .png.

        Returns:
            The path.

        Raises:
            UserError: another ending, or the file can't be written.
        """
        target = Path(path)
        if target.suffix not in {".svg", ".png"}:
            raise UserError("unknown kind of picture", rule="a name that ends in .svg or .png", found=target.name)
        return write_whole(target, self.svg.encode() if target.suffix == ".svg" else self.png)

    def _repr_svg_(self) -> str:
        return self.svg


def plot(trajectory: Trajectory, criterion: Criterion = "rank") -> Picture:
    """Return the charts of one trajectory: Born gap, signal and drag, probabilities, logit gap, loss, spread.

    Args:
        trajectory: one context's records.
        criterion: whose flip is marked.

    Returns:
        A picture: the last line of a notebook's cell shows it; ``save`` writes SVG or PNG.
    """
    flip = trajectory.flip_step(criterion) if len(trajectory.steps) > 1 else None
    marks = [] if flip is None else [{"kind": "flip", "step": flip, "text": f"flip {flip}"}]
    data = {"series": series_rows(series(trajectory, len(trajectory.steps))), "marks": marks}
    return figure_of([p for p in charts.PANELS if p.lines[0].column in trajectory.values], data, None)


def pictures(summary: Shown) -> dict[str, Picture]:
    """Return every chart of a report, by file name: one figure a context, and those of all contexts.

    Args:
        summary: what ``summary``, ``comparison`` or ``scan_summary`` returned.

    Returns:
        Name without ending -> picture.
    """
    if summary["kind"] == "report":
        return _of_runs(summary)
    if summary["kind"] == "compare":
        return _of_comparison(summary)
    if summary["kind"] == "scan":
        return _of_scan(summary)
    if summary["kind"] == "remedies":
        return {
            price: _single(price_chart(price, LIGHT), data, 420, 300) for price, data in drawn_prices(summary).items()
        }
    return _of_usage(drawn_forecast(summary) if summary["kind"] == "forecast" else usagecharts.drawn(summary))


def _of_scan(summary: ScanSummary) -> dict[str, Picture]:
    found = {}
    if summary["pairs"]:
        found["pairs"] = _single(scancharts.pairs_chart(LIGHT), {"points": point_rows(summary["points"])}, 420, 300)
    if summary["gaps"]:
        found["logit-gaps"] = _single(scancharts.gaps_chart(LIGHT), {"gaps": gap_rows(summary["gaps"])}, 420)
    return found


def _of_usage(drawn: Mapping[str, usagecharts.Drawn]) -> dict[str, Picture]:
    found = {}
    for name, chart in drawn.items():
        single = _single(usagecharts.shares_chart(chart.sides, LIGHT), {"shares": chart.rows}, 420).specification
        found[name.replace("_", "-")] = Picture(
            single | {"title": {"text": chart.title, "anchor": "start", "offset": 8}}
        )
    return found


def _of_comparison(summary: ComparisonSummary) -> dict[str, Picture]:
    """One figure a context, its runs drawn over each other."""
    runs = [run["label"] for run in summary["runs"]]
    found = {}
    for context in summary["contexts"]:
        if context["series"]:
            data = {"series": series_rows(context["series"]), "marks": context["marks"]}
            found[f"context-{context['number']:03d}"] = figure_of(charts.COMPARED, data, context["label"], runs)
    return found


def _of_runs(summary: Summary) -> dict[str, Picture]:
    found: dict[str, Picture] = {}
    several = len(summary["runs"]) > 1
    rows = overview_rows(summary)
    if rows:
        found["overview"] = _single(charts.overview_chart(len(rows), LIGHT), {"overview": rows}, 520)
    for context in summary["contexts"]:
        if context["series"]:
            title = context_label(context, summary["runs"], several=several)
            data = {"series": series_rows(context["series"]), "marks": context["marks"]}
            panels = [p for p in charts.PANELS if p.lines[0].column in context["series"]]
            phantom = [p for p in charts.PHANTOM if p.lines[0].column in context["series"]]
            name = f"run-{context['run'] + 1}-context-{context['number']:03d}"
            found[name] = figure_of(panels, data, title)
            found[f"{name}-phantom"] = figure_of(phantom, data, title)
    for terms in summary["terms"]:
        rows_of_terms = {"series": series_rows(terms["series"]), "marks": []}
        chart = charts.terms_chart(terms["series"], LIGHT)
        found[f"run-{terms['run'] + 1}-terms"] = _single(chart, rows_of_terms, 420)
    for index, record in enumerate(summary["geometry"], 1):
        if record["matrices"]:
            found[f"geometry-{index}"] = _single(charts.geometry_chart(LIGHT), {"bulk": bulk_rows(record)}, 420)
    for index, phase in enumerate(summary["phase"] or (), 1):
        drawn: dict[str, Iterable[object]] = {"points": phase["points"], "boundary": phase["boundary"]}
        found[f"phase-{index}"] = _single(charts.phase_chart(LIGHT), drawn, 420, 300)
    return found


def save_pictures(summary: Shown, folder: str | Path) -> list[Path]:
    """Write every chart of a report as SVG and PNG.

    Args:
        summary: what ``summary`` returned.
        folder: made if it is not there.

    Returns:
        The files.
    """
    target, named = Path(folder), pictures(summary)
    return [picture.save(target / f"{name}{ending}") for name, picture in named.items() for ending in (".svg", ".png")]


def _single(chart: charts.Chart, data: Mapping[str, Iterable[object]], width: int, height: int = _HEIGHT) -> Picture:
    plain = charts.spec(chart, "", font=charts.PRINT_FONT, colours=LIGHT)
    return Picture(charts.filled(plain, data, width, height) | {"background": LIGHT["page"], "padding": 12})


def figure_of(
    panels: Sequence[charts.Panel], data: Mapping[str, object], title: str | None, runs: Sequence[str] = ()
) -> Picture:
    """Return panels in rows of three, each with its own scales, as one picture.

    Args:
        panels: what is drawn.
        data: ``series``, one row a record, and ``marks``.
        title: above all panels.
        runs: names of the runs to be drawn over each other; their columns in ``series`` end in ``_0``, ``_1`` ...

    Returns:
        The picture.
    """
    cells = []
    for panel in panels:
        drawn = charts.panel_chart(panel, LIGHT, runs, named=panel.id).properties(
            width=_WIDTH, height=_HEIGHT, title=panel.title
        )
        cells.append(drawn)
    grid = alt.concat(*cells, columns=3, spacing=28).resolve_scale(color="independent", strokeDash="independent")
    whole = charts.spec(grid, title or "", font=charts.PRINT_FONT, colours=LIGHT)
    for name in ("width", "height"):
        whole.pop(name, None)
    whole["datasets"] = whole.get("datasets", {}) | dict(data)
    heading = {"title": {"text": title, "anchor": "start", "fontSize": 14, "offset": 14}} if title else {}
    return Picture(whole | {"background": LIGHT["page"], "padding": 12} | heading)
