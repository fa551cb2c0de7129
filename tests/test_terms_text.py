"""Terms: the text of tokens, and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from tests.chats import metaspace
from tests.conftest import PROSE
from tests.test_terms import asked, placed
from tests.tiny import tiny

from borngap.errors import UserError
from borngap.usage.shares import interval
from borngap.usage.texts import TokenTexts
from borngap.words.occurrences import Finder
from borngap.words.term import Term


def test_the_text_of_tokens(tokenizer):
    texts = TokenTexts(tokenizer)
    for text in ("Größe – 中文字 of words", " guilt\n\tand", "é"):
        ids = tokenizer(text)["input_ids"]
        told = texts.of(ids)
        assert told.text == text
        assert told.starts[-1] == len(text)
        for at in range(len(ids)):
            whole = tokenizer.decode(ids[: at + 1])
            if "\ufffd" not in whole:
                assert text[: told.starts[at + 1]] == whole
        assert [told.first(at) for at in range(len(text))] == sorted(told.first(at) for at in range(len(text)))
    end = texts.of([*tokenizer("a")["input_ids"], tokenizer.eos_token_id])
    assert "endoftext" not in end.text
    spaces = metaspace(PROSE)
    ids = spaces("the method returns")["input_ids"]
    assert TokenTexts(spaces).of(ids).text.lstrip() == "the method returns"


def test_words_of_tokenizers_that_mark_spaces(tokenizer):
    spaces = metaspace(PROSE.lower())
    found = asked(tiny("gpt2", len(spaces)), spaces, ["the old man felt shame and guilt, a method"])
    assert placed(found) == [
        (0, "avoid", "shame", "guilt"), (0, "due", "guilt", "shame"), (0, "avoid", "method", "function")
    ]  # fmt: skip
    assert found.places["reason"].null_count() == 3


@pytest.mark.parametrize(("pattern", "exceptions", "found"), [
    ("(a|a)+$c", (), r"'use' instead of 'avoid', by \(a\|a\)\+\$c"),
    ("zz", ("(a|a)+$c",), r"\(a\|a\)\+\$c, an exception"),
])  # fmt: skip
def test_an_expression_that_would_take_for_ever_is_named(monkeypatch, pattern, exceptions, found):
    monkeypatch.setattr("borngap.words.occurrences._SECONDS", 0.05)
    finder = Finder([Term("use", "avoid", "rule.yml, line 7", pattern=pattern, exceptions=exceptions)])
    message = (
        rf"an expression takes too long: rule.yml, line 7\n  rule: at most 0.05 s .* 103 characters\n  found: {found}\n"
    )
    with pytest.raises(UserError, match=message):
        finder.find("a" * 100 + " zz")


def test_intervals_by_hand():
    ones = np.array([1, 2, 3])
    assert interval(ones, ones) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    assert interval(0 * ones, ones) == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    assert interval(ones[:1], ones[:1]) == (None, None)
    hits, places = np.array([0] * 50 + [2] * 50), np.array([2] * 100)
    low, high = interval(hits, places)
    assert (low, high) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.6, abs=0.02)), "rows count, not places"
