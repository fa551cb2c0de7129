"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from borngap.errors import UserError


class MethodName(StrEnum):
    """What is trained."""

    full = "full"
    lora = "lora"
    readout_only = "readout-only"


class CriterionName(StrEnum):
    """What counts as resolved."""

    rank = "rank"
    top1 = "top1"
    born = "born"


class PartName(StrEnum):
    """What full fine-tuning can leave alone."""

    readout = "readout"
    embeddings = "embeddings"


class ScheduleName(StrEnum):
    """How the rate changes over the run."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class GeometryName(StrEnum):
    """Which rows are read as directions."""

    readout = "readout"
    input = "input"
    centered = "centered"


class DtypeName(StrEnum):
    """What weights are held in."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


def bundled_models(incomplete: str) -> list[str]:
    """Complete a bundled model's name; of anything else the shell completes the files."""
    from borngap.zoo import bundled_names

    return [name for name in bundled_names() if name.startswith(incomplete)]


def bundled_contexts(incomplete: str) -> list[str]:
    """Complete the name of a bundled list of contexts."""
    from borngap.context import BUNDLED

    return [name for name in BUNDLED if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A bundled name, a local folder, or a hub id.", autocompletion=bundled_models),
]
Contexts = Annotated[
    str,
    typer.Option(
        "--contexts", "-c", help="JSON Lines or CSV file, `-` for standard input, docs10, docs40 or paper10.",
        autocompletion=bundled_contexts,
    ),
]  # fmt: skip
GeometryOption = Annotated[
    GeometryName, typer.Option("--geometry", help="Rows of the output embedding, the input embedding, or centered.")
]
TopP = Annotated[float, typer.Option("--top-p", help="Nucleus mass of the pool; 1 for the whole vocabulary.")]
Device = Annotated[str, typer.Option("--device", help="Torch device, such as cpu or cuda.")]
Dtype = Annotated[
    DtypeName | None,
    typer.Option(
        "--dtype",
        help="Dtype of the weights; `auto` keeps the checkpoint's. By default float32, unless that takes over half of "
        "the free memory.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Seed = Annotated[int, typer.Option("--seed", help="Seeds whatever is random.")]

Method = Annotated[MethodName, typer.Option(help="What is trained.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate; by default full 2e-5, LoRA 1e-4.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps a run.")]
Freeze = Annotated[list[PartName] | None, typer.Option(help="Part that full leaves alone; repeatable.")]
Joint = Annotated[bool, typer.Option("--joint", help="Train all contexts together, not each alone.")]
BatchSize = Annotated[int, typer.Option(help="Contexts a batch, if joint.")]
Criterion = Annotated[CriterionName, typer.Option(help="What counts as resolved.")]
LoraRank = Annotated[int, typer.Option(help="Rank of LoRA's adapters.")]
LoraAlpha = Annotated[float, typer.Option(help="LoRA's alpha.")]
LoraTargets = Annotated[str, typer.Option(help="Modules, comma-separated; also `attention`, `all-linear`, `readout`.")]
Beta1 = Annotated[float, typer.Option(help="AdamW's beta 1.")]
Beta2 = Annotated[float, typer.Option(help="AdamW's beta 2.")]
Eps = Annotated[float, typer.Option(help="AdamW's epsilon.")]
WeightDecay = Annotated[float, typer.Option(help="AdamW's weight decay.")]
Schedule = Annotated[ScheduleName, typer.Option(help="Rate over the run.")]
Warmup = Annotated[int, typer.Option(help="Steps of linear warm-up.")]
Clip = Annotated[float, typer.Option(help="Largest gradient norm; 0 for no clipping.")]


def modules(text: str) -> tuple[str, ...]:
    """Return the module names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(","))


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma-separated list.

    Args:
        text: such as ``0,1,2``.
        what: what they are, for the message.

    Returns:
        The numbers.

    Raises:
        UserError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"can't read the {what}", rule="whole numbers, comma-separated", found=text) from None
