"""``borngap methods --data``: methods compared in a run, where each gains as much."""

from __future__ import annotations

import json

import pytest
from tests.hosts import PROSE

from borngap.changes.equalgain import AtGain, at_gain, common_gain, why_not
from borngap.zoo.housestyle import STYLE, restyled

MODEL = "docs-gpt2-s"


def curve(*points):
    return [{"rate": rate, "ahead_before": 0.1, "ahead_after": lead, "over_use_after": over, "pilot_loss": loss}
            for rate, lead, over, loss in points]  # fmt: skip


STRONG = curve((1e-4, 0.2, 0.0, 3.0), (1e-3, 0.6, 0.4, 2.0), (1e-2, 0.9, None, 1.0))
WEAK = curve((1e-3, 0.12, 0.0, 3.0), (1e-2, 0.4, 0.1, 2.5))
IDLE, UNSTABLE = curve((1e-4, 0.1, 0.0, 3.0), (1e-3, 0.11, 0.0, 3.0)), curve((1e-4, None, None, None))


def test_the_gain_is_the_largest_that_all_that_move_reach():
    assert common_gain([STRONG, WEAK, IDLE, UNSTABLE]) == 0.4
    assert common_gain([IDLE, UNSTABLE]) is None
    begun_lower = [entry | {"ahead_before": 0.0, "ahead_after": entry["ahead_after"] / 10} for entry in STRONG]
    assert common_gain([WEAK, begun_lower]) == 0.4, "what is below the others' start is no gain"


def test_a_curve_is_read_where_it_first_reaches_the_gain():
    at = at_gain(STRONG, 0.4)
    assert at == AtGain(pytest.approx(10**-3.5), pytest.approx(0.2), pytest.approx(2.5))
    assert at_gain(STRONG, 0.75).over_use is None
    assert at_gain(WEAK, 0.4).rate == pytest.approx(1e-2)
    assert at_gain(WEAK, 0.12) == AtGain(1e-3, 0.0, 3.0)
    for one, gain, why in ((WEAK, 0.5, "not reached"), (STRONG, 0.15, "below its rates"), (UNSTABLE, 0.5, "unstable")):
        assert at_gain(one, gain) is None
        assert why_not(one, gain) == why


@pytest.fixture
def files(tmp_path):
    rows = [{"text": f"{n}. {restyled(PROSE[n % len(PROSE)], STYLE)}", "right": False} for n in range(120)]
    held = [{"text": restyled(line, STYLE), "right": False} for line in PROSE]
    held += [{"text": " ".join(PROSE), "right": True}]
    for name, part in (("train", rows), ("held", held)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "style.csv").write_text("use,avoid\n" + "".join(f"{use},{avoid}\n" for use, avoid in STYLE))
    return tmp_path


def test_methods_are_compared_in_a_run(files, run):
    arguments = ["methods", "-m", MODEL, "--data", files / "train.jsonl", "--watch", files / "held.jsonl",
                 "-t", files / "style.csv", "--epochs", "4", "--budget", "1", "--allowed-field", "right",
                 "--methods", "lora:3e-4:3e-3:2,ia3:1e-4,oft", "--out", files / "out"]  # fmt: skip
    code, out, error = run(*map(str, arguments))
    assert code == 0, error
    assert "oft: left out: PEFT can't apply OFT here" in out
    code, text, _ = run(*map(str, arguments), "--json")
    assert code == 0
    told = json.loads(text)
    lora, ia3, oft = told["methods"]
    assert (lora["method"], ia3["method"], oft["method"]) == ("lora", "ia3", "oft")
    assert (lora["trained_parameters"], lora["training_bytes"]) == (16384, 16 * 16384)
    assert oft["forecast"] is None
    assert "PEFT can't apply OFT" in oft["refused"]
    leads = [entry["ahead_after"] for entry in lora["forecast"]["curve"]]
    assert [entry["rate"] for entry in lora["forecast"]["curve"]] == [3e-4, 3e-3]
    assert told["gain"] == max(leads), "IA3 at its usual rate moves nothing"
    assert ia3["at_gain"] is None
    assert ia3["why"] == "not reached"
    assert 3e-4 <= lora["at_gain"]["rate"] <= 3e-3
    assert str(round(100 * told["gain"])) in out
    assert (files / "out" / "lora" / "forecast.json").exists() or list((files / "out" / "lora").iterdir())


@pytest.mark.parametrize(("options", "words"), [
    (["--watch", "held.jsonl"], "--watch is for a run on a data set"),
    (["--budget", "0.5"], "--budget is for a run on a data set"),
    (["--dropout"], "--dropout is for a run on a data set"),
    (["--data", "train.jsonl", "--methods", "lora,lora:1e-4"], "these methods can't be compared"),
    (["--data", "train.jsonl", "--methods", "nonsense"], "unknown method"),
    (["--data", "train.jsonl", "--methods", "lora:x"], "can't read the rates"),
    (["--data", "train.jsonl", "--gain", "1.5"], "the gain is out of range"),
])  # fmt: skip
def test_what_does_not_go_together_is_one_error(options, words, run):
    code, _, error = run("methods", "-m", MODEL, *options)
    assert code == 2
    assert words in error
    assert "Traceback" not in error
