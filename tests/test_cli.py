"""The command line as a user meets it: output, JSON, and one clear error with exit code 2 for each bad input."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from borngap.context import Context, write_contexts
from borngap.model.load import load
from borngap.observables.catalogue import OBSERVABLES
from borngap.zoo import bundled_path
from borngap.zoo.housestyle import house_style

MODEL = "docs-gpt2-s"
SHAPE = ["prompt", "gold", "rival", "gold_id", "rival_id", "relation", *OBSERVABLES, "fragment", "notes"]


@pytest.fixture
def contexts(tmp_path) -> Path:
    path = tmp_path / "contexts.jsonl"
    path.write_text(write_contexts([Context("The function takes an", " argument", " parameter")]), encoding="utf-8")
    return path


def fails(result: tuple[int, str, str], *expected: str) -> None:
    """The run ended with exit code 2, printed nothing, and its one message says all that is expected."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for text in expected:
        assert text in err


def test_probe_json_has_the_documented_shape(run):
    code, out, err = run("probe", "--model", MODEL, "--contexts", "docs10", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["schema"], document["geometry"], document["top_p"]) == (1, "readout", 0.9)
    assert document["model"]["tied"] is True
    assert len(document["observations"]) == 10
    for row in document["observations"]:
        assert list(row) == SHAPE
        assert row["notes"] == {}
        assert all(isinstance(row[key], int | float) and math.isfinite(row[key]) for key in OBSERVABLES)
        assert row["signal"] + row["drag"] == pytest.approx(row["born_gap"], abs=1e-12)


@pytest.mark.parametrize("heading", ["", "prompt,gold,rival\n"])
def test_probe_reads_standard_input(run, heading):
    text = (
        heading + "The function takes an, argument, parameter\n"
        if heading
        else ('{"prompt": "The function takes an", "gold": " argument", "rival": " parameter"}\n')
    )
    code, out, _ = run("probe", "-m", MODEL, "-c", "-", "--json", stdin=text)
    assert code == 0
    assert json.loads(out)["observations"][0]["rival"] == " parameter"


def test_probe_shows_every_observable_and_says_who_leads(run, contexts):
    code, out, _ = run("probe", "--model", MODEL, "--contexts", str(contexts))
    assert code == 0
    for name in OBSERVABLES:
        assert name in out
    assert "'argument' leads 'parameter'" in out or "as probable as 'argument'" in out


def test_paper10_is_measured_by_fragments_and_flagged(run):
    _, out, _ = run("probe", "-m", MODEL, "-c", "paper10", "--json")
    rows = json.loads(out)["observations"]
    fragments = [row for row in rows if row["fragment"]]
    assert len(rows) == 10
    assert len(fragments) > 5
    assert all("fragment" in row["notes"].get("gold", "") + row["notes"].get("rival", "") for row in fragments)


def test_a_rival_is_chosen_where_none_is_named(run):
    line = '{"prompt": "The value is computed by calling this", "gold": " function"}'
    _, out, _ = run("probe", "-m", MODEL, "-c", "-", "--json", stdin=line)
    row = json.loads(out)["observations"][0]
    assert row["rival"].startswith(" ")
    assert row["rival"].strip() != "function"
    assert "chosen" in row["notes"]["rival"]
    assert row["fragment"] is False


def test_geometry_json(run):
    code, out, _ = run("geometry", "--model", "docs-gpt2-s-untied", "--pairs", "50000", "--seed", "3", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["schema"], document["tied"], document["seed"]) == (1, False, 3)
    assert list(document["matrices"]) == ["readout", "input", "centered"]
    for matrix in document["matrices"].values():
        assert matrix["pairs"] == 50000
        assert matrix["crowding"] == pytest.approx(matrix["dimension"] * matrix["mean_square"])
        assert matrix["class"] in {"A", "B", "intermediate"}


def test_neighbours_are_those_of_the_matrix(run):
    code, out, _ = run("neighbours", "--model", MODEL, "argument", "-k", "4", "--json")
    rows = json.loads(out)["neighbours"]["argument"]
    tokenizer = AutoTokenizer.from_pretrained(bundled_path(MODEL))
    weight = AutoModelForCausalLM.from_pretrained(bundled_path(MODEL)).lm_head.weight.detach().double()
    unit = weight / weight.norm(dim=1, keepdim=True)
    overlaps = unit @ unit[tokenizer(" argument")["input_ids"][0]]
    overlaps[[tokenizer(" argument")["input_ids"][0], *tokenizer.all_special_ids]] = -2
    expected = overlaps.topk(4)
    assert code == 0
    assert [row["id"] for row in rows] == expected.indices.tolist()
    assert [row["overlap"] for row in rows] == pytest.approx(expected.values.tolist(), abs=1e-6)


def test_demo_tells_losses_and_shares_and_keeps_all(run, tmp_path, monkeypatch):
    monkeypatch.setattr("borngap.zoo.housestyle.house_style", cache(house_style))  # read from the packages once
    out = tmp_path / "demo"
    words = ("demo", "--out", str(out), "--limit", "60")
    code, told, _ = run(*words, "--steps", "1")
    assert code == 0
    text = " ".join(told.split())
    assert "argument for parameter" in text
    for name in ("before", "after-lora", "after-full"):
        shares = json.loads((out / name / "summary.json").read_text(encoding="utf-8"))["all"]
        assert f"{shares['success']:.0%}" in told
        assert shares["due"] > 20
    losses = [float(line.split()[-3]) for line in told.splitlines() if line.startswith(("before", "LoRA", "full"))]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[2] != losses[0]  # one step of full fine-tuning moves it
    fell = sum(loss < losses[0] for loss in losses[1:])
    assert f"The loss fell in {fell} of 2 runs" in text
    assert load(str(out / "model-lora")).model.peft_config
    assert "Open the page in a browser" in text
    page = (out / "page.html").read_text(encoding="utf-8")
    assert "argument" in page
    weights = out / "model-full" / "model.safetensors"
    before = weights.read_bytes()
    code, again, _ = run(*words, "--steps", "1")
    assert (code, again) == (0, told)
    code, _, refused = run(*words, "--steps", "2")
    assert code == 2
    assert "another plan" in refused
    assert weights.read_bytes() == before


def test_help_and_version_are_instant_and_load_nothing_heavy():
    script = (
        "import sys, borngap.cli as c; sys.argv[1:] = ['--help']\ntry: c.main()\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'polars', 'scipy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in out
    assert "probe" in out


def test_an_interrupt_is_no_traceback(monkeypatch, run):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("borngap.model.load.load", interrupted)
    code, _, err = run("probe", "-m", MODEL)
    assert code == 130
    assert "Traceback" not in err


# bad input


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["no contexts", "is empty"]),
        ('{"prompt": "a", "gold": " b"}\n{"prompt": "a", \n', ["line 2", "one JSON object a line"]),
        ('{"prompt": "a", "gold": " b", "competitor": " c"}', ["unknown field", "line 1", "competitor"]),
        ('{"prompt": " ", "gold": " b"}', ["empty prompt", "line 1"]),
        ('{"prompt": "a"}', ["'gold' is a text", "missing"]),
        ('{"prompt": "a", "gold": 3}', ["'gold' is a text", "found: 3"]),
        ('{"prompt": "a", "gold": " b", "rival": " b"}', ["the same word", "line 1"]),
        ("prompt;gold\n", ["no contexts", "is empty"]),
        ("just prose here\n", ["neither JSON Lines nor CSV", "just prose here"]),
        ("prompt,gold\na,b,c\n", ["line 2", "3 fields, but 2 headings"]),
    ],
)
def test_a_bad_contexts_file(run, tmp_path, text, expected):
    path = tmp_path / "c.jsonl"
    path.write_text(text, encoding="utf-8")
    fails(run("probe", "-m", MODEL, "-c", str(path)), *expected)


def test_a_missing_contexts_file(run):
    fails(run("probe", "-m", MODEL, "-c", "nowhere.jsonl"), "contexts file can't be read", "nowhere.jsonl", "docs10")


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Context("It returns", " the value", " the value"), ["the same word"]),
        (Context("It returns", " the", " the value"), ["can't be told apart"]),
        (Context("It retur", "ns", " x"), ["changes how the end of its prompt is cut"]),
        (Context("word " * 300, " argument", " parameter"), ["prompt too long", "at most 256 tokens"]),
    ],
)
def test_a_context_that_does_not_fit(run, tmp_path, context, expected):
    path = tmp_path / "c.jsonl"
    path.write_text(write_contexts([context]), encoding="utf-8")
    fails(run("probe", "-m", MODEL, "-c", str(path)), *expected)


def test_an_unknown_model_names_the_bundled_ones(run, contexts):
    fails(run("probe", "-m", "docs-gpt5", "-c", str(contexts)), "can't load the model 'docs-gpt5'", "docs-gpt2-s")


def test_a_hub_id_without_network(run, contexts):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    fails(run("probe", "-m", "EleutherAI/pythia-70m", "-c", str(contexts)), "HF_HUB_OFFLINE", "EleutherAI/pythia-70m")


def test_a_path_that_is_no_folder(run, contexts, tmp_path):
    fails(run("probe", "-m", str(tmp_path / "gone"), "-c", str(contexts)), "no model there", "config.json")


def test_a_folder_with_no_model(run, contexts, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    fails(run("probe", "-m", str(tmp_path), "-c", str(contexts)), "no model in", "notes.txt")


def test_pickled_weights(run, contexts, tmp_path):
    AutoConfig.from_pretrained(bundled_path(MODEL)).save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    fails(
        run("probe", "-m", str(tmp_path), "-c", str(contexts)), "no safetensors", "pytorch_model.bin", "save_pretrained"
    )


@pytest.mark.parametrize(
    ("kind", "said"), [("bert", "an encoder"), ("t5", "an encoder-decoder"), ("vit", "no causal LM")]
)
def test_a_model_that_is_no_causal_lm(run, contexts, tmp_path, kind, said):
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    fails(run("probe", "-m", str(tmp_path), "-c", str(contexts)), f"is {said}", kind)


@pytest.fixture
def copied(tmp_path) -> Path:
    """A bundled model in a folder of its own, to be broken."""
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(bundled_path(MODEL)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(bundled_path(MODEL)).save_pretrained(folder)
    return folder


def test_nan_logits_name_the_context(run, contexts, copied):
    model = AutoModelForCausalLM.from_pretrained(copied)
    model.transformer.ln_f.bias.data[0] = torch.nan
    model.save_pretrained(copied)
    fails(run("probe", "-m", str(copied), "-c", str(contexts)), "NaN", "in 1 contexts: 'The function takes an'")


def test_a_tokenizer_that_does_not_fit(run, contexts, copied):
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(copied)
    assert run("probe", "-m", str(copied), "-c", str(contexts))[0] == 0  # as long as nobody uses them
    contexts.write_text(write_contexts([Context("The<two> function takes an", " argument", " parameter")]))
    fails(run("probe", "-m", str(copied), "-c", str(contexts)), "the model has no row for", "'<two>' (8193)")


def test_a_local_folder_gives_what_the_bundled_name_gives(run, contexts, copied):
    outputs = [json.loads(run("probe", "-m", m, "-c", str(contexts), "--json")[1]) for m in (MODEL, str(copied))]
    assert outputs[0]["observations"] == outputs[1]["observations"]


@pytest.mark.parametrize("top_p", ["0", "1.5", "nan"])
def test_top_p_out_of_range(run, top_p):
    fails(run("probe", "-m", MODEL, "--top-p", top_p), "top_p is out of range", "0 < top_p <= 1")


def test_an_unknown_device(run):
    fails(run("probe", "-m", MODEL, "--device", "abacus"), "unknown or missing device", "abacus")


def test_a_word_of_several_tokens_has_no_neighbours(run):
    fails(run("neighbours", "-m", MODEL, "skepticism"), "not a single token", "' ske'")


def test_too_many_neighbours(run):
    fails(run("neighbours", "-m", MODEL, "argument", "-k", "9000"), "k is out of range", "8190")


def test_no_pairs(run):
    fails(run("geometry", "-m", MODEL, "--pairs", "0"), "number of pairs is out of range")


@pytest.mark.parametrize("command", [("zoo", "verify", "docs-gpt5"), ("zoo", "train", "docs-gpt5")])
def test_an_unknown_bundled_name(run, command):
    fails(run(*command), "unknown bundled model", "docs-gpt5", "docs-gpt2-s")
