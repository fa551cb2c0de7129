"""How two words are related: a label for a gold word and its rival.

The first relation that holds, in the order of ``RELATIONS``, is the label. Senses are not told apart: a label says what
two words can be to one another, not what they are in a sentence. How good the labels are: docs/terms.md#relations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import product, takewhile
from typing import Literal, get_args

from borngap.words.closed import is_function_word, is_number
from borngap.words.inflection import agree, forms, lemmas, related
from borngap.words.spelling import Spelling, may_begin_alike, spelling_of
from borngap.words.thesaurus import Thesaurus, english

Relation = Literal[
    "given", "spelling", "inflection", "derivation", "synonym", "antonym", "function word", "number", "same kind",
    "not in the thesaurus",
]  # fmt: skip
RELATIONS: tuple[Relation, ...] = get_args(Relation)
SYNONYMOUS: tuple[Relation, ...] = ("given", "spelling", "synonym")
"""The relations of words that can mean the same: what near-synonyms are, if one asks a thesaurus."""
_EDGE = re.compile(r"^[\s\"'“”‘’(\[{<*_`,;:!?]+|[\s\"'“”‘’)\]}>*_`,;:!?]+$")
_STEM = 5  # letters that two words have in common at least if one is derived from the other
_BEGINNING = 2  # ... if one is a regular form of the other
_FAMILY = 4  # ... if both are linked to a third one
_SUFFIX = (
    "e y al ial ual ic ical ically ity ility ness able ible ably ibly ability ibility ly ally ful fully less ous ious "
    "ism ist istic ize ise ization isation ify ification ion ation ition ive ative itive or er ar ator ment ance ence "
    "ancy ency ant ent ate age ship hood dom en ed ing"
)
_SUFFIXES = frozenset(("", *_SUFFIX.split()))
_PLAIN = frozenset(("ful", "fully", "less", "ness", "ly", "able"))  # they make no other word of the same letters


@lru_cache(1 << 17)
def word_of(text: str) -> str:
    """Return the word of a token or a piece of text: without the white space, quotes, brackets and commas around it."""
    whole = text.strip()
    return (
        whole if whole.isalpha() or is_function_word(whole) else _EDGE.sub("", whole) or whole
    )  # 's and 'll are words


def relation(
    gold: str, rival: str, given: Container[tuple[str, str]] = frozenset(), thesaurus: Thesaurus | None = None
) -> Relation:
    """Return the first relation that holds of two words; which of them is gold makes no difference.

    ======================  =======================================================================================
    given                   a pair of the user's list, as it stands there or as inflected forms of it
    spelling                the same word in another case or spelling: colour/color, e-mail/email
    inflection              a lemma in common: return/returns; also in another spelling: colour/colors
    derivation              linked in the thesaurus (argue/argument), or by spelling alone (``weak_derivation``)
    synonym                 a group of the thesaurus in common, in any sense: argument/parameter
    antonym                 direct opposites: true/false
    function word, number   either word is one; a number if both are
    same kind               nouns with a direct hypernym in common that is no broad one: Monday/Tuesday
    not in the thesaurus    none of these; no statement about the words. Also word pieces and punctuation
    ======================  =======================================================================================

    Args:
        gold: a word or a token's text: case, white space and punctuation around it are left aside.
        rival: another.
        given: a set of the user's pairs, in lower case, in either order.
        thesaurus: WordNet unless given.

    Returns:
        The relation.

    Cost: some 5 microseconds a pair, and 20 a word that was not met before; at the first call 0.06 s.
    """
    first, second = word_of(gold), word_of(rival)
    if given and is_given(first, second, given):
        return "given"
    book = english() if thesaurus is None else thesaurus
    one, other = _entry(first, book), _entry(second, book)
    for name, holds in _TESTS:
        if holds(one, other):
            return name
    return "not in the thesaurus"


def unlike(word: str, others: Iterable[str], thesaurus: Thesaurus) -> Iterator[str]:
    """Yield those of some words that are certainly no spelling, form or derivation of a word; a quick look.

    Args:
        word: a word in lower case.
        others: words in lower case.
        thesaurus: says what is derived from what.
    """
    entry = _entry(word, thesaurus)
    known = entry.lemmas | entry.derived
    for other in others:
        if may_begin_alike(entry.first, other[:1]):
            continue
        if all(lemma not in known and lemma[:_FAMILY] not in entry.stems for lemma in lemmas(other)):
            yield other


def weak_derivation(gold: str, rival: str, thesaurus: Thesaurus | None = None) -> bool:
    """Return whether a derivation rests on the spelling of two words alone: a stem in common, known endings."""
    book = english() if thesaurus is None else thesaurus
    return not _linked(_entry(word_of(gold), book), _entry(word_of(rival), book))


def alternatives(word: str, thesaurus: Thesaurus | None = None) -> frozenset[str]:
    """Return the synonyms of a word in the form that corresponds to it: of "Arguments", "Parameters" and others.

    Args:
        word: a word or a token's text.
        thesaurus: WordNet unless given.

    Returns:
        Words, in the case of ``word``; of any of its senses and parts of speech.
    """
    book, word = english() if thesaurus is None else thesaurus, word_of(word)
    known_forms = {base: {one for spelt in forms(base).values() for one in spelt} for base in lemmas(word)}
    return frozenset(
        agree(word, base, other) if word.lower() in known else other
        for base, known in known_forms.items()
        for other in book.synonyms(base)
    )


def bases(word: str) -> frozenset[str]:
    """Return what a word is looked up by in a thesaurus: its lemmas; of a function word itself, in lower case."""
    return frozenset((word.lower(),)) if is_function_word(word) else lemmas(word)  # "regarding" is no form of to regard


class _Entry:
    """What is known of a word: it, its lemmas, and what the thesaurus has of any of these; looked up when needed."""

    def __init__(self, word: str, book: Thesaurus) -> None:
        self.word, self._book = word, book
        self.lemmas = lemmas(word)
        self.function = is_function_word(word)
        self._bases = frozenset((word.lower(),)) if self.function else self.lemmas
        self.first = word[:1].lower()
        self.stems = frozenset([lemma[:_FAMILY] for lemma in self.lemmas])

    @cached_property
    def spelling(self) -> Spelling:
        return spelling_of(self.word)

    @cached_property
    def held(self) -> frozenset[str]:
        return frozenset([base for base in self._bases if base in self._book])

    @cached_property
    def groups(self) -> frozenset[int]:
        return frozenset().union(*map(self._book.groups, self._bases))

    @cached_property
    def own_groups(self) -> frozenset[int]:
        """Those that hold the word itself, not a lemma of it."""
        return self._book.groups(self.word)

    @cached_property
    def kinds(self) -> frozenset[int]:
        return frozenset().union(*map(self._book.kinds, self._bases))

    @cached_property
    def antonyms(self) -> frozenset[str]:
        return frozenset().union(*map(self._book.antonyms, self._bases))

    @cached_property
    def derived(self) -> frozenset[str]:
        return frozenset().union(*map(self._book.derived, self._bases))

    @cached_property
    def number(self) -> bool:
        return is_number(self.word)


@lru_cache(1 << 17)
def _entry(word: str, book: Thesaurus) -> _Entry:
    return _Entry(word, book)


def is_given(gold: str, rival: str, given: Container[tuple[str, str]]) -> bool:
    """Return whether two words or tokens' texts are a pair of a list, in any form: see ``relation``."""
    sides = ({word.lower(), *lemmas(word)} for word in map(word_of, (gold, rival)))
    return any(pair in given or pair[::-1] in given for pair in product(*sides))


def _spelling(one: _Entry, other: _Entry) -> bool:
    if not may_begin_alike(one.first, other.first) or one.spelling.loose != other.spelling.loose:
        return False
    known = _known(one, other)
    if known and one.spelling.regular != other.spelling.regular and not one.lemmas.isdisjoint(other.lemmas):
        known = not one.own_groups.isdisjoint(other.own_groups)  # forward/forwards, but not tall/tallest, hide/hid
    return one.spelling.same(other.spelling, synonyms=known)


def _known(one: _Entry, other: _Entry) -> bool | None:
    """Return whether the thesaurus has two words as synonyms; None where it does not hold both."""
    return True if _synonym(one, other) else (False if one.held and other.held else None)


def _inflection(one: _Entry, other: _Entry) -> bool:
    if not one.lemmas.isdisjoint(other.lemmas):
        return True
    if not may_begin_alike(one.first, other.first) or one.spelling.loose[:1] != other.spelling.loose[:1]:
        return False  # what is left are regular forms, and those of another spelling
    spellings = product(map(spelling_of, one.lemmas), map(spelling_of, other.lemmas))
    known = _known(one, other)
    beginning = one.word[:_BEGINNING].lower() == other.word[:_BEGINNING].lower()
    return (beginning and related(one.word, other.word)) or any(
        first.same(second, synonyms=known) for first, second in spellings
    )


def _derivation(one: _Entry, other: _Entry) -> bool:
    if not one.derived.isdisjoint(other.lemmas):
        return True
    if one.stems.isdisjoint(other.stems):
        return False
    return _linked(one, other) or any(_stem(first, second, one, other) for first, second in _alike(one, other, _STEM))


def _linked(one: _Entry, other: _Entry) -> bool:
    """Return whether the thesaurus links two words, or both to a third one that they look like."""
    if not one.derived.isdisjoint(other.lemmas):
        return True
    return not one.derived.isdisjoint(other.derived) and any(_alike(one, other, _FAMILY))


def _alike(one: _Entry, other: _Entry, letters: int) -> Iterator[tuple[str, str]]:
    """Yield the lemmas of two words that begin with the same letters."""
    return ((a, b) for a, b in product(one.lemmas, other.lemmas) if len(a) >= letters and a[:letters] == b[:letters])


def _stem(first: str, second: str, one: _Entry, other: _Entry) -> bool:
    """Return whether words are one stem with two endings; where the thesaurus holds both unlinked, with a plain one."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    ends = {(first[cut:], second[cut:]) for cut in range(_STEM, common + 1)}
    if first in one.held and second in other.held:
        return any("" in pair and not _PLAIN.isdisjoint(pair) for pair in ends)
    return any(_SUFFIXES.issuperset(pair) for pair in ends)


def _synonym(one: _Entry, other: _Entry) -> bool:
    return not one.groups.isdisjoint(other.groups)


def _antonym(one: _Entry, other: _Entry) -> bool:
    return not one.antonyms.isdisjoint(other.lemmas)


def _function(one: _Entry, other: _Entry) -> bool:
    return (one.function or other.function) and not (one.number and other.number)


def _number(one: _Entry, other: _Entry) -> bool:
    return one.number or other.number


def _kind(one: _Entry, other: _Entry) -> bool:
    return not one.kinds.isdisjoint(other.kinds)


_TESTS: tuple[tuple[Relation, Callable[[_Entry, _Entry], bool]], ...] = (
    ("spelling", _spelling), ("inflection", _inflection), ("derivation", _derivation), ("synonym", _synonym),
    ("antonym", _antonym), ("function word", _function), ("number", _number), ("same kind", _kind),
)  # fmt: skip
