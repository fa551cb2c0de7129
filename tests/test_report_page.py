"""The report page in a real browser: quiet, offline, linked, sortable, safe, and readable at every width."""

from __future__ import annotations

import pytest
from tests.browser import chromium, needs_browser
from tests.runs import GEOMETRY, STORIES, make_run, make_sweep

from borngap.report.facts.runfacts import read_facts
from borngap.report.page.palette import DARK, LIGHT
from borngap.report.report import Report, comparison_of, report_of
from borngap.report.summary import summary

pytestmark = needs_browser
HOSTILE = (
    ("<script>alert(1)</script></script><img src=x onerror=alert(2)>", " <b>bold</b>", " \"'&amp;{{7*7}}"),
    ("السعر الجديد للمنتج هو", " مرتفع", " عال"),
    ("emoji 👩‍👩‍👧 \x07\x00 line\nbreak \u202edesrever", " ok\u202e", " 🙂"),
    ("long " * 2000, " " + "x" * 10_000, " rival"),
)
WIDTHS = (1280, 1000, 360)


@pytest.fixture(scope="module")
def browser():
    with chromium() as tab:
        yield tab


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_run(folder / "run")
    return Report(summary([read_facts(folder / "run")], [GEOMETRY])).save(folder / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    make_run(folder / "run", ["resolved", "unresolved", "lost", "jump"], words=HOSTILE)
    return report_of(folder / "run", with_geometry=False).save(folder / "report.html")


def line(tab, chart):
    """Return the paths of a chart's lines."""
    return tab.page.eval_on_selector_all(f"#chart-{chart} .mark-line path", "all => all.map(p => p.getAttribute('d'))")


def overflow(tab):
    """Return how far the page is wider than its window, in pixels."""
    return tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_it_is_quiet_and_asks_for_nothing_but_itself(browser, path):
    tab = browser(path)
    assert tab.said == []
    assert tab.asked == [path.as_uri()]
    assert tab.page.get_attribute("html", "data-ready") == "true"


def test_a_request_would_be_noticed_and_refused(browser, path, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(path.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">', 1))
    tab = browser(spoilt)
    assert any("Content Security Policy" in text for text in tab.said)


def test_a_foreign_script_does_not_run(browser, path, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(path.read_text().replace("<main>", "<main><script>document.title = 'taken'</script>", 1))
    tab = browser(spoilt)
    assert tab.page.title() != "taken"


def test_choosing_a_context_changes_every_chart(browser, path):
    tab = browser(path)
    charts = ("born_gap", "signal_drag", "probability", "logit_gap", "born_change")
    before = {chart: line(tab, chart) for chart in charts}
    assert all(before.values())
    tab.page.select_option("#choice", "0")
    tab.settled()
    after = {chart: line(tab, chart) for chart in charts}
    assert [chart for chart in charts if before[chart] == after[chart]] == []
    assert "gold0" in tab.page.inner_text(".chosen:not([hidden])")
    label = tab.page.get_attribute("#chart-logit_gap .plot", "aria-label")
    assert "gold0" in label
    assert "flip 11" in label


def test_a_row_and_the_arrows_choose_too(browser, path):
    tab = browser(path)
    tab.page.click("#contexts-table tbody tr:nth-child(2) .pick")
    assert tab.page.input_value("#choice") == "1"
    assert tab.page.get_attribute("#contexts-table tbody tr:nth-child(2)", "aria-current") == "true"
    tab.page.focus("#next")
    tab.page.keyboard.press("Enter")
    assert tab.page.input_value("#choice") == "2"
    tab.page.click("#previous")
    assert tab.page.input_value("#choice") == "1"


def test_flips_are_marked_and_values_stand_under_the_pointer(browser, path):
    tab = browser(path)
    tab.page.select_option("#choice", "0")
    tab.settled()
    texts = tab.page.eval_on_selector_all("#chart-born_gap .mark-text text", "all => all.map(t => t.textContent)")
    assert "flip 11" in texts
    chart = tab.page.locator("#chart-logit_gap .plot svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    tab.page.wait_for_selector("#vg-tooltip-element.visible", timeout=3000)
    assert "logit gap" in tab.page.inner_text("#vg-tooltip-element")


def test_headings_sort_by_keyboard_both_ways(browser, path):
    tab = browser(path)

    def column(index):
        cells = f"#contexts-table tbody td:nth-child({index})"
        return tab.page.eval_on_selector_all(cells, "all => all.map(c => c.dataset.sort)")

    heading = tab.page.locator("#contexts-table thead button", has_text="flip")
    heading.focus()
    tab.page.keyboard.press("Enter")
    known = [float(value) for value in column(7) if value]
    assert known == sorted(known)
    assert len(known) == 2
    assert column(7)[-1] == "", "what has no number comes last"
    assert tab.page.get_attribute("#contexts-table thead th:nth-child(7)", "aria-sort") == "ascending"
    tab.page.keyboard.press("Enter")
    assert [float(value) for value in column(7) if value] == sorted(known, reverse=True)
    assert column(7)[-1] == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser, path, hostile, width):
    for file in (path, hostile):
        tab = browser(file, width=width)
        assert overflow(tab) <= 0
        tab.page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
        assert overflow(tab.settled()) <= 0
        svg = "document.querySelectorAll('.plot:not([hidden])')"
        clipped = f"[...{svg}].filter(p => p.scrollWidth > p.clientWidth + 1).map(p => p.id || p.parentElement.id)"
        assert tab.page.evaluate(clipped) == []


@pytest.mark.parametrize(("scheme", "colours", "other"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)])
def test_light_and_dark_by_preference_and_by_button(browser, path, scheme, colours, other):
    def background(tab):
        return tab.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def rgb(colour):
        return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"

    tab = browser(path, scheme=scheme)
    assert background(tab) == rgb(colours["page"])
    stroke = "getComputedStyle(document.querySelector('#chart-born_gap .mark-line path')).stroke"
    assert tab.page.evaluate(stroke) == rgb(colours["main"])
    tab.page.click("#theme")
    assert background(tab) == rgb(other["page"])
    assert tab.page.evaluate(stroke) == rgb(other["main"])


def test_every_chart_has_a_text_alternative_and_every_control_a_name(browser, path):
    tab = browser(path)
    plots = tab.page.eval_on_selector_all(
        ".plot[role=img]:not([hidden])", "all => all.map(p => p.getAttribute('aria-label') || '')"
    )
    assert len(plots) == 11
    assert all(len(text) > 20 for text in plots)
    names = "all => all.map(b => (b.getAttribute('aria-label') || b.textContent).trim())"
    assert all(tab.page.eval_on_selector_all("button", names))


def test_values_are_there_as_a_table(browser, path):
    tab = browser(path)
    tab.page.click("#values-box summary")
    tab.page.wait_for_selector("#values tbody tr")
    assert tab.page.locator("#values tbody tr").count() == 51
    assert tab.page.locator("#values thead th").first.inner_text() == "step"


def test_hostile_texts_are_shown_and_do_nothing(browser, hostile):
    tab = browser(hostile)
    assert tab.said == []
    assert tab.asked == [hostile.as_uri()]
    assert tab.page.evaluate("document.querySelectorAll('main img, main b.x, td b').length") == 0
    for index in range(len(HOSTILE)):
        tab.page.select_option("#choice", str(index))
        tab.settled()
    assert tab.said == []
    text = tab.page.inner_text("#contexts-table")
    assert "<script>alert(1)</script></script><img src=x onerror=alert(2)>" in text
    assert "\"'&amp;{{7*7}}" in text
    assert "\\x07\\x00 line↵break \\u202edesrever" in text
    assert "\u202e" not in text
    assert "x" * 61 not in text
    # a word written from right to left stands in a direction of its own
    bidi = "getComputedStyle([...document.querySelectorAll('td bdi')].find(b => b.textContent.includes('مرتفع')))"
    assert tab.page.evaluate(f"{bidi}.unicodeBidi") == "isolate"


def test_a_sweep_has_its_phase_diagram(browser, tmp_path):
    path = report_of(make_sweep(tmp_path / "sweep"), with_geometry=False).save(tmp_path / "report.html")
    tab = browser(path, width=360)
    assert tab.said == []
    assert overflow(tab) <= 0
    points = tab.page.locator("#still-phase-0 .mark-symbol path")
    assert points.count() >= 6
    assert "6 runs" in tab.page.inner_text("header")


def test_a_comparison_draws_a_line_a_run(browser, tmp_path):
    make_run(tmp_path / "a", ["resolved", "unresolved"])
    make_run(tmp_path / "b", ["jump", "lost"], words=[
        ("The resolved story of context 0 is", " gold0", " rival0"), ("Alone", " gold1", " rival1"),
    ], method="lora", rate=2e-3)  # fmt: skip
    path = comparison_of(tmp_path / "a", tmp_path / "b").save(tmp_path / "compare.html")
    tab = browser(path, width=360)
    assert tab.said == []
    assert overflow(tab) <= 0
    assert len(line(tab, "logit_gap")) == 2
    dashes = tab.page.eval_on_selector_all(
        "#chart-logit_gap .mark-line path", "all => all.map(p => p.getAttribute('stroke-dasharray'))"
    )
    assert len(set(dashes)) == 2, "told apart without colour"
    assert "Alone" in tab.page.inner_text("#only")


@pytest.mark.parametrize("stories", [[], list(STORIES)[:1]])
def test_a_run_without_steps_or_contexts_still_opens(browser, tmp_path, stories):
    make_run(tmp_path / "run", stories)
    (tmp_path / "run" / "steps.parquet").unlink(missing_ok=True)
    tab = browser(report_of(tmp_path / "run", with_geometry=False).save(tmp_path / "report.html"))
    assert tab.said == []
    assert tab.page.get_attribute("html", "data-ready") == "true"
    assert "steps.parquet is not there" in tab.page.inner_text("main")
