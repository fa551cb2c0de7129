"""Settings of a search for a remedy: which are tried, at what cost, and what one may cost in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from borngap.pilot.settings import Piloting
from borngap.remedies.remedy import DEFAULT_REMEDIES, read_remedies
from borngap.scanning.reading import InRange


@dataclass(frozen=True, kw_only=True)
class Remedying(Piloting):
    """Which remedies are tried, and what they may cost.

    Attributes:
        remedies: what is tried: losses on rivals (``margin:WEIGHT,MARGIN``, ``logistic:WEIGHT``,
            ``unlikelihood:WEIGHT``, ``weight:WEIGHT``), penalties on the output matrix (``overlap:WEIGHT``,
            ``decorrelation:WEIGHT``; not under LoRA), ``rate:TIMES``, ``epochs:TIMES``, ``upsample:TIMES``,
            ``head`` (LoRA on the output matrix too), ``bias`` (no training); several of one run joined by ``+``.
        budget: what the pilot of each remedy may cost, the look at its end included, as a share of the run.
        max_loss: held-out loss that a remedy may add, unit nat a token.
        max_over_use: over-use that a remedy may add, in percentage points.

    Raises:
        UserError: a setting is out of range, or a remedy can't be read.
    """

    remedies: str = DEFAULT_REMEDIES
    budget: float = 0.1
    max_loss: float = 0.02
    max_over_use: float = 2.0

    def rules(self) -> Mapping[str, InRange]:
        """Return the range of each setting that has one; the remedies are read too."""
        read_remedies(self.remedies)
        own: dict[str, InRange] = {
            "max_loss": (0 <= self.max_loss < math.inf, "a finite number, at least 0"),
            "max_over_use": (0 <= self.max_over_use <= 100, "percentage points in [0, 100]"),
        }
        return own | dict(super().rules())

    @property
    def piloting(self) -> Piloting:
        """What each pilot goes by."""
        return Piloting(**{field.name: getattr(self, field.name) for field in fields(Piloting)})
