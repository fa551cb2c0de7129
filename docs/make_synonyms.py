"""Look WordNet's synonyms up, once for all, into src/borngap/words/synonyms: ``python docs/make_synonyms.py``.

To be run whenever lexicon, thesaurus or the rules of ``relation`` change: ``tests/test_synonyms.py`` fails until
then. Pairs that may be synonyms share a group of the thesaurus, those that may be spellings of one another are equal
without hyphens and the like; ``relation`` is asked of each, but for those that ``unlike`` sees at once to be synonyms.

The arrays (``words/packed.py``): ``words``, sorted: all that the thesaurus holds, in any form that ``lemmas`` leads to
it; ``pairs``, of each word those after it that are its synonyms, or itself in another spelling: twice their number, and
1 more where it is the spelling.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

from borngap.words.packed import packed_data, packed_pairs, packed_words, unpacked, write_packed
from borngap.words.relation import SYNONYMOUS, bases, relation, unlike
from borngap.words.spelling import spelling_of
from borngap.words.synonyms import BOOK
from borngap.words.thesaurus import english

TARGET = Path(__file__).parents[1] / "src" / "borngap" / "words" / BOOK


def words_of(book: str) -> list[str]:
    """Return all words of a book."""
    return [word.decode() for word in packed_data(book)["words"].tolist()]


def held_words() -> list[str]:
    """Return all words of which the thesaurus holds a base."""
    known, links = words_of("lexicon"), unpacked(packed_data("lexicon"), "lemmas")
    forms = defaultdict(list)
    for number, word in enumerate(known):
        for lemma in links.of(number):
            forms[known[lemma]].append(word)
    bases_held = words_of("wordnet")
    compounds = {word[:cut] + form for word in bases_held for cut in range(1, len(word)) for form in forms[word[cut:]]}
    return sorted(word for word in {*known, *bases_held, *compounds} if any(b in english() for b in bases(word)))


def candidates(words: list[str]) -> dict[str, set[str]]:
    """Return of each word those after it that share a group of synonyms, or their letters, with it."""
    alike: dict[int | str, list[str]] = defaultdict(list)
    for word in words:
        alike[spelling_of(word).solid].append(word)
        for group in groups(word):
            alike[group].append(word)
    found: dict[str, set[str]] = defaultdict(set)
    for same in alike.values():
        for one, other in combinations(same, 2):
            found[one].add(other)
    return found


def labelled(word: str, others: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield those of some words that mean the same as a word, and whether they are spellings of it."""
    shared = {other for other in others if not groups(word).isdisjoint(groups(other))}
    plain = set(unlike(word, shared, english()))
    yield from ((other, False) for other in plain)
    for other in {*others} - plain:
        name = relation(word, other)
        if name in SYNONYMOUS:
            yield other, name == "spelling"


def groups(word: str) -> frozenset[int]:
    """Return the groups of synonyms that a word is in, in any of its bases."""
    return frozenset().union(*map(english().groups, bases(word)))


def main() -> None:
    """Write the arrays."""
    words = held_words()
    numbers = dict(zip(words, range(len(words)), strict=True))
    found = ((numbers[word], *pair) for word, others in candidates(words).items() for pair in labelled(word, others))
    left, right = zip(*((number, 2 * numbers[other] + spelt) for number, other, spelt in found), strict=True)
    print(write_packed(TARGET, {"words": packed_words(words)} | packed_pairs("pairs", len(words), left, right)))


if __name__ == "__main__":
    main()
