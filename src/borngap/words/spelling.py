"""Spelling variants of English words: colour/color, realise/realize, judgement/judgment, e-mail/email."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_JOINTS = re.compile(r"[\s\-‐‑'’.]+")
_ENDING = r"(?=(?:e|ed|es|er|ers|ing|ings|able|ation|ations|ational)?$)"
# what British and American English do regularly, each towards one of both
_REGULAR = tuple((re.compile(old), new) for old, new in (
    (rf"([iy])s{_ENDING}", r"\1z"),  # realise, analyse
    ("our(?!$)|our$", "or"),  # colour
    ("([^aeiou])re(s|d)?$", r"\1er\2"),  # centre
    ("ogue", "og"),  # catalogue
    ("ll", "l"),  # travelled
    ("[ao]e", "e"),  # anaesthetic
    ("dgement", "dgment"),  # judgement
    ("nce", "nse"),  # defence
))  # fmt: skip
# what else words of one meaning may differ in and still be one word
_LOOSE = tuple((re.compile(old), new) for old, new in (
    ("eing$", "ing"), ("ph", "f"), ("^en", "in"), ("xion", "ction"), ("ough$", "ow"), ("mme", "m"), ("sch", "sh"),
    ("[kq]u?", "c"), ("y", "i"), ("ei", "ai"), ("ou", "o"), ("s", "z"), ("cz", "z"), ("or$", "er"), ("wardz$", "ward"),
    ("zt$", ""), ("eabl", "abl"), (r"([b-df-hj-np-tv-xz])\1", r"\1"), ("h", ""), ("e$", ""),
))  # fmt: skip
_ODD = dict(pair.split("/") for pair in (  # differ in no regular way
    "cheque/check", "kerb/curb", "aluminium/aluminum", "mum/mom", "okay/ok", "doughnut/donut", "draught/draft",
    "gaol/jail", "tonne/ton", "aeroplane/airplane", "through/thru", "though/tho", "storey/story", "cheques/checks",
    "pyjamas/pajamas", "artefact/artifact", "artefacts/artifacts", "storeys/stories", "draughts/drafts",
))  # fmt: skip
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


def regular_spelling(word: str) -> str:
    """Return ``Spelling.regular`` alone: equal for all words that are one word by rules, without a thesaurus."""
    return _rewritten(_solid(word), _REGULAR)


def _solid(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.lower())
    plain = _JOINTS.sub("", "".join(one for one in letters if not unicodedata.combining(one)))
    return _ODD.get(plain, plain) or word.lower()


def _rewritten(word: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for old, new in rules:
        word = old.sub(new, word)
    return word
