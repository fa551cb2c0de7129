"""Scans and TERMS folders before and after, and the report of one TERMS: known answers, what is refused, pages."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.browser import chromium, needs_browser
from tests.fits import faults
from tests.test_report_scan import HOSTILE, make_scan
from tests.test_terms import PAIRS, asked, constant

from borngap.errors import UserError
from borngap.report.report import comparison_of, report_of
from borngap.report.usage.records import ChangeSummary, UsageSummary

ROWS = (
    {"text": "He felt guilt and guilt, a function", "right": False},
    {"text": "He felt shame and an exception", "right": True},
    {"text": "He felt an error and a shame <b>|`*", "right": ["shame"]},
    {"text": "He felt guilt; a method", "right": None},
)
# guilt trails shame, exception leads error, function and method are level: then all of it changes
BEFORE = {" guilt": 1.0, " shame": 2.0, " exception": 3.0, " error": 1.0, " function": 1.0, " method": 1.0}
AFTER = {" guilt": 3.0, " shame": 1.0, " exception": 1.0, " error": 3.0, " function": 2.0, " method": 1.0}


@pytest.fixture(scope="module")
def terms_in(tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("terms")

    def make(name, logits=BEFORE, rows=ROWS, words=PAIRS, **options):
        options = {"allowed_field": "right", **options}
        asked(constant(tokenizer, logits), tokenizer, rows, words, out=root / name, name=name, **options)
        return root / name

    return make


@pytest.fixture(scope="module")
def both(terms_in):
    return terms_in("base"), terms_in("tuned", AFTER)


@pytest.fixture
def scans(tmp_path):
    """At one target there is no rival any more, at one another; of six one is gained and one lost."""
    before = make_scan(tmp_path / "before")
    after = make_scan(tmp_path / "after", gaps=((1.0, -1.0, 0.5, 0.5), (-1.0, -1.0, 3.0, 3.0)))
    kept = pl.read_parquet(after / "positions.parquet").filter(pl.col("row") > 0)
    kept = kept.with_columns(rival_id=pl.when(pl.col("row") == 1).then(77).otherwise("rival_id").cast(pl.Int32))
    kept.write_parquet(after / "positions.parquet")
    return before, after


def edited(folder, target, **plan):
    """Copy a folder, with other settings in its plan."""
    shutil.copytree(folder, target)
    head = next(target / name for name in ("terms.json", "scan.json") if (target / name).exists())
    told = json.loads(head.read_text())
    head.write_text(json.dumps(told | {"plan": told["plan"] | plan}))
    return target


def test_terms_before_and_after_by_hand(both):
    told = comparison_of(*both).summary
    assert list(faults(told, ChangeSummary)) == []
    assert told["verdict"] == (
        "The wanted word leads at 80 % of 5 places, before at 20 %: 4 gained, 1 lost; the wanted word is now over-used "
        "at 100 % of 2 places where the other is right, before at 0 %. This change may be chance: p = 0.75 over 3 rows."
    )
    whole, by = told["all"], {record["use"]: record for record in told["rows"]}
    # the rows change by 3, -1 and 1: six of eight flips reach 3
    assert (whole["success"]["p"], whole["success"]["p_mcnemar"]) == (0.75, 0.375)
    moves = ("gained", "lost", "kept", "behind", "relapsed")
    assert [by["guilt"]["success"][name] for name in moves] == [3, 0, 0, 0, None]
    assert [by["exception"]["success"][name] for name in moves] == [0, 1, 0, 0, None]
    assert (by["function"]["success"]["shares"], by["function"]["success"]["low"]) == ([0.0, 1.0], None)
    assert by["guilt"]["over_use"]["gained"] == 2
    assert by["exception"]["over_use"] is None
    assert by["exception"]["why"]["over_use"] == "no place of the word to avoid is marked as right"
    assert whole["why"]["leak"] == "not asked for in all of the results"
    assert told["sides"] == ["before", "after"]
    assert [made["label"] for made in told["runs"]] == ["base", "tuned"]


def test_a_place_of_several_terms_counts_once_and_leads_only_if_it_leads_each(terms_in):
    words, behind = [("guilt", "shame"), ("guilt", "error")], {" guilt": 1.5, " shame": 2.0, " error": 1.0}
    folders = [
        terms_in(f"twice-{i}", logits, words=words) for i, logits in enumerate((behind, AFTER | {" error": 2.0}))
    ]
    told = comparison_of(*folders).summary
    assert [record["success"]["gained"] for record in (told["all"], *told["rows"])] == [3, 3, 0]
    assert [record["success"]["kept"] for record in (told["all"], *told["rows"])] == [0, 0, 3]


def test_the_worst_places_are_the_lost_ones_first(both):
    told = comparison_of(*both).summary
    assert [(place["state"], place["word"], place["gaps"]) for place in told["worst"]] == [
        ("lost", "exception", [2.0, -2.0])
    ]
    assert [(place["state"], place["word"], place["gaps"]) for place in told["over_used"]] == [
        ("newly over-used", "shame", [-1.0, 2.0])
    ] * 2
    assert (told["worst"][0]["before"], told["worst"][0]["after"]) == ("He felt shame and an ", "")
    back = comparison_of(*both[::-1]).summary
    assert {place["state"] for place in back["worst"]} == {"lost"}


def test_three_folders_in_order_tell_what_relapsed(both, terms_in):
    told = comparison_of(*both, terms_in("again")).summary
    moves = ("gained", "lost", "kept", "behind", "relapsed")
    assert [told["all"]["success"][name] for name in moves] == [0, 0, 1, 0, 4]
    assert told["all"]["success"]["shares"] == [0.2, 0.8, 0.2]
    assert "0 gained, 0 lost, 4 relapsed" in told["verdict"]
    assert {place["state"] for place in told["worst"]} == {"relapsed"}


def test_leaks_are_compared_row_by_row(terms_in):
    written = ({" shame": 9.0, " old": 1.0}, {" error": 9.0, " old": 1.0})
    first, last = (terms_in(f"leak-{i}", logits, leak=True) for i, logits in enumerate(written))
    told = comparison_of(first, last).summary
    assert [record["leak"]["shares"] for record in told["rows"]] == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    leak = told["rows"][0]["leak"]
    assert (leak["places"], leak["change"], leak["p"]) == (4, -1.0, 2 / 2**4)
    assert (leak["low"], leak["high"]) == (-1.0, pytest.approx(-(0.025**0.25), abs=1e-4))
    silent = comparison_of(first, terms_in("silent", written[1])).summary
    assert silent["all"]["leak"] is None


def test_a_copy_of_the_data_is_the_same_data(terms_in, tmp_path):
    folders = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        file = tmp_path / place / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        os.utime(file, ns=(1, len(folders)))
        folders.append(terms_in(f"file-{place}", rows=file))
    assert comparison_of(*folders).summary["all"]["success"]["places"] == 5


def test_other_rows_of_the_same_size_are_other_data(terms_in, tmp_path):
    folders = []
    for place, word in (("one", " felt"), ("two", " said")):
        (tmp_path / place).mkdir()
        file = tmp_path / place / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS).replace(" felt", word))
        folders.append(terms_in(f"size-{place}", rows=file))
    with pytest.raises(UserError, match=r"the results are of other data\n.*\n  found: rows.jsonl, line 1 differs"):
        comparison_of(*folders)


def test_what_is_not_of_the_same_places_is_refused(both, terms_in, tmp_path):
    cases = {
        terms_in("rows", AFTER, rows=ROWS[:3]): r"the results are of other data\n  rule: the same rows in all",
        terms_in("words", AFTER, words=PAIRS[:2]): r"the results are of other settings\n.*\n  found: terms: ",
        terms_in("limit", AFTER, limit=3): r"other settings\n.*\n  found: limit: null in base, 3 in limit",
        edited(both[1], tmp_path / "dtype", dtype="bfloat16"): r"of different precision\n  rule: one dtype in all",
        edited(both[1], tmp_path / "tokens", tokenizer="0"): "the results are of other tokenizers",
    }
    for folder, message in cases.items():
        with pytest.raises(UserError, match=message):
            comparison_of(both[0], folder)
    assert comparison_of(both[0], edited(both[1], tmp_path / "fine", chunk=3, digest="0")).summary["rows"]


def test_a_result_that_is_not_finished_or_of_another_kind_is_refused(both, tmp_path):
    half = edited(both[1], tmp_path / "half")
    (half / "summary.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        comparison_of(both[0], half)
    scan = make_scan(tmp_path / "scan")
    with pytest.raises(UserError, match=rf"of different kinds can't be compared\n.*\n  found: .*: TERMS; {scan}: scan"):
        comparison_of(both[0], scan)
    with pytest.raises(UserError, match=r"a TERMS has a report of its own\n.*\n.*\n  fix: borngap compare puts TERMS"):
        report_of(*both)
    with pytest.raises(UserError, match=r"that many TERMS folders can't be compared\n  rule: 2 to 6"):
        comparison_of(both[0])


@pytest.mark.parametrize(("kind", "file", "lacks"), [
    ("scan", "pairs.parquet", "relation"), ("scan", "positions.parquet", "relation"),
    ("scan", "summary.json", "headline"), ("terms", "places.parquet", "allowed"),
    ("terms", "summary.json", "seed"), ("terms", "terms.json", "environment"),
])  # fmt: skip
def test_a_result_of_another_version_is_one_error(both, scans, tmp_path, kind, file, lacks):
    old = edited(both[1] if kind == "terms" else scans[1], tmp_path / "old")
    if file.endswith(".json"):
        told = json.loads((old / file).read_text())
        (old / file).write_text(json.dumps({key: value for key, value in told.items() if key != lacks}))
    else:
        pl.read_parquet(old / file).drop(lacks).write_parquet(old / file)
    with pytest.raises(
        UserError, match=rf"{file} is of another version of borngap\n.*\n  found: without {lacks}\n  fix"
    ):
        comparison_of(old, old)


def test_scans_before_and_after_by_hand(scans):
    summary = scans[1] / "summary.json"
    summary.write_text(summary.read_text().replace('"least_overlap": 0.6', '"least_overlap": 0.7'))
    told = comparison_of(*scans).summary
    assert list(faults(told, ChangeSummary)) == []
    assert told["verdict"] == (
        "Gold leads at 67 % of 6 places with the same rival in all scans, before at 67 %: 1 gained, 1 lost. "
        "This change may be chance: p = 1 over 6 rows."
    )
    assert told["unmatched"] == [
        {"run": 0, "places": 2, "rival_ahead": 2, "without_rival": 1},
        {"run": 1, "places": 1, "rival_ahead": 1, "without_rival": 0},
    ]
    assert told["notes"] == [
        "Where the rival is a synonym, a spelling or a given one (2 places), gold leads at 50 % → 100 %: 1 gained, "
        "0 lost; p = 1.",
        "Not compared: 2 places before, at 2 of them the rival leads. At 1 no near-synonym is in the running after, at "
        "1 it is another one.",
        "Not compared: 1 place after, at 1 of them the rival leads. At 0 no near-synonym is in the running before, at "
        "1 it is another one.",
        "A near-synonym overlaps with gold by at least a percentile of each model's own random pairs: 0.6 before, 0.7 "
        "after. --min-overlap sets it for all.",
    ]
    rows = [(r["use"], r["avoid"], r["relation"], r["success"]["gained"], r["success"]["lost"]) for r in told["rows"]]
    assert rows == [("shame", "guilt", "synonym", 1, 0), ("error", "exception", "inflection", 0, 1)]
    assert [(place["state"], place["gaps"]) for place in told["worst"]] == [
        ("lost", [1.0, -1.0]), ("still behind", [-0.5, -1.0])
    ]  # fmt: skip


def test_of_many_pairs_the_first_hundred_are_told_one_by_one(tmp_path):
    words = [(f" gold{i}", f" rival{i}", "before") for i in range(102)]
    folders = [make_scan(tmp_path / name, words, [(gap,)] * 102) for name, gap in (("a", -1.0), ("b", 1.0))]
    told = comparison_of(*folders).summary
    assert len(told["rows"]) == 100
    assert (told["all"]["success"]["gained"], told["all"]["success"]["places"]) == (102, 102)
    assert "The table has 100 of 102 pairs: synonyms and the like first, then what changed most." in told["notes"]


def test_scans_of_other_text_are_other_data(scans):
    table = pl.read_parquet(scans[1] / "positions.parquet").with_columns(before=pl.col("before") + "!")
    table.write_parquet(scans[1] / "positions.parquet")
    with pytest.raises(UserError, match="the results are of other data"):
        comparison_of(*scans)


def test_scans_without_a_place_in_common_say_so(scans):
    table = pl.read_parquet(scans[1] / "positions.parquet").clear()
    table.write_parquet(scans[1] / "positions.parquet")
    made = comparison_of(*scans)
    assert made.summary["verdict"] == "The scans share no place: there is nothing to compare."
    assert "nothing to compare" in made.markdown
    assert "nothing to compare" in made.html


def test_every_format_says_it_and_no_text_leaves_the_data_out(both, scans):
    for folders in (both, scans):
        made = comparison_of(*folders)
        secret = "The function raises" if folders is scans else "He felt"
        for text in (made.html, made.markdown, made.json):
            assert secret in text
        bare = made.without_text()
        assert all(secret not in text for text in (bare.html, bare.markdown, bare.json))
        assert bare.summary["rows"] == made.summary["rows"]
    after = "and an exception"
    assert after in comparison_of(*both).html
    assert after not in comparison_of(*both).without_text().html
    markdown = comparison_of(*both).markdown
    assert "| guilt | shame | 3 | 0 % | 100 % | 3 | 0 | +100 |" in markdown
    assert "&lt;b&gt;\\|\\`\\*" in markdown
    assert "<b>" not in markdown


def test_the_report_of_a_terms_folder(both, tmp_path):
    made = report_of(both[1])
    told = made.summary
    assert list(faults(told, UsageSummary)) == []
    assert told["verdict"] == (
        "The wanted word leads at 80 % of 5 places where it is due, and at 100 % of 2 places where the other is right."
    )
    assert [(r["use"], r["due"], r["success"], r["over_use"]) for r in told["terms"]] == [
        ("guilt", 3, 1.0, 1.0), ("exception", 1, 0.0, None), ("function", 1, 1.0, None)
    ]  # fmt: skip
    # an error and a method are wrong there, two shames are right
    assert [told["compliance"][0][f"{name}_places"] for name in ("use", "avoid", "allowed")] == [5, 2, 2]
    assert "| guilt | shame | 3 | 100 % (" in made.markdown
    assert {file.name for file in made.save_charts(tmp_path)} == {
        f"{name}.{kind}" for name in ("success", "over-use") for kind in ("svg", "png")
    }
    assert "He felt" not in made.without_text().html


def test_on_the_command_line(run, both, scans, tmp_path):
    code, out, _ = run("compare", *map(str, both))
    assert code == 0
    assert "The wanted word leads at 80 % of 5 places" in out
    code, out, _ = run("compare", *map(str, both), "--json")
    assert (code, json.loads(out)["kind"], json.loads(out)["schema"]) == (0, "change", 1)
    code, out, _ = run("compare", *map(str, scans), "-o", str(tmp_path / "pr.md"), "--no-text")
    assert code == 0
    assert "The function raises" not in (tmp_path / "pr.md").read_text()
    code, out, _ = run("report", str(both[0]), "--json")
    assert (code, json.loads(out)["kind"]) == (0, "terms")
    code, _, error = run("compare", str(both[0]), str(scans[0]))
    assert (code, "different kinds" in error) == (2, True)
    code, _, error = run("compare", *map(str, both), "--json", "-o", str(tmp_path / "pr.md"))
    assert (code, "--json does not go with -o" in error) == (2, True)


@needs_browser
def test_pages_are_quiet_safe_and_fit(both, terms_in, tmp_path):
    gaps = [(-1.0, 2.0)] * len(HOSTILE)
    hostile = [make_scan(tmp_path / name, HOSTILE, gaps) for name in ("a", "b")]
    three = (*both, terms_in("once-more"))
    pages: list[Path] = [
        made.save(tmp_path / f"{number}.html")
        for number, made in enumerate((comparison_of(*three), comparison_of(*hostile), report_of(both[0])))
    ]
    with chromium() as tab:
        for page in pages:
            for width in (1280, 360):
                seen = tab(page, width=width).settled()
                assert (seen.said, seen.asked) == ([], [page.as_uri()])
                assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.page.eval_on_selector_all("#still-success svg", "all => all.length") == 1
