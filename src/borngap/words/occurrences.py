"""Where the words of terms stand in a text: in any form and case, whole words only, the longest of several."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import regex

from borngap.errors import UserError
from borngap.words.inflection import agree, forms
from borngap.words.term import Term

Side = Literal["use", "avoid"]
# scripts that put no space between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer), and Korean, which adds
# particles to them: there a word may stand within others
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_LETTER = rf"[^\W{_UNSPACED}]"
_CHUNK = re.compile(rf"[{_UNSPACED}]|{_LETTER}+")
_BETWEEN = r"(?:[^\S\r\n]+|[^\S\r\n]*\r?\n[^\S\r\n]*)"  # words of a phrase stand on one line, or on two
_SPACE = re.compile(r"\s+")
_SECONDS, _STRETCH = 10.0, 1_000_000  # of one expression in one text, and again for every so many characters


@dataclass(frozen=True)
class Occurrence:
    """A word of a term in a text.

    Attributes:
        term: index of the term.
        side: which of its words it is.
        start: its first character.
        stop: the character after its last.
        text: it, as it stands.
        other: the term's other word in the same form and case; empty where the term lists none.
    """

    term: int
    side: Side
    start: int
    stop: int
    text: str
    other: str


@dataclass(frozen=True)
class _Spelling:
    """A form of a word: what finds it from ``offset`` characters before its first chunk on."""

    term: int
    side: Side
    found: re.Pattern[str]
    offset: int


class Finder:
    """Finds the words of terms.

    A form that both words of a term share is none of either (leaves: of leaf and of leave). A word within a longer one
    of the other side is no occurrence: neither "oops" in a wanted "kernel oops", nor a wanted "menu" in "context menu".
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        """Prepare.

        Args:
            terms: the terms.
        """
        self._terms = terms
        self._by_chunk: dict[str, list[_Spelling]] = {}
        self._patterns: list[tuple[int, Side, Any]] = []
        self._right: dict[str, set[str]] = {}  # entry -> spellings that it wants
        self._exceptions = {e: (_compiled(e, cased=False), term) for term in terms for e in term.exceptions}
        for index, term in enumerate(terms):
            self._add(index, term)

    def find(self, text: str) -> list[Occurrence]:
        """Return all occurrences in a text.

        Args:
            text: any text.

        Returns:
            In the order of their first characters.

        Raises:
            UserError: an expression of a term takes too long.
        """
        found = {(o.term, o.side, o.start, o.stop): o for o in (*self._spelt(text), *self._matched(text))}
        if not found:
            return []
        excepted = {
            e: [match.span() for match in _matches(rule, text, term, e)] for e, (rule, term) in self._exceptions.items()
        }
        kept = [o for o in _longest(list(found.values())) if o.side == "use" or not self._is_right(o, excepted)]
        return sorted(kept, key=lambda o: (o.start, o.term))

    def _spelt(self, text: str) -> Iterator[Occurrence]:
        for chunk in _CHUNK.finditer(text):
            for spelling in self._by_chunk.get(chunk.group().lower(), ()):
                start = chunk.start() - spelling.offset
                match = spelling.found.match(text, start) if start >= 0 else None
                if match:
                    yield self._occurrence(spelling.term, spelling.side, match)

    def _matched(self, text: str) -> Iterator[Occurrence]:
        for term, side, pattern in self._patterns:
            for match in _matches(pattern, text, self._terms[term]):
                if match.group():
                    yield self._occurrence(term, side, match)

    def _occurrence(self, index: int, side: Side, match: Any) -> Occurrence:
        term = self._terms[index]
        own, other = (term.use, term.avoid) if side == "use" else (term.avoid, term.use)
        text = match.group()
        if side == "use" and not term.is_spelt:
            return Occurrence(index, side, match.start(), match.end(), text, "")
        counterpart = _in_step(text, _counterpart(_spaced(text), own, other))
        return Occurrence(index, side, match.start(), match.end(), text, counterpart)

    def _is_right(self, occurrence: Occurrence, excepted: dict[str, list[tuple[int, int]]]) -> bool:
        """Whether a word to avoid is one that its entry wants in this spelling, or excepts."""
        term = self._terms[occurrence.term]
        if _spaced(occurrence.text) in self._right[term.where]:
            return True
        spans = (span for e in term.exceptions for span in excepted[e])
        return any(start <= occurrence.start and occurrence.stop <= stop for start, stop in spans)

    def _add(self, index: int, term: Term) -> None:
        mine, theirs = _forms(term.use, term), _forms(term.avoid, term)
        self._right.setdefault(term.where, set()).update(mine)
        key = str if term.cased else str.lower
        shared = {key(form) for form in mine} & {key(form) for form in theirs}
        sides: tuple[tuple[Side, list[str]], ...] = (("use", mine), ("avoid", theirs if term.pattern is None else []))
        for side, spelt in sides:
            for form in spelt:
                if key(form) not in shared:
                    self._add_form(index, side, form, term)
        if term.pattern is not None:
            self._patterns.append((index, "avoid", _compiled(term.pattern, cased=term.cased, whole=term.whole)))

    def _add_form(self, index: int, side: Side, form: str, term: Term) -> None:
        spelt, first = _BETWEEN.join(map(re.escape, form.split())), _CHUNK.search(form)
        if first is None or not term.whole:
            self._patterns.append((index, side, _compiled(spelt, cased=term.cased, whole=term.whole)))
            return
        found = re.compile(_bounded(spelt), 0 if term.cased else re.IGNORECASE)
        self._by_chunk.setdefault(first.group().lower(), []).append(_Spelling(index, side, found, first.start()))


def words_in(text: str) -> list[str]:
    """Return the words of a text; of scripts without spaces, the characters."""
    return _CHUNK.findall(text)


def _forms(word: str, term: Term) -> list[str]:
    """Spellings of a word that count."""
    if not term.inflected:
        return [word]
    return list(dict.fromkeys(form for spelt in forms(word).values() for form in spelt))


def _bounded(pattern: str) -> str:
    """A pattern that finds whole words only; what begins or ends with no letter needs no boundary there."""
    return rf"(?:(?<!{_LETTER})|(?!{_LETTER}))(?:{pattern})(?:(?!{_LETTER})|(?<!{_LETTER}))"


def _compiled(pattern: str, *, cased: bool, whole: bool = True) -> Any:
    return regex.compile(_bounded(pattern) if whole else pattern, 0 if cased else regex.IGNORECASE)


def _matches(pattern: Any, text: str, term: Term, exception: str | None = None) -> Iterator[Any]:
    """What an expression finds, in bounded time: some expressions try every way to cut a text into their parts."""
    limit = _SECONDS * (1 + len(text) // _STRETCH)
    try:
        yield from pattern.finditer(text, timeout=limit)
    except TimeoutError:
        rule = f"at most {limit:g} s of one processor for a text of {len(text)} characters"
        fix = "write it so that a text fits it in one way only, without repeats in a repeat; or take the line out"
        found = f"{term.words}, by {term.pattern}" if exception is None else f"{exception}, an exception"
        raise UserError(f"an expression takes too long: {term.where}", rule=rule, found=found, fix=fix) from None


def _longest(found: list[Occurrence]) -> Iterator[Occurrence]:
    """Those that do not lie within a longer one of the other side."""
    ordered = sorted(found, key=lambda o: o.start)
    starts, most = [o.start for o in ordered], max(o.stop - o.start for o in ordered)
    for inner in ordered:
        near = ordered[bisect_left(starts, inner.start - most) : bisect_right(starts, inner.start)]
        if not any(_within(inner, outer) for outer in near):
            yield inner


def _within(inner: Occurrence, outer: Occurrence) -> bool:
    longer = outer.stop - outer.start > inner.stop - inner.start
    return inner.side != outer.side and longer and outer.start <= inner.start and inner.stop <= outer.stop


@lru_cache(1 << 14)
def _counterpart(text: str, own: str, other: str) -> str:
    """The other word in the form and case in which a word stands; as it is where the text is no form of the word."""
    try:
        return agree(text, own, other)
    except ValueError:
        return other


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _in_step(text: str, other: str) -> str:
    """The other word with the white space that stands in the text, as far as both have it."""
    spaces, words = _SPACE.findall(text), other.split(" ")
    gaps = [spaces[at] if at < len(spaces) else " " for at in range(len(words) - 1)]
    return "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))
