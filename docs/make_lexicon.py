"""Pack the lexicon of lemminflect into src/borngap/words/lexicon: ``python docs/make_lexicon.py``.

The package comes by ``pip install lemminflect==0.2.3``; its lexicon is NIH's SPECIALIST, cut to common words. Words
with capitals are left out, for words are looked up in lower case.

The arrays (``words/packed.py``): ``words``, sorted; ``lemmas``, of each word; ``changes``, sorted; ``forms``, of a base
which change makes its forms, as ``d1ied;g0ing`` of query (a letter for the form, and of each spelling how many letters
it drops and what it adds). A participle that equals the past is left out. The bytes depend on the package alone. After
it ``docs/make_synonyms.py`` is to be run.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

from lemminflect import config
from lemminflect.codecs.InflectionLUCodec import InflectionLUCodec
from lemminflect.codecs.LemmaLUCodec import LemmaLUCodec
from lemminflect.codecs.OverridesCodec import OverridesCodec

from borngap.words.inflection import CODES
from borngap.words.packed import packed_pairs, packed_words, write_packed

VERSION = "0.2.3"
TARGET = Path(__file__).parents[1] / "src" / "borngap" / "words" / "lexicon"
TAGS = {
    "NNS": "plural", "VBZ": "third person", "VBD": "past", "VBN": "past participle", "VBG": "gerund", "VBP": "present",
    "JJR": "comparative", "RBR": "comparative", "JJS": "superlative", "RBS": "superlative",
}  # fmt: skip
Entries = dict[str, dict[str, tuple[str, ...]]]


def read() -> tuple[Entries, Entries]:
    """Return word -> its lemmas by part of speech, and base -> its forms by tag."""
    bases, spelt = LemmaLUCodec.load(config.lemma_lu_fn), InflectionLUCodec.load(config.inflection_lu_fn)
    for entries, file in ((bases, config.lemma_overrides_fn), (spelt, config.infl_overrides_fn)):
        for word, entry in OverridesCodec.load(file).items():
            entries[word] = entries.get(word, {}) | entry
    return bases, spelt


def forms(word: str, entry: dict[str, tuple[str, ...]]) -> str:
    """Return the forms of a base as a line."""
    found: dict[str, tuple[str, ...]] = {}
    for tag, written in entry.items():
        spelt = tuple(map(str.lower, written))
        if tag in TAGS and not (tag == "VBP" and word in spelt):
            other = tuple(one for one in spelt if one != word) or spelt  # color has itself as a second plural
            found[TAGS[tag]] = tuple(dict.fromkeys(found.get(TAGS[tag], ()) + other))
    if found.get("past participle") == found.get("past"):
        found.pop("past participle", None)
    codes = {name: code for code, name in CODES.items()}
    return ";".join(codes[name] + ",".join(change(word, one) for one in spelt) for name, spelt in found.items())


def change(word: str, form: str) -> str:
    """Return what makes a form of a word: the number of letters that it drops, and what it adds."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, form, strict=False)))
    return f"{len(word) - common}{form[common:]}"


def main() -> None:
    """Write the file."""
    if version("lemminflect") != VERSION:
        sys.exit(f"lemminflect {VERSION} is needed, {version('lemminflect')} is installed")
    bases, spelt = read()
    lemmas = {word: {one.lower() for own in entry.values() for one in own} for word, entry in bases.items()}
    lemmas = {word: own for word, own in lemmas.items() if word == word.lower()}
    words = sorted({word for word in spelt if word == word.lower()}.union(lemmas, *lemmas.values()))
    numbers = {word: number for number, word in enumerate(words)}
    pairs = [(numbers[word], numbers[lemma]) for word, own in lemmas.items() for lemma in own]
    arrays = {"words": packed_words(words)} | packed_pairs("lemmas", len(words), *zip(*pairs, strict=True))
    told = {numbers[word]: forms(word, entry) for word, entry in spelt.items() if word in numbers}
    changes = sorted(set(told.values()) - {""})
    pairs = [(number, changes.index(line)) for number, line in told.items() if line]
    arrays |= {"changes": packed_words(changes)} | packed_pairs("forms", len(words), *zip(*pairs, strict=True))
    print(write_packed(TARGET, arrays))


if __name__ == "__main__":
    main()
