"""``borngap remedy``: what makes your words win in a planned fine-tuning, what it costs, and which to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from borngap.cli.arguments import AllowedRows, Json, ModelPlace, TermLanguage
from borngap.cli.options import Takes
from borngap.cli.progress import Progress, spoken
from borngap.cli.runforecasts import refuse_steps
from borngap.cli.show import print_json, say
from borngap.remedies.settings import Remedying
from borngap.training import Training

# what a run on a data set has no use for; a loss on rivals is a remedy; pilots are of AdamW alone
_NO_OPTIONS = ("forward", "stop", "joint", "shuffle", "rival_loss", "penalty", "criterion", "optimizer")


def remedy(
    context: typer.Context,
    *,
    source: ModelPlace,
    data: Annotated[str, typer.Option(help="Rows that the run trains on, as for `scan`.")],
    watch: Annotated[str, typer.Option(help="Held-out rows, whose places are watched.")],
    terms: Annotated[Path, typer.Option("--terms", "-t", help="Words to use and to avoid, as for `terms`.")],
    training: Annotated[Training, Takes(without=_NO_OPTIONS, defaults={"method": "lora"})],
    settings: Annotated[Remedying, Takes(without=("chunk", "seed"))],
    from_args: Annotated[
        Path | None,
        typer.Option(help="JSON of TrainingArguments or SFTConfig, in place of the options for them."),
    ] = None,
    allowed: AllowedRows = None,
    language: TermLanguage = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set, or key of a JSON object's rows.")] = "train",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder, also for the picture; an unfinished search there goes on."),
    ] = None,
    json: Json = False,
) -> None:
    """Try remedies for words that stay behind in a planned run, a pilot each, and say which to take.

    A pilot costs a tenth of the run or less, so ten remedies cost about as much as one run. Beside each remedy stands
    what a constant logit bias does at the same over-use, which no training costs.
    """
    from borngap.data.recognise import layout_of
    from borngap.data.source import source_of
    from borngap.pilot.hostargs import of_arguments, read_arguments
    from borngap.remedies.ask import remedy_search
    from borngap.remedies.remedyfolder import REMEDY_PICTURE

    if from_args is None and settings.epochs is not None:
        refuse_steps(context)
    rows = source_of(data, split)
    if from_args is not None:
        kind = layout_of(rows, settings.fields).kind
        training, piloting = of_arguments(read_arguments(from_args), training, settings.piloting, kind)
        settings = replace(settings, **vars(piloting))
    loaded = source.load()
    with Progress("reading rows") as bar:
        found = remedy_search(
            loaded.model, loaded.tokenizer, rows, watch, terms=terms, allowed=allowed, training=training,
            settings=settings, out=out, split=split, language=language, name=source.model,
            on_progress=lambda state: bar.show(state.done, state.total, what=state.doing),
        )  # fmt: skip
    if out is not None:
        from borngap.report.charts.drawing import picture

        picture(found.figure).save(out / REMEDY_PICTURE)
    if json:
        print_json(found.summary)
        return
    _report(found.summary)
    where = (
        "a picture is drawn with --out FOLDER" if out is None else f"written to {out}; the picture: {REMEDY_PICTURE}"
    )
    say(where)


def _report(summary: Mapping[str, Any]) -> None:
    from borngap.cli.usagesummaries import print_tried
    from borngap.report.tried.told import told_remedies

    for line in _headline(summary):
        say(line)
    for note in summary["notes"]:
        say(f"note: {note}")
    print_tried(told_remedies(summary))
    _paste(summary)
    for line in (*_unfit(summary), *_costs(summary)):
        say(line)


def _headline(summary: Mapping[str, Any]) -> Iterator[str]:
    take = summary["take"]
    yield f"Take {take}: {summary['why']}." if take else f"No remedy is recommended: {summary['why']}."
    yield (
        f"Of {summary['places']} held-out places of your words and {summary['right_avoid']} where the other is right; "
        f"held-out loss over {summary['held_out_tokens']} tokens."
    )


def _paste(summary: Mapping[str, Any]) -> None:
    """Print the lines to paste: whole, however wide the terminal is."""
    take = next((e for e in summary["remedies"] if e["remedy"] == summary["take"]), None)
    if take is None:
        say("\n--json has the lines to paste of every remedy.")
        return
    say(f"\nFor {take['remedy']} ({take['words']}):")
    for line in take["lines"]:
        typer.echo(f"    {line}")


def _unfit(summary: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{e['remedy']}: {e['why']}." for e in summary["remedies"] if e["why"] and e["remedy"] != "bias")


def _costs(summary: Mapping[str, Any]) -> Iterator[str]:
    cost = summary["cost"]
    yield (
        f"\nIt took {cost['of_run']:.0%} of the planned run: pilots of at most {cost['budget']:.0%} of their run each, "
        f"and a look before training; {spoken(cost['seconds'])}. A pilot is a noisy copy of a "
        "run; how far its ranking holds: docs/remedies-measured.md."
    )
