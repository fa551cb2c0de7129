"""README: short, and every figure of what was found is that of a judged claim."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REAL = json.loads((ROOT / "docs/results/claims.json").read_text(encoding="utf-8"))["columns"]["SmolLM2-135M"]
CLAIMS = {claim["id"]: claim for claim in REAL["claims"]}
TABLES = {"single-steps", "brackets"}
NAMED = re.findall(r"^- (.*(?:\n  .*)*?)\s<!-- ([a-z-]+) -->$", README, re.MULTILINE)
FOUND = [(text, name) for text, name in NAMED if name not in TABLES]


def test_it_is_short():
    assert len(README.split()) <= 900


def test_what_was_found_is_bound_to_claims():
    section = README[README.index("## What was found") : README.index("## Good to know")]
    assert len(FOUND) >= 5
    assert section.count("\n- ") == len(NAMED), "every line of the list names its claim or its table"
    assert f"{REAL['runs']} runs" in " ".join(section.split())


@pytest.mark.parametrize(("text", "claim"), FOUND)
def test_figures_are_those_of_the_claim(text, claim):
    judged = CLAIMS[claim]
    assert judged["verdict"] in {"replicates", "does not"}, "what is not testable is no finding"
    found = re.search(r"(−?[\d.]+) \((−?[\d.]+) to (−?[\d.]+)\)", text).groups()
    value, low, high = (shown.replace("−", "-") for shown in found)
    for shown, exact in ((value, judged["ours"]), (low, judged["low"]), (high, judged["high"])):
        digits = len(shown.partition(".")[2])
        assert float(shown) == pytest.approx(exact, abs=0.5 * 10**-digits + 1e-12)
    assert re.search(rf"\b{judged['n']}\b", text)


def test_figures_of_jumps_and_of_forecasts_are_those_of_the_tables():
    told = {name: " ".join(text.split()) for text, name in NAMED if name in TABLES}
    rows = {(row["method"], row["label"]): row for row in REAL["single_steps"]}
    for method, words in (("lora", "LoRA"), ("full", "full")):
        ratios = [f"{rows[method, label]['jump_ratio']:.2g}" for label in ("H=3", "H=10", "H=30")]
        assert f"{', '.join(ratios)} under {words}" in told["single-steps"]
    for row in REAL["brackets"]:
        words = {"lora": "LoRA", "full": "full"}[row["method"]]
        assert f"{round(row['hold'] * row['contexts'])} of {row['contexts']} under {words}" in told["brackets"]


def test_figures_of_the_real_model_are_those_of_the_benchmark():
    record = json.loads(
        (ROOT / "docs/remedies/smollm2-135m-lora-1e-3-cosine-chat-60-0.json").read_text(encoding="utf-8")
    )
    base, after = (next(e for e in record["remedies"] if e["remedy"] == name) for name in ("base", "none"))
    told, places = " ".join(README.split()), record["places"]["base"]
    share, low, high = (f"{100 * part:.0f}" for part in after["success"])
    assert f"lead at {share} % ({low} to {high}) of {places} places" in told
    share, low, high = (f"{100 * part:.0f}" for part in base["success"])
    assert f"before {share} % ({low} to {high})" in told
    assert f"took {base['loss'][0]:.1f} nat off" in told
