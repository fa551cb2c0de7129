"""``borngap probe``: every observable of every context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from borngap.cli.arguments import Contexts, Device, GeometryName, GeometryOption, Json, Model, TopP
from borngap.cli.show import console, model_line, number, print_json, table, word

if TYPE_CHECKING:
    from rich.console import Console

_LABEL_WIDTH, _COLUMN_WIDTH = 38, 13


def probe(
    model: Model,
    contexts: Contexts = "docs10",
    geometry: GeometryOption = GeometryName.readout,
    top_p: TopP = 0.9,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure every observable of every context: is the rival ahead, by how much, and why."""
    from borngap.context import read_contexts
    from borngap.hf.load import load, quiet, summary
    from borngap.hf.probe import probe as measure_contexts
    from borngap.hf.probe import records

    quiet()
    wanted = read_contexts(contexts)
    loaded = load(model, device)
    info = summary(loaded)
    observed = measure_contexts(loaded.model, loaded.tokenizer, wanted, geometry=geometry.value, top_p=top_p)
    rows = records(observed)
    if json:
        head = {"schema": 1, "model": info, "geometry": geometry.value, "top_p": top_p}
        print_json(head | {"observations": rows})
        return
    out = console()
    out.print(model_line(info), soft_wrap=True, markup=False)
    _show(out, rows)


def _show(out: Console, rows: list[dict[str, Any]]) -> None:
    from borngap.observables import OBSERVABLES
    from borngap.standing import standing

    step = max(1, (out.width - _LABEL_WIDTH) // _COLUMN_WIDTH)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        lines: list[list[Any]] = [["gold", "", *(word(r["gold"]) for r in part)]]
        lines.append(["competitor", "", *(word(r["competitor"]) for r in part)])
        lines += [[key, o.unit, *(number(r[key]) for r in part)] for key, o in OBSERVABLES.items()]
        first, last = start + 1, start + len(part)
        out.print(
            table(
                f"\ncontexts {first} to {last} of {len(rows)}",
                ["observable", "unit", *map(str, range(first, last + 1))],
                lines,
                2,
            )
        )
    out.print()
    for index, row in enumerate(rows, 1):
        out.print(f"{index:>3}  {standing(row)}", markup=False, highlight=False, soft_wrap=True)
        for field, note in row["notes"].items():
            out.print(f"     {field}: {note}", markup=False, highlight=False, soft_wrap=True)
