"""Forecasts beside what happened."""

from __future__ import annotations

import json

import pytest
from tests.runs import make_run

from borngap.errors import UserError
from borngap.report.report import report_of

ALONE = "each context trained alone, 50 steps on its one prompt; a run on a data set moves it far less"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def of(*inputs):
    return report_of(*inputs, with_geometry=False)


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
