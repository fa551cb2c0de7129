"""``borngap demo``: a house style on real prose, before and after two fine-tunings of a bundled model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import ModelPlace
from borngap.cli.options import Takes
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, model_line, print_table, say
from borngap.methods import Method
from borngap.training import Training

if TYPE_CHECKING:
    from borngap.model.load import Loaded
    from borngap.usage.usagefolder import Usage
    from borngap.zoo.housestyle import HouseStyle
    from borngap.zoo.rowtraining import RowRun

_BATCH = 8
_LOSS_ROWS = 200


@dataclass(frozen=True)
class _Attempt:
    """A fine-tuning to try."""

    name: str
    method: Method
    rate: float

    @property
    def told(self) -> str:
        way = "LoRA" if self.method == "lora" else "full fine-tuning"
        return f"{way}, rate {self.rate:g}"


_ATTEMPTS = (_Attempt("lora", "lora", 2e-4), _Attempt("full", "full", 1e-3))


def demo(
    *,
    source: Annotated[ModelPlace, Takes(defaults={"model": "docs-gpt2-s"})],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for data, models and results.")] = Path(
        "borngap-demo"
    ),
    steps: Annotated[int, typer.Option(help="Optimiser steps of each fine-tuning.")] = 60,
    limit: Annotated[int | None, typer.Option(help="Held-out rows; all unless given.")] = None,
) -> None:
    """Put a house style into real prose, fine-tune a model on it in two ways, and see whether it uses the words."""
    from borngap.model.load import model_facts
    from borngap.zoo.housestyle import house_style

    style = house_style()
    files = style.save(out / "data")
    loaded = source.load()
    say(model_line(model_facts(loaded)))
    say(_introduction(style))
    rows: list[tuple[str, RowRun | None, Usage]] = [("before", None, _asked(loaded, files, limit, out / "before"))]
    for attempt in _ATTEMPTS:
        folder = out / f"model-{attempt.name}"
        run = _trained(source.load(), style, attempt, folder, steps, limit)
        rows.append((attempt.told, run, _asked(run.loaded, files, limit, out / f"after-{attempt.name}")))
        # only now: a folder that holds results of other steps was refused, and its model is kept
        run.loaded.model.save_pretrained(folder)
        run.loaded.tokenizer.save_pretrained(folder)
    say(f"\nHeld-out text before and after {steps} steps of {_BATCH} rows; loss in nat a token:")
    print_table(_table(rows))
    say(_loss_sentence([run for _, run, _ in rows if run]))
    say(_conclusion(out, _page(out)))


def _introduction(style: HouseStyle) -> str:
    terms = ", ".join(f"{use} for {avoid}" for use, avoid in style.terms)
    return (
        f"\nA house style ({terms}) in the prose of installed packages: {len(style.train):,} rows to train on, "
        f"{len(style.held_out):,} held out. In some rows the other words are right."
    )


def _asked(loaded: Loaded, files: dict[str, Path], limit: int | None, folder: Path) -> Usage:
    """How a model uses the terms in the held-out rows."""
    from borngap.usage.terms import terms

    with Progress("asking the model") as progress:
        return terms(
            loaded.model, loaded.tokenizer, files["held_out"], files["terms"], out=folder, name=loaded.name,
            allowed_field="allowed", leak=False, limit=limit,
            on_progress=lambda seen: progress.show(seen.rows, seen.total, seen=f"{seen.places} places"),
        )  # fmt: skip


def _trained(
    loaded: Loaded, style: HouseStyle, attempt: _Attempt, folder: Path, steps: int, limit: int | None
) -> RowRun:
    """Train on the style's rows."""
    from borngap.zoo.rowtraining import train_on_rows

    training = Training(method=attempt.method, rate=attempt.rate, steps=steps, schedule="linear", batch_size=_BATCH)
    train, held_out = (
        [str(row["text"]) for row in rows] for rows in (style.train, style.held_out[: limit or _LOSS_ROWS])
    )
    with Progress(f"training: {attempt.told}", steps) as progress:
        return train_on_rows(loaded, train, held_out, training, folder, progress.show)


def _table(rows: list[tuple[str, RowRun | None, Usage]]) -> Any:
    start = next(run.loss_before for _, run, _ in rows if run)
    lines = []
    for name, run, usage in rows:
        shares = usage.summary["all"]
        loss = run.loss_after if run else start
        lines.append([name, f"{loss:.3f}", *(f"{shares[key]:.0%}" for key in ("success", "over_use"))])
    shares = rows[0][2].summary["all"]
    headings = [
        "", "loss", f"wanted word leads, of {shares['due']} places",
        f"leads too where the other is right, of {shares['right_avoid']}",
    ]  # fmt: skip
    return fitted_table("", headings, lines)


def _page(out: Path) -> Path:
    """Write the page that sets the three models side by side."""
    from borngap.report.report import comparison_of

    made = comparison_of(out / "before", *(out / f"after-{attempt.name}" for attempt in _ATTEMPTS))
    return made.save(out / "page.html")


def _loss_sentence(runs: list[RowRun]) -> str:
    fell = sum(run.loss_after < run.loss_before for run in runs)
    return f"The loss fell in {fell} of {len(runs)} runs; it does not tell which of them use the words."


def _conclusion(out: Path, page: Path) -> str:
    return (
        f"\nOpen the page in a browser: {page.resolve()}\n"
        f"Ask any model yourself: borngap terms {out / 'data/held-out.jsonl'} --terms {out / 'data/style.csv'} "
        f"--allowed-field allowed --model {out / 'model-full'}"
    )
