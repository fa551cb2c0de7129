"""Spelling variants of English words: colour/color, realise/realize, judgement/judgment, e-mail/email."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_JOINTS = re.compile(r"[\s\-‐‑'’.]+")
_ENDING = r"(?=(?:e|ed|es|er|ers|ing|ings|able|ation|ations|ational)?$)"
# what British and American English do regularly, each towards one of both; first, what words that it matches contain
_REGULAR = tuple((part, re.compile(old, re.MULTILINE), new) for part, old, new in (
    ("s", rf"([iy])s{_ENDING}", r"\1z"),  # realise, analyse
    ("our", "our", "or"),  # colour
    ("re", r"([^aeiou\n])re(s|d)?$", r"\1er\2"),  # centre
    ("ogue", "ogue", "og"),  # catalogue
    ("ll", "ll", "l"),  # travelled
    ("e", "[ao]e", "e"),  # anaesthetic
    ("dgement", "dgement", "dgment"),  # judgement
    ("nce", "nce", "nse"),  # defence
))  # fmt: skip
# what else words of one meaning may differ in and still be one word
_LOOSE = tuple((part, re.compile(old), new) for part, old, new in (
    ("eing", "eing$", "ing"), ("ph", "ph", "f"), ("en", "^en", "in"), ("xion", "xion", "ction"),
    ("ough", "ough$", "ow"), ("mme", "mme", "m"), ("sch", "sch", "sh"), ("k", "ku?", "c"), ("q", "qu?", "c"),
    ("y", "y", "i"), ("ei", "ei", "ai"), ("ou", "ou", "o"), ("s", "s", "z"), ("cz", "cz", "z"), ("or", "or$", "er"),
    ("wardz", "wardz$", "ward"), ("zt", "zt$", ""), ("eabl", "eabl", "abl"), ("", r"([b-df-hj-np-tv-xz])\1", r"\1"),
    ("h", "h", ""), ("e", "e$", ""),
))  # fmt: skip
_ODD = dict(pair.split("/") for pair in (  # differ in no regular way
    "cheque/check", "kerb/curb", "aluminium/aluminum", "mum/mom", "okay/ok", "doughnut/donut", "draught/draft",
    "gaol/jail", "tonne/ton", "aeroplane/airplane", "through/thru", "though/tho", "storey/story", "cheques/checks",
    "pyjamas/pajamas", "artefact/artifact", "artefacts/artifacts", "storeys/stories", "draughts/drafts",
))  # fmt: skip
# first letters that spellings of one word may have beside equal ones; h is silent
_EXCHANGED = ("ae", "ao", "ai", "ay", "ei", "eo", "ey", "iy", "io", "oy", "pf", "gj", "ckqx", "cszxkq")
_ALIKE = {letter: frozenset(letter.join(group for group in _EXCHANGED if letter in group)) | {letter, "h"}
          for letter in "abcdefgijklmnopqrstuvwxyz"}  # fmt: skip
_SHORTEST = 5  # letters of words that nothing but a rule makes one


@dataclass(frozen=True, slots=True)
class Spelling:
    """What spellings of one word have in common; no words themselves.

    Attributes:
        solid: the word in lower case without accents, hyphens, spaces, apostrophes and full stops: e-mail -> email.
        regular: ... with what British and American English do regularly rewritten.
        loose: ... with all else that spellings differ in rewritten, and words of other meanings too.
    """

    solid: str
    regular: str
    loose: str

    def same(self, other: Spelling, *, synonyms: bool | None) -> bool:
        """Return whether two words are one word in two spellings.

        Args:
            other: the other word's.
            synonyms: whether a thesaurus has them as such; None where it does not hold both, so that only regular
                differences of words of five letters or more count.

        Returns:
            Always true of words that differ in case, accents, hyphens and the like alone.
        """
        if self.loose != other.loose:
            return False
        if synonyms or self.solid == other.solid:
            return True
        shortest = min(len(self.solid), len(other.solid))
        return synonyms is None and self.regular == other.regular and shortest >= _SHORTEST


@lru_cache(1 << 17)
def spelling_of(word: str) -> Spelling:
    """Return what a word, in any case, has in common with its other spellings."""
    regular = regular_spelling(word)
    return Spelling(_solid(word), regular, _rewritten(regular, _LOOSE))


def may_begin_alike(first: str, second: str) -> bool:
    """Return whether words with two first letters, in lower case, can be one word in two spellings: a quick look."""
    return second not in _ALIKE or second in _ALIKE.get(first, second)


@lru_cache(1 << 17)
def regular_spelling(word: str) -> str:
    """Return ``Spelling.regular`` alone: equal for all words that are one word by rules, without a thesaurus."""
    return _rewritten(_solid(word), _REGULAR)


def regular_spellings(words: Sequence[str]) -> list[str]:
    """Return ``regular_spelling`` of each word: of all at once, for a long list."""
    return _rewritten("\n".join(map(_solid, words)), _REGULAR).split("\n") if words else []


def _solid(word: str) -> str:
    plain = word.lower()
    if not (plain.isascii() and plain.isalpha()):
        letters = unicodedata.normalize("NFKD", plain)
        plain = _JOINTS.sub("", "".join(one for one in letters if not unicodedata.combining(one)))
    return _ODD.get(plain, plain) or " ".join(word.lower().split())


def _rewritten(word: str, rules: tuple[tuple[str, re.Pattern[str], str], ...]) -> str:
    for part, old, new in rules:
        if part in word:
            word = old.sub(new, word)
    return word
