"""``borngap probe``: every observable of every context."""

from __future__ import annotations

from typing import Any

from borngap.cli.arguments import Contexts, Device, Dtype, GeometryName, GeometryOption, Json, Model, TopP
from borngap.cli.progress import Progress
from borngap.cli.show import model_line, number, print_json, print_table, say, table
from borngap.report.text import word


def probe(
    model: Model,
    contexts: Contexts = "docs10",
    geometry: GeometryOption = GeometryName.readout,
    top_p: TopP = 0.9,
    device: Device = "cpu",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Measure every observable of every context: is the rival ahead, by how much, and why."""
    from borngap.context import read_contexts
    from borngap.model.load import load, model_facts, quiet
    from borngap.model.probe import probe as measure_contexts
    from borngap.model.probe import records

    quiet()
    wanted = read_contexts(contexts)
    with Progress(f"probing {len(wanted)} contexts"):
        loaded = load(model, device, dtype)
        info = model_facts(loaded)
        observed = measure_contexts(loaded.model, loaded.tokenizer, wanted, geometry=geometry.value, top_p=top_p)
    rows = records(observed)
    if json:
        head = {"schema": 1, "model": info, "geometry": geometry.value, "top_p": top_p}
        print_json(head | {"observations": rows})
        return
    say(model_line(info))
    _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    from borngap.observables.catalogue import OBSERVABLES
    from borngap.observables.leader import standing

    lines: list[list[Any]] = [[name, "", *(word(r[name]) for r in rows)] for name in ("gold", "rival")]
    lines += [[key, o.unit, *(number(r[key]) for r in rows)] for key, o in OBSERVABLES.items()]
    headings = ["observable", "unit", *map(str, range(1, len(rows) + 1))]
    print_table(table("\ncontexts, a column each", headings, lines, 2, keys=2))
    say()
    for index, row in enumerate(rows, 1):
        say(f"{index:>3}  {standing(row)}")
        for field, note in row["notes"].items():
            say(f"     {field}: {note}")
