"""Put reproductions into the docs: small copies of their studies, their reports, and the page of results.

``.venv/bin/python docs/make_results.py`` makes everything again from what ``docs/results`` holds: of each stored study
its report, claims, figures; then ``docs/results/claims.json`` and, in ``docs/results.md``, what stands between marks.
Nothing is measured and no model is loaded, so the same bytes come out. ``--keep reproduction/smollm2 ...`` first takes
a copy of a reproduction, finished or not, into ``docs/results/NAME``: base, critical rates, brackets and runs, steps
rounded to float32.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from borngap.experiments.claims.claimlist import CLAIMS
from borngap.experiments.claims.judging import judged
from borngap.experiments.folder import PLAN_FILE
from borngap.experiments.parts import bracketed, singlesteps
from borngap.experiments.run import rewrite_results
from borngap.experiments.study import Study, pooled, read_study
from borngap.files import json_bytes, write_whole
from borngap.report.reproduction import write_report
from borngap.results.claims import JUDGEMENTS
from borngap.results.tables import Table, cell, grid, sections
from borngap.runfolder import clean
from borngap.sweep.sweepfolder import RUNS_FILE, STEPS_FILE, SWEEP_FILE, read_sweep

DOCS = Path(__file__).parent
STORED, PAGE = DOCS / "results", DOCS / "results.md"
# a column of the page, and the stored folders that it is made from
COLUMNS = {
    "SmolLM2-135M": ("smollm2", "smollm2-natural"),
    "Gemma-3-270M": ("gemma", "gemma-natural"),
    "docs10": ("docs10",),
    "docs40": ("docs40",),
}
HEADS = {"paper": "The paper's claims", "ours": "Beyond the paper"}
SIGNS = {"replicates": "**replicates**", "does not": "**does not**", "not testable here": "not testable here"}
MARK = "<!-- {}: made by docs/make_results.py -->\n", "\n<!-- end of {} -->"


@dataclass(frozen=True)
class Column:
    """A column of the page.

    Attributes:
        claims: judged; none where nothing is stored yet.
        runs: how many runs they rest on; None if only the claims are stored.
        undone: what is still to come, in words.
        studies: what is stored, folder by folder; none if only the claims are.
    """

    claims: list[dict[str, Any]]
    runs: int | None = None
    undone: Sequence[str] = ()
    studies: Sequence[Study] = ()


# --- studies as they are stored


def keep(folder: Path) -> None:
    """Store a small copy of a reproduction, finished or not: what its results are made from."""
    target = STORED / folder.name
    shutil.rmtree(target, ignore_errors=True)
    for path in [folder / PLAN_FILE, *sorted((folder / "models").rglob("*.json"))]:
        place = path.relative_to(folder)
        small = place.name == PLAN_FILE or place.name in {"base.json", SWEEP_FILE}
        if small or {"critical", "brackets", "ends"} & set(place.parts):
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / place)
    for path in sorted(folder.rglob(SWEEP_FILE)):
        _keep_runs(path.parent, target / path.parent.relative_to(folder))


def _keep_runs(sweep: Path, target: Path) -> None:
    """Store the finished runs of a SWEEP, merged; numbers of single steps as float32 has them."""
    found = read_sweep(sweep)
    steps = found.steps.with_columns(pl.col(pl.Float64).cast(pl.Float32).cast(pl.Float64))
    steps.write_parquet(target / STEPS_FILE, compression="brotli", compression_level=11)
    text = json.dumps({"schema": 1, "runs": found.entries}, ensure_ascii=False, separators=(",", ":"))
    (target / RUNS_FILE).write_text(text + "\n", encoding="utf-8")


def remake(folder: Path) -> None:
    """Make report, claims and figures of a stored study again, beside it."""
    with tempfile.TemporaryDirectory() as made:
        there = Path(made) / folder.name
        shutil.copytree(folder, there, ignore=shutil.ignore_patterns("figures"))
        rewrite_results(there)
        write_report(there)
        for name in ("report.md", "claims.json"):
            shutil.copy(there / name, folder / name)
        shutil.rmtree(folder / "figures", ignore_errors=True)
        (folder / "figures").mkdir()
        for figure in sorted((there / "figures").glob("*.svg")):
            shutil.copy(figure, folder / "figures" / figure.name)


# --- the page


def columns() -> dict[str, Column]:
    """Return every column, from what is stored."""
    return {name: _column([STORED / folder for folder in folders]) for name, folders in COLUMNS.items()}


def _column(folders: Sequence[Path]) -> Column:
    studies = [read_study(folder) for folder in folders if (folder / PLAN_FILE).is_file()]
    if studies:
        study = pooled(studies)
        return Column([clean(record) for record in judged(CLAIMS, study)], study.runs.height, study.undone, studies)
    known = [folder / "claims.json" for folder in folders if (folder / "claims.json").is_file()]
    return Column([claim for path in known for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]])


def claims_json(found: dict[str, Column]) -> bytes:
    """Return claims, brackets and single steps of columns whose studies are stored: ``docs/results/claims.json``."""
    told = {name: _told(name, column) for name, column in found.items() if column.studies}
    return json_bytes({"schema": 1, "columns": told, "other_methods": other_methods()})


def other_methods() -> list[dict[str, Any]]:
    """Return the questions on other methods that the paper leaves open: benchmarks/method_verdicts.py answers them."""
    return list(json.loads((STORED / "other-methods.json").read_text(encoding="utf-8"))["questions"])


def _told(name: str, column: Column) -> dict[str, Any]:
    small = {"brackets": _brackets(column), "single_steps": _steps(column)}
    tables = {key: clean(table.rows.to_dicts()) for key, table in small.items()}
    head = {"studies": list(COLUMNS[name]), "runs": column.runs, "undone": list(column.undone)}
    return head | tables | {"claims": column.claims}


def _brackets(column: Column) -> Table:
    """Of all contexts of a model."""
    return bracketed.tables(pooled(column.studies))[0]


def _steps(column: Column) -> Table:
    """Of the study that has runs: H refers to its contexts."""
    tables = [singlesteps.tables(study)[0] for study in column.studies]
    return max(tables, key=lambda table: table.rows.height)


def page(text: str, found: dict[str, Column]) -> str:
    """Return the page with everything between its marks made again."""
    made = {"claims": claims_table(found), "brackets": _all(_brackets, found), "single steps": _all(_steps, found)}
    for name, block in made.items():
        begin, end = (mark.format(name) for mark in MARK)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def claims_table(found: dict[str, Column]) -> str:
    """One row a claim, one column a model or set of models."""
    known = {name: {record["id"]: record for record in column.claims} for name, column in found.items()}
    lines = []
    for source, title in HEADS.items():
        lines += [
            f"### {title}",
            "",
            f"| claim | paper | {' | '.join(found)} | rule |",
            f"|{' --- |' * (3 + len(found))}",
        ]
        for claim in (claim for claim in CLAIMS if claim.source == source):
            cells = [_cell(column, known[name].get(claim.id)) for name, column in found.items()]
            told = [claim.claim, claim.paper or "–", *cells, f"{claim.rule.text}. {claim.basis}"]
            lines.append(f"| {' | '.join(text.replace('|', '/') for text in told)} |")
        lines.append("")
    lines += [*(_summary(name, column) for name, column in found.items()), "", *_open_questions()]
    return "\n".join(lines)


def _open_questions() -> list[str]:
    """The questions of the paper's 7.2, one row a question and model."""
    keys = ("question", "model", "over_lora", "n", "verdict")
    rows = [[str(entry[key]) for key in keys] for entry in other_methods()]
    heads = ["question", "model", "rate over LoRA's (95 %)", "n contexts", "verdict"]
    table = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    rule = (
        "Yes or no where the interval of the median over contexts lies on one side of 1; else, and of fewer than three"
    )
    return ["### What the paper leaves open", "", *table, "", f"{rule}, open ([methods](methods.md#what-follows))."]


def _cell(column: Column, record: dict[str, Any] | None) -> str:
    if not column.claims or (column.undone and record is not None and record["n"] == 0):
        return "not run yet"
    return "–" if record is None else measured(record)


def measured(record: dict[str, Any]) -> str:
    """Value, interval, number and verdict in one cell."""
    if record["ours"] is None:
        return f"{record['why'].split('Not measured: ')[-1].rstrip('.')}; {SIGNS[record['verdict']]}"
    ends = "" if record["low"] is None else f" ({cell(record['low'])} to {cell(record['high'])})"
    return f"{cell(record['ours'])}{ends}, n {record['n']} {record['unit']}; {SIGNS[record['verdict']]}"


def _summary(name: str, column: Column) -> str:
    if not column.claims:
        return f"* {name}: not run yet."
    counts = Counter(record["verdict"] for record in column.claims)
    told = f"* {name}: of {len(column.claims)} claims {', '.join(f'{counts[v]} {v}' for v in JUDGEMENTS)}"
    runs = f"; {column.runs} runs" if column.runs is not None else ""
    return f"{told}{runs}; not done yet: {'; '.join(column.undone)}." if column.undone else f"{told}{runs}."


def _all(made: Callable[[Column], Table], found: dict[str, Column]) -> str:
    """A table of each model that has rows for it."""
    tables = {name: made(column) for name, column in found.items() if column.studies}
    return "\n\n".join(_titled(name, table) for name, table in tables.items() if table.rows.height)


def _titled(name: str, table: Table) -> str:
    parts = [(part.removeprefix(f"{table.rows['model'][0]}, "), rows) for part, rows in sections(table)]
    return "\n\n".join(f"**{', '.join(filter(None, (name, part)))}**\n\n{grid(rows)}" for part, rows in parts)


def main() -> None:
    """Keep what is given, and make everything again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", nargs="*", type=Path, default=[], help="reproductions to take a small copy of")
    for folder in parser.parse_args().keep:
        keep(folder)
    for plan in sorted(STORED.glob(f"*/{PLAN_FILE}")):
        remake(plan.parent)
    found = columns()
    write_whole(STORED / "claims.json", claims_json(found))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
