"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.choices import DEFAULT_TOP_P, Keep, Kind
from borngap.training import Dtype

if TYPE_CHECKING:
    from borngap.model.load import Loaded


def named_models(incomplete: str) -> list[str]:
    """Complete the name of a bundled or fetched model; of anything else the shell completes the files."""
    from borngap.zoo import local_names

    return [name for name in local_names() if name.startswith(incomplete)]


def fetchable_models(incomplete: str) -> list[str]:
    """Complete the name of a model that can be fetched."""
    from borngap.zoo import FETCHABLE

    return [name for name in FETCHABLE if name.startswith(incomplete)]


def bundled_contexts(incomplete: str) -> list[str]:
    """Complete the name of a bundled list of contexts."""
    from borngap.context import BUNDLED

    return [name for name in BUNDLED if name.startswith(incomplete)]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a model is put, and what its weights are held in.

    Attributes:
        device: torch device, such as cpu or cuda.
        dtype: dtype of the weights; ``auto`` keeps the checkpoint's. By default float32, unless that takes over half
            of the free memory.
    """

    device: str = "cpu"
    dtype: Dtype | None = None


@dataclass(frozen=True, kw_only=True)
class ModelPlace(Machine):
    """Which model, and where it is put.

    Attributes:
        model: a bundled or fetched name, a local folder, a GGUF file, or a hub id.
    """

    model: Annotated[str, typer.Option("--model", "-m", autocompletion=named_models)]

    def load(self) -> Loaded:
        """Load the model, without what the hosts say meanwhile."""
        from borngap.model.load import load, quiet

        quiet()
        return load(self.model, self.device, self.dtype)

    def tokenizer(self) -> Any:
        """Load its tokenizer alone."""
        from borngap.model.load import load_tokenizer, quiet

        quiet()
        return load_tokenizer(self.model)


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How a prediction is measured.

    Attributes:
        geometry: rows that are compared: of the output embedding (``readout``), of the input embedding, or of the
            output embedding less their mean (``centered``).
        top_p: nucleus mass of the pool, in (0, 1]; 1 for the whole vocabulary.
    """

    geometry: Kind = "readout"
    top_p: float = DEFAULT_TOP_P


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Which contexts of a list a model keeps; the list is the same for every model.

    Attributes:
        keep: ``measurable``, the default, keeps those whose words the tokenizer tells apart; ``rival-ahead`` those of
            them with one token a word in which the rival leads at the base model.
        most: how many are kept at most, pairs of words in turn.
    """

    keep: Keep | None = None
    most: int | None = None


Contexts = Annotated[
    str,
    typer.Option(
        "--contexts", "-c", help="JSON Lines or CSV file, `-` for standard input, or a bundled name such as docs10.",
        autocompletion=bundled_contexts,
    ),
]  # fmt: skip
OF_A_RUN = "Run on a data set"  # panel of the help
AllowedRows = Annotated[
    Path | None, typer.Option(help="Rows in which words to avoid are right, as for `terms`.", rich_help_panel=OF_A_RUN)
]
TermLanguage = Annotated[
    str | None, typer.Option(help="Language of TBX with several, such as `en`.", rich_help_panel=OF_A_RUN)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
RayAddress = Annotated[str | None, typer.Option(help="A running Ray cluster, such as ray://host:10001.")]
