"""Terms of a house style: a word to use, and the word that it stands instead of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word to use and one to avoid; a wanted word with several that it replaces is several terms.

    Attributes:
        use: the wanted word or phrase, in its base form and usual case.
        avoid: the word that it stands instead of.
        where: where it stands, in words; terms of one entry share it.
        cased: whether only the case in which both are written counts.
        inflected: whether other forms count too: parameters beside parameter.
        whole: whether both are whole words; else they are found within words, too.
        pattern: regular expression that finds ``avoid`` in the place of its spelling; None where the spelling does.
        exceptions: regular expressions; what lies within a match of one is no place of ``avoid``.
    """

    use: str
    avoid: str
    where: str = ""
    cased: bool = False
    inflected: bool = True
    whole: bool = True
    pattern: str | None = None
    exceptions: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Both, in a few words."""
        return f"{self.use!r} instead of {self.avoid!r}"

    @property
    def is_spelt(self) -> bool:
        """Whether ``avoid`` is a word, and not an expression that lists none."""
        return self.avoid != self.pattern


@dataclass(frozen=True)
class LeftOut:
    """A term that can't be measured.

    Attributes:
        use: the wanted word, as it is written.
        avoid: the other.
        where: where it stands.
        reason: why.
    """

    use: str
    avoid: str
    where: str
    reason: str


@dataclass(frozen=True)
class TermList:
    """Terms, as read from somewhere.

    Attributes:
        name: where they come from.
        terms: at least one.
        left_out: entries that make no term, with the reason.
    """

    name: str
    terms: tuple[Term, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Wanted words with those that they stand instead of, but for expressions that list none."""
        return tuple((term.use, term.avoid) for term in self.terms if term.is_spelt)

    def __len__(self) -> int:
        return len(self.terms)

    def __iter__(self) -> Iterator[Term]:
        return iter(self.terms)
