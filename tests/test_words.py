"""Words: how two of them are related, and the thesaurus that says so."""

from __future__ import annotations

import csv
import subprocess
import sys
import zlib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from borngap.errors import UserError
from borngap.words.packed import packed_data
from borngap.words.relation import RELATIONS, alternatives, relation, weak_derivation, word_of
from borngap.words.thesaurus import english, read_thesaurus

ROOT = Path(__file__).parents[1]
LABELLED = ROOT / "tests" / "data" / "relations.csv"
BOOKS = ("lexicon", "wordnet", "synonyms")
NONE = "not in the thesaurus"


@pytest.mark.parametrize(("gold", "rival", "expected"), [
    # the same word
    ("Return", " return", "spelling"), ("colour", "color", "spelling"), ("grey", "gray", "spelling"),
    ("realised", "realized", "spelling"), ("judgement", "judgment", "spelling"), ("e-mail", "email", "spelling"),
    ("data set", "dataset", "spelling"), ("naïve", "naive", "spelling"), ("centre", "center", "spelling"),
    ("tokenise", "tokenize", "spelling"), ("cheque", "check", "spelling"), ("sceptical", "skeptical", "spelling"),
    ("travelled", "traveled", "spelling"), ("gaol", "jail", "spelling"), ("fulfil", "fulfill", "spelling"),
    # what looks like it
    ("four", "for", "function word"), ("advice", "advise", NONE), ("prise", "price", NONE),
    ("hour", "or", "function word"),
    ("desert", "dessert", NONE), ("principal", "principle", NONE), ("C++", "C#", NONE), ("shot", "shoot", "inflection"),
    # forms and families
    ("return", "returns", "inflection"), ("colours", "color", "inflection"), ("tokenizer", "tokenizers", "inflection"),
    ("is", "was", "inflection"), ("better", "good", "inflection"), ("mice", "mouse", "inflection"),
    ("argue", "arguments", "derivation"), ("happy", "happiness", "derivation"), ("quick", "quickly", "derivation"),
    ("tokenize", "tokenizer", "derivation"), ("success", "successful", "derivation"),
    ("content", "context", NONE), ("complete", "complex", NONE), ("universe", "university", NONE),
    ("customer", "custom", NONE), ("interface", "internal", NONE),
    # meanings
    ("argument", "parameter", "synonym"), ("arguments", "Parameter", "synonym"), ("client", "customer", "synonym"),
    ("about", "around", "synonym"), ("True", "False", "antonym"), ("hot", "cold", "antonym"),
    ("method", "function", NONE), ("enable", "allow", NONE),
    # closed classes; their letters are no chemical symbols, units or states
    ("the", "a", "function word"), ("he", "helium", "function word"), ("in", "inch", "function word"),
    ("or", "Oregon", "function word"), ("as", "arsenic", "function word"), ("regarding", "involving", "function word"),
    ("house", "the", "function word"), ("don't", "cannot", "function word"),
    ("1990", "1991", "number"), ("two", "three", "number"), ("one", "two", "number"), ("II", "IV", "number"),
    ("2nd", "row", "number"), ("twenty-one", "thirty", "number"), ("CD", "MD", NONE),
    ("Monday", "Tuesday", "same kind"), ("moon", "sun", NONE),  # kinds of light, in their fourth and second sense
    ("guitar", "pianos", "same kind"), ("restore", "customize", NONE),
    # no words
    ("(", "[", NONE), ("", "x", NONE), ("###", "---", NONE), ("ization", "ment", NONE), ("Haus", "Wohnung", NONE),
    ("日本", "中国", NONE),
    *((word, form, "inflection") for word, form in (  # forms that rules of spelling alone would make the word itself
        ("tall", "tallest"), ("new", "newest"), ("quick", "quickest"), ("award", "awards"), ("hide", "hid"),
    )), ("forward", "forwards", "spelling"),
])  # fmt: skip
def test_relation(gold, rival, expected):
    assert relation(gold, rival) == expected
    assert relation(rival, gold) == expected
    assert relation(f" {gold.upper() if gold.isalpha() and len(gold) > 5 else gold},", f"'{rival}") == expected


def test_given_pairs_come_first_in_either_order_and_in_any_form():
    given = {("method", "function"), ("colour", "color")}
    assert relation(" Methods", " functions", given) == "given"
    assert relation("functions", "method", given) == "given"
    assert relation("color", "colour", given) == "given"
    assert relation("method", "functional", given) != "given"


def test_a_derivation_by_spelling_alone_is_weak():
    assert weak_derivation("tokenize", "tokenizer")  # WordNet has neither
    assert not weak_derivation("argue", " argument")


def test_a_words_alternatives_agree_with_it():
    assert "Parameters" in alternatives(" Arguments")
    assert {"buying", "purchasing"} - alternatives(" buying") == {"buying"}
    assert alternatives("tokenizer") == frozenset()
    assert word_of(" “Words,”") == "Words"
    assert word_of(" (") == "("
    assert word_of("'s") == "'s"
    assert word_of("'word'") == "word"


def counted():
    """Return (label, sample, right or not) of each pair that the program labels, and the labels by hand."""
    with LABELLED.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [(relation(row["gold"], row["rival"]), row) for row in rows]


def right(said, row):
    return said in {row["label"], row["ambiguous"]}


def shares(row):
    """Whether the thesaurus has a pair in one group: as its lemmas stand there, by another way than relation's."""
    from lemminflect import getAllLemmas

    bases = [{row[side].lower(), *(one for spelt in getAllLemmas(row[side].lower()).values() for one in spelt)}
             for side in ("gold", "rival")]  # fmt: skip
    return any(other in english().synonyms(one) for one in bases[0] for other in bases[1])


def table():
    """Return the table of docs/terms.md: pairs, precision and recall by relation, from the labels by hand."""
    rows = counted()
    lines = [
        "| relation | so labelled | right | precision | of those by hand, found |\n| --- | --- | --- | --- | --- |\n"
    ]
    for name in RELATIONS[1:]:
        said = [right(name, row) for label, row in rows if label == name]
        due = [label == name for label, row in rows if row["label"] == name and not row["ambiguous"]]
        line = f"| {name} | {len(said)} | {sum(said)} | {sum(said) / len(said):.2f} | {sum(due)} of {len(due)} |\n"
        lines.append(line)
    return "".join(lines)


def test_relations_are_as_good_as_promised():
    rows = counted()
    assert len(rows) >= 300
    assert len({row["corpus"] for _, row in rows}) >= 3
    labels = Counter(row["label"] for _, row in rows)
    assert min(labels[name] for name in ("synonym", "spelling", "antonym", "derivation", "same kind")) >= 20
    for name in RELATIONS[1:-1]:
        said = [right(name, row) for label, row in rows if label == name]
        assert sum(said) >= 0.9 * len(said), name
    drawn = [right(label, row) for label, row in rows if label == NONE and row["sample"] == "natural"]
    assert sum(drawn) >= 0.9 * len(drawn)


def test_synonyms_are_found_where_the_thesaurus_has_them():
    due = [(label == "synonym", row) for label, row in counted() if row["label"] == "synonym" and not row["ambiguous"]]
    held = [found for found, row in due if shares(row)]
    assert len(held) >= 50
    assert sum(held) >= 0.8 * len(held)
    assert sum(found for found, _ in due) >= 0.7 * len(due)  # all, with those that WordNet lacks


def test_few_synonyms_mean_the_same_in_their_sentence_and_the_docs_say_how_many():
    with (ROOT / "tests" / "data" / "senses.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["same"] != "unclear"]
    assert all(relation(row["gold"], row["rival"]) == "synonym" for row in rows)
    same = sum(row["same"] == "yes" for row in rows)
    assert f"{same} of {len(rows)}" in (ROOT / "docs" / "scan.md").read_text(encoding="utf-8")
    near = [row["same"] == "yes" for row in rows if int(row["sense"]) <= 3]
    assert f"{sum(near)} of {len(near)}" in (ROOT / "docs" / "log.md").read_text(encoding="utf-8")


def test_the_docs_show_the_table():
    text = (ROOT / "docs" / "terms.md").read_text(encoding="utf-8")
    assert table() in text, "python -c 'from tests.test_words import table; print(table())' makes it"


def test_the_thesaurus():
    book = english()
    assert "argument" in book
    assert "Argument" in book
    assert "dataframe" not in book
    assert {"parameter", "statement"} <= book.synonyms("argument")
    assert "argument" not in book.synonyms("argument")
    assert "cold" in book.antonyms("hot")
    assert "argument" in book.derived("argue")
    assert not book.kinds("monday").isdisjoint(book.kinds("friday"))
    assert book.synonyms("dataframe") == book.antonyms("dataframe") == book.derived("dataframe") == frozenset()
    assert english() is book


def test_the_thesaurus_is_small_comes_with_its_licence_and_is_read_late():
    folder = files("borngap.words")
    sizes = {name: sum(len(zlib.compress(a.tobytes())) for a in packed_data(name).values()) for name in BOOKS}
    assert all(100_000 < size < 1_000_000 for size in sizes.values()), "as in a wheel, which is compressed"
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in (folder / "wordnet.LICENSE").read_text("utf-8")
    assert "Copyright (C) 2019 Brad Jascob" in (folder / "lexicon.LICENSE").read_text("utf-8")
    for name in ("wordnet", "lexicon"):
        assert f"src/borngap/words/{name}.LICENSE" in (ROOT / "pyproject.toml").read_text("utf-8")
    program = (
        "from borngap.words import relation, thesaurus\nassert thesaurus.english.cache_info().currsize == 0\n"
        "relation.relation('a', 'b')\nassert thesaurus.english.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_users_thesaurus_adds_groups(tmp_path, encoding):
    file = tmp_path / "mine.txt"
    file.write_text(
        '# ours\nmethod, function,routine\n\nHaus;Gebäude\tBau\n"home page", start page\n', encoding=encoding
    )
    book = read_thesaurus(file)
    assert relation("Methods", "functions", thesaurus=book) == "synonym"
    assert relation("Haus", "gebäude", thesaurus=book) == "synonym"
    assert relation("argument", "parameter", thesaurus=book) == "synonym"
    assert book.synonyms("Haus") == {"gebäude", "bau"}
    assert "start pages" in alternatives("home pages", book)
    assert relation("method", "function") == NONE  # the English one is as it was


@pytest.mark.parametrize(("text", "message"), [
    ("a, b\nalone\n", "line 2 is no group of words"), ("same, Same\n", "line 1 is no group of words"),
    (", ,\n", "line 1 is no group of words"), ("# none\n", "has no group of words"), ("", "has no group of words"),
    ("alone\n", r"fix: write the words that mean the same in one line, as in: client, customer"),
    ("# none\n", r"fix: write the words that mean the same in one line, as in: client, customer"),
])  # fmt: skip
def test_a_bad_thesaurus_is_one_clear_error(tmp_path, text, message):
    file = tmp_path / "mine.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_thesaurus(file)


def test_a_thesaurus_that_is_no_text(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_bytes(b"a, b\ncaf\xe9, tea\n")
    with pytest.raises(UserError, match=r"line 2 is not text\n  found: byte 0xe9 is not UTF-8"):
        read_thesaurus(file)
    with pytest.raises(UserError, match=r"can't read .*none"):
        read_thesaurus(tmp_path / "none.txt")
