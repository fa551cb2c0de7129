"""``borngap forecast --data``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re

import pytest
from tests.hosts import PROSE
from typer.testing import CliRunner

import borngap
from borngap.cli import app, main
from borngap.zoo.housestyle import STYLE, restyled

MODEL = "docs-gpt2-s"
RUN = ["--data", "train.jsonl", "--watch", "held.jsonl"]


@pytest.fixture
def files(tmp_path):
    """Rows in a style, held-out rows of which some are plain, and the terms."""
    text = " ".join(PROSE)
    rows = [{"text": f"{n}. {restyled(PROSE[n % len(PROSE)], STYLE)}", "right": False} for n in range(120)]
    held = [{"text": restyled(line, STYLE), "right": False} for line in PROSE] + [{"text": text, "right": True}]
    for name, part in (("train", rows), ("held", held)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "style.csv").write_text("use,avoid\n" + "".join(f"{use},{avoid}\n" for use, avoid in STYLE))
    return tmp_path


def command(files, *options, terms=True):
    own = ["forecast", "--data", str(files / "train.jsonl"), "--watch", str(files / "held.jsonl"), "-m", MODEL]
    own += ["-t", str(files / "style.csv"), "--allowed-field", "right"] if terms else []
    return [*own, "--method", "full", "--lr", "3e-4", "--budget", "0.4", *map(str, options)]


def shown(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_run_is_foretold_in_the_users_words(files):
    text = shown(*command(files, "--out", files / "out", "--epochs", 2))
    first = text.splitlines()[0]
    assert re.match(
        r"After this run your words will lead at \d+ % \(\d+ to \d+\) of \d+ held-out places; before: ", first
    )
    for part in ("will come ahead", "Over-use", '"nothing changes"', "provisional",
                 "Terms, worst first", "It took", "30 steps, 240 rows"):  # fmt: skip
        assert part in text, part
    found = borngap.read_forecast(files / "out")
    entry = found.summary["all"]
    assert f"{100 * entry['ahead_after']:.0f} % ({100 * entry['low']:.0f} to {100 * entry['high']:.0f})" in first
    again = shown(*command(files, "--out", files / "out", "--epochs", 2, "--json"))
    assert json.loads(again) == found.summary
    assert {"schema", "places", "all", "cost"} <= found.summary.keys()
    assert {"gradients", "of_run", "seconds"} <= found.summary["cost"].keys()
    assert {"ahead_before", "ahead_after", "low", "high", "held_out_loss"} <= entry.keys()
    assert "loss" not in text, "a pilot's is no forecast"


def test_the_options_are_the_run(files):
    options = ["--epochs", 1.5, "--batch-size", 4, "--accumulation", 2, "--schedule", "cosine", "--warmup-ratio", 0.1,
               "--max-length", 64, "--packing", "--order", "sequential", "--seeds", 3, "--beta2", 0.99]  # fmt: skip
    run = json.loads(shown(*command(files, *options, "--json")))["run"]
    training, settings = run["training"], run["settings"]
    assert (training["batch_size"], training["schedule"], training["seed"]) == (4, "cosine", 3)
    assert (settings["accumulation"], settings["packing"], settings["order"]) == (2, True, "sequential")
    assert run["rows"] < 120, "packed"
    assert training["steps"] == run["steps"] == -(-3 * -(-run["rows"] // 8) // 2)


def test_rates_are_compared(files):
    text = shown(*command(files, "--lrs", "1e-4,3e-4,50", "--epochs", 4, "--penalty", "overlap:1"))
    lines = text.splitlines()
    assert re.match(
        r"After this run \(cross-entropy \+ overlap:1\) at (0\.0001|0\.0003) your words will lead", lines[0]
    )
    rows = {line.split()[0]: line for line in lines if line.startswith(("before", "0.0001", "0.0003", "50"))}
    assert rows.keys() == {"before", "0.0001", "0.0003", "50"}
    assert rows["50"].endswith("unstable")
    assert sum("to use" in line for line in rows.values()) == 1
    terms = text.partition("Terms, worst first")[2]
    assert {"rows", "half"} <= set(terms.split()), "rows with the word, and the rate for half of its places"


def test_rates_are_spread_over_a_cluster(files, monkeypatch):
    options, asked = ["--lrs", "1e-4,3e-4", "--epochs", 4, "--json"], []

    def here(carry_out, setting, tasks, workers, address, **_):
        asked.append((workers, address))
        return (carry_out(setting, *task) for task in tasks)

    monkeypatch.setattr("borngap.pilot.ray.answers", here)
    spread = CliRunner().invoke(app, [*command(files, *options, "--engine", "ray"), "--workers", "2"])
    assert "run it behind a firewall" in spread.stderr
    assert asked == [(2, None)]
    curve = json.loads(spread.stdout)["curve"]
    assert [(entry["rate"], entry["ahead_after"] is not None) for entry in curve] == [(1e-4, True), (3e-4, True)]


def test_methods_and_epochs_are_compared(files):
    options = ["--epochs", "2:4", "--methods", "lora:2e-3,full", "--budget", "1", "--out", files / "both"]
    text = shown(*command(files, *options))
    table = text.partition("By method")[2].splitlines()
    assert [line.split()[:2] for line in table if line.startswith(("lora", "full"))] == [
        ["lora", "0.002"],
        ["full", "0.0003"],
    ]
    assert text.count("By epochs") == 2
    found = [borngap.read_forecast(files / "both" / name).summary for name in ("lora", "full")]
    for summary in found:
        assert [entry["epochs"] for entry in summary["curve"]] == [2, 3, 4]
        assert summary["run"]["settings"]["budget"] == 0.5
        assert summary["cost"]["of_run"] <= 0.5
    assert json.loads(shown(*command(files, *options, "--json")))["methods"] == found


def test_without_terms_synonyms_are_watched(files):
    found = json.loads(shown(*command(files, "--epochs", 2, "--json", terms=False)))
    assert found["run"]["watched"] == "synonyms"
    assert {place["kind"] for place in found["places"]} == {"synonym"}
    own = borngap.scan(borngap.load(MODEL).model, borngap.load(MODEL).tokenizer, str(files / "held.jsonl"),
                       relations=("synonym",)).positions  # fmt: skip
    known = {(row, at): gap for row, at, gap in own.select("row", "offset", "logit_gap").iter_rows()}
    for place in found["places"]:
        assert place["base_gap"] == pytest.approx(known[place["row"], place["offset"]], abs=1e-3)


def test_contexts_are_foretold_without_held_out_rows(files):
    options = ["forecast", "--data", str(files / "train.jsonl"), "-c", "docs10", "-m", MODEL, "--epochs", "4",
               "--budget", "0.5", "--json"]  # fmt: skip
    found = json.loads(shown(*options))
    assert (found["run"]["watched"], found["all"]["places"]) == ("contexts", 10)


def test_a_hosts_arguments_are_read(files):
    values = {"learning_rate": 2e-4, "num_train_epochs": 3, "per_device_train_batch_size": 4, "optim": "adamw_torch",
              "lr_scheduler_type": "linear", "packing": False, "max_length": 32}  # fmt: skip
    (files / "args.json").write_text(json.dumps(values))
    run = json.loads(shown(*command(files, "--from-args", files / "args.json", "--json")))["run"]
    assert (run["steps"], run["training"]["rate"], run["settings"]["end_of_text"]) == (90, 2e-4, True)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--epochs", "3"], "--epochs is for the forecast of a run"),
    (["--methods", "lora,full"], "--methods is for the forecast of a run"),
    ([*RUN, "--methods", "lora"], "these methods can't be compared"),
    ([*RUN, "--methods", "lora:1e-3,full", "--lrs", "1e-4,1e-3"], "a rate of its own beside --lrs"),
    ([*RUN, "--methods", "lora:abc"], "can't read a method's rate"),
    ([*RUN, "--methods", "lora:1e-4:1e-3:3,full"], "can't read a method's rate"),
    ([*RUN, "--methods", "dura,full"], "unknown method"),
    ([*RUN, "--methods", "full,full"], "these methods can't be compared"),
    ([*RUN, "--methods", "full,lora:1e-3", "--penalty", "overlap:1"], "overlap:1 under lora, of --methods"),
    ([*RUN, "--epochs", "5:1"], "can't read the epochs"),
    ([*RUN, "--epochs", "1:99999999"], "too many numbers of epochs"),
    ([*RUN, "--epochs", "3", "--steps", "50"], "--epochs and --steps are given"),
    (["--watch", "held.jsonl"], "--watch is for the forecast of a run"),
    (["--batch-size", "16"], "--batch-size is for the forecast of a run"),
    (["--lrs", "1e-4,1e-3"], "--lrs is for the forecast of a run"),
    (["--out", "folder"], "--out is for the forecast of a run"),
    (["--engine", "ray"], "--engine is for the forecast of a run"),
    ([*RUN, "--workers", "2"], "--workers is for --engine ray"),
    ([*RUN, "--ray-address", "HEAD:6379"], "--ray-address is for --engine ray"),
    ([*RUN, "--engine", "ray", "--workers", "0"], "workers is out of range"),
    ([*RUN, "--seeds", "0,1"], "--seeds is for contexts each trained alone"),
    ([*RUN, "--by", "class-mean"], "--by is for contexts each trained"),
    ([*RUN, "--no-lora"], "--no-lora is for contexts each trained alone"),
    ([*RUN, "--budget", "2"], "budget is out of range"),
    (["--data", "train.jsonl"], "nothing to watch"),
    (["--data", "train.jsonl", "--watch", "gone.jsonl"], "no data at gone.jsonl"),
    ([*RUN, "-t", "style.csv", "-c", "docs10"],
     "terms and contexts are both given"),
    ([*RUN, "--from-args", "train.jsonl"], "holds no arguments of a run"),
    ([*RUN, "-t", "style.csv", "--budget", "0.0001", "--out", "new"], "the budget"),
])  # fmt: skip
def test_what_does_not_go_together_is_one_error(files, arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(files)
    monkeypatch.setattr("sys.argv", ["borngap", "forecast", "-m", MODEL, *arguments])
    before = sorted(files.iterdir())
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert "Traceback" not in error
    assert sorted(files.iterdir()) == before
