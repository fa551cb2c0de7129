"""The choice of a rival where the user names none."""

from __future__ import annotations

import re

import pytest
import torch

from borngap.errors import UserError
from borngap.observables.geometry import Geometry
from borngap.observables.rivalchoice import choose_rival

# token 0 is gold; overlaps with it fall from token to token
TURN = torch.linspace(0, 1.5, 8)
ROWS = torch.stack([TURN.cos(), TURN.sin()], 1)
WORDS = [" shame", " guilt", " anger", " fear", " joy", " pride", " awe", " calm"]


def choose(words=WORDS, probs=(0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05), top_p=0.97, gold=0, synonyms=(), **options):
    def describe(token):
        return words[token].removeprefix("#"), words[token].startswith(" ")

    return choose_rival(torch.tensor(probs), Geometry(ROWS, **options), gold, top_p, describe, synonyms)


def test_a_synonym_goes_before_what_is_nearer():
    assert choose(synonyms={5, 3}) == 3
    assert choose(synonyms={7}, top_p=0.8) == 1, "that synonym is not in the nucleus"
    assert choose(["shame", "guilt", *WORDS[2:]], synonyms={1}, gold=2) == 3, "a fragment is no rival of a word"


def test_the_nearest_of_the_nucleus():
    assert choose() == 1
    assert choose(gold=7) == 6


def test_nearness_counts_and_not_probability():
    assert choose(probs=(0.01, 0.1, 0.6, 0.29, 0, 0, 0, 0), top_p=0.99) == 1


def test_tokens_beyond_the_nucleus_are_left_out():
    assert choose(probs=(0.4, 0.01, 0.02, 0.5, 0.07, 0, 0, 0), top_p=0.85) == 3


def test_gold_need_not_be_in_the_nucleus():
    assert choose(probs=(0.01, 0.02, 0.07, 0.9, 0, 0, 0, 0), top_p=0.85) == 3


@pytest.mark.parametrize("word", [" shame", "shame", " SHAME", " Shame ", "", " ", "\n"])
def test_gold_in_another_spelling_and_blanks_are_no_rivals(word):
    assert choose([WORDS[0], word, *WORDS[2:]]) == 2


def test_fragments_are_no_rivals_of_a_word():
    assert choose([" shame", "guilt", "anger", " fear", *WORDS[4:]]) == 3


def test_fragments_are_rivals_of_a_fragment():
    assert choose(["shame", "guilt", *WORDS[2:]]) == 1


def test_special_tokens_and_padding_are_no_rivals():
    assert choose(special=frozenset({1, 2})) == 3
    padding_leads = (0.01, 0.01, 0.1, 0.05, 0.03, 0.0, 0.4, 0.4)
    assert choose(probs=padding_leads, top_p=0.1, size=6) == 2


def test_an_exhausted_nucleus_gives_way_to_the_most_probable():
    assert choose(probs=(0.95, 0.01, 0.01, 0.01, 0.01, 0.01, 0, 0), top_p=0.9) == 1
    assert choose([" shame", " SHAME", *WORDS[2:]], (0.6, 0.35, 0.01, 0.01, 0.01, 0.01, 0.01, 0), top_p=0.9) == 2


@pytest.mark.parametrize(("kind", "rival"), [("readout", 1), ("centered", 2)])
def test_the_geometry_decides(kind, rival):
    # seen from the origin, token 1 is in gold's direction; seen from the mean row, token 2 is
    rows = torch.tensor([[12.0, 0.0], [8.0, 0.0], [12.0, 1.5], [8.0, -1.5]])
    chosen = choose_rival(torch.full((4,), 0.25), Geometry(rows, kind), 0, 1.0, lambda token: (WORDS[token], True))
    assert chosen == rival


def test_no_other_word_is_an_error():
    message = (
        "no rival for ' shame'\n  found: no other word among the nucleus and the 8 most probable tokens\n"
        "  fix: name the rival in the contexts file"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        choose([" shame"] * 8)


def test_a_token_without_a_direction_is_no_rival():
    """Its overlap is 0 with everything, which is more than a negative one."""
    rows = torch.tensor([[1.0, 0.0], [-0.6, 0.8], [0.0, 0.0], [-0.8, 0.6]])
    probs = torch.tensor([0.1, 0.2, 0.4, 0.3])
    for top_p in (0.9, 1.0):
        assert choose_rival(probs, Geometry(rows), 0, top_p, lambda token: (WORDS[token], True)) == 1
    with pytest.raises(UserError, match=r"gold has no direction\n  rule: .*\n  found: token ids \[2\]"):
        choose_rival(probs, Geometry(rows), 2, 0.9, lambda token: (WORDS[token], True))


def test_an_id_that_no_token_has_is_no_rival():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.9, 0.1], [0.8, -0.6]])
    probs = torch.tensor([0.1, 0.2, 0.4, 0.3])
    geometry = Geometry(rows, holes=frozenset({2}))
    assert choose_rival(probs, geometry, 0, 1.0, lambda token: (WORDS[token], True)) == 3
