"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class GeometryName(StrEnum):
    """Which rows are read as directions."""

    readout = "readout"
    input = "input"
    centered = "centered"


Model = Annotated[str, typer.Option("--model", "-m", help="A bundled name, a local folder, or a hub id.")]
Contexts = Annotated[
    str, typer.Option("--contexts", "-c", help="JSON Lines or CSV file, `-` for standard input, docs10 or paper10.")
]
GeometryOption = Annotated[
    GeometryName, typer.Option("--geometry", help="Rows of the output embedding, the input embedding, or centered.")
]
TopP = Annotated[float, typer.Option("--top-p", help="Nucleus mass of the pool; 1 for the whole vocabulary.")]
Device = Annotated[str, typer.Option("--device", help="Torch device, such as cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Seed = Annotated[int, typer.Option("--seed", help="Seeds whatever is random.")]
