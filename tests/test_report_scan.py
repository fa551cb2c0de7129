"""The report of a scan: what the folder holds, in every format, whatever its texts are and whatever is missing."""

from __future__ import annotations

import json
import math
import random

import polars as pl
import pytest
from tests.browser import chromium, needs_browser
from tests.fits import faults

from borngap.errors import UserError
from borngap.report.charts.labels import ROOM, placed
from borngap.report.charts.scancharts import pairs_chart, point_rows
from borngap.report.facts.scanfacts import distribution
from borngap.report.records import ScanSummary
from borngap.report.report import report_of
from borngap.report.scanwording import scan_sentence
from borngap.scanning.positions import POSITION_COLUMNS
from borngap.scanning.rivals import NUMBERS
from borngap.scanning.scanfolder import ScanFolder, read_scan

HOSTILE = (
    (" <b>bold</b>", " \"'&amp;{{7*7}}", "<script>alert(1)</script></script><img src=x onerror=alert(2)>"),
    (" مرتفع", " عال", "السعر الجديد للمنتج هو"),
    (" ok\u202e", " 🙂", "emoji 👩‍👩‍👧 \x07\x00 line\nbreak \u202edesrever"),
    (" " + "x" * 10_000, " a|b`c", "long " * 2000),
)
RELATED = ("synonym", "inflection")
WORDS = ((" shame", " guilt", "She felt"), (" error", " exception", "The function raises an"))
GAPS = ((-2.0, -1.0, 0.0, 0.5), (-0.5, 1.0, 3.0, 3.0))  # of the targets of each pair
BULK = {"class": "A", "crowding": 26.1, "mean": 0.38, "std": 0.24, "mean_square": 0.2}


def positions(words, gaps):
    """One position a gap; the overlap falls from pair to pair."""
    numbers = dict.fromkeys(NUMBERS, 0.5) | {"gold_rank": 2, "rival_rank": 1}
    rows = [
        {
            "row": row, "where": f"data.jsonl, line {row + 1}", "offset": 3, "start": 0, "gold_id": pair,
            "rival_id": 100 + pair, "gold": gold, "rival": rival, "relation": RELATED[pair % 2], **numbers,
            "before": before, "gold_overlap": 0.8 - 0.1 * pair, "logit_gap": gap, "born_gap": gap / 10,
        }
        for pair, ((gold, rival, before), found) in enumerate(zip(words, gaps, strict=True))
        for row, gap in enumerate(found, 10 * pair)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=POSITION_COLUMNS)


def make_scan(folder, words=WORDS, gaps=GAPS):
    """Write a finished scan with one pair for each entry of ``words``."""
    plan = {"data": "/data/data.jsonl", "stamp": [], "layout": "plain text (text)", "model": "docs-gpt2-s", "seed": 0}
    writer = ScanFolder(folder, plan, {"started": "2026-01-01T00:00:00+00:00", "versions": {"borngap": "0.1.0"}})
    writer.add(0, positions(words, gaps), {"rows": 20, "targets": 100}, [])
    pairs, totals = writer.merge()
    counts = {"rows": 20, "malformed": 1, "targets": 100, "words": 60, **totals}
    head = {
        "data": plan["data"], "layout": plan["layout"], "model": {"name": "docs-gpt2-s"}, "geometry": "readout",
        "percentile": 99.0, "least_overlap": 0.6, "given_pairs": None, "bulk": BULK, "counts": counts,
        "malformed": [{"where": "data.jsonl, line 9", "reason": "no JSON"}], "pairs": len(pairs),
        "find_by": "centered", "headline": {"relations": ["given", "spelling", "synonym"]},
        "relations": [
            {"relation": "inflection", "targets": 4, "rival_ahead": 1},
            {"relation": "synonym", "targets": 4, "rival_ahead": 3},
        ],
        "worst": pairs.head(1).to_dicts(),
    }  # fmt: skip
    writer.finish(head, "")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_scan(tmp_path_factory.mktemp("scans") / "mine")


@pytest.fixture(scope="module")
def report(folder):
    return report_of(folder)


def test_pairs_of_a_list_are_not_called_synonyms():
    relations = [{"relation": name, "targets": 4, "rival_ahead": 3} for name in ("given", "synonym")]
    head = {"relations": ["given", "spelling", "synonym"]}
    told = {"counts": {"targets": 100, "with_rival": 8}, "headline": head, "relations": relations}
    one = "6 of 100 supervised targets have a synonym or a word of your list in front of the right word."
    assert scan_sentence(told) == one


def test_the_verdict_is_one_sentence_of_counts(report):
    assert report.summary["verdict"] == (
        "3 of 100 supervised targets have a synonym in front of the right word, and 1 a rival of another kind "
        "(inflections 1)."
    )
    assert report.summary["nucleus"] == (
        "A rival stands in the nucleus at 8 targets (8.0 %), a synonym at 4 of them; it is in front at 4, by the Born "
        "gap at 4."
    )
    assert [(row["relation"], row["counted"]) for row in report.summary["relations"]] == [
        ("synonym", True), ("inflection", False)
    ]  # fmt: skip


def test_the_record_is_what_its_types_say(report):
    assert report.summary["pairs"]
    assert list(faults(report.summary, ScanSummary)) == []


def test_pairs_come_worst_first_with_two_examples_each(report):
    first, second = report.summary["pairs"]
    assert (first["gold"], first["rival"], first["targets"], first["rival_ahead"]) == ("shame", "guilt", 4, 3)
    assert (first["share_ahead"], first["overlap"], first["logit_gap"]) == (0.75, 0.8, -0.5)
    assert (second["gold"], second["rival_ahead"], second["logit_gap"]) == ("error", 1, 2.0)
    assert [e["logit_gap"] for e in first["examples"]] == [-2.0, -1.0]
    assert first["examples"][0] | {"born_gap": 0} == {
        "before": "She felt", "where": "data.jsonl, line 1", "logit_gap": -2.0, "born_gap": 0,
    }  # fmt: skip


def test_a_gap_of_exactly_0_is_counted_with_the_rival(folder, report):
    gaps = report.summary["gaps"]
    assert sum(gap["targets"] for gap in gaps) == 8
    assert sum(gap["targets"] for gap in gaps if gap["high"] <= 0) == report.summary["counts"]["rival_ahead"] == 4
    low = {gap["low"] for gap in gaps}
    assert -0.1 in low, "the interval of 0 is the one below it"
    assert 0.0 not in low
    frame = pl.read_parquet(folder / "positions.parquet")
    for gap in gaps:
        within = frame.filter((pl.col("logit_gap") > gap["low"]) & (pl.col("logit_gap") <= gap["high"]))
        assert len(within) == gap["targets"]


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 40.0, 1e5])
def test_the_distribution_is_bounded_whatever_its_spread(tmp_path, spread):
    gaps = tuple(spread * (i / 500 - 1) for i in range(1000))
    positions(WORDS[:1], (gaps,)).write_parquet(tmp_path / "p.parquet")
    found = distribution(tmp_path / "p.parquet")
    assert len(found) <= 52
    assert sum(targets for _, _, targets in found) == 1000
    assert sum(targets for _, high, targets in found if high <= 0) == sum(gap <= 0 for gap in gaps)


def test_every_format_says_the_same(report):
    page, text, record = report.html, report.markdown, json.loads(report.json)
    assert record["kind"] == "scan"
    for told in (
        "3 of 100 supervised targets have a synonym", "(inflections 1)", "shame", "guilt", "She felt",
        "data.jsonl, line 1", "no JSON", "at least 0.6 (centered rows), the 99th percentile", "scan folder",
        "two random words overlap 26.1 times as much", "smallest set of tokens", "borngap 0.1.0",
    ):  # fmt: skip
        assert told in page, told
        assert told in text, told
    assert "| 1 | shame | guilt | synonym | 4 | 3 | 0.8 | −0.5 | −0.05 |" in text


def test_equal_folders_give_equal_bytes(tmp_path, report):
    again = report_of(make_scan(tmp_path / "mine"))
    assert (again.html, again.markdown, again.json) == (report.html, report.markdown, report.json)


@pytest.mark.parametrize("damage", ["gone", "garbled"])
@pytest.mark.parametrize(("name", "lost", "kept"), [
    ("scan.json", "seed 0", "plain text (text)"),
    ("summary.json", "of 100", "3 of the targets have a synonym in front"),
    ("pairs.parquet", None, "the pairs are made again from positions.parquet"),
    ("positions.parquet", None, "3 of 100"),
])  # fmt: skip
def test_a_damaged_scan_says_what_is_missing_and_shows_the_rest(tmp_path, name, lost, kept, damage):
    path = make_scan(tmp_path / "mine") / name
    path.unlink() if damage == "gone" else path.write_text("{broken")
    made = report_of(tmp_path / "mine")
    missing = made.summary["runs"][0]["missing"]
    assert any(text.startswith(f"{name} ") for text in missing), missing
    assert [pair["gold"] for pair in made.summary["pairs"]] == ["shame", "error"]
    assert kept in made.html
    assert kept in made.markdown
    assert bool(made.summary["gaps"]) is (name != "positions.parquet")
    if lost is not None:
        assert lost not in made.summary["verdict"] + made.summary["runs"][0]["made"]


def test_of_two_lost_tables_the_worst_pairs_of_the_summary_are_left(tmp_path):
    folder = make_scan(tmp_path / "mine")
    for name in ("pairs.parquet", "positions.parquet"):
        (folder / name).unlink()
    made = report_of(folder)
    assert [pair["gold"] for pair in made.summary["pairs"]] == ["shame"]
    assert "only the 1 worst pairs are known, from summary.json" in made.summary["runs"][0]["missing"]


@pytest.mark.parametrize("lost", ["gold", "relation", "targets", "rival_ahead"])
def test_a_pair_of_the_summary_that_lacks_something_is_left_out(tmp_path, lost):
    folder = make_scan(tmp_path / "mine")
    for name in ("pairs.parquet", "positions.parquet"):
        (folder / name).unlink()
    held = json.loads((folder / "summary.json").read_text())
    whole = held["worst"][0]
    held["worst"] = [whole, {key: value for key, value in whole.items() if key != lost}]
    (folder / "summary.json").write_text(json.dumps(held))
    made = report_of(folder)
    assert [pair["gold"] for pair in made.summary["pairs"]] == ["shame"]
    assert list(faults(made.summary, ScanSummary)) == []


def test_a_scan_that_is_not_finished(tmp_path):
    ScanFolder(tmp_path / "mine", {"data": "x", "model": "m"}, {})
    made = report_of(tmp_path / "mine")
    assert made.summary["verdict"] == "This scan has no result yet, so there is nothing to judge."
    assert any("give the same borngap scan command again" in text for text in made.summary["runs"][0]["missing"])
    assert "no result yet" in made.html
    assert "no result yet" in made.markdown


def test_a_scan_without_rivals(tmp_path):
    made = report_of(make_scan(tmp_path / "mine", (), ()))
    assert made.summary["verdict"] == "None of 100 supervised targets has a synonym in front of the right word."
    assert "There are none: at no target" in made.html


def test_many_pairs_are_cut_with_a_note(tmp_path):
    words = tuple((f" gold{i}", f" rival{i}", "Before") for i in range(130))
    made = report_of(make_scan(tmp_path / "mine", words, tuple((0.01 * i - 1.0,) for i in range(130))))
    assert len(made.summary["pairs"]) == 100
    assert len(made.summary["points"]) == 130
    senses, cut = made.summary["notes"]
    assert senses.startswith("Synonyms are so in any sense of the two words; ")
    assert cut == "The table shows the worst 100 of 130 pairs; all are in the folder (pairs.parquet)."


def test_pairs_that_were_left_out_are_told(tmp_path):
    folder = make_scan(tmp_path / "mine")
    told = json.loads((folder / "summary.json").read_text())
    left_out = [{"gold": "a", "rival": "bc", "reason": "'bc' is 2 tokens: ' b' 'c'"}]
    looked = "Looked for 2 given pairs, in both directions and whatever their overlap."
    for entries, more in (([], ""), (left_out, " Left out: 1, as 'bc' is 2 tokens: ' b' 'c'.")):
        (folder / "summary.json").write_text(json.dumps(told | {"given_pairs": 2, "pairs_left_out": entries}))
        shown = report_of(folder).text("md").replace("\\", "")
        assert looked + more in shown
        assert ("Left out" in shown) == bool(entries)


def test_a_scan_has_a_report_of_its_own(tmp_path, folder):
    with pytest.raises(UserError, match=r"a scan has a report of its own\n  rule: one scan folder"):
        report_of(folder, make_scan(tmp_path / "other"))
    text = (folder / "summary.json").read_text()
    (tmp_path / "other" / "summary.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(UserError, match="of another schema version"):
        report_of(tmp_path / "other")


def test_texts_are_escaped_everywhere(tmp_path):
    made = report_of(make_scan(tmp_path / "mine", HOSTILE, ((-1.0, 1.0),) * 4))
    body = made.html.split('<script type="application/json"')[0].split("</style>")[1]
    assert "<script>alert" not in made.html
    assert "<b>bold</b>" not in made.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "\u202e" not in made.html + made.markdown
    assert "a\\|b\\`c" in made.markdown
    assert "&lt;b&gt;bold&lt;/b&gt;" in made.markdown
    assert "x" * 61 not in made.html
    assert json.loads(made.json)["pairs"][0]["examples"][0]["before"]


def test_charts_are_written(tmp_path, report):
    files = report.save_charts(tmp_path / "charts")
    assert [path.name for path in files] == ["pairs.svg", "pairs.png", "logit-gaps.svg", "logit-gaps.png"]
    svg = files[0].read_text()
    assert "share with the rival ahead" in svg
    assert "var(" not in svg
    assert files[3].read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_the_page_into_the_folder_and_goes_on_there(run, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "scan"
    data.write_text('{"text": "If the argument is missing, the method raises an exception."}\n' * 3)
    command = ("scan", str(data), "-m", "docs-gpt2-s", "--out", str(out))
    code, shown, _ = run(*command)
    assert code == 0
    assert f"page: {out / 'report.html'}" in shown
    page = (out / "report.html").read_text()
    assert read_scan(out).summary["counts"]["targets"] > 0
    assert f"{read_scan(out).summary['counts']['targets']} supervised targets" in page
    assert page == report_of(out).html
    (out / "report.html").unlink()  # as if cut off before the page
    code, _, _ = run(*command, "--json")
    assert code == 0
    assert (out / "report.html").read_text() == page, "the finished scan gets its page, and is not scanned again"
    code, _, _ = run("report", str(out), "-o", str(tmp_path / "scan.md"))
    assert code == 0
    assert (tmp_path / "scan.md").read_text() == report_of(out).markdown


@pytest.fixture(scope="module")
def browser():
    with chromium() as tab:
        yield tab


@needs_browser
def test_the_page_in_a_browser(browser, tmp_path, report):
    plain = report.save(tmp_path / "plain.html")
    hostile = report_of(make_scan(tmp_path / "mine", HOSTILE, ((-1.0, 1.0),) * 4)).save(tmp_path / "hostile.html")
    for file in (plain, hostile):
        for width, scheme in ((1280, "dark"), (360, "light")):
            tab = browser(file, width=width, scheme=scheme)
            titles = "all => all.map(t => t.getAttribute('fill'))"
            fills = tab.page.eval_on_selector_all("#still-pairs .role-legend-title text", titles)
            assert fills == ["var(--ink)"], "readable in both themes"
            assert (tab.said, tab.asked) == ([], [file.as_uri()])
            assert tab.page.get_attribute("html", "data-ready") == "true"
            assert tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert tab.page.evaluate("document.querySelectorAll('main img, td b').length") == 0
    assert "<script>alert(1)</script></script><img src=x onerror=alert(2)>" in tab.page.inner_text("#pairs-table")
    bidi = "getComputedStyle([...document.querySelectorAll('td bdi')].find(b => b.textContent.includes('مرتفع')))"
    assert tab.page.evaluate(f"{bidi}.unicodeBidi") == "isolate"


@needs_browser
def test_pairs_sort_and_charts_tell_their_values(browser, tmp_path, report):
    tab = browser(report.save(tmp_path / "plain.html"))
    cells = "#pairs-table tbody td:nth-child(7)"
    overlaps = lambda: tab.page.eval_on_selector_all(cells, "all => all.map(c => c.dataset.sort)")  # noqa: E731
    assert overlaps() == ["0.8", "0.7"]
    tab.page.locator("#pairs-table thead button", has_text="overlap").click()
    assert overlaps() == ["0.7", "0.8"]
    assert tab.page.locator("#still-gaps .mark-rect path").count() == len(report.summary["gaps"])
    assert tab.page.locator("#still-pairs .mark-symbol.role-mark path").count() == 2
    tab.page.locator("#still-pairs .mark-symbol.role-mark path").first.hover()
    tab.page.wait_for_selector("#vg-tooltip-element.visible", timeout=3000)
    shown = tab.page.inner_text("#vg-tooltip-element")
    assert "shame / guilt" in shown
    assert "rival ahead" in shown
    labels = tab.page.eval_on_selector_all(".plot[role=img]", "all => all.map(p => p.getAttribute('aria-label'))")
    assert "shame against guilt 0.75" in " ".join(labels)


def test_the_worst_pairs_are_named_beside_their_dots(report):
    rows = point_rows(report.summary["points"])
    named = [row["label"] for row in rows if row["right"] or row["left"] or row["above"]]
    assert named
    for row in rows:
        assert sorted((row["right"], row["left"], row["above"])) in (["", "", ""], ["", "", row["label"]])
    spec = pairs_chart().to_dict()
    largest = math.sqrt(max(spec["layer"][0]["encoding"]["size"]["scale"]["range"]) / math.pi)
    for layer in spec["layer"]:
        assert all(layer["encoding"][axis]["scale"]["padding"] > largest for axis in "xy")
    assert largest < ROOM


@pytest.mark.parametrize("seed", range(5))
def test_names_meet_no_other_name_and_no_dot(seed):
    chance = random.Random(seed)
    dots = [(chance.random(), chance.choice((0.0, 0.5, 1.0, chance.random()))) for _ in range(60)]
    names = ["gold / rival" if i < 20 else "" for i in range(60)]
    sides = placed(dots, names)
    assert set(sides[20:]) == {""}
    assert sum(map(bool, sides)) >= 5
    points = [(30 + x * 360, 30 + (1 - y) * 240) for x, y in dots]
    boxes = []
    for (x, y), side in zip(points, sides, strict=True):
        if side:
            middle = {"right": (x + 14 + 37.2, y), "left": (x - 14 - 37.2, y), "above": (x, y - 20.5)}[side]
            boxes.append(((x, y), middle))
    for own, (x, y) in boxes:
        assert 37 <= x <= 420 - 37
        assert 6.5 <= y <= 300 - 6.5
        assert not any(abs(x - a) < 37.2 and abs(y - b) < 6.5 for a, b in points if (a, b) != own)
        assert not any(abs(x - a) < 74 and abs(y - b) < 13 for _, (a, b) in boxes if (a, b) != (x, y))
