"""The report of a reproduction, from its stored results alone: figures, one Markdown file, one page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import polars as pl
from markupsafe import Markup

from borngap.files import write_whole
from borngap.folder import Lock
from borngap.report.charts.drawing import picture
from borngap.report.page.html import page_css, templates
from borngap.report.text import count
from borngap.results.claims import JudgedClaim, Judgement
from borngap.results.figures import Figure
from borngap.results.stored import FIGURES, About, Results, read_about, read_results
from borngap.results.tables import Table, brief, cell, sections, table_markdown


def write_report(folder: Path) -> Results:
    """Draw the figures of a reproduction and write its report; what stood there is replaced.

    Args:
        folder: the reproduction, complete or not, with its results.

    Returns:
        The results.
    """
    about, found = read_about(folder), read_results(folder)
    with Lock(folder):
        drawn = [(figure, _drawn(figure, folder / FIGURES)) for figure in found.figures]
        write_whole(folder / "report.md", _text(about, found).encode())
        write_whole(folder / "report.html", _page(about, found, drawn).encode())
    return found


def _drawn(figure: Figure, folder: Path) -> str:
    """Write a figure as SVG and PNG; return it as SVG."""
    shown = picture(figure)
    shown.save(folder / f"{figure.id}.svg")
    shown.save(folder / f"{figure.id}.png")
    return shown.svg


def verdict_line(claims: Sequence[JudgedClaim]) -> str:
    """Return how many of the paper's claims replicate, do not, and can't be tested."""
    counts = Counter(claim["verdict"] for claim in claims if claim["source"] == "paper")
    told = ", ".join(f"{counts[judgement]} {words}" for judgement, words in _WORDS.items())
    return f"Of {counts.total()} claims of the paper: {told}."


_WORDS: dict[Judgement, str] = {
    "replicates": "replicate", "does not": "do not", "not testable here": "are not testable on these runs",
}  # fmt: skip
_COLOURS: dict[Judgement, str] = {"replicates": "good", "does not": "bad", "not testable here": "quiet"}


def _lead(about: About, found: Results) -> str:
    sizes = (count(found.runs, "run"), count(len(about.models), "model"), count(found.contexts, "context"))
    told = f"{', '.join(sizes)}, {count(about.steps, 'step')} a run."
    return f"{told} Not done yet: {'; '.join(found.undone)}." if found.undone else told


def _text(about: About, found: Results) -> str:
    head = ["# The paper's experiments, run and judged", verdict_line(found.claims), _lead(about, found)]
    shown = [f"## {f.title}\n\n![{f.title}]({FIGURES}/{f.id}.svg)\n\n{f.note}" for f in found.figures]
    made = ", ".join(f"{key} {value}" for key, value in about.environment.items() if isinstance(value, str | int))
    tables = (table_markdown(brief(table), 2).rstrip() for table in found.tables)
    return "\n\n".join([*head, *tables, *shown, "## How it was made", made]) + "\n"


def _page(about: About, found: Results, drawn: Sequence[tuple[Figure, str]]) -> str:
    from borngap import __version__

    pictures = [{"title": f.title, "note": f.note, "data": base64.b64encode(svg.encode()).decode()} for f, svg in drawn]
    return (
        templates()
        .get_template("reproduction.html.j2")
        .render(
            version=__version__,
            css=Markup(page_css()),  # noqa: S704
            lead=_lead(about, found),
            verdict=verdict_line(found.claims),
            facts=about,
            records=found.claims,
            tables=[_shown(table) for table in found.tables if table.id != "claims"],
            figures=pictures,
            cell=cell,
            sources=(("paper", "The paper's claims"), ("ours", "Claims beyond the paper")),
            good=_COLOURS,
        )
    )


class _Grid(TypedDict):
    """A table's headings and cells, each with whether it is a number."""

    head: list[tuple[str, bool]]
    rows: list[list[tuple[str, bool]]]


class _Part(TypedDict):
    """A section of a table."""

    name: str
    rows: _Grid


class _ShownTable(TypedDict):
    """A table as the page shows it."""

    id: str
    title: str
    note: str
    parts: list[_Part]
    paper: _Part | None


def _shown(table: Table) -> _ShownTable:
    parts: list[_Part] = [{"name": name, "rows": _grid(rows)} for name, rows in sections(table)]
    paper: _Part | None = None if table.paper is None else {"name": table.paper_title, "rows": _grid(table.paper)}
    return {"id": table.id, "title": table.title, "note": table.note, "parts": parts, "paper": paper}


def _grid(rows: pl.DataFrame) -> _Grid:
    numeric = [dtype.is_numeric() for dtype in rows.dtypes]
    heads = [name.replace("_", " ") for name in rows.columns]
    plain = [[cell(value).replace("\\|", "|") for value in row] for row in rows.iter_rows()]
    return {"head": list(zip(heads, numeric, strict=True)), "rows": [list(zip(r, numeric, strict=True)) for r in plain]}
