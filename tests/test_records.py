"""A report's records hold what their types say, whatever was stored: odd values are left out, with nothing lost."""

import json

import pytest
from tests.fits import faults
from tests.runs import GEOMETRY, make_run, make_sweep

from borngap.report.facts.runfacts import read_facts
from borngap.report.records import ComparisonSummary, Meaning, Summary
from borngap.report.report import comparison_of, report_of
from borngap.report.summary import summary

SCOPE = "each context trained alone"
ODD_PLAN = {
    "method": 3, "rate": "fast", "steps": None, "schedule": 7, "warmup": "x", "joint": "yes", "freeze": "head",
    "lora_targets": [1], "notes": 3, "dtype": 1, "seed": 0.5, "criterion": ["rank"], "model": 8,
}  # fmt: skip
ODD_ENTRY = {
    "outcome": 3, "outcomes": [], "flip_steps": {"rank": "11"}, "flip_times": {"rank": True}, "jump_ratio": "much",
    "saving": 5, "ablation": ["a", None], "silent": "no", "why": 7, "gold": 4, "notes": [1], "character": {},
}  # fmt: skip
ODD_FORECAST = {"context": "0", "gold": 7, "rival": None, "prompt": 3, "critical_rate": "x", "low": [], "by": 7,
                "status": 1, "will_resolve": "yes", "optimizer_steps": "many", "method": ["lora"]}  # fmt: skip


def changed(folder, file, change):
    """Change what a JSON file of a folder holds."""
    held = json.loads((folder / file).read_text())
    change(held)
    (folder / file).write_text(json.dumps(held))
    return folder


def forecast(path, entry):
    path.write_text(json.dumps({"schema": 1, "scope": SCOPE, "forecasts": [entry]}))
    return path


def test_a_wrong_type_is_found():
    assert list(faults([3], list[str])) == ["summary[0]: 3 is not <class 'str'>"]
    assert list(faults({"a": None, "b": 1}, dict[str, float | None])) == []
    assert list(faults({"a": "1"}, dict[str, float | None]))
    assert list(faults({"word": "a", "meaning": 3}, Meaning)) == ["summary.meaning: 3 is not <class 'str'>"]
    assert list(faults({"word": "a"}, Meaning))
    assert list(faults({"word": "a", "meaning": "b"}, Meaning)) == []


def test_records_are_what_their_types_say(tmp_path):
    run = make_run(tmp_path / "run")
    entry = {"context": 0, "gold": " gold0", "rival": " rival0", "critical_rate": 5e-5, "forward_passes": 60}
    told = forecast(tmp_path / "f.json", entry)
    assert list(faults(summary([read_facts(run)], [GEOMETRY]), Summary)) == []
    made = report_of(run, told, make_sweep(tmp_path / "sweep"), with_geometry=False).summary
    assert made["forecast"]["rows"]
    assert list(faults(made, Summary)) == []
    other = make_run(tmp_path / "other", ["unresolved"], method="lora", rate=2e-3)
    assert list(faults(comparison_of(run, other).summary, ComparisonSummary)) == []


def test_odd_values_of_a_run_are_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr("borngap.report.page.html.vega_bundle", lambda: "")  # the library takes seconds to bundle
    odd = changed(make_run(tmp_path / "odd", ["resolved"]), "run.json", lambda held: held["plan"].update(ODD_PLAN))
    changed(odd, "verdicts.json", lambda held: held["verdicts"][0].update(ODD_ENTRY))
    made = report_of(odd, with_geometry=False)
    assert list(faults(made.summary, Summary)) == []
    (context,), (run,) = made.summary["contexts"], made.summary["runs"]
    assert (context["outcome"], context["flip"], context["silent"], context["gold"]) == ("unknown", None, None, "–")
    assert (run["criterion"], run["dose"], run["label"]) == ("rank", "", "odd")
    for text in (made.markdown, made.html, comparison_of(odd, odd).html):
        assert "unknown" in text


def test_an_odd_forecast_is_of_no_context(tmp_path):
    run = make_run(tmp_path / "run", ["resolved"])
    made = report_of(run, forecast(tmp_path / "f.json", ODD_FORECAST), with_geometry=False)
    assert list(faults(made.summary, Summary)) == []
    assert made.summary["forecast"]["unmatched"] == 1


@pytest.mark.parametrize("missing", ["schedule", "warmup"])
def test_a_plan_without_a_schedule_is_no_traceback(tmp_path, missing):
    run = make_run(tmp_path / "run", ["resolved"])
    changed(run, "run.json", lambda held: held["plan"].pop(missing))
    needed = report_of(run, with_geometry=False).summary["contexts"][0]["needed"]
    assert (needed["rate"] is None) == (missing == "schedule")
    assert needed["why"] == ("not known: the run does not say its schedule" if missing == "schedule" else "")


def test_what_a_report_says_in_a_sentence(tmp_path):
    run = make_run(tmp_path / "run", ["resolved"])
    (told,) = report_of(run, with_geometry=False).verdicts
    assert told == "The right word is ahead of its near-synonym in the one context."
    assert comparison_of(run, run).verdicts[0].startswith("Of 1 shared context")
