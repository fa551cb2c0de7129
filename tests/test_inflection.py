"""English inflection: lemmas, forms, and the form of one word that corresponds to a form of another."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from borngap.words import packed
from borngap.words.inflection import FORMS, agree, forms, lemmas, related
from borngap.words.packed import WordList, packed_data, packed_pairs, packed_words, unpacked, write_packed


@pytest.mark.parametrize(("word", "expected"), [
    ("returns", {"return"}), ("Returning", {"return"}), ("left", {"left", "leave"}), ("mice", {"mouse"}),
    ("was", {"be"}), ("method", {"method"}), ("worse", {"bad", "ill", "wrong", "worse"}),
    ("datasets", {"dataset"}), ("subclasses", {"subclass"}), ("pull-requests", {"pull-request"}),  # the lexicon lacks
    ("home pages", {"home page", "home pages"}), ("logged in", {"log in", "logged in"}),
    ("Wörter", {"wörter"}), ("kubernetes", {"kubernetes"}), ("", {""}), ("...", {"..."}), ("3.5", {"3.5"}),
])  # fmt: skip
def test_lemmas(word, expected):
    assert lemmas(word) == expected


@pytest.mark.parametrize(("word", "expected"), [
    ("run", {"plural": "runs", "third person": "runs", "past": "ran", "past participle": "run", "gerund": "running"}),
    ("parameter", {"plural": "parameters"}),
    ("query", {"plural": "queries", "third person": "queries", "past": "queried", "past participle": "queried",
               "gerund": "querying"}),
    ("be", {"third person": "is", "past": "was were", "past participle": "been", "gerund": "being",
            "present": "am are"}),
    ("index", {"plural": "indexes indices", "third person": "indexes", "past": "indexed", "past participle": "indexed",
               "gerund": "indexing"}),
    ("big", {"comparative": "bigger", "superlative": "biggest"}),
    ("subclass", {"plural": "subclasses"}),  # as its last part, of which the noun alone is known
    ("tokenize", {"plural": "tokenizes", "third person": "tokenizes", "past": "tokenized",
                  "past participle": "tokenized", "gerund": "tokenizing"}),
    ("unpin", {"third person": "unpins", "past": "unpinned", "past participle": "unpinned", "gerund": "unpinning"}),
    ("embedding", {"plural": "embeddings"}),
    ("parameters", {}), ("datasets", {}), ("tokenized", {}), ("Haus-", {}), ("Größe", {}), ("x", {}), ("C++", {}),
])  # fmt: skip
def test_forms(word, expected):
    found = {name: " ".join(spelt) for name, spelt in forms(word).items()}
    assert found == {"base": word, **expected}


def test_of_a_term_the_right_word_inflects():
    assert forms("command line")["plural"] == ("command lines",)
    assert forms("log in")["past"] == ("logged in",)
    assert "plural" not in forms("log in")
    assert forms("double-click")["past"] == ("double-clicked",)
    assert set(forms("data set")) == {"base", "plural"}


def test_a_form_is_written_as_its_word():
    assert forms("GitHub")["plural"] == ("GitHubs",)
    assert forms("API")["plural"] == ("APIs",)
    assert forms("Client")["plural"] == ("Clients",)
    assert all(set(forms(word)) <= set(FORMS) for word in ("be", "good", "well", "log in"))


@pytest.mark.parametrize(("form", "base", "other", "expected"), [
    ("parameters", "parameter", "argument", "arguments"),
    ("Parameters", "parameter", "argument", "Arguments"),
    ("PARAMETERS", "parameter", "argument", "ARGUMENTS"),
    ("parameter", "parameter", "argument", "argument"),
    ("A", "a", "the", "The"),
    ("threw", "throw", "raise", "raised"),
    ("thrown", "throw", "write", "written"),
    ("runs", "run", "execute", "executes"),  # a plural or a third person: execute has the latter
    ("clients", "client", "dataset", "datasets"),
    ("messages", "message", "e-mail", "e-mails"),  # not its second plural, the bare form
    ("whitelisted", "whitelist", "allowlist", "allowlisted"),
    ("logs in", "log in", "sign in", "signs in"),
    ("Logged in", "log in", "authenticate", "Authenticated"),
    ("command lines", "command line", "terminal", "terminals"),
    ("better", "good", "useful", "more useful"),
    ("Clients", "Client", "Customer", "Customers"),
    ("clients", "Client", "Customer", "customers"),
    ("Clients", "client", "GitHub user", "GitHub users"),
    ("parameters", "parameters", "arguments", "arguments"),
    ("Kunde", "Kunde", "Käufer", "Käufer"),
])  # fmt: skip
def test_agreement(form, base, other, expected):
    assert agree(form, base, other) == expected


def test_what_is_no_form_has_nothing_to_agree_with():
    with pytest.raises(ValueError, match="'argument' is no form of 'parameter'"):
        agree("argument", "parameter", "value")


@pytest.mark.parametrize(("first", "second", "expected"), [
    ("return", "Returning", True), ("left", "leaves", True), ("tokenizer", "tokenizers", True),
    ("embeddings", "embedding", True), ("method", "function", False), ("a", "as", False), ("use", "us", False),
])  # fmt: skip
def test_related(first, second, expected):
    assert related(first, second) is expected
    assert related(second, first) is expected


def test_the_lexicon_is_read_at_the_first_call_and_warns_of_nothing():
    program = (
        "from borngap.words import inflection\nassert inflection._lexicon.cache_info().currsize == 0\n"
        "assert inflection.lemmas('words') == {'word'}\nassert inflection._lexicon.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_the_packed_lexicon_is_that_of_lemminflect():
    """By its own look-ups, of words in lower case evenly drawn from both books."""
    from lemminflect import getAllInflections, getAllLemmas

    tags = {"plural": ("NNS",), "third person": ("VBZ",), "gerund": ("VBG",), "past": ("VBD",)}
    words = [one.decode() for one in sorted({*packed_data("lexicon")["words"], *packed_data("wordnet")["words"]})[::40]]
    assert len(words) > 2000
    for word in (word for word in words if " " not in word):
        theirs = {lemma.lower() for spelt in getAllLemmas(word).values() for lemma in spelt}
        if theirs:
            assert lemmas(word) == theirs, word
        inflected = getAllInflections(word)
        for name, own in tags.items():
            spelt = {one.lower() for tag in own for one in inflected.get(tag, ()) if one != word}
            if spelt:
                assert spelt == set(forms(word)[name]) - {word}, word


def test_links_are_packed_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "__file__", str(tmp_path / "packed.py"))
    left, right = [2, 0, 0, 2, 2, 5], [4, 300, 7, 4, 70_000, 0]
    assert write_packed(tmp_path / "own", packed_pairs("x", 6, left, right)).endswith("x_starts 7, x_ends 5")
    found = unpacked(packed_data("own"), "x")
    assert [found.of(i) for i in range(6)] == [[7, 300], [], [4, 70_000], [], [], [0]]
    assert [one.tolist() for one in found.of_all(np.array([2, 1, 5, 2]))] == [
        [0, 0, 2, 3, 3], [4, 70_000, 0, 4, 70_000]
    ]  # fmt: skip
    back = found.reversed()
    assert [back.of(i) for i in (0, 4, 7, 300, 70_000, 5)] == [[5], [2], [0], [0], [2], []]
    assert [one.tolist() for one in found.of_all(np.array([], int))] == [[], []]


@pytest.mark.parametrize("few", [0, 9999])
def test_a_word_is_found_by_halving_and_by_a_dictionary_alike(few, monkeypatch):
    monkeypatch.setattr(packed, "_FEW", few)
    words = ["a", "ab", "b-c", "naïve", "zoo"]
    held = WordList(packed_words(words))
    asked = [*words, "", "A", "a\0", "aa", "zoos", "zz", "naïvely", "x" * 99, "\ud800"]
    expected = [0, 1, 2, 3, 4] + [None] * 9
    assert [held.number(word) for word in asked] == expected
    assert held.numbers(asked).tolist() == [-1 if number is None else number for number in expected]
    assert [held[number] for number in range(len(held))] == words
