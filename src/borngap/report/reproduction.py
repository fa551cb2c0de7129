"""The report of a reproduction: figures, one Markdown file, one page; from what is stored alone."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from borngap.experiments.claims.judging import VERDICTS
from borngap.experiments.folder import read_plan
from borngap.experiments.run import all_figures, write_results
from borngap.experiments.study import Study, read_study
from borngap.experiments.tables import Figure, Table, brief, cell, markdown, sections
from borngap.files import write_whole
from borngap.folder import Lock
from borngap.report.charts.drawing import picture
from borngap.report.page.palette import DARK, LIGHT
from borngap.report.text import count

_FOLDER = Path(__file__).parent / "page"


def write_report(folder: Path) -> list[dict[str, Any]]:
    """Write tables, claims, figures and the report of a reproduction; what stood there is replaced.

    Args:
        folder: the reproduction, complete or not.

    Returns:
        The claims' records.
    """
    study = read_study(folder)
    with Lock(folder):
        return _write(study, folder)


def _write(study: Study, folder: Path) -> list[dict[str, Any]]:
    tables, records = write_results(study, folder)
    drawn = []
    for figure in all_figures(study):
        shown = picture(figure)
        shown.save(folder / "figures" / f"{figure.id}.svg")
        shown.save(folder / "figures" / f"{figure.id}.png")
        drawn.append((figure, shown.svg))
    facts = _facts(folder, study)
    write_whole(folder / "report.md", _text(facts, tables, [figure for figure, _ in drawn], records).encode())
    write_whole(folder / "report.html", _page(facts, tables, drawn, records).encode())
    return records


def verdict_line(records: Sequence[Mapping[str, Any]]) -> str:
    """Return how many of the paper's claims replicate, do not, and can't be tested."""
    counts = Counter(record["verdict"] for record in records if record["source"] == "paper")
    told = ", ".join(f"{counts[verdict]} {words}" for verdict, words in zip(VERDICTS, _WORDS, strict=True))
    return f"Of {counts.total()} claims of the paper: {told}."


_WORDS = ("replicate", "do not", "are not testable on these runs")


def _facts(folder: Path, study: Study) -> dict[str, Any]:
    plan, environment = read_plan(folder)
    missing = [model for model in plan.models if model not in set(study.models["model"])]
    return {
        "models": list(plan.models),
        "missing": missing,
        "contexts": len(plan.contexts),
        "steps": plan.scope.steps,
        "runs": study.runs.height,
        "arms": list(plan.scope.arms),
        "environment": environment,
    }


def _lead(facts: Mapping[str, Any]) -> str:
    sizes = (count(facts["runs"], "run"), count(len(facts["models"]), "model"), count(facts["contexts"], "context"))
    about = f"{', '.join(sizes)}, {count(facts['steps'], 'step')} a run."
    if facts["missing"]:
        about += f" Not done yet: {', '.join(facts['missing'])}."
    return about


def _text(
    facts: Mapping[str, Any], tables: Sequence[Table], figures: Sequence[Figure], records: Sequence[Mapping[str, Any]]
) -> str:
    head = ["# The paper's experiments, run and judged", verdict_line(records), _lead(facts)]
    shown = [f"## {f.title}\n\n![{f.title}](figures/{f.id}.svg)\n\n{f.note}" for f in figures]
    made = ", ".join(f"{key} {value}" for key, value in facts["environment"].items() if isinstance(value, str | int))
    parts = [*head, *(markdown(brief(table), 2).rstrip() for table in tables), *shown, "## How it was made", made]
    return "\n\n".join(parts) + "\n"


def _page(
    facts: Mapping[str, Any],
    tables: Sequence[Table],
    drawn: Sequence[tuple[Figure, str]],
    records: Sequence[Mapping[str, Any]],
) -> str:
    from borngap import __version__

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    css = environment.get_template("page.css.j2").render(light=LIGHT, dark=DARK)
    pictures = [{"title": f.title, "note": f.note, "data": base64.b64encode(svg.encode()).decode()} for f, svg in drawn]
    return environment.get_template("reproduction.html.j2").render(
        version=__version__,
        css=Markup(css),  # noqa: S704
        lead=_lead(facts),
        verdict=verdict_line(records),
        facts=facts,
        records=records,
        tables=[_shown(table) for table in tables if table.id != "claims"],
        figures=pictures,
        cell=cell,
        sources=(("paper", "The paper's claims"), ("ours", "Claims beyond the paper")),
        good={"replicates": "good", "does not": "bad", "not testable here": "quiet"},
    )


def _shown(table: Table) -> dict[str, Any]:
    parts = [{"name": name, "rows": _rows(rows)} for name, rows in sections(table)]
    paper = None if table.paper is None else {"name": table.paper_title, "rows": _rows(table.paper)}
    return {"id": table.id, "title": table.title, "note": table.note, "parts": parts, "paper": paper}


def _rows(rows: Any) -> dict[str, Any]:
    numeric = [dtype.is_numeric() for dtype in rows.dtypes]
    heads = [name.replace("_", " ") for name in rows.columns]
    plain = [[cell(value).replace("\\|", "|") for value in row] for row in rows.iter_rows()]
    return {"head": list(zip(heads, numeric, strict=True)), "rows": [list(zip(r, numeric, strict=True)) for r in plain]}
