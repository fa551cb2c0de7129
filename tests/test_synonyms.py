"""The table of WordNet's synonyms is what a look at every pair finds; of whole vocabularies, and without WordNet."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
from transformers import AutoTokenizer

from borngap.words import relatives
from borngap.words.packed import packed_data
from borngap.words.relation import SYNONYMOUS, relation
from borngap.words.relatives import OwnRelatives, Relatives
from borngap.words.spelling import regular_spelling, regular_spellings
from borngap.words.thesaurus import english
from borngap.zoo import local_path

OUTDATED = "python docs/make_synonyms.py makes the table anew"
ODD = ["colour", "Colors", "color", "naïve", "naive", "e-mail", "email", "through", "thru", "tokeniser", "tokenizer",
       "Tokenizers", "subclasses", "outdid", "surpassed", "forwards", "forward", "regarding", "involving", "IV", "four",
       "Gebäude", "gebaude", "'tis", "日本", "pres", "pers", "filler", "filer", "x" * 40]  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary():
    """The words of a bundled model, some of them in two cases, with odd ones."""
    tokenizer = AutoTokenizer.from_pretrained(local_path("docs-gpt2-s"))
    words = {text.strip() for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])}
    return sorted(word for word in words if word.isalpha())[::2] + ODD


def test_of_a_vocabulary_the_table_finds_what_looking_each_word_up_does(vocabulary):
    quick, slow = Relatives(vocabulary), OwnRelatives(vocabulary, english())
    found = {word: quick.of(word) for word in vocabulary}
    assert found == {word: slow.of(word) for word in vocabulary}, OUTDATED
    assert sum(len(places) > 1 for places in found.values()) > 1000


def test_of_drawn_words_the_table_finds_what_a_look_at_every_pair_does():
    words = [word.decode() for word in packed_data("synonyms")["words"][::600]] + ODD
    found = Relatives(words)
    for word in words:
        every = [place for place, other in enumerate(words) if relation(word, other) in SYNONYMOUS]
        assert found.of(word) == every, (word, OUTDATED)


def test_labels_are_those_of_the_rules(vocabulary):
    found = Relatives(vocabulary)
    near = {(word, vocabulary[place]) for word in vocabulary[::5] for place in found.of(word)}
    pairs = [*near, *product(ODD, vocabulary[::99]), *product(ODD, ["Unlisted", "email's"])]
    labels = [found.relation(*pair) for pair in pairs]
    assert labels == [relation(*pair) for pair in pairs], OUTDATED
    assert len(set(labels)) > 5


def test_synonyms_are_labelled_without_a_look_at_the_books(monkeypatch):
    monkeypatch.setattr(relatives, "relation", None)
    found = Relatives([" client", " Customer", " colour", " color", " Color"])
    assert found.of("Client") == [0, 1]
    assert found.of("color") == [2, 3, 4]
    assert found.relation(" customer", " client") == "synonym"
    assert found.relation(" color", "Colour") == found.relation("color", "Color") == "spelling"
    program = (
        "from borngap.words import inflection, thesaurus, relatives\nrelatives.Relatives(['a', 'colour']).of('a')\n"
        "assert inflection._lexicon.cache_info().currsize == thesaurus.english.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_spellings_of_many_words_are_those_of_each(vocabulary):
    words = [*vocabulary, "realised", "re", "recentre", "centres", "-\n-", "our", "analogue", "defence"]
    assert regular_spellings(words) == [regular_spelling(word) for word in words]
    assert regular_spellings([]) == []
