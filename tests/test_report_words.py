"""How a report writes words, numbers and paths, and its colours."""

from __future__ import annotations

import pytest

from borngap.report.charts.charts import DASHES, PANELS, PHANTOM, STYLES
from borngap.report.page.palette import DARK, GRAPHIC, LIGHT, SURFACES, contrast
from borngap.report.text import ending, number, rate, word
from borngap.shown import public, visible


@pytest.mark.parametrize(("text", "shown"), [
    ("plain é 日本", "plain é 日本"),
    ("a\tb\n\x00", "a⇥b↵\\x00"),
    ("one\r\ntwo\u2028three\rfour", "one↵two↵three↵four"),
    ("\u202eabc\u2066", "\\u202eabc\\u2066"),
    ("\ud800", "\\ud800"),
    ("👩\u200d👧", "👩\u200d👧"),
])  # fmt: skip
def test_what_is_invisible_becomes_visible(text, shown):
    assert visible(text) == shown
    shown.encode()


def test_words_are_bounded_and_never_empty():
    assert word(" gold") == "gold"
    assert word("  ") == "'  '"
    assert word(None) == "–"
    assert word("x" * 10_000) == "x" * 60 + "…"


def test_the_end_of_a_prompt_is_kept():
    assert ending("one two three", 90) == "one two three"
    assert ending("long " * 100 + "last words", 20) == "…long last words"
    assert len(ending("x" * 10_000, 90)) == 91


@pytest.mark.parametrize(("value", "shown"), [
    (None, "–"), (float("nan"), "–"), (float("inf"), "–"), (0, "0"), (0.0, "0"), (-1.056, "−1.06"), (26.12, "26.1"),
    (1234.5, "1234"), (3.2e-5, "3.2e−5"), (-7, "−7"),
])  # fmt: skip
def test_numbers(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(2e-4, "2e−4"), (1.26e-3, "1.3e−3"), (0.05, "0.05"), (None, "–")])
def test_rates(value, shown):
    assert rate(value) == shown


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_contrast_is_aa_on_both_surfaces(colours):
    for name in colours.keys() - GRAPHIC - SURFACES:
        for surface in SURFACES:
            assert contrast(colours[name], colours[surface]) >= 4.5, (name, surface)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the well-known limit


def test_lines_of_a_chart_differ_without_colour():
    for panel in (*PANELS, *PHANTOM):
        assert len({line.dash for line in panel.lines}) == len(panel.lines)
    assert len({dash for _, dash in STYLES}) == len(STYLES)
    assert len({tuple(dash) for dash in DASHES.values()}) == len(DASHES)


@pytest.mark.parametrize(("text", "shown"), [
    ("/home/ann/my models/llama", "llama"), ("~/llama", "llama"), ("C:\\Users\\ann\\llama", "llama"),
    ("./llama", "llama"),
    ("org/name", "org/name"), ("docs-gpt2-s", "docs-gpt2-s"), ("1/d and logit gap / nat", "1/d and logit gap / nat"),
    ("no model in /home/ann/m (see ~/x/log)", "no model in m (see log)"),
    ("at https://huggingface.co/org/name", "at https://huggingface.co/org/name"),
])  # fmt: skip
def test_of_a_local_path_the_last_part_is_public(text, shown):
    assert public(text) == shown
