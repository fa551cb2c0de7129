"""Settings of one scan: everything that decides what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from borngap.choices import DEFAULT_TOP_P, KINDS, Kind
from borngap.scanning.reading import InRange, Reading
from borngap.words.relation import RELATIONS, SYNONYMOUS, Relation

Order = Literal["median", "worst", "spread"]  # in which a pair's targets become contexts
PERCENTILE_FLOOR = 90.0
_FOUND = tuple(name for name in RELATIONS if name != "given")  # a given pair is one of ``pairs``


@dataclass(frozen=True, kw_only=True)
class Scanning(Reading):
    """What counts as a rival, and how rows are read.

    Attributes:
        relations: relations of gold and rival that count, such as ``synonym``, ``spelling`` or ``inflection``; only
            such rivals are looked for. By default all are, and the headline counts synonyms and spellings.
        thesaurus: file of groups of synonyms, one a line, words separated by commas; added to WordNet.
        terms: (use, avoid) words of a house style: given pairs, looked for in any form and in both directions, and
            before synonyms.
        find_by: rows by whose overlap rivals that are no synonyms are found: of the output embedding less their mean
            (``centered``), of the output embedding (``readout``), or of the input embedding.
        percentile: percentile of random pairs of these rows, in [90, 100); a rival's overlap with gold is above it.
        min_overlap: the least overlap of a rival with gold as a number, in (0, 1]; takes the place of the percentile.
        pairs: (gold, rival) words; only these are looked for, whatever their overlap, in both directions.
        geometry: rows that are compared: of the output embedding (``readout``), of the input embedding, or of the
            output embedding less their mean (``centered``).
        top_p: nucleus mass of the pool, in (0, 1]; 1 for the whole vocabulary.
        bulk_pairs: random token pairs that the bulk is sampled from.

    Raises:
        UserError: a setting is out of range.
    """

    relations: tuple[Relation, ...] | None = None
    thesaurus: str | None = None
    terms: tuple[tuple[str, str], ...] | None = None
    find_by: Kind = "centered"
    percentile: float = 99.8
    min_overlap: float | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    geometry: Kind = "readout"
    top_p: float = DEFAULT_TOP_P
    bulk_pairs: int = 1_000_000

    def rules(self) -> Mapping[str, InRange]:
        """Return the range of each setting that has one."""
        alone = "none beside pairs, whose relation is that they are given"
        own: dict[str, InRange] = {
            "relations": (set(self.relations or ()) <= set(_FOUND), f"one or more of {', '.join(_FOUND)}"),
            "find_by": (self.find_by in KINDS, f"one of {', '.join(KINDS)}"),
            "percentile": (PERCENTILE_FLOOR <= self.percentile < 100, f"in [{PERCENTILE_FLOOR:g}, 100)"),
            "min_overlap": (self.min_overlap is None or 0 < self.min_overlap <= 1, "in (0, 1]"),
            "geometry": (self.geometry in KINDS, f"one of {', '.join(KINDS)}"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "bulk_pairs": (self.bulk_pairs >= 1, "at least 1 pair"),
        }
        if self.pairs is not None:
            own |= {name: (not getattr(self, name), alone) for name in ("relations", "thesaurus", "terms")}
        return own | dict(super().rules())

    @property
    def counted(self) -> tuple[Relation, ...]:
        """The relations that the headline counts: those that are named, or else of words that can mean the same."""
        given: tuple[Relation, ...] = ("given",) if self.relations and self.terms else ()
        return given + (self.relations or SYNONYMOUS)
