"""Reports of FORECAST folders, and of live forecasts held against what happened."""

import json
import shutil

import numpy as np
import pytest
from tests.hosts import CONTEXTS, trainer
from tests.test_forecast_runs import run

import borngap
from borngap.cli import runforecasts
from borngap.errors import UserError
from borngap.report.report import report_of
from borngap.track.callback import BornGapCallback
from borngap.training import Training


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("foretold") / "forecast"
    run(tokenizer, rates=(3e-4, 1e-3), budget=0.9, out=path)
    return path


def test_the_page_of_a_forecast_holds_its_numbers(folder):
    told, made = borngap.read_forecast(folder), report_of(folder)
    s, all_ = made.summary, told.summary["all"]
    assert s["kind"] == "forecast"
    assert s["all"]["ahead_after"] == pytest.approx(all_["ahead_after"], abs=1e-3)
    assert f"{100 * all_['ahead_after']:.0f} % (" in s["verdict"]
    assert [p["all"]["ahead_after"] for p in s["curve"]] == pytest.approx(
        [e["ahead_after"] for e in told.summary["curve"]], abs=1e-3
    )
    assert [p["label"] for p in s["curve"]] == ["3e−4", "1e−3"]
    assert sum(p["to_use"] for p in s["curve"]) == 1
    own = [p for p in told.summary["places"] if p["kind"] == "due"]
    assert [q["gaps"][1] for q in s["worst"]] == pytest.approx(sorted(p["forecast_gap"] for p in own)[:100], abs=0.01)
    assert sum(s["counts"].values()) == len(own)
    assert [term["rows"] for term in s["terms"]] == [told.summary["terms"][0]["rows"]]
    assert s["all"]["rows"] is None
    assert {"curve.svg", "terms.png"} <= {path.name for path in made.save_charts(folder.parent / "charts")}


def test_it_is_the_same_as_markdown_json_and_page_and_can_go_without_text(folder):
    made = report_of(folder)
    worst = made.summary["worst"][0]
    assert worst["before"].strip()
    for text in (made.html, made.markdown):
        assert made.summary["verdict"] in text
        assert worst["before"].strip() in text
        assert "to use" in text
    assert json.loads(made.json) == made.summary
    bare = made.without_text()
    assert bare.summary["worst"][0]["before"] == ""
    assert worst["before"].strip() not in bare.html
    with pytest.raises(UserError, match="a report of its own"):
        report_of(folder, folder)


def test_live_forecasts_are_held_against_the_end(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=2, out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], max_steps=8).train()
    stored, made = borngap.read_run(tmp_path / "run"), report_of(tmp_path / "run", with_geometry=False)
    (live,) = made.summary["live"]
    last = stored.steps.filter(stored.steps["step"] == 8).sort("context")["logit_gap"].to_numpy()
    assert [row["step"] for row in live["rows"]] == [2, 4, 6]
    for row in live["rows"]:
        told = stored.forecasts.filter(stored.forecasts["step"] == row["step"]).sort("context")
        low, high = told["low"].to_numpy(), told["high"].to_numpy()
        assert (row["lead"], row["behind"]) == ((low > 0).sum(), (high <= 0).sum())
        assert row["undecided"] == 3 - row["lead"] - row["behind"]
        assert row["lead_came"] == ((low > 0) & (last > 0)).sum()
        assert row["behind_came"] == ((high <= 0) & (last > 0)).sum()
        assert row["error"] == pytest.approx(np.median(np.abs(told["gap"].to_numpy() - last)))
    assert live["sentence"].startswith("At step 2 of 8, 25 % of the dose done, ")
    for text in (made.html, made.markdown):
        assert live["sentence"] in text


def test_a_run_that_was_ended_early_has_no_end_to_hold_forecasts_against(tmp_path):
    watcher = BornGapCallback(CONTEXTS, every=1, stop="hopeless", out=tmp_path / "run")
    trainer(tmp_path / "host", [watcher], max_steps=8, learning_rate=1e-9).train()
    (live,) = report_of(tmp_path / "run", with_geometry=False).summary["live"]
    assert live["sentence"].startswith("The run ended at step 3 of 8")
    assert {row["lead_came"] for row in live["rows"]} == {None}


def test_where_nothing_changes_is_as_good_all_say_so_first(tmp_path, tokenizer, capsys):
    told = run(tokenizer, training=Training(method="full", rate=1e-7, steps=80, batch_size=4), out=tmp_path / "idle")
    runforecasts._report(told.summary, None)
    lines, made = capsys.readouterr().out.splitlines(), report_of(tmp_path / "idle")
    first, after = '"Nothing changes" is as good a forecast of this run: before it ', "by the pilot alone after it at"
    for headline in (lines[0], made.summary["verdict"]):
        assert headline.startswith(first)
        assert after in headline
    assert all("is as good a forecast of who leads" in note for note in (lines[1], made.summary["notes"][0]))
    text = "\n".join(lines)
    assert "By the pilot alone: Over-use" in text
    assert "own estimate" not in text
    assert made.markdown.index("is as good a forecast of this run") < made.markdown.index("too little moves")


def test_it_says_what_is_added_to_the_cross_entropy(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    told = json.loads((copy / "summary.json").read_text())
    told["run"]["training"] |= {"rival_loss": "margin:3,2", "penalty": "overlap:1"}
    (copy / "summary.json").write_text(json.dumps(told))
    made = report_of(copy)
    assert made.summary["verdict"].startswith("After this run (cross-entropy + margin:3,2 + overlap:1) the wanted")
    assert "steps (cross-entropy + margin:3,2 + overlap:1) over" in made.summary["runs"][0]["made"]
    assert "cross-entropy" not in report_of(folder).summary["verdict"]
