"""Terms from TBX (ISO 30042), of 2008 and of 2019: entries of a concept in one language, marked preferred or not.

Neither document types nor entities are followed; a file that defines an entity is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from borngap.data.textfile import whole_text
from borngap.errors import UserError
from borngap.words.term import LeftOut, Term

_ENTRIES, _LANGUAGES = {"termEntry", "conceptEntry"}, {"langSet", "langSec"}
_TERMS = {"tig", "ntig", "termSec"}
_STATUS = {"administrativeStatus", "normativeAuthorization", "customerSubset"}
_USE = {"preferred", "standardized", "legal", "regulated"}
_AVOID = {"deprecated", "superseded", "notrecommended", "obsolete", "forbidden", "prohibited"}
_LANGUAGE = "xml:lang"


@dataclass
class _Word:
    line: int
    text: str = ""
    status: str = ""


@dataclass
class _Concept:
    """A concept's terms by language."""

    words: dict[str, list[_Word]] = field(default_factory=dict)


def read_tbx(path: Path, language: str | None = None) -> Iterator[Term | LeftOut]:
    """Read the terms of one language: of each concept, those that are preferred with those that are deprecated.

    Where no term of a concept is marked as preferred, the admitted ones and those without a mark are wanted. A concept
    with no deprecated (superseded, not recommended) term makes no term.

    Args:
        path: the file.
        language: such as ``en``, which takes ``en-GB`` too; None for the only one.

    Yields:
        Terms, and what makes none.

    Raises:
        UserError: it is no TBX, it defines entities, or the language is not told or not there.
    """
    concepts = _Reader(path).concepts()
    chosen = _language({name for concept in concepts for name in concept.words}, language, path)
    for concept in concepts:
        words = [word for name in chosen for word in concept.words.get(name, [])]
        avoided = [word for word in words if word.status in _AVOID]
        wanted = [w for w in words if w.status in _USE] or [w for w in words if w.status not in _AVOID]
        for bad in avoided:
            where = f"{path.name}, line {bad.line}"
            if not wanted:
                yield LeftOut("", bad.text, where, "its concept has no preferred term in this language")
            yield from (Term(good.text, bad.text, where) for good in wanted)


def _language(known: set[str], wanted: str | None, path: Path) -> list[str]:
    """Names of the chosen language and its regions."""
    base = {name.casefold().replace("_", "-").split("-")[0] for name in known}
    if wanted is None and len(base) > 1:
        found, fix = ", ".join(sorted(known)), "name one with --language"
        raise UserError(f"{path.name} has terms of several languages", rule="one language", found=found, fix=fix)
    sought = (wanted or next(iter(base), "")).casefold().replace("_", "-")
    chosen = sorted(name for name in known if f"{name.casefold().replace('_', '-')}-".startswith(f"{sought}-"))
    if not chosen:
        found = ", ".join(sorted(known)) or "no entries"
        raise UserError(f"{path.name} has no terms of the language {sought!r}", found=found, fix="see --language")
    return chosen


class _Reader:
    """Reads concepts from XML, with the line of each term."""

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, []  # type: Path, list[str]
        self._concepts: list[_Concept] = []
        self._language, self._default, self._text, self._kind = "", "", None, ""  # type: str, str, list[str] | None, str
        self._word: _Word | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._entity

    def concepts(self) -> list[_Concept]:
        """Read the file."""
        text = whole_text(self._path)
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            where, found = f"{self._path.name}, line {error.lineno}", expat.ErrorString(error.code)
            raise UserError(f"malformed XML in {where}", rule="TBX", found=found) from None
        if not self._concepts:
            rule = "TBX: termEntry or conceptEntry, with terms by language"
            raise UserError(f"{self._path.name} is no TBX", rule=rule, found="no entries")
        return self._concepts

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if not self._open:
            self._default = attributes.get(_LANGUAGE, "")
        self._open.append(name)
        if name in _ENTRIES:
            self._concepts.append(_Concept())
        elif name in _LANGUAGES:
            self._language = attributes.get(_LANGUAGE, self._default)
        elif name in _TERMS:
            self._word = _Word(self._parser.CurrentLineNumber)
        elif self._word is not None and (name == "term" or name in _STATUS or attributes.get("type") in _STATUS):
            self._text, self._kind = [], "text" if name == "term" else "status"

    def _end(self, _: str) -> None:
        name = self._open.pop()
        if self._text is not None and name in {"term", "termNote", *_STATUS}:
            self._keep(" ".join("".join(self._text).split()))
        elif name in _TERMS and self._word is not None:
            if self._word.text and self._concepts:
                self._concepts[-1].words.setdefault(self._language, []).append(self._word)
            self._word = None

    def _keep(self, text: str) -> None:
        if self._word is not None and self._kind == "text":
            self._word.text = self._word.text or text
        elif self._word is not None:
            self._word.status = text.casefold().removesuffix("-admn-sts").removesuffix("admnsts").removesuffix("term")
        self._text = None

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _entity(self, *_: Any) -> NoReturn:
        where = f"{self._path.name}, line {self._parser.CurrentLineNumber}"
        raise UserError(f"an entity is defined in {where}", rule="TBX without entities", fix="write out its text")
