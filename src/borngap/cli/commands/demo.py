"""``borngap demo``: the main job on a bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Contexts, ModelPlace
from borngap.cli.commands.geometry import bulks_of, geometry_table
from borngap.cli.options import Takes
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, model_line, print_table, say, short_number
from borngap.report.text import word
from borngap.shown import visible

if TYPE_CHECKING:
    from borngap.context import Context
    from borngap.model.load import Loaded

_PAIRS = 1_000_000


def demo(
    *,
    source: Annotated[ModelPlace, Takes(defaults={"model": "docs-gpt2-s"})],
    contexts: Contexts = "docs10",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run and its report.")] = Path("borngap-demo"),
    steps: Annotated[int, typer.Option(help="Optimiser steps a context.")] = 50,
) -> None:
    """Probe a bundled model, fine-tune it with LoRA at the usual rate, and write a report on the result."""
    from borngap.context import read_contexts
    from borngap.model.load import model_facts
    from borngap.model.probe import probe, records

    loaded = source.load()
    info = model_facts(loaded)
    say(model_line(info))
    print_table(geometry_table(bulks_of(loaded, _PAIRS, 0)))
    wanted = read_contexts(contexts)
    rows = records(probe(loaded.model, loaded.tokenizer, wanted))
    print_table(_contexts_table(rows))
    say()
    for index, row in enumerate(rows, 1):
        say(f"{index:>3}  {_sentence(row)}")
    say(_conclusion(rows))
    _train(loaded, wanted, out, steps)


def _train(loaded: Loaded, contexts: list[Context], out: Path, steps: int) -> None:
    """Fine-tune on the contexts, and write the report."""
    from borngap.report.report import report_of
    from borngap.train.finetune import finetune
    from borngap.training import Training

    training = Training(method="lora", steps=steps)
    told = f"\nFine-tuning on each context: LoRA at its usual rate, {training.learning_rate:g}, {steps} steps ..."
    say(told)
    with Progress("training") as progress:
        run = finetune(loaded, contexts, training, out / "run", lambda step: progress.show(seen=f"step {step.step}"))
        progress.show(what="writing the report")
        report = report_of(run.folder)
        path = report.save(out / "report.html")
    say(report.verdicts[0])
    say(f"\nOpen the report in a browser: {path.resolve()}")


def _contexts_table(rows: list[dict[str, Any]]) -> Any:
    headings = ["", "gold", "rival", "overlap", "p gold", "p rival", "logit gap", "Born gap", "ahead", "by Born gap"]
    numbers = ("gold_overlap", "gold_probability", "rival_probability", "logit_gap", "born_gap")
    lines = [
        [
            index,
            word(row["gold"]),
            word(row["rival"]),
            *(short_number(row[key], 3) for key in numbers),
            "gold" if row["logit_gap"] > 0 else "rival",
            "gold" if row["born_gap"] > 0 else "rival",
        ]
        for index, row in enumerate(rows, 1)
    ]
    return fitted_table("\ncontexts (logit gap in nat)", headings, lines, 3, keys=2)


def _sentence(row: dict[str, Any]) -> str:
    from borngap.observables.leader import standing

    flag = " [a fragment of the word is measured]" if row["fragment"] else ""
    return f"{visible(row['prompt'])} ... {word(row['gold'])}{flag}\n     {standing(row)}"


def _conclusion(rows: list[dict[str, Any]]) -> str:
    whole = [row for row in rows if not row["fragment"]]
    behind = [row for row in whole if row["logit_gap"] <= 0]
    born = [row for row in whole if row["born_gap"] <= 0]
    differ = sum((row["logit_gap"] > 0) != (row["born_gap"] > 0) for row in whole)
    left_out = f" ({len(rows) - len(whole)} fragments left out)" if len(whole) < len(rows) else ""
    return (
        f"\nOf {len(whole)} contexts{left_out} the rival is ahead in {len(behind)} in probability and in {len(born)} "
        f"by the Born gap; the two disagree in {differ}."
    )
