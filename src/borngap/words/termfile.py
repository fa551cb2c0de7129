"""Files of terms: which word to use, and which to avoid. Tables, JSON Lines, Vale's substitution rules, TBX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields as fields_of_class
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.data.textfile import extension_of
from borngap.errors import UserError
from borngap.kinds import refuse_result
from borngap.words.inflection import related
from borngap.words.term import LeftOut, Term, TermList
from borngap.words.termfiles.table import read_term_table
from borngap.words.termfiles.tbx import read_tbx
from borngap.words.termfiles.vale import read_vale

_Reader = Callable[[Path, str | None], Iterable[Term | LeftOut]]
_VALE = (".yml", ".yaml")
_READERS: dict[str, _Reader] = {
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"), lambda path, _: read_term_table(path)),
    **dict.fromkeys(_VALE, lambda path, _: read_vale(path)),
    **dict.fromkeys((".tbx", ".xml"), read_tbx),
}
_SHOWN = 8  # faults of one file in a message
_WAY_OUT = "keep one of them"
_FIELDS = tuple(field.name for field in fields_of_class(Term))


def read_terms(path: str | Path, language: str | None = None) -> TermList:
    """Read a file of terms.

    Args:
        path: CSV or TSV with the headings use and avoid, JSON Lines or JSON, a substitution rule of Vale (YAML), or
            TBX; UTF-8, UTF-16 or UTF-32, also compressed.
        language: of TBX with several languages, such as ``en``.

    Returns:
        The terms, each once.

    Raises:
        UserError: the file can't be read, holds no term, or its terms contradict one another; the message names lines.
    """
    file = Path(path).expanduser()
    refuse_result(file, "a file of terms")
    kinds = ", ".join(_READERS)
    if not file.is_file():
        found = f"{path} ({'a folder' if file.is_dir() else 'no such file'})"
        raise UserError("the terms can't be read", rule=f"a file of kind {kinds}", found=found)
    if extension_of(file) not in _READERS:
        raise UserError(f"unknown kind of terms: {file.name}", rule=f"one of {kinds}", found=file.suffix or "none")
    read = list(_READERS[extension_of(file)](file, language))
    return _checked(str(path), _unmixed(read) if extension_of(file) in _VALE else read)


def terms_of(given: Any, language: str | None = None) -> TermList:
    """Return terms as a caller may give them.

    Args:
        given: a path, a list of terms, or a sequence of terms, of mappings of their fields, or of pairs of words, the
            wanted one first.
        language: of TBX with several languages.

    Returns:
        The terms.

    Raises:
        UserError: it is none of these, or its terms contradict one another.
    """
    if isinstance(given, TermList):
        return given
    if isinstance(given, str | Path):
        return read_terms(given, language)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        fix = "a dictionary does not say which of two words is wanted" if isinstance(given, Mapping) else None
        raise UserError(
            "malformed terms", rule="a file, or a list of pairs, the wanted word first", found=repr(given), fix=fix
        )
    return _checked("terms", [_term(term, f"term {number}") for number, term in enumerate(given, 1)])


def _term(given: Any, where: str) -> Term:
    if isinstance(given, Term):
        return replace(given, where=given.where or where)
    fields = given if isinstance(given, Mapping) else _pair(given)
    where = fields.get("where") or where
    words = [fields.get(key) for key in ("use", "avoid")]
    if not all(isinstance(word, str) and word.strip() for word in words):
        rule = 'a pair of words, the wanted one first, or {"use": "client", "avoid": "customer"}'
        raise UserError(f"malformed term: {where}", rule=rule, found=repr(given))
    use, avoid = (" ".join(str(word).split()) for word in words)
    more = {key: fields[key] for key in _FIELDS if key in fields}
    return Term(**more | {"use": use, "avoid": avoid, "where": where, "exceptions": tuple(more.get("exceptions", ()))})


def _pair(given: Any) -> dict[str, Any]:
    is_pair = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2
    return dict(zip(("use", "avoid"), given, strict=True)) if is_pair else {}


def _checked(name: str, read: Sequence[Term | LeftOut]) -> TermList:
    """The terms, once they contradict one another no more."""
    left_out = tuple(entry for entry in read if isinstance(entry, LeftOut))
    terms = [entry for entry in read if isinstance(entry, Term)]
    if not terms:
        found = "; ".join(f"{e.where}: {e.reason}" for e in left_out[:_SHOWN]) or f"{name} is empty, or has none"
        raise UserError(f"no terms in {name}", rule="at least one word to use instead of another", found=found)
    for find, what, rule in _FAULTS:
        faults = list(find(terms))
        if faults:
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise UserError(what, rule=rule, found="; ".join(faults[:_SHOWN]) + more, fix=_WAY_OUT)
    settled = {(term.use, term.avoid): _settled(term) for term in reversed(terms)}
    return TermList(name, tuple(reversed(settled.values())), left_out)


def _unmixed(read: Sequence[Term | LeftOut]) -> list[Term | LeftOut]:
    """Terms of a rule that Vale carries out all the same, without those that contradict others."""
    terms = [entry for entry in read if isinstance(entry, Term)]
    found: dict[Term, str] = {term: "the wanted word is the avoided one" for term in terms if term.use == term.avoid}
    for one, other in _meetings(terms, "avoid", "avoid"):
        if terms.index(one) > terms.index(other) and not _alike(one, other, one.use, other.use):
            found.setdefault(one, f"{other.where}, says to use {other.use!r} instead of it")
    for one, other in _meetings(terms, "use", "avoid"):
        found.setdefault(one, f"{other.where}, says to avoid {one.use!r}")
    return [LeftOut(e.use, e.avoid, e.where, found[e]) if isinstance(e, Term) and e in found else e for e in read]


def _settled(term: Term) -> Term:
    """Words that differ in case only count as they are written; those that are forms of one word, in no other form."""
    if term.use.casefold() == term.avoid.casefold():
        return replace(term, cased=True)
    return replace(term, inflected=term.inflected and not related(term.use, term.avoid))


def _equal(terms: Sequence[Term]) -> Iterator[str]:
    return (f"{term.use!r} in {term.where}" for term in terms if term.use == term.avoid)


def _twice(terms: Sequence[Term]) -> Iterator[str]:
    """A word that is to be avoided for one word here and for another there."""
    for first, second in _meetings(terms, "avoid", "avoid"):
        if terms.index(first) < terms.index(second) and not _alike(first, second, first.use, second.use):
            yield f"{first.words} in {first.where}, {second.words} in {second.where}"


def _chained(terms: Sequence[Term]) -> Iterator[str]:
    """A word that is wanted here and to be avoided there."""
    for first, second in _meetings(terms, "use", "avoid"):
        kind = "a circle" if _alike(first, second, first.avoid, second.use) else "a chain"
        yield f"{kind}: {first.words} in {first.where}, {second.words} in {second.where}"


_Find = Callable[[Sequence[Term]], Iterator[str]]
_FAULTS: tuple[tuple[_Find, str, str], ...] = (
    (_equal, "a wanted word is the avoided one", "two words"),
    (_twice, "a word to avoid has two words that are wanted instead", "one line a word to avoid"),
    (_chained, "a word is wanted in one line and to be avoided in another", "each word is one of both"),
)


def _meetings(terms: Sequence[Term], one: str, other: str) -> Iterator[tuple[Term, Term]]:
    """Pairs of terms of two entries, one word of the first being one of the second; one entry may want several."""
    known: dict[str, list[Term]] = {}
    for term in terms:
        known.setdefault(getattr(term, other).casefold(), []).append(term)
    for first in terms:
        word = getattr(first, one)
        for second in known.get(word.casefold(), ()):
            if first.where != second.where and _alike(first, second, word, getattr(second, other)):
                yield first, second


def _alike(first: Term, second: Term, word: str, other: str) -> bool:
    """Whether two words are the same to both terms."""
    return word == other or (word.casefold() == other.casefold() and not (first.cased and second.cased))
