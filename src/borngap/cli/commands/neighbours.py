"""``borngap neighbours``: the tokens nearest to a word."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from borngap.cli.arguments import Json, Measuring, ModelPlace
from borngap.cli.options import Takes
from borngap.cli.show import fitted_table, print_json, print_table, say_notes, short_number
from borngap.report.text import word


def neighbours(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words; a leading space is added.")],
    *,
    source: ModelPlace,
    k: Annotated[int, typer.Option("-k", help="Neighbours a word.")] = 10,
    measuring: Annotated[Measuring, Takes(without=("top_p",))],
    json: Json = False,
) -> None:
    """List the tokens that overlap most with a word."""
    from borngap.model.load import model_facts
    from borngap.model.neighbours import nearest_tokens

    loaded, kind = source.load(), measuring.geometry
    found = nearest_tokens(loaded.model, loaded.tokenizer, words, k=k, geometry=kind)
    if json:
        head: dict[str, Any] = {"schema": 1, "model": model_facts(loaded), "geometry": kind}
        print_json(head | {"neighbours": found})
        return
    say_notes(model_facts(loaded)["notes"])
    for name, rows in found.items():
        lines = [[word(row["token"]), short_number(row["overlap"])] for row in rows]
        print_table(fitted_table(f"\n{name}", ["token", "overlap"], lines))
