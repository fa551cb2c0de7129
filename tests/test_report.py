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
from borngap.report.facts.runfacts import read_facts
from borngap.report.page.html import inline_json
from borngap.report.report import Report, report_of
from borngap.report.summary import summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def report(folder):
    return Report(summary([read_facts(folder)], [GEOMETRY]))


def of(*inputs):
    return report_of(*inputs, with_geometry=False)


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


def test_every_story_is_told():
    assert set(STORIES) == {"resolved", "jump", "pre-resolved", "unresolved", "structural", "lost"}


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


def test_a_run_says_what_is_added_to_the_cross_entropy(tmp_path):
    plan = {"rival_loss": "margin:3,2", "penalty": "overlap:1"}
    told = of(make_run(tmp_path / "run", ["unresolved"], **plan)).summary["runs"][0]
    assert "50 steps of cross-entropy + margin:3,2 + overlap:1 at learning rate 2e−4" in told["verdict"]
    assert "; cross-entropy + margin:3,2 + overlap:1; rate" in told["made"]
    assert ", margin:3,2 + overlap:1, rate" in told["label"]
    damaged = of(make_run(tmp_path / "damaged", ["unresolved"], rival_loss="?", penalty=3)).summary["runs"][0]
    assert "cross-entropy" not in damaged["verdict"] + damaged["made"] + damaged["label"]
