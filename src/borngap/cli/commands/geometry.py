"""``borngap geometry``: the bulk of a model's embedding matrices."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Json, ModelPlace
from borngap.cli.show import fitted_table, model_line, print_json, print_table, say, say_notes, short_number

if TYPE_CHECKING:
    from borngap.cli.tables import Fitted
    from borngap.model.load import Loaded
    from borngap.observables.bulk import Bulk

_MEANING = {
    "A": "A, dense",
    "B": "B, sparse",
    "intermediate": "intermediate",
}
_ROWS = {
    "mean": "mean overlap mu",
    "std": "standard deviation sigma",
    "anisotropy": "anisotropy mu / sigma",
    "mean_square": "mean of G^2",
    "isotropic": "1/d, isotropic rows",
    "crowding": "crowding d * mean(G^2)",
    "fraction_above": "share of pairs with G^2 > 0.1",
    "ks_gaussian": "KS distance to a normal",
    "ks_exponential": "KS distance to an exponential",
}


def geometry(
    *,
    source: ModelPlace,
    pairs: Annotated[int, typer.Option(rich_help_panel="Options", help="Random token pairs.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Seeds the choice of pairs.")] = 0,
    json: Json = False,
) -> None:
    """Show how crowded a model's embedding space is, for readout, input and centered rows."""
    from borngap.model.load import model_facts

    loaded = source.load()
    info, bulks = model_facts(loaded), bulks_of(loaded, pairs, seed)
    if json:
        matrices = {kind: asdict(bulk) | {"class": bulk.embedding_class} for kind, bulk in bulks.items()}
        print_json({"schema": 1, "model": info, "tied": info["tied"], "seed": seed, "matrices": matrices})
        return
    say(model_line(info))
    print_table(geometry_table(bulks))
    say_notes(info["notes"])


def bulks_of(loaded: Loaded, pairs: int, seed: int) -> dict[str, Bulk]:
    """Return the bulk statistics of all three geometry matrices."""
    from borngap.choices import KINDS
    from borngap.model.readout import geometry_of, readout_of

    tied = readout_of(loaded.model).tied  # then input is readout: counted once
    wanted = [kind for kind in KINDS if not (tied and kind == "input")]
    bulks = {kind: geometry_of(loaded.model, kind, loaded.tokenizer).bulk(pairs, seed) for kind in wanted}
    return {kind: bulks["readout" if tied and kind == "input" else kind] for kind in KINDS}


def geometry_table(bulks: dict[str, Bulk]) -> Fitted:
    """Return the table of bulk statistics, a column a matrix."""
    rows: list[list[Any]] = [
        [label, *(short_number(getattr(b, key)) for b in bulks.values())] for key, label in _ROWS.items()
    ]
    rows.append(["class", *(_MEANING[b.embedding_class] for b in bulks.values())])
    first = next(iter(bulks.values()))
    title = f"\nbulk geometry: {first.pairs} pairs of {first.tokens} tokens ({first.left_out} rows left out)"
    return fitted_table(title, ["", *bulks], rows)
