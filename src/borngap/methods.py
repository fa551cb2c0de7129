"""Fine-tuning methods by name: what each trains, its usual rate, and whether its start is drawn (docs/methods.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal[
    "full", "readout-only", "lora", "rslora", "dora", "lora+", "pissa", "vera", "ia3", "oft", "ln", "bitfit", "prompt",
    "prefix", "adapter", "peft",
]  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is known of a method before any model is loaded.

    Attributes:
        words: its name in a sentence.
        rate: learning rate that is usual for it, with AdamW.
        source: whose rate that is.
        largest: largest rate that a search for critical rates goes to.
        rank: rank of its adapters, or width of its bottleneck, unless given; no matter where there is none.
        drawn: whether seeds play a part: its initial weights are drawn.
        layers: whether it adapts layers that are chosen by name.
    """

    words: str
    rate: float
    source: str
    largest: float
    rank: int = 8
    drawn: bool = False
    layers: bool = False


_PAPER, _COMPARISON = "arXiv 2606.07559", "PEFT's method comparison (MetaMathQA)"
METHODS: dict[Method, Facts] = {
    "full": Facts("full fine-tuning", 2e-5, _PAPER, 1e-2),
    "readout-only": Facts("training of the readout alone", 2e-5, _PAPER, 1e-1),
    "lora": Facts("LoRA", 1e-4, _PAPER, 1e-1, drawn=True, layers=True),
    "rslora": Facts("rank-stabilised LoRA", 1e-4, _COMPARISON, 1e-1, drawn=True, layers=True),
    "dora": Facts("DoRA", 1e-4, _COMPARISON, 1e-1, drawn=True, layers=True),
    "lora+": Facts("LoRA+", 1e-4, "as LoRA, which it speeds up", 1e-1, drawn=True, layers=True),
    "pissa": Facts("PiSSA", 1e-4, "as LoRA, whose start it changes", 1e-1, layers=True),
    "vera": Facts("VeRA", 1e-4, _COMPARISON, 1.0, 256, layers=True),
    "ia3": Facts("IA3", 1e-4, _COMPARISON, 1.0, layers=True),
    "oft": Facts("OFT", 1e-4, _COMPARISON, 1e-1, 32, layers=True),
    "ln": Facts("tuning of the layer norms", 1e-4, _COMPARISON, 1.0),
    "bitfit": Facts("tuning of the biases (BitFit)", 1e-4, "arXiv 2106.10199, the smallest of its grid", 1.0),
    "prompt": Facts("prompt tuning", 1e-3, _COMPARISON, 10.0, drawn=True),
    "prefix": Facts("prefix tuning", 1e-3, _COMPARISON, 10.0, drawn=True),
    "adapter": Facts("bottleneck adapters", 3e-4, "arXiv 1902.00751, within its grid", 1e-1, 64, drawn=True),
    "peft": Facts("a PEFT configuration", 1e-4, _COMPARISON, 1.0, drawn=True),
}
NAMES: tuple[Method, ...] = get_args(Method)
WHOLE: tuple[Method, ...] = ("full", "readout-only")  # these train the model's own matrices, not what is added to them
