"""What was looked up of a vocabulary's words is found by other processes; no file, or a bad one, is no error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from borngap.model import tokenrelations
from borngap.model.tokenrelations import TokenRelations, TokenThesaurus, keep_relations, vocabulary_relations
from borngap.model.words import words_of
from borngap.words.relatives import Relatives


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BORNGAP_CACHE", str(tmp_path))
    monkeypatch.setattr(tokenrelations, "cache_folder", lambda: tmp_path)
    return tmp_path / "relations"


@pytest.fixture
def looked_up(tokenizer, folder):
    """All words of a vocabulary looked up and stored: by token the synonyms, by pair the relation."""
    size = len(tokenizer)
    forget()
    known = vocabulary_relations(tokenizer, size)
    found = {token: known.synonyms(token) for token in range(size)}
    pairs = {(token, other): known.relation(token, other) for token in known._whole for other in known._whole[:5]}
    assert sum(map(bool, found.values())) > 2
    assert len(set(pairs.values())) > 2
    keep_relations(tokenizer)
    forget()
    return found, pairs


def forget():
    tokenrelations._KNOWN.clear()


def asked(known, found, pairs):
    return {token: known.synonyms(token) for token in found}, {pair: known.relation(*pair) for pair in pairs}


def test_another_process_looks_nothing_up(tokenizer, looked_up, monkeypatch):
    monkeypatch.setattr(TokenThesaurus, "_relatives", None)
    monkeypatch.setattr(tokenrelations, "relation", None)
    assert asked(vocabulary_relations(tokenizer, len(tokenizer)), *looked_up) == looked_up


def test_what_is_new_is_added(tokenizer, folder):
    for token in (270, 280):
        forget()
        vocabulary_relations(tokenizer, len(tokenizer)).synonyms(token)
        keep_relations(tokenizer)
    forget()
    assert set(vocabulary_relations(tokenizer, len(tokenizer))._synonyms) == {270, 280}
    assert [file.suffix for file in folder.iterdir()] == [".npz"]


def changed(file, **arrays):
    with np.load(file) as stored:
        np.savez(file, **dict(stored) | arrays)


@pytest.mark.parametrize("damage", [
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(b"not an archive"),
    lambda file: file.write_bytes(file.read_bytes()[:-300]),
    lambda file: file.write_bytes(bytes(file.read_bytes()[:700]) + b"\0" * 9 + file.read_bytes()[709:]),
    lambda file: changed(file, relations=np.array([250], np.uint8)),
    lambda file: changed(file, ends=np.array([0], np.int32)),
    lambda file: changed(file, tokens=np.array([{}], object)),
    lambda file: changed(file, version=np.zeros(32, np.uint8), others=np.zeros(99, np.int32)),
])  # fmt: skip
def test_a_file_that_is_no_use_is_ignored_and_made_anew(tokenizer, folder, looked_up, damage):
    (file,) = folder.iterdir()
    damage(file)
    known = vocabulary_relations(tokenizer, len(tokenizer))
    assert not known._synonyms
    assert asked(known, *looked_up) == looked_up
    keep_relations(tokenizer)
    forget()
    assert vocabulary_relations(tokenizer, len(tokenizer))._synonyms == looked_up[0]


def test_without_a_folder_to_write_to_it_works(tokenizer, tmp_path, monkeypatch):
    forget()
    (tmp_path / "file").touch()
    monkeypatch.setattr(tokenrelations, "cache_folder", lambda: tmp_path / "file" / "cache")
    known = vocabulary_relations(tokenizer, len(tokenizer))
    known.synonyms(270)
    keep_relations(tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_of_the_users_is_kept(tokenizer, folder, looked_up):
    """Given pairs are on top of what is stored, in memory alone; a file holds numbers only."""
    words = words_of(tokenizer, len(tokenizer))
    known = vocabulary_relations(tokenizer, len(tokenizer), words)
    man, error = (words.tokens()[word] for word in ("man", "error"))
    plain = known.relation(man, error)
    given = TokenRelations(words, known, [("man", "error")])
    assert given.relation(man, error) == "given" != plain
    assert error in given.synonyms(man)
    keep_relations(tokenizer)
    forget()
    assert vocabulary_relations(tokenizer, len(tokenizer)).relation(man, error) == plain
    (file,) = folder.iterdir()
    with np.load(file) as stored:
        assert all(array.dtype.kind in "iu" for array in stored.values())


def test_synonyms_are_those_of_the_words_alone(tokenizer, looked_up):
    """Of fewer whole words than the table is of, as in a model some of whose rows have no direction."""
    words = words_of(tokenizer, len(tokenizer))
    fewer = torch.where(torch.arange(len(words.whole)) % 2 == 0, words.whole, False)
    places = fewer.nonzero().flatten().tolist()
    slow = Relatives([words.text[i] for i in places])
    for place in places:
        wanted = [places[i] for i in slow.of(words.text[place])]
        assert [i for i in looked_up[0][place] if fewer[i]] == wanted
