"""The contexts natural100: what their rule takes, and that the bundled list is of judged candidates alone."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from borngap.context import read_contexts

ROOT = Path(__file__).parents[1]
JUDGED = [json.loads(line) for line in (ROOT / "docs/natural/candidates.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def rule():
    spec = importlib.util.spec_from_file_location("make_natural", ROOT / "docs" / "make_natural.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Words:
    """A tokenizer whose tokens are the words of a text."""

    def __init__(self):
        self.words = []

    def __call__(self, text):
        self.words = text.split(" ")
        return {"input_ids": list(range(len(self.words)))}

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


def place(offset, gold, rival, gap=-1.0, row=0):
    return {"row": row, "offset": offset, "gold": gold, "rival": rival, "logit_gap": gap}


def test_a_candidate_is_a_sentence_up_to_a_word_whose_synonym_leads(rule):
    text = "Left out. We all know that he will begin soon and start and begin and begin and begin"
    rows = [{"text": text, "package": "p==1"}]
    places = [
        place(8, " begin", " start"), place(8, " begin", " open", gap=0.5), place(8, " Begin", " start"),
        place(8, " begin", " the"), place(8, " be", " start"), place(3, " all", " every"),
        place(3, " every", " entire"), place(13, " begin", " start"), place(15, " begin", " start"),
    ]  # fmt: skip
    found = list(rule.candidates(places, rows, Words()))
    assert [(c["prompt"], c["gold"], c["rival"]) for c in found] == [
        ("We all know that he will", " begin", " start"),
        ("We all know that he will begin soon and start and", " begin", " start"),
    ]
    assert found[0]["note"] == "p==1"
    assert found[0]["after"] == "soon and start and begin and begin and"
    assert rule.sentence_of("Is it? Yes. It is") == "It is"


def test_the_bundled_hundred_are_judged_candidates():
    contexts = read_contexts("natural100")
    right = {(row["prompt"], row["gold"], row["rival"], row["note"]) for row in JUDGED if row["dropped"] is None}
    assert len(contexts) == 100
    assert {(c.prompt, c.gold, c.rival, c.note) for c in contexts} <= right
    assert max(Counter((c.gold, c.rival) for c in contexts).values()) <= 2
    assert all(5 <= len(c.prompt.split()) <= 40 for c in contexts)
    assert {c.note.partition("==")[0] for c in contexts} == {"networkx", "scipy", "numpy", "rich"}
    assert sum(row["dropped"] is not None for row in JUDGED) == 247
