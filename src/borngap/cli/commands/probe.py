"""``borngap probe``: every observable of every context."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from borngap.cli.arguments import Contexts, Json, Measuring, ModelPlace
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, model_line, print_json, print_table, say, short_number
from borngap.report.text import word


def probe(*, source: ModelPlace, contexts: Contexts = "docs10", measuring: Measuring, json: Json = False) -> None:
    """Measure every observable of every context: is the rival ahead, by how much, and why."""
    from borngap.context import read_contexts
    from borngap.model.load import model_facts
    from borngap.model.probe import probe as measure_contexts
    from borngap.model.probe import records

    wanted = read_contexts(contexts)
    with Progress(f"probing {len(wanted)} contexts"):
        loaded = source.load()
        info = model_facts(loaded)
        observed = measure_contexts(loaded.model, loaded.tokenizer, wanted, **asdict(measuring))
    rows = records(observed)
    if json:
        print_json({"schema": 1, "model": info, **asdict(measuring), "observations": rows})
        return
    say(model_line(info))
    _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    from borngap.observables.catalogue import OBSERVABLES
    from borngap.observables.leader import standing

    lines: list[list[Any]] = [[name, "", *(word(r[name]) for r in rows)] for name in ("gold", "rival")]
    lines.append(["relation", "", *(r["relation"] for r in rows)])
    lines += [[key, o.unit, *(short_number(r[key]) for r in rows)] for key, o in OBSERVABLES.items()]
    headings = ["observable", "unit", *map(str, range(1, len(rows) + 1))]
    print_table(fitted_table("\ncontexts, a column each", headings, lines, 2, keys=2))
    say()
    for index, row in enumerate(rows, 1):
        say(f"{index:>3}  {standing(row)}")
        for field, note in row["notes"].items():
            say(f"     {field}: {note}")
