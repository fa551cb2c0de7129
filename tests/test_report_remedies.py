"""Reports of REMEDIES folders: the numbers of the search, its charts, the lines to paste; nothing of it is markup."""

from __future__ import annotations

import copy
import json
import re

import pytest
from tests.browser import chromium, needs_browser

import borngap
from borngap.errors import UserError
from borngap.remedies.remedyfolder import RemedyFolder
from borngap.report.report import comparison_of, report_of
from borngap.report.tried.shown import bias_words, drawn_prices, nat

HOSTILE = "<script>alert(1)</script>"


def measure(value, width=0.05):
    return {"value": value, "low": value - width, "high": value + width}


def entry(name, lead, over, loss, **more):
    told = {
        "remedy": name, "words": f"words of {name}", "success": measure(lead), "gain": None,
        "over_use": measure(over), "over_use_more": None, "loss": None, "bias": None, "run_cost": 1.0,
        "meets": None, "why": "", "lines": [],
    }  # fmt: skip
    if loss is not None:
        told |= {"gain": measure(lead - 0.6), "over_use_more": measure(over - 0.4), "loss": measure(loss, 0.01),
                 "bias": {"nat": 0.4, "success": 0.71, "loss": -0.002}, "meets": loss < 0.02}  # fmt: skip
    return told | more


SUMMARY = {
    "model": "/home/ann/models/mine", "run": {
        "steps": 40, "rows": 90, "data": {"name": f"/home/ann/{HOSTILE}.jsonl"},
        "settings": {"epochs": None, "packing": True}, "training": {"method": "dora", "rate": 1e-4, "seed": 0},
    },
    "places": 120, "right_avoid": 30, "held_out_tokens": 2000, "max_loss": 0.02, "max_over_use": 2.0,
    "take": "margin:3,2", "why": "the most success within 0.02 nat", "over_use_why": None,
    "remedies": [
        entry("no training", 0.4, 0.2, None, run_cost=0.0), entry("none", 0.6, 0.4, None),
        entry("margin:3,2", 0.7, 0.41, 0.011, lines=['loss = borngap.RivalLoss("/home/ann/style.csv")', HOSTILE]),
        entry("rate:9", 0.5, 0.3, None, success=None, over_use=None, why=f"the loss is not finite {HOSTILE}"),
        entry("bias", 0.62, 0.42, -0.001, bias=None, bias_nat=0.17, lines=["$ borngap terms held.jsonl"]),
    ],
    "bias_curve": [{"bias": b, "success": 0.6 + b / 20, "over_use": 0.4 + b / 10, "loss": b / 100} for b in (0, 1, 6)],
    "cost": {"of_run": 0.31, "budget": 0.1, "seconds": 12.0}, "notes": [f"a note {HOSTILE}"], "environment": {"n": 1},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    with RemedyFolder(tmp_path / "remedies", {"plan": 1}, {"n": 1}) as out:
        out.conclude(SUMMARY)
    return tmp_path / "remedies"


def test_the_record_has_the_numbers_of_the_search(folder):
    s = report_of(folder).summary
    assert s["title"] == "Remedies for DoRA at 1e−4 of mine on script>.jsonl"
    assert (s["verdict"], s["take"]) == ("Take margin:3,2: the most success within 0.02 nat.", "margin:3,2")
    assert "within 0.02 nat of held-out loss and 2 points of over-use" in s["rule"]
    base, none, margin, rate, bias = s["remedies"]
    assert margin["gain"] == pytest.approx({"value": 0.1, "low": 0.05, "high": 0.15})
    assert (margin["bias_success"], margin["bias_nat"], margin["verdict"]) == (0.71, 0.4, "take")
    assert (bias["bias_success"], bias["bias_nat"], bias["verdict"]) == (None, 0.17, "within limits")
    assert (rate["success"]["value"], rate["verdict"], base["run_cost"]) == (None, "unstable", 0)
    assert none["loss"] == {"value": None, "low": None, "high": None}
    assert "3 runs tried as pilots, 31 % of the planned run's cost" in s["runs"][0]["made"]
    assert "a run of 40 steps over 90 packed sequences of " in s["runs"][0]["made"]
    assert [nat(value) for value in (-0.00037, -0.00049, 0.00096, -0.00003)] == ["−0.0004", "−0.0005", "+0.001", "0"]
    assert bias_words(margin | {"bias_nat": -0.04}) == "71 % at 0.0 nat"


def test_page_markdown_json_and_charts_say_the_same(folder, tmp_path):
    made = report_of(folder)
    assert json.loads(made.json) == made.summary
    for text in (made.html, made.markdown):
        for part in (
            "margin:3,2",
            "70 %",
            "+10",
            "71 % at 0.4 nat",
            "+0.011",
            "unstable",
            "within limits",
            "RivalLoss(",
        ):
            assert part in text, part
        assert "/home/ann" not in text
        assert "or .. the file&#39;s name is left" in text.replace("'", "&#39;")
        assert "bias instead" in text
    assert "| observable |" not in made.markdown, "no table without rows"
    assert "the broken line the planned run" in made.html
    assert made.summary["limits"] == {"over_use": 0.42, "loss": 0.02}, "2 points above the planned run's 40 %"
    assert drawn_prices(made.summary)["over_use"]["limit"] == [{"price": 0.42}]
    far = made.summary | {"limits": {"over_use": 1.4, "loss": 0.5}}
    assert [chart["limit"] for chart in drawn_prices(far).values()] == [[], []]
    drawn = json.loads(re.search(r'id="page-data">(.*?)</script>', made.html).group(1))["stills"]
    assert drawn.keys() == {"still-over_use", "still-loss"}
    rows = {row["remedy"]: row for row in drawn["still-loss"]["data"]["tried"]}
    assert {name: row["price"] for name, row in rows.items()} == {"none": 0.0, "margin:3,2": 0.011, "bias": -0.001}
    assert [row["price"] for row in drawn["still-over_use"]["data"]["bias"]] == pytest.approx([0.4, 0.5, 1.0])
    assert rows["margin:3,2"]["state"] == "take"
    assert made.without_text().html == made.html, "it holds no text of the data"
    assert {path.name for path in made.save_charts(tmp_path / "c")} >= {"over_use.svg", "loss.png"}


def test_what_is_named_is_never_markup(folder):
    made = report_of(folder)
    assert HOSTILE not in made.html
    assert made.html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3, "a note, a reason, a line to paste"
    assert HOSTILE not in re.sub(r"(?m)^    .*$", "", made.markdown), "only code, which Markdown shows as it is"


def test_it_has_a_report_of_its_own(folder, run):
    code, text, errors = run("report", folder)
    assert (code, errors) == (0, "")
    assert text.startswith("Remedies for DoRA")
    assert "What each costs, in points and nat above the planned run" in text
    with pytest.raises(UserError, match="a REMEDIES has a report of its own"):
        report_of(folder, folder)
    with pytest.raises(UserError):
        comparison_of(folder, folder)
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        report_of(folder)


def test_without_over_use_and_bias_it_draws_what_is_known(tmp_path):
    told = copy.deepcopy(SUMMARY) | {"take": None, "bias_curve": []}
    for one in told["remedies"]:
        one |= {"over_use": None, "over_use_more": None, "bias": None, "meets": None, "why": ""}
    told["remedies"] = [one for one in told["remedies"] if one["remedy"] not in {"bias", "rate:9"}]
    with RemedyFolder(tmp_path / "remedies", {}, {}) as out:
        out.conclude(told)
    made = report_of(tmp_path / "remedies")
    assert made.summary["verdict"].startswith("No remedy is recommended")
    assert "still-loss" in made.html
    assert "still-over_use" not in made.html
    assert "the broken line" not in made.html
    assert re.findall(r'data-label="(.*?)"', made.html)[:6] == [
        "number", "remedy", "success", "gain, points", "loss, nat", "run",
    ]  # fmt: skip
    assert "| remedy | success | gain | 90 % |\n" in made.markdown
    assert borngap.read_remedy_search(tmp_path / "remedies").summary["take"] is None


@needs_browser
def test_the_page_is_quiet_and_fits(folder, tmp_path):
    path = report_of(folder).save(tmp_path / "page.html")
    with chromium() as tab:
        opened = tab(path, width=360)
        assert (opened.said, opened.asked) == ([], [path.as_uri()])
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        assert opened.page.locator("#still-loss svg, #still-loss canvas").count() == 1
