"""Settings of one scan: everything that decides what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from borngap.choices import DEFAULT_TOP_P, KINDS, Kind
from borngap.scanning.reading import InRange, Reading

Order = Literal["median", "worst", "spread"]  # in which a pair's targets become contexts
_LOWEST_PERCENTILE = 90.0


@dataclass(frozen=True, kw_only=True)
class Scanning(Reading):
    """What counts as a rival, and how rows are read.

    Attributes:
        percentile: percentile of the model's own bulk, in [90, 100); a rival's overlap with gold is above it.
        min_overlap: the least overlap of a rival with gold as a number, in (0, 1]; takes the place of the percentile.
        pairs: (gold, rival) words; only these are looked for, whatever their overlap, in both directions.
        geometry: rows that are compared: of the output embedding (``readout``), of the input embedding, or of the
            output embedding less their mean (``centered``).
        top_p: nucleus mass of the pool, in (0, 1]; 1 for the whole vocabulary.
        bulk_pairs: random token pairs that the bulk is sampled from.

    Raises:
        UserError: a setting is out of range.
    """

    percentile: float = 99.0
    min_overlap: float | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    geometry: Kind = "readout"
    top_p: float = DEFAULT_TOP_P
    bulk_pairs: int = 1_000_000

    def rules(self) -> Mapping[str, InRange]:
        """Return the range of each setting that has one."""
        own: dict[str, InRange] = {
            "percentile": (_LOWEST_PERCENTILE <= self.percentile < 100, f"in [{_LOWEST_PERCENTILE:g}, 100)"),
            "min_overlap": (self.min_overlap is None or 0 < self.min_overlap <= 1, "in (0, 1]"),
            "geometry": (self.geometry in KINDS, f"one of {', '.join(KINDS)}"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "bulk_pairs": (self.bulk_pairs >= 1, "at least 1 pair"),
        }
        return own | dict(super().rules())
