"""Reports without a browser: the summary record, and every way in which it is shown."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys

import polars as pl
import pytest
from tests.runs import GEOMETRY, STORIES, make_run, make_sweep

import borngap
from borngap.errors import UserError
from borngap.observables.catalogue import OBSERVABLES
from borngap.report.charts.charts import DASHES, PANELS, PHANTOM, STYLES
from borngap.report.facts.runfacts import read_facts
from borngap.report.page.html import inline_json
from borngap.report.page.palette import DARK, GRAPHIC, LIGHT, SURFACES, contrast
from borngap.report.report import Report, comparison_of, report_of
from borngap.report.summary import summary
from borngap.report.text import ending, number, rate, word
from borngap.shown import public, visible

CONTEXT = ("The resolved story of context 0 is", " gold0", " rival0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def report(folder):
    return Report(summary([read_facts(folder)], [GEOMETRY]))


def of(*inputs):
    return report_of(*inputs, with_geometry=False)


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


def test_the_verdict_counts_outcomes(report):
    told = report.summary["runs"][0]["verdict"]
    assert told == (
        "In 3 of 6 contexts the near-synonym still beats the right word after 50 steps at learning rate 2e−4; "
        "2 learnt it in this run, 1 had it before. In 2 of the 3 the loss fell smoothly all the while: "
        "it alone would not have told."
    )
    assert [c["outcome"] for c in report.summary["contexts"]] == [
        "resolved", "resolved", "pre-resolved", "unresolved", "unresolved", "lost",
    ]  # fmt: skip


@pytest.mark.parametrize(("stories", "told"), [
    (["resolved"], "The right word is ahead of its near-synonym in the one context."),
    (["pre-resolved"] * 2, "The right word is ahead of its near-synonym in all 2 contexts: 2 had it before."),
    ([], "This run has no finished context yet, so there is nothing to judge."),
    (["unresolved"], "In 1 of 1 context the near-synonym still beats the right word after 50 steps at learning rate "
     "2e−4; none learnt it. There the loss fell smoothly all the while: it alone would not have told."),
])  # fmt: skip
def test_verdicts_of_few_contexts(tmp_path, stories, told):
    assert of(make_run(tmp_path / "run", stories)).summary["runs"][0]["verdict"] == told


def test_the_needed_rate_follows_from_the_flip(report):
    contexts = report.summary["contexts"]
    needed = contexts[1]["needed"]  # the closed form: the gap of `jump` crosses 0 after 24.46 steps
    assert needed["how"] == "dose"
    assert needed["rate"] == pytest.approx(2e-4 * 24.46 / 50, rel=1e-2)
    assert needed["ratio"] == pytest.approx(50 / 24.46, rel=3e-2)
    assert contexts[2]["needed"]["why"] == "none: ahead from the start"
    assert contexts[3]["needed"] | {"ratio": None} == {
        "rate": None, "low": 2e-4, "high": None, "how": None, "ratio": None, "why": "more than that",
    }  # fmt: skip
    assert contexts[5]["needed"]["rate"] is None


@pytest.mark.parametrize(("plan", "share"), [
    ({}, 15 / 50), ({"warmup": 10}, (4.5 + 5) / (4.5 + 40)),
    ({"schedule": "linear"}, sum(range(36, 51)) / sum(range(1, 51))),
])  # fmt: skip
def test_the_rate_that_a_flip_tells_of_goes_by_the_dose(tmp_path, plan, share):
    folder = make_run(tmp_path / "run", ["resolved"], **plan)
    verdicts = json.loads((folder / "verdicts.json").read_text())
    verdicts["verdicts"][0]["flip_times"]["rank"] = 15.0
    (folder / "verdicts.json").write_text(json.dumps(verdicts))
    assert of(folder).summary["contexts"][0]["needed"]["rate"] == pytest.approx(2e-4 * share, rel=6e-3)


@pytest.mark.parametrize("plan", [{"joint": True}])
def test_no_rate_is_estimated_where_the_estimate_does_not_hold(tmp_path, plan):
    needed = of(make_run(tmp_path / "run", ["resolved"], **plan)).summary["contexts"][0]["needed"]
    assert needed["rate"] is None
    assert "not known" in needed["why"]


def test_series_are_those_of_the_run(folder, report):
    steps = pl.read_parquet(folder / "steps.parquet").filter(pl.col("context") == 0)
    series = report.summary["contexts"][0]["series"]
    assert series["step"] == list(range(51))
    for name in ("born_gap", "logit_gap", "cross_entropy", "drag"):
        assert series[name] == pytest.approx(steps[name].to_list(), rel=1e-4)
    changes = steps["born_gap"].diff().to_list()
    assert series["born_change"][0] is None
    assert series["born_change"][1:] == pytest.approx(changes[1:], rel=1e-3, abs=1e-6)
    assert report.summary["contexts"][0]["marks"] == [{"kind": "flip", "step": 11, "text": "flip 11"}]


def test_equal_input_gives_equal_bytes(folder, monkeypatch):
    program = (
        "import sys, hashlib; from borngap.report.page import html; from borngap.report.report import report_of\n"
        "html.vega_bundle = lambda: ''\n"  # the library's own code, which takes seconds to bundle
        "r = report_of(sys.argv[1], with_geometry=False)\n"
        "print(*(hashlib.sha256(r.text(f).encode()).hexdigest() for f in ('html', 'md', 'json')))"
    )
    command = [sys.executable, "-c", program, str(folder)]
    elsewhere = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=elsewhere, timeout=120)
    monkeypatch.setattr("borngap.report.page.html.vega_bundle", lambda: "")
    first = of(folder)
    assert done.stdout.split() == [
        hashlib.sha256(first.text(name).encode()).hexdigest() for name in ("html", "md", "json")
    ]
    assert of(folder).html == first.html  # in one process too: altair numbers views that have no name


def test_ten_contexts_of_fifty_steps_are_below_3_mb(tmp_path):
    made = of(make_run(tmp_path / "run", ["resolved"] * 10))
    assert len(made.html.encode()) < 1.5e6


def test_a_large_run_is_thinned_with_a_note(tmp_path):
    made = of(make_run(tmp_path / "run", ["resolved", "jump"] * 30, steps=600))
    context = made.summary["contexts"][1]
    assert len(made.html.encode()) < 3e6
    assert len(context["series"]["step"]) <= 210
    assert {0, 600, context["flip"], context["jump_step"]} <= set(context["series"]["step"])
    peak = context["series"]["step"].index(context["jump_step"])
    assert context["series"]["born_change"][peak] == max(filter(None, context["series"]["born_change"]))
    assert "some 200 of up to 601 records" in made.summary["notes"][0]
    assert made.summary["notes"][0] in made.html
    assert "some 200 of up to 601 records" in made.markdown


def test_every_format_says_the_same(report):
    text = re.sub(r"\\(.)", r"\1", report.markdown)
    assert json.loads(report.json) == json.loads(json.dumps(report.summary))
    for context in report.summary["contexts"]:
        for key in ("gold", "rival", "outcome", "advice", "prompt_end"):
            assert context[key] in text, key
            assert context[key] in report.html, key
    sentences = (report.summary["runs"][0]["verdict"], report.summary["phantom"])
    for told in (*sentences, report.summary["geometry"][0]["sentence"]):
        assert told in text
        assert told in report.html
    for observable in OBSERVABLES:
        assert observable in text
        assert observable in report.html


def test_texts_are_escaped_in_html_and_markdown(tmp_path):
    words = [("<script>alert(1)</script> | `x` *y*", " <b>", " [z](u)")]
    made = of(make_run(tmp_path / "run", ["resolved"], words=words))
    assert "<script>alert" not in made.html
    assert "<b>" not in made.markdown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| \\`x\\` \\*y\\*" in made.markdown
    assert "\\[z\\](u)" in made.markdown


def test_inline_json_can_stand_in_a_script():
    value = {"a": "</script><!--", "b": [1, None, "&amp;\u2028"]}
    text = inline_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


@pytest.mark.parametrize("name", ["run.json", "steps.parquet", "verdicts.json"])
@pytest.mark.parametrize("damage", ["gone", "garbled"])
def test_a_damaged_run_says_what_is_missing_and_shows_the_rest(tmp_path, name, damage):
    folder = make_run(tmp_path / "run", ["resolved", "unresolved"])
    (folder / name).unlink() if damage == "gone" else (folder / name).write_bytes(b'{"sch')
    made = of(folder)
    missing = made.summary["runs"][0]["missing"]
    assert name in missing[0]
    assert missing[0] in re.sub("&#39;", "'", made.html)
    assert [c["outcome"] for c in made.summary["contexts"]] == ["resolved", "unresolved"]
    assert (made.summary["contexts"][0]["series"] is None) == (name == "steps.parquet")
    if name == "verdicts.json":
        assert "judged again" in missing[1]
        assert made.summary["contexts"][0]["gold"] == "gold0"
        assert made.summary["contexts"][0]["flip"] == 11


def test_unfinished_contexts_are_named(tmp_path):
    contexts = [{"prompt": f"P{i}", "gold": f" g{i}", "rival": " r"} for i in range(3)]
    made = of(make_run(tmp_path / "run", ["resolved"], contexts=contexts))
    assert made.summary["runs"][0]["missing"] == ["2 of 3 contexts are not finished: 2, 3"]


def test_missing_columns_and_odd_verdicts_do_no_harm(tmp_path):
    folder = make_run(tmp_path / "run", ["resolved"])
    steps = pl.read_parquet(folder / "steps.parquet")
    steps.drop("participation_ratio", "frozen_born_gap").write_parquet(folder / "steps.parquet")
    verdicts = json.loads((folder / "verdicts.json").read_text())
    verdicts["verdicts"][0] |= {"jump_ratio": "much", "saving": None, "flip_steps": [], "why": 7, "ablation": [1]}
    verdicts["verdicts"] += [{"no": "context"}, 3]
    (folder / "verdicts.json").write_text(json.dumps(verdicts))
    made = of(folder)
    assert "lacks the columns participation_ratio, frozen_born_gap" in made.summary["runs"][0]["missing"][0]
    assert made.summary["contexts"][0]["jump_ratio"] is None
    assert "participation_ratio" not in made.summary["contexts"][0]["series"]
    assert made.html
    assert made.markdown


def test_wrong_inputs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.json").write_text("{")
    (tmp_path / "other.json").write_text('{"schema": 1, "models": []}')
    (tmp_path / "future.json").write_text('{"schema": 9}')
    newer = make_run(tmp_path / "newer", ["resolved"])
    (newer / "run.json").write_text(json.dumps(json.loads((newer / "run.json").read_text()) | {"schema": 2}))
    for name, message in {
        "absent": "no RUN there", "empty": "no RUN there", "not.json": "is no forecast",
        "other.json": "holds no forecasts",
        "future.json": "no forecast of this version", "newer": "of another schema version",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            of(tmp_path / name)
    (tmp_path / "fine.json").write_text('{"schema": 1, "scope": "x", "forecasts": [{"gold": " g"}]}')
    with pytest.raises(UserError, match="nothing to report on"):
        of(tmp_path / "fine.json")


ALONE = "each context trained alone, 50 steps on its one prompt; a run on a data set moves it far less"


def test_a_forecast_stands_beside_what_happened(tmp_path, folder):
    entries = [
        {"context": 0, "gold": " gold0", "rival": " rival0", "critical_rate": 5e-5, "low": 4e-5, "high": 6e-5,
         "status": "ok", "will_resolve": False, "planned_rate": 1e-5, "by": "collocation", "forward_passes": 60},
        {"context": 3, "gold": " gold3", "rival": " rival3", "critical_rate": 3e-4, "low": None, "high": None,
         "status": "ok", "will_resolve": True, "planned_rate": 2e-4, "by": "path"},
        {"context": 1, "gold": " gold1", "rival": " rival1", "critical_rate": 2e-4, "low": 1e-4, "high": 3e-4},
        {"context": 2, "gold": " gold2", "rival": " rival2", "critical_rate": None, "status": "pre-resolved"},
        {"context": 0, "gold": " elsewhere", "rival": " rival0", "critical_rate": 1.0},
        {"prompt": "Elsewhere", "gold": " gold0", "rival": " rival0", "critical_rate": 1.0},
    ]  # fmt: skip
    path = tmp_path / "forecast.json"
    path.write_text(json.dumps({"schema": 1, "scope": ALONE, "method": "full", "steps": 50, "forecasts": entries}))
    made = of(folder, path)
    forecast, contexts = made.summary["forecast"], made.summary["contexts"]
    assert (forecast["hits"], forecast["told"], forecast["unmatched"]) == (2, 3, 2)
    assert contexts[0]["needed"] == {
        "rate": 5e-5, "low": 4e-5, "high": 6e-5, "how": "collocation", "why": "", "ratio": 4.0,
    }  # fmt: skip
    assert forecast["rows"][0]["measured"]["how"] == "dose"
    assert [row["told"] for row in forecast["rows"]] == ["gold ahead", "gold ahead", "not told", "gold ahead"]
    assert [row["agrees"] for row in forecast["rows"]] == [True, False, None, True]
    assert "5e−5 [4e−5, 6e−5]" in made.html
    told = f"E{ALONE[1:]}. 2 of 3 outcomes came as forecast."
    assert forecast["sentence"].startswith(told)
    for text in (made.markdown, made.html):
        assert told in text
        assert f"The forecasts are of {ALONE}." in text


def test_a_forecast_that_does_not_say_what_it_holds_of_is_refused(tmp_path, folder):
    (tmp_path / "f.json").write_text('{"schema": 1, "forecasts": [{"gold": " g"}]}')
    with pytest.raises(UserError, match="does not say what its rates hold of"):
        of(folder, tmp_path / "f.json")


@pytest.mark.parametrize("head", [{"method": "lora"}, {"steps": 20}, {"criterion": "born"}, {"model": "another"}])
def test_a_forecast_of_another_plan_is_left_out(tmp_path, folder, head):
    entry = {"context": 0, "gold": " gold0", "rival": " rival0", "critical_rate": 5e-5}
    path = tmp_path / "forecast.json"
    path.write_text(json.dumps({"schema": 1, "scope": ALONE, "forecasts": [entry]} | head))
    made = of(folder, path)
    assert made.summary["forecast"]["rows"] == []
    assert made.summary["forecast"]["unmatched"] == 1
    assert made.summary["contexts"][0]["needed"]["how"] == "dose"


def test_a_sweep_is_reported_by_its_phase_diagram(tmp_path):
    made = of(make_sweep(tmp_path / "sweep"))
    phase = made.summary["phase"][0]
    assert len(phase["points"]) == 6
    assert {point["character"] for point in phase["points"]} == {"drift", "catapult-like"}
    assert [c["status"] for c in phase["critical"]] == ["ok", "ok"]
    assert phase["critical"][0]["low"] == 1e-5
    assert made.summary["runs"][0]["verdict"] in made.html
    assert "Phase diagram" in made.markdown


def test_charts_are_written_as_svg_and_png(tmp_path, folder):
    record = Report(summary([read_facts(folder)], [GEOMETRY])).summary
    record = record | {"contexts": record["contexts"][:1]}
    files = Report(record).save_charts(tmp_path / "charts")
    names = ["overview", "run-1-context-001", "run-1-context-001-phantom", "geometry-1"]
    assert [path.name for path in files] == [f"{name}{kind}" for name in names for kind in (".svg", ".png")]
    svg = (tmp_path / "charts" / "run-1-context-001.svg").read_text()
    assert "logit gap / nat" in svg
    assert "flip 11" in svg
    assert "var(" not in svg
    assert (tmp_path / "charts" / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_a_comparison_has_charts_with_a_line_a_run(run, tmp_path, folder):
    other = make_run(tmp_path / "other", ["resolved"], method="lora", rate=2e-3)
    code, out, told = run("compare", folder, other, "--charts", tmp_path / "charts", "--format", "json")
    assert code == 0
    assert json.loads(out)["kind"] == "compare", "standard output is the comparison alone"
    assert told == f"2 files written to {tmp_path / 'charts'}\n"
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["context-001.png", "context-001.svg"]
    svg = (tmp_path / "charts" / "context-001.svg").read_text()
    assert "full, rate 2e−4" in svg
    assert "lora, rate 2e−3" in svg
    assert "var(" not in svg
    code, out, _ = run("compare", folder, other, "--charts", tmp_path / "again")
    assert (code, out) == (0, "")


def test_plot_shows_a_trajectory_inline(tmp_path, folder):
    picture = borngap.plot(borngap.read_run(folder).trajectory(0))
    assert picture._repr_svg_().startswith("<svg")
    assert picture.save(tmp_path / "a.svg").read_text() == picture.svg
    with pytest.raises(UserError, match="unknown kind of picture"):
        picture.save(tmp_path / "a.bmp")


def test_a_notebook_gets_a_frame_of_its_own(report):
    frame = report._repr_html_()
    assert frame.startswith("<iframe")
    assert "<script" not in frame


def test_a_comparison_names_what_differs(tmp_path):
    other = ("Alone", " gold1", " rival1")
    make_run(tmp_path / "a", ["resolved", "unresolved"])
    make_run(tmp_path / "b", ["unresolved", "lost"], words=[CONTEXT, other], method="lora", rate=2e-3)
    record = comparison_of(tmp_path / "a", tmp_path / "b").summary
    assert record["verdict"] == (
        "Of 1 shared context, the outcome differs in 1. Gold ahead at the end: full, rate 2e−4: 1 of 1; "
        "lora, rate 2e−3: 0 of 1."
    )
    shared = record["contexts"][0]
    assert shared["differs"] == ["outcome", "flip"]
    assert [entry["flip"] for entry in shared["entries"]] == [11, None]
    assert shared["series"]["logit_gap_0"][-1] == pytest.approx(3, abs=1e-3)
    assert shared["series"]["logit_gap_1"][-1] == pytest.approx(-1, abs=0.02)
    assert [(c["run"], c["prompt_end"]) for c in record["only"]] == [
        (0, "The unresolved story of context 1 is"),
        (1, "Alone"),
    ]


def test_runs_of_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name, ["resolved"])
    make_run(tmp_path / "deep" / "a", ["resolved"])
    record = comparison_of(tmp_path / "a", tmp_path / "b", tmp_path / "deep" / "a").summary
    assert len({run["label"] for run in record["runs"]}) == 3


@pytest.mark.parametrize(("file", "message"), [
    ("summary.json", "no RUN there\n  rule: a folder with run.json\n  found: {}\n  fix: give {}"),
    ("scan.json", "a scan can't be compared\n  rule: {1}\n  found: {0}\n  fix: see it with borngap report"),
    ("positions.parquet", "a scan can't be compared\n  rule: {1}\n"),
    ("sweep.json", "a sweep can't be compared\n  rule: {1}\n  found: {0}\n  fix: see it with borngap report"),
])  # fmt: skip
def test_what_is_no_run_is_not_compared_and_the_message_says_what_is(folder, tmp_path, file, message):
    other = tmp_path / "other"
    other.mkdir()
    (other / file).write_text("{}")
    runs = "RUN folders, as `borngap finetune` or a callback writes them"
    with pytest.raises(UserError, match=f"^{re.escape(message.format(other, runs))}"):
        comparison_of(folder, other)


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_and_too_many_runs_are_refused(folder, count):
    with pytest.raises(UserError, match="that many runs can't be compared"):
        comparison_of(*[folder] * count)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run borngap with arguments; return (exit code, standard output, standard error)."""
    from borngap.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["borngap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call


def test_the_command_writes_each_format(run, folder, tmp_path):
    code, out, _ = run("report", folder, "-o", tmp_path / "r.md", "--no-geometry")
    assert (code, out.startswith("written to")) == (0, True)
    assert (tmp_path / "r.md").read_text() == of(folder).markdown
    code, out, _ = run("report", folder, "--format", "json", "--no-geometry")
    assert json.loads(out)["kind"] == "report"
    code, out, _ = run("compare", folder, folder)
    assert code == 0
    assert "Of 6 shared contexts, the outcome is the same in all." in " ".join(out.split())
    assert "Add -o report.html for the page" in out
    code, _, _ = run("compare", folder, folder, "-o", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == "compare"


def test_without_a_file_the_summary_is_printed(run, folder, tmp_path):
    entry = {"context": 0, "gold": " gold0", "rival": " rival0", "critical_rate": 5e-5, "low": 4e-5, "high": 6e-5}
    (tmp_path / "f.json").write_text(json.dumps({"schema": 1, "scope": ALONE, "forecasts": [entry]}))
    code, out, _ = run("report", folder, tmp_path / "f.json", make_sweep(tmp_path / "sweep"), "--no-geometry")
    summary = of(folder, tmp_path / "f.json", tmp_path / "sweep").summary
    told = " ".join(out.split())
    assert code == 0
    for text in (*(run["verdict"] for run in summary["runs"]), summary["phantom"], summary["forecast"]["sentence"]):
        assert " ".join(text.split()) in told
    words = set(out.split())
    for context in summary["contexts"]:
        assert {context["gold"], context["rival"], context["outcome"]} <= words
    assert told.endswith("Add -o report.html for the page, with charts and what the words mean.")
    assert "<" not in out


@pytest.mark.parametrize(("arguments", "message"), [
    (["--format", "html"], "no file for the report"),
    (["-o", "report.pdf"], "the format of the report can't be told"),
    (["-o", "/dev/null/report.md"], "can't write"),
])  # fmt: skip
def test_the_command_refuses_bad_output(run, folder, arguments, message):
    code, out, err = run("report", folder, "--no-geometry", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_every_story_is_told():
    assert set(STORIES) == {"resolved", "jump", "pre-resolved", "unresolved", "structural", "lost"}


@pytest.mark.parametrize(("text", "shown"), [
    ("/home/ann/my models/llama", "llama"), ("~/llama", "llama"), ("C:\\Users\\ann\\llama", "llama"),
    ("./llama", "llama"),
    ("org/name", "org/name"), ("docs-gpt2-s", "docs-gpt2-s"), ("1/d and logit gap / nat", "1/d and logit gap / nat"),
    ("no model in /home/ann/m (see ~/x/log)", "no model in m (see log)"),
    ("at https://huggingface.co/org/name", "at https://huggingface.co/org/name"),
])  # fmt: skip
def test_of_a_local_path_the_last_part_is_public(text, shown):
    assert public(text) == shown


def test_a_report_tells_nothing_of_the_machines_folders(tmp_path):
    (tmp_path / "ann" / "llama").mkdir(parents=True)
    local = str(tmp_path / "ann" / "llama")
    run = make_run(tmp_path / "run", ["resolved"], model=local, notes=[f"read from {local}"], base=f"{local}/base")
    made = report_of(run, with_geometry=True)
    assert json.loads((run / "run.json").read_text())["plan"]["model"] == local  # resuming needs it
    for text in (made.markdown, made.json, made.html):
        assert str(tmp_path) not in text
        assert "llama" in text
    assert made.summary["title"] == "Full fine-tuning of llama"


def test_line_breaks_of_a_prompt_are_no_escapes(tmp_path):
    run = make_run(tmp_path / "run", ["resolved"], words=[("def f():\n\treturn a\r\n", " list", " dict")])
    for text in (of(run).markdown, of(run).html, of(run).json):
        assert "def f():↵⇥return a↵" in text
