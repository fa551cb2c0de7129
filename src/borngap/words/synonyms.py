"""All of WordNet's synonyms among the words of a list, at once: a table that was made beforehand is cut to the list.

``docs/make_synonyms.py`` asked ``relation`` of every pair of words that the thesaurus holds in any form. Of a word that
it does not hold the rules of spelling alone decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from borngap.words.packed import Links, WordList, packed_data, unpacked
from borngap.words.spelling import may_begin_alike, regular_spellings, spelling_of

BOOK = "synonyms"


def synonyms_among(words: Sequence[str]) -> Links:
    """Return which of some words are synonyms, or one word in two spellings: as ``relation`` says of each pair.

    Args:
        words: distinct, in lower case, without white space.

    Returns:
        Of each word, by place, the others: twice the other's place, and 1 more where they are spellings.
    """
    book, pairs = _table()
    numbers = book.numbers(words)
    held = (numbers >= 0).nonzero()[0]
    places = np.full(len(book), -1)
    places[numbers[held]] = held
    left, ends = pairs.of_all(numbers[held])
    left, right, spelt = held[left], places[ends >> 1], ends & 1
    more = np.array([*_spelt(words, numbers < 0)], np.int64).reshape(-1, 2).T
    known = right >= 0
    left, right = np.concatenate([left[known], more[0]]), np.concatenate([right[known], more[1]])
    spelt = np.concatenate([spelt[known], np.ones_like(more[0])])
    return Links.made(len(words), np.concatenate([left, right]), np.concatenate([right * 2 + spelt, left * 2 + spelt]))


@cache
def _table() -> tuple[WordList, Links]:
    """The words of the table; of each those after it that it is linked to, as ``synonyms_among`` returns them."""
    arrays = packed_data(BOOK)
    return WordList(arrays["words"]), unpacked(arrays, "pairs")


def _spelt(words: Sequence[str], unheld: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the places of words that are one word in two spellings, where the thesaurus does not hold both."""
    alike: dict[str, list[int]] = defaultdict(list)
    for place, spelling in enumerate(regular_spellings(words)):
        alike[spelling].append(place)
    for places in alike.values():
        for one, other in combinations(places, 2) if len(places) > 1 else ():
            if (unheld[one] or unheld[other]) and _one_word(words[one], words[other]):
                yield one, other


def _one_word(first: str, second: str) -> bool:
    """Return whether two words of equal regular spelling are one, as far as the rules of spelling say."""
    alike = may_begin_alike(first[:1], second[:1])
    return alike and spelling_of(first).same(spelling_of(second), synonyms=None)
