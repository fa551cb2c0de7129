"""Settings of the files that remedies are made of (docs/remedies.md#files-for-other-trainers)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from borngap.errors import UserError

_KINDS = {"export_pairs": "preference pairs", "export_bias": "a logit bias", "export_rows": "rows"}


@dataclass(frozen=True, kw_only=True)
class RemedyFiles:
    """Which files are written, and what goes into them.

    Attributes:
        export_pairs: file for DATA's places as preference pairs in TRL's format: the text before, the word, its rival;
            by itself it asks no model.
        pairs_both_ways: make pairs of places too where the word to avoid is right, the other way round.
        export_bias: file for a bias against the words to avoid, as transformers' `generate` takes it.
        bias_over_use: over-use that the bias may add to the model's own, as a share in [0, 1].
        export_rows: file for DATA's rows, those with a wanted word several times; by itself it asks no model.
        rows_times: how often such a row stands there.

    Raises:
        UserError: a setting is out of range, or a file is there already or can't be written.
    """

    export_pairs: Path | None = None
    pairs_both_ways: bool = False
    export_bias: Path | None = None
    bias_over_use: float = 0.02
    export_rows: Path | None = None
    rows_times: int = 2

    def __post_init__(self) -> None:
        """Check the settings before anything is asked.

        Raises:
            UserError: one is out of range, or a file is there already or can't be written.
        """
        if not 0 <= self.bias_over_use <= 1:
            raise UserError("bias-over-use is out of range", rule="a share in [0, 1]", found=self.bias_over_use)
        if self.rows_times < 1:
            raise UserError("rows-times is out of range", rule="a number from 1", found=self.rows_times)
        from borngap.files import check_new_file  # loads Polars

        for name, what in _KINDS.items():
            file = getattr(self, name)
            if file is not None:
                object.__setattr__(self, name, Path(file))
                check_new_file(Path(file), what)

    @property
    def wanted(self) -> bool:
        """Whether any file is."""
        return any(getattr(self, name) is not None for name in _KINDS)

    @property
    def needs_model(self) -> bool:
        """Whether one of them is made of what a model says; the others are the tokenizer's alone."""
        return self.export_bias is not None
