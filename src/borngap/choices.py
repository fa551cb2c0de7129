"""What settings are chosen from: names and defaults, apart from the heavy modules that carry them out."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["readout", "input", "centered"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Criterion = Literal["rank", "top1", "born"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
Stop = Literal["none", "saturation", "structural", "resolved"]
HostStop = Literal["none", "saturation", "structural", "resolved", "hopeless"]
Keep = Literal["measurable", "rival-ahead"]
DEFAULT_TOP_P = 0.9
