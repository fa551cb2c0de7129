"""Reproduction: plans, the paper's models, one tiny run of the whole, resumed, and the same bytes again."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from borngap.cli import app, main
from borngap.context import Context, read_contexts
from borngap.errors import UserError
from borngap.experiments import campaign
from borngap.experiments.arms import ARMS, GROUPS, Scope, plan_of, rates_of, theta_of
from borngap.experiments.campaign import reproduce_model, searches, undone
from borngap.experiments.claims.paper import lora_targets, paper_models, paper_table
from borngap.experiments.estimating import planned_runs
from borngap.experiments.folder import Plan, home, read_plan, start
from borngap.experiments.run import EXPERIMENTS, reproduce, rewrite_results, scope_of
from borngap.experiments.study import movements, read_study
from borngap.model.load import load, new_model
from borngap.model.probe import probe
from borngap.report.charts.drawing import picture
from borngap.report.reproduction import write_report
from borngap.results.figures import Figure, figure_json, stored_figure
from borngap.results.tables import Table, cell, table_markdown
from borngap.train.methods import is_tied, make_trainable
from borngap.training import Training
from borngap.zoo.choose import keep

MODEL = "docs-gpt2-s"
TINY = Scope(arms=("full", "lora"), steps=4, fields=(1.7, 10.0), further_seeds=False, bisect=False, pairs=2000)


# --- plans


def test_rates_are_the_papers_and_the_models_own():
    found = rates_of(ARMS["lora"], Scope(), theta=1e-3, mean_overlap=0.5)
    assert found == {
        2e-5: "2e-05",
        1e-4: "0.0001",
        6e-4: "H=0.3",
        2e-3: "H=1",
        3.4e-3: "H=1.7",
        6e-3: "H=3",
        2e-2: "H=10",
        6e-2: "H=30",
    }
    assert list(rates_of(ARMS["lora"], TINY, 1e-3, 0.5).values()) == ["2e-05", "0.0001", "H=1.7", "H=10"]


@pytest.mark.parametrize(("theta", "overlap"), [(None, 0.5), (0.0, 0.5), (1e-3, -0.1)])
def test_without_a_threshold_there_are_no_fields(theta, overlap):
    assert rates_of(ARMS["full"], Scope(), theta, overlap) == {2e-5: "2e-05"}
    assert rates_of(ARMS["readout-only"], Scope(), theta, overlap) == {}


def test_arms_train_what_they_say():
    contexts = [Context("a", "b", "c")]
    plans = {arm.id: plan_of(arm, Scope(), MODEL, contexts, [1e-3], ("c_attn",)) for arm in ARMS.values()}
    assert plans["lora"].training.lora_targets == ("c_attn",)
    assert plans["lora-readout"].training.lora_targets == ("c_attn", "readout")
    assert plans["full-embeddings"].training.freeze == ("embeddings",)
    assert plans["full-readout"].training.freeze == ("readout",)
    assert plans["readout-only"].training.method == "readout-only"
    assert plans["lora-seeds"].seeds == (1, 2)
    assert {plan.training.criterion for plan in plans.values()} == {"born"}
    assert plan_of(ARMS["lora-seeds"], TINY, MODEL, contexts, [1e-3]) is None


def test_experiments_share_their_runs():
    assert scope_of(["drag", "boundary", "fields"], Scope()).arms == ("full", "lora")
    assert scope_of(list(EXPERIMENTS), Scope()).arms == tuple(ARMS)
    plan = Plan(("a", "b"), (Context("x", "y", "z"),) * 10, Scope())
    # full 7 rates, LoRA 8 and 2 with two more seeds, four ablations of 2 rates each
    assert planned_runs(plan) == 2 * 10 * (7 + 8 + 2 * 2 + 4 * 2)
    with pytest.raises(UserError, match="unknown experiment"):
        scope_of(["drag", "nonsense"], Scope())


def test_rates_come_from_searches_without_training():
    order = [search.by for search in searches(Plan((MODEL,), (Context("x", "y"),), Scope()))]
    assert order == sorted(order, key=["collocation", "bisect"].index)
    assert theta_of([1e-3, None, 3e-3]) == pytest.approx(2e-3)
    assert theta_of([None]) is None


def test_a_plan_survives_json_and_names_what_differs(tmp_path):
    plan = Plan((MODEL,), tuple(read_contexts("docs10")), TINY)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    start(tmp_path / "a", plan)
    start(tmp_path / "a", plan)
    assert read_plan(tmp_path / "a")[0] == plan
    with pytest.raises(UserError, match="another plan"):
        start(tmp_path / "a", Plan((MODEL,), plan.contexts[:2], TINY))
    with pytest.raises(UserError, match="models are out of range"):
        start(tmp_path / "b", Plan((MODEL, MODEL), plan.contexts, TINY))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        start(tmp_path / "c", plan)


def test_names_of_models_become_folders(tmp_path):
    names = [MODEL, "EleutherAI/pythia-70m", "EleutherAI-pythia-70m", "../../etc", "a b"]
    folders = [home(tmp_path, name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder.parent == tmp_path / "models" for folder in folders)


def test_contexts_that_a_tokenizer_cannot_measure_are_left_out():
    contexts = [Context("Raise an", " error", " exception"), Context("Raise an", " error", " error")]
    kept, left_out = keep(load(MODEL), contexts)
    assert kept == [0]
    assert "can't be told apart" in left_out[1]


def test_a_model_keeps_contexts_in_which_the_rival_leads_pairs_in_turn():
    """Against the probe: who leads, who is of several tokens, and whose turn it is."""
    loaded, contexts = load(MODEL), [*read_contexts("docs10"), *read_contexts("paper10")]
    contexts = [c for context in contexts for c in (context, replace(context, prompt=f"Here, {context.prompt}"))]
    rows = probe(loaded.model, loaded.tokenizer, contexts, only=("logit_gap",)).to_dicts()
    fit = [i for i, row in enumerate(rows) if row["logit_gap"] < 0 and not row["fragment"]]
    kept, left_out = keep(loaded, contexts, "rival-ahead")
    assert kept == fit
    assert {*kept, *left_out} == set(range(len(contexts)))
    assert 0 < len(kept) < len(contexts)
    pairs = {(contexts[i].gold, contexts[i].rival) for i in fit}
    few, left_out = keep(loaded, contexts, "rival-ahead", len(pairs))
    assert [(contexts[i].gold, contexts[i].rival) for i in few] == list(dict.fromkeys(
        (contexts[i].gold, contexts[i].rival) for i in fit))  # fmt: skip
    assert {why for i, why in left_out.items() if i in fit} == {f"not among the {len(pairs)} that pairs give in turn"}
    with pytest.raises(UserError, match="number of contexts is out of range"):
        keep(loaded, contexts, most=0)


# --- the paper's models, as far as they can be had without a network

_SMALL = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 64,
        "window_size": 16,
    },
}


@pytest.mark.parametrize("paper", paper_models(), ids=lambda paper: paper.name)
def test_the_papers_models_take_the_papers_adapters(paper):
    torch.manual_seed(0)
    config = _SMALL[paper.family] | {"vocab_size": 97, "tie_word_embeddings": paper.tied, "pad_token_id": 0}
    config |= {"bos_token_id": 0, "eos_token_id": 0}
    model = new_model(paper.family, config)
    assert is_tied(model) == paper.tied
    assert lora_targets(paper.hub) == lora_targets(paper.name) == paper.lora_targets
    wrapped, _ = make_trainable(model, Training(method="lora", lora_targets=lora_targets(paper.hub)))
    adapted = {
        name.split(".lora_A")[0] for name, p in wrapped.named_parameters() if p.requires_grad and "lora_A" in name
    }
    layers = 2
    assert len(adapted) == layers * len(paper.lora_targets)
    assert {name.rpartition(".")[2] for name in adapted} == set(paper.lora_targets)
    assert all("lora_" in name for name, p in wrapped.named_parameters() if p.requires_grad)


def test_other_models_take_the_usual_adapters():
    assert lora_targets(MODEL) == ("attention",)
    assert len({paper.hub for paper in paper_models()}) == 8


def test_the_papers_tables_are_there():
    assert paper_table(2).height == 10
    assert paper_table(3).filter(pl.col("gold") == "longing")["flip_step"].to_list() == [None]
    with pytest.raises(UserError, match="no such table"):
        paper_table(8)


# --- what steps come to


def test_movements_of_a_run():
    ratio = [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 4.0, 4.0]
    steps = pl.DataFrame(
        {
            "run": [3] * 8,
            "step": list(range(8)),
            "participation_ratio": ratio,
            "drag": [0.1 - 0.01 * t for t in range(8)],
            "overlap_drift": [0.0, 0.1, -0.3, 0, 0, 0, 0, 0.2],
            "embedding_rotation": [0.01 * t for t in range(8)],
            "cross_entropy": [3.0, 2.0, 2.5, 2, 2, 2, 2, 1.0],
            **{
                name: [1.0] * 7 + [2.0]
                for name in (
                    "signal",
                    "rival_probability",
                    "burial_depth",
                    "born_rank",
                    "gold_rank",
                    "geometric_efficiency",
                )
            },
        }
    )
    (row,) = movements(steps).to_dicts()
    assert row["collapse"] == pytest.approx(90 / 4)
    assert row["early_drag"] == pytest.approx(-0.05)
    assert row["largest_drift"] == 0.3
    assert row["rotation"] == pytest.approx(0.07)
    assert row["cross_entropy_rise"] == pytest.approx(0.5)
    assert (row["base_signal"], row["final_signal"]) == (1.0, 2.0)


# --- tables and figures


def test_cells_break_no_table():
    assert cell("a|b\nc") == r"a\|b↵c"
    assert cell(float("nan")) == cell(None) == "–"
    text = table_markdown(Table("t", "T", "note", pl.DataFrame({"m": ["x", "y"], "v": [1.0, None]}), split=("m",)))
    assert "**x**\n\n| v |\n| ---: |\n| 1 |" in text
    assert "| – |" in text


def test_a_figure_without_data_says_so():
    assert "no runs for this figure" in picture(Figure("f", "F", "n", "line", ("x", "x"), ("y", "y"), [])).svg


def test_a_panel_shows_its_own_rows_only():
    rows = [{"x": float(i), "y": 1.0, "c": "one", "f": f"panel {i}"} for i in range(3)]
    rows.append({"x": None, "y": 1.0, "c": "one", "f": "panel 0"})
    figure = Figure("f", "F", "n", "point", ("x", "x axis"), ("y", "y"), rows, "c", "f", zero=True)
    svg = picture(figure).svg
    assert svg.count('aria-label="x axis:') == 3
    assert all(f">panel {i}<" in svg for i in range(3))


def test_joined_series_are_lines_among_points():
    rows = [{"x": float(x), "y": 0.1 * x, "c": name} for x in range(4) for name in ("curve", "other")]
    figure = Figure("f", "F", "n", "point", ("x", "x"), ("y", "y"), rows, "c", joined=("curve",))
    svg = picture(figure).svg
    assert svg.count('aria-roledescription="point"') == 4, "of the other series"
    assert svg.count('aria-roledescription="line mark"') == 1
    assert stored_figure(figure_json(figure)) == figure
    assert "joined" not in figure_json(replace(figure, joined=()))


def test_a_figure_escapes_what_it_shows():
    rows = [{"x": 1.0, "y": 2.0, "c": "<script>", "f": "&<b>"}]
    svg = picture(Figure("f", "F", "n", "point", ("x", "x"), ("y", "y"), rows, "c", "f")).svg
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


# --- the whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction") / "out"
    plan = Plan((MODEL,), tuple(read_contexts("docs10")[:2]), TINY)
    seen = []
    reproduce(plan, folder, report=lambda *told: seen.append(told))
    return folder, plan, seen


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_everything_is_stored_and_reported(whole):
    folder, plan, seen = whole
    assert undone(folder, MODEL, plan) == []
    study = read_study(folder)
    # collocation may find no rate by the Born gap for two contexts; then the fields' rates come from rank
    assert set(study.runs["label"]) == {"2e-05", "0.0001", "H=1.7", "H=10"}
    assert study.runs.height == 2 * (3 + 4)
    assert set(study.runs["group"]) <= set(GROUPS)
    assert study.runs["largest_drift"].filter(study.runs["group"] == "lora").to_list() == [0.0] * 8
    assert study.ends.height == 4
    assert (MODEL, "LoRA", 8, 8) in seen


def test_a_field_is_what_it_says(whole):
    folder, _, _ = whole
    study = read_study(folder)
    mean = study.contexts["gold_overlap"].mean()
    (rate,) = set(study.runs.filter((pl.col("label") == "H=10") & (pl.col("group") == "full"))["rate"])
    assert rate * mean / study.models["theta_full"][0] == pytest.approx(10.0, rel=1e-4)


def test_tables_come_out_the_same_without_training(whole, monkeypatch):
    folder, plan, _ = whole
    rewrite_results(folder)
    write_report(folder)
    first = files_of(folder)
    for name in ("tables", "figures"):
        shutil.rmtree(folder / name)
    for name in ("claims.json", "results.json", "report.md", "report.html"):
        (folder / name).unlink()

    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    for name in ("base_of", "RateFinder", "ends_of", "run_sweep"):
        monkeypatch.setattr(campaign, name, refuse)
    reproduce(plan, folder)
    rewrite_results(folder)
    write_report(folder)
    assert files_of(folder) == first
    assert {f"tables/table{n}.md" for n in range(1, 8)} <= set(first)
    assert {f"figures/figure{n}.svg" for n in range(1, 9)} <= set(first)
    claims = json.loads(first["claims.json"])
    assert claims["schema"] == 1
    assert all(claim["verdict"] != "replicates" for claim in claims["claims"] if claim["low"] is None)


def test_a_killed_reproduction_goes_on(whole, tmp_path, monkeypatch):
    folder, plan, _ = whole
    done, half = read_study(folder), tmp_path / "half"
    real = campaign.run_sweep

    def killed(planned, out, **options):
        if planned.training.method == "lora":
            raise KeyboardInterrupt
        return real(planned, out, **options)

    shutil.copytree(folder / "models", half / "models")
    shutil.copy(folder / "reproduce.json", half)
    for name in ("sweeps/lora", "ends"):
        shutil.rmtree(home(half, MODEL) / name)
    monkeypatch.setattr(campaign, "run_sweep", killed)
    with pytest.raises(KeyboardInterrupt):
        reproduce(plan, half)
    assert undone(half, MODEL, plan) == [
        "LoRA (0 of 8 runs are done)",
        "forecast ends (full fine-tuning)",
        "forecast ends (LoRA)",
    ]
    assert set(read_study(half).runs["group"]) == {"full"}
    monkeypatch.setattr(campaign, "run_sweep", real)
    reproduce_model(half, MODEL, plan)
    again = read_study(half)
    assert_frame_equal(again.runs, done.runs)
    assert_frame_equal(again.ends, done.ends)


def test_the_command(whole):
    folder, plan, _ = whole
    command = ["reproduce", "-m", MODEL, "-o", str(folder), "--steps", "4", "--json"]
    lines = tuple(read_contexts("docs10")[:2])
    assert plan.contexts == lines
    result = CliRunner().invoke(app, [*command, "--plan", "--quick"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["plan"]["models"] == [MODEL]
    assert told["estimate_seconds"] > 0


def test_bad_input_is_one_message(tmp_path, capsys, monkeypatch):
    for arguments, message in (
        (["--experiments", "alchemy"], "unknown experiment"),
        (["--workers", "0"], "workers is out of range"),
        (["--steps", "0"], "steps is out of range"),
    ):
        monkeypatch.setattr("sys.argv", ["borngap", "reproduce", "-o", str(tmp_path / "x"), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
