"""Put finished reproductions into the docs: their reports, and one table of claims.

Run ``.venv/bin/python docs/make_results.py reproduction/docs10 reproduction/docs40``. Report, claims and figures of
each folder are copied to ``docs/results/NAME``; the table in ``docs/results.md`` between the two marks is made again,
with a column a folder. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from borngap.results.claims import JUDGEMENTS
from borngap.results.tables import cell

DOCS = Path(__file__).parent
MARKS = ("<!-- claims: made by docs/make_results.py -->", "<!-- end of claims -->")
HEADS = {"paper": "The paper's claims", "ours": "Beyond the paper"}
SIGNS = {"replicates": "**replicates**", "does not": "**does not**", "not testable here": "not testable here"}


def keep(folder: Path) -> list[dict[str, Any]]:
    """Copy what a reader wants to see of a reproduction; return its claims."""
    target = DOCS / "results" / folder.name
    shutil.rmtree(target, ignore_errors=True)
    (target / "figures").mkdir(parents=True)
    for name in ("report.md", "claims.json"):
        shutil.copy(folder / name, target / name)
    for figure in sorted((folder / "figures").glob("*.svg")):
        shutil.copy(figure, target / "figures" / figure.name)
    return json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]


def measured(record: dict[str, Any]) -> str:
    """Value, interval, number and verdict in one cell."""
    if record["ours"] is None:
        return f"{record['why'].split('Not measured: ')[-1].rstrip('.')}; {SIGNS[record['verdict']]}"
    ends = "" if record["low"] is None else f" ({cell(record['low'])} to {cell(record['high'])})"
    return f"{cell(record['ours'])}{ends}, n {record['n']} {record['unit']}; {SIGNS[record['verdict']]}"


def rule(record: dict[str, Any]) -> str:
    """What is measured on what, and when the claim holds."""
    return record["why"].split(" Measured ")[0].split(" Not measured: ")[0].removeprefix("Rule: ")


def table(sets: dict[str, list[dict[str, Any]]]) -> str:
    """One row a claim, one column a reproduction."""
    found = {name: {record["id"]: record for record in records} for name, records in sets.items()}
    first = next(iter(sets.values()))
    lines = []
    for source, title in HEADS.items():
        lines += [f"### {title}", ""]
        lines += [f"| claim | paper | {' | '.join(sets)} | rule |", f"|{' --- |' * (3 + len(sets))}"]
        for record in (r for r in first if r["source"] == source):
            cells = [measured(of[record["id"]]) for of in found.values()]
            told = [record["claim"], record["paper"] or "–", *cells, rule(record)]
            lines.append(f"| {' | '.join(text.replace('|', '/') for text in told)} |")
        lines.append("")
    for name, records in sets.items():
        counts = Counter(record["verdict"] for record in records)
        lines.append(f"{name}: of {len(first)} claims {', '.join(f'{counts[v]} {v}' for v in JUDGEMENTS)}.")
    return "\n".join(lines)


def main() -> None:
    """Copy, and make the table again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    sets = {folder.name: keep(folder) for folder in parser.parse_args().folders}
    made = f"{before}{MARKS[0]}\n\n{table(sets)}\n\n{MARKS[1]}{after}"
    (DOCS / "results.md").write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
