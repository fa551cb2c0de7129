"""English inflection: lemmas, forms, and the form of one word that corresponds to a form of another.

The lexicon is that of ``lemminflect`` (NIH's SPECIALIST lexicon, cut to common words), packed by
``docs/make_lexicon.py``; it is opened at the first call.
Words that it lacks (dataset, tokenizer) inflect as their last part does, or else regularly. Whatever is not written in
English letters has one form, itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from borngap.words.packed import Links, WordList

_BOOK = "lexicon"
Form = Literal[
    "base", "plural", "third person", "past", "past participle", "gerund", "present", "comparative", "superlative"
]
FORMS: tuple[Form, ...] = get_args(Form)
CODES: dict[str, Form] = {
    "n": "plural", "v": "third person", "d": "past", "p": "past participle", "g": "gerund", "b": "present",
    "c": "comparative", "s": "superlative",
}  # fmt: skip
"""What the forms are called in the packed lexicon."""
_ENGLISH = re.compile(r"[A-Za-z]+(?:[- ][A-Za-z]+)*")
_PARTICLE = (
    "about across after ahead along around aside away back by down for forth in into off on out over through to "
    "together up upon with without"
)
_PREFIX = (
    "auto co counter de dis down en fore hyper inter macro mega meta micro mid mini mis multi non out over pre pseudo "
    "re semi sub super trans un under up"
)
_PARTICLES, _PREFIXES = frozenset(_PARTICLE.split()), frozenset(_PREFIX.split())
_VERBAL: tuple[Form, ...] = ("third person", "past", "past participle", "gerund")
_SHORTEST = 3  # letters of a word that the lexicon lacks, and of a last part
_CACHE = 1 << 17


@lru_cache(_CACHE)
def lemmas(word: str) -> frozenset[str]:
    """Return the words, in lower case, that a word can be a form of, as any part of speech.

    Args:
        word: one word, or a term of several of which the first or the last is inflected; in any case.

    Returns:
        ``{"leave", "left"}`` for "left", ``{"dataset"}`` for "datasets", ``{"home page", "home pages"}`` for "home
        pages"; a word of which the lexicon knows no part is its own and only lemma.
    """
    word = word.strip().lower()
    if " " in word:
        (first, _, rest), (before, _, last) = word.partition(" "), word.rpartition(" ")
        verbs, nouns = (f"{lemma} {rest}" for lemma in lemmas(first)), (f"{before} {lemma}" for lemma in lemmas(last))
        return frozenset((*verbs, *nouns))
    lexicon = _lexicon()
    found = lexicon.lemmas_of(word)
    if found:
        return frozenset(found)
    for cut in _cuts(word):
        found = lexicon.lemmas_of(word[cut:])
        if found:
            return frozenset([word[:cut] + lemma for lemma in found])
    return frozenset((word,))


@lru_cache(_CACHE)
def forms(word: str) -> Mapping[Form, tuple[str, ...]]:
    """Return all inflected forms of a word or of a term of several words.

    A term's last word makes its plural (command lines); its first word, where that is a verb, makes its verb forms
    (logs in); only the latter if the last word is a particle. Of a word with a hyphen the last part inflects.

    Args:
        word: a base form. An inflected form, as "parameters", stands for itself alone.

    Returns:
        Name of a form -> its spellings, the usual one first, each written as ``word`` is: of "GitHub" the plural is
        "GitHubs". "base" is the word as given. Forms that a part of speech lacks are left out.
    """
    plain = word.lower()
    if _ENGLISH.fullmatch(word) is None:
        found: Mapping[Form, tuple[str, ...]] = {}
    elif " " in word:
        found = _term(plain)
    else:
        found = _known(plain) or _unknown(plain)
    written: dict[Form, tuple[str, ...]] = {"base": (word,)}
    written |= {name: tuple(_written(form, word) for form in spelt) for name, spelt in found.items()}
    return MappingProxyType(written)


def related(first: str, second: str) -> bool:
    """Return whether two words can be forms of one word: they share a lemma, or one is among the other's forms."""
    first, second = first.lower(), second.lower()
    return not lemmas(first).isdisjoint(lemmas(second)) or second in _spellings(first) or first in _spellings(second)


def agree(form: str, base: str, other: str) -> str:
    """Return the form of a word that corresponds to a form of another: parameters, parameter, argument -> arguments.

    Args:
        form: ``base`` in any of its forms and in any case.
        base: a word or a term of several words.
        other: another one. Where it has no such form it gets the regular one (more useful); a word that is not
            English stays as it is.

    Returns:
        The form, in the case of ``form``: "Parameters" -> "Arguments", "PARAMETERS" -> "ARGUMENTS".

    Raises:
        ValueError: ``form`` is no form of ``base``.
    """
    plain = form.lower()
    names = [name for name, spelt in forms(base).items() if plain in (one.lower() for one in spelt)]
    if not names:
        raise ValueError(f"{form!r} is no form of {base!r}")
    names.sort(key=FORMS.index)
    theirs = forms(other)
    name = next((name for name in names if name in theirs), None)
    return _cased(_regular(names[0], other) if name is None else theirs[name][0], form, base)


@dataclass(frozen=True, eq=False)
class _Lexicon:
    """The packed lexicon: words in lower case, what they are forms of, and the forms of bases, unread."""

    words: WordList
    lemmas: Links
    changes: WordList
    forms: Links

    def lemmas_of(self, word: str) -> list[str]:
        """Return what a word is a form of; nothing for a word that is not held."""
        number = self.words.number(word)
        return [] if number is None else [self.words[lemma] for lemma in self.lemmas.of(number)]

    def forms_of(self, word: str) -> str:
        """Return the forms of a base as packed; "" for a word that is none."""
        number = self.words.number(word)
        return "" if number is None else "".join(map(self.changes.__getitem__, self.forms.of(number)))


@cache
def _lexicon() -> _Lexicon:
    from borngap.words.packed import WordList, packed_data, unpacked  # loads NumPy

    arrays = packed_data(_BOOK)
    words, changes = WordList(arrays["words"]), WordList(arrays["changes"])
    return _Lexicon(words, unpacked(arrays, "lemmas"), changes, unpacked(arrays, "forms"))


@lru_cache(_CACHE)
def _spellings(word: str) -> frozenset[str]:
    return frozenset(one for spelt in forms(word).values() for one in spelt)


@lru_cache(_CACHE)
def _known(word: str) -> Mapping[Form, tuple[str, ...]]:
    """Forms by the lexicon, the base left out; nothing for a word that it lacks as a base."""
    found: dict[Form, tuple[str, ...]] = {}
    for entry in filter(None, _lexicon().forms_of(word).split(";")):
        found[CODES[entry[0]]] = tuple(_changed(word, change) for change in entry[1:].split(","))
    if "past" in found:  # participles that equal the past are left out
        found.setdefault("past participle", found["past"])
    return found


def _changed(word: str, change: str) -> str:
    """A word less some of its last letters, with others: "1ied" makes query queried."""
    letters = re.match("[0-9]+", change).group()  # type: ignore[union-attr]
    return word[: len(word) - int(letters)] + change[len(letters) :]


def _unknown(word: str) -> Mapping[Form, tuple[str, ...]]:
    """Forms of a word that is no base in the lexicon: as its last part inflects, or regular ones of noun and verb."""
    for cut in _cuts(word):
        last = _known(word[cut:])
        if last:
            return {name: tuple(word[:cut] + one for one in spelt) for name, spelt in last.items()}
    names: tuple[Form, ...] = ("plural", *_VERBAL)
    if word.endswith("ing"):
        names = ("plural",)  # an embedding, embeddings
    elif len(word) < _SHORTEST or lemmas(word) != {word} or re.search("([^s]s|ed)$", word):
        names = ()  # no word, or an inflected form itself
    return {name: (_regular(name, word),) for name in names}


def _cuts(word: str) -> Iterator[int]:
    """Where a compound may be cut, longest last part first: after its last hyphen, a known word, or a prefix."""
    hyphen = word.rfind("-") + 1
    if hyphen:
        yield hyphen
        return
    lexicon = _lexicon()
    for cut in range(2, len(word) - _SHORTEST + 1):
        if word[:cut] in _PREFIXES or (cut > 2 and lexicon.forms_of(word[:cut])):
            yield cut


def _term(term: str) -> dict[Form, tuple[str, ...]]:
    """Forms of a term of several words."""
    first, _, rest = term.partition(" ")
    verb = {name: spelt for name, spelt in _known(first).items() if name in _VERBAL}
    found = {name: tuple(f"{one} {rest}" for one in spelt) for name, spelt in verb.items()}
    before, _, last = term.rpartition(" ")
    plural = forms(last).get("plural", ())
    if plural and last not in _PARTICLES:
        found["plural"] = tuple(f"{before} {one}" for one in plural)
    return found


def _regular(name: Form, word: str) -> str:
    """A form by the rules of spelling; consonants are not doubled."""
    if _ENGLISH.fullmatch(word) is None or name in {"base", "present"}:
        return word
    if name in {"comparative", "superlative"}:
        return f"{'more' if name == 'comparative' else 'most'} {word}"
    if name == "gerund":
        return (word[:-1] if re.search("[^eoy]e$", word) else word) + "ing"
    stem = re.sub("(?<=[^aeiou])y$", "ie", word)
    if name in {"past", "past participle"}:
        return stem + ("d" if stem.endswith("e") else "ed")
    return stem + ("es" if re.search("([sxz]|[cs]h)$", stem) else "s")


def _written(form: str, word: str) -> str:
    """A form in lower case, written as its word is as far as both go together."""
    plain = word.lower()
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(form, plain, strict=False)))
    return word[:common] + form[common:]


def _cased(word: str, form: str, base: str) -> str:
    """A word in the case that ``form`` has where it differs from that of ``base``."""
    if len(form) > 1 and form.isupper() and not base.isupper():
        return word.upper()
    if form[:1].isupper() and base[:1].islower():
        return word[:1].upper() + word[1:]
    if form.islower() and base.istitle() and word.istitle():
        return word.lower()
    return word
