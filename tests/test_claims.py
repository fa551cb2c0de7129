"""Claims: rules with every verdict reached, and each measure on made-up runs with a known answer."""

import json
import math

import polars as pl
import pytest
from tests.studies import cells, study

from borngap.experiments.claims import claimlist, modelwise, quantities
from borngap.experiments.claims.claimlist import CLAIMS
from borngap.experiments.claims.judging import Claim, above, below, claims_table, exists, judge_claim, judged, within
from borngap.experiments.parts.fields import burial
from borngap.experiments.run import all_figures, all_tables
from borngap.experiments.stats import Quantity, nothing
from borngap.files import json_bytes
from borngap.results.tables import table_markdown
from borngap.runfolder import clean


def quantity(low, high, value=None):
    return Quantity((low + high) / 2 if value is None else value, low, high, 10)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (above(0.0, "x"), 0.1, 0.5, "replicates"),
        (above(0.0, "x"), -0.1, 0.5, "not testable here"),
        (above(0.0, "x"), 0.0, 0.5, "not testable here"),
        (above(0.0, "x"), -0.5, 0.0, "does not"),
        (above(0.7, "x", bears=0.5), 0.4, 0.5, "does not"),
        (above(0.7, "x", bears=0.5), 0.55, 0.65, "not testable here"),
        (below(0.1, "x"), 0.0, 0.1, "replicates"),
        (below(0.1, "x"), 0.11, 0.2, "does not"),
        (below(0.1, "x"), 0.05, 0.2, "not testable here"),
        (within(-0.3, 0.3, "x"), -0.2, 0.2, "replicates"),
        (within(-0.3, 0.3, "x"), 0.4, 0.9, "does not"),
        (within(-0.3, 0.3, "x"), -0.9, -0.31, "does not"),
        (within(-0.3, 0.3, "x"), -0.9, 0.9, "not testable here"),
        (exists("x"), 0.01, 0.2, "replicates"),
        (exists("x"), 0.0, 0.04, "does not"),
        (exists("x"), 0.0, 0.3, "not testable here"),
    ],
)
def test_every_rule_reaches_every_verdict(rule, low, high, verdict):
    assert judge_claim(quantity(low, high), rule) == verdict


def test_without_an_interval_nothing_is_claimed():
    assert judge_claim(Quantity(5.0, None, None, 2), above(0.0, "x")) == "not testable here"
    assert judge_claim(nothing("no runs"), above(0.0, "x")) == "not testable here"


def test_a_record_says_rule_measure_and_meaning():
    claim = Claim("a", "b.", "paper", "0.7", above(0.5, "share"), lambda _: quantity(0.6, 0.8, 0.7), "On runs.")
    (record,) = judged([claim], study())
    assert (
        record["why"]
        == "Rule: share above 0.5. On runs. Measured 0.7 (0.6 to 0.8): the whole interval fulfils the rule."
    )
    assert {"id", "claim", "paper", "ours", "low", "high", "n", "verdict", "why"} <= set(record)


def test_an_empty_study_claims_nothing():
    records = [clean(record) for record in judged(CLAIMS, study())]
    assert {record["verdict"] for record in records} == {"not testable here"}
    assert all(record["why"] and record["ours"] is None for record in records)
    assert len({record["id"] for record in records}) == len(records) == len(CLAIMS)
    json.loads(json_bytes({"claims": records}))
    assert claims_table(records).rows.height == len(CLAIMS)


def verdict_of(name, made):
    (claim,) = [c for c in CLAIMS if c.id == name]
    (record,) = judged([claim], made)
    return record


def runs(make, **common):
    return study([{"model": m, "context": c, "gold_overlap": 0.5 + 0.05 * c} | common | make(m, c) for m, c in cells()])


def test_overlap_predicts_jumps():
    rising = verdict_of("overlap-predicts-full", runs(lambda _, c: {"jump_ratio": 3.0 + c}))
    falling = verdict_of("overlap-predicts-full", runs(lambda _, c: {"jump_ratio": 9.0 - c}))
    mixed = verdict_of("overlap-predicts-full", runs(lambda m, c: {"jump_ratio": 5.0 + (c if int(m[1]) % 2 else -c)}))
    assert (rising["ours"], rising["verdict"], rising["n"]) == (pytest.approx(1.0), "replicates", 36)
    assert (falling["ours"], falling["verdict"]) == (pytest.approx(-1.0), "does not")
    assert mixed["verdict"] == "not testable here"


def test_overlap_does_not_predict_under_lora():
    lora = {"group": "lora", "arm": "lora", "label": "H=1.7"}
    rising = verdict_of("overlap-predicts-not-lora", runs(lambda _, c: {"jump_ratio": 3.0 + c}, **lora))
    assert rising["verdict"] == "does not"


def test_silent_failures_are_counted_by_context():
    made = runs(lambda m, _: {"silent": m == "m0", "label": "2e-05"})
    record = verdict_of("silent-failure", made)
    assert (record["ours"], record["n"], record["verdict"]) == (pytest.approx(1 / 6), 36, "replicates")
    assert verdict_of("silent-failure", runs(lambda *_: {"label": "2e-05"}))["verdict"] == "not testable here"
    other = runs(lambda *_: {"silent": True, "group": "lora", "label": "2e-05"})
    assert verdict_of("silent-failure", other)["n"] == 0, "full's rate, not LoRA's"
    assert verdict_of("silent-failure", runs(lambda *_: {"silent": True, "group": "lora", "label": "0.0001"}))["n"] > 0


def test_a_sign_that_is_always_right_and_one_that_is_not():
    right = runs(lambda *_: {})
    wrong = runs(lambda _, c: {"final_born_gap": -0.1 if c < 3 else 0.1})
    assert quantities.sign_tells_rank(right).value == 1.0
    assert verdict_of("sign-tells-rank", wrong)["verdict"] == "does not"


def base_models(rows):
    return study(contexts=[{"model": f"m{i // 8}", "context": i % 8} | row for i, row in enumerate(rows)])


def test_a_born_rank_is_worse_where_it_is_the_larger_number():
    """Rank 1 is the best; equal is not worse."""
    worse, same, better = ({"born_rank": born, "gold_rank": 3} for born in (4, 3, 1))
    made = base_models([worse, worse, worse, same, better] * 8)
    assert quantities.born_rank_worse(made).value == pytest.approx(0.6)
    assert verdict_of("born-rank-worse", base_models([worse] * 40))["verdict"] == "replicates"
    for row in (same, better):
        assert verdict_of("born-rank-worse", base_models([row] * 40))["verdict"] == "does not"


def test_gold_is_buried_where_the_depth_is_above_1():
    made = base_models([{"burial_depth": depth} for depth in (3.0, 1.5, 1.01, 1.0, 0.2)] * 8)
    assert quantities.buried_at_start(made).value == pytest.approx(0.6)
    assert verdict_of("buried-at-start", base_models([{"burial_depth": 2.0}] * 120))["verdict"] == "replicates"
    assert verdict_of("buried-at-start", base_models([{"burial_depth": 0.5}] * 120))["verdict"] == "does not"


def test_geometry_moves_by_the_median_of_the_largest_changes():
    """Of full runs at both fields; one that moves a lot, another field and LoRA do not count."""
    told = (("H=1.7", 0.001), ("H=10", 0.003), ("H=10", 0.2), ("H=3", 0.9))
    runs = [{"model": m, "context": c, "label": la, "largest_drift": d} for m, c in cells() for la, d in told]
    lora = {"group": "lora", "label": "H=10", "largest_drift": 0.8}
    runs += [{"model": m, "context": c} | lora for m, c in cells()] * 4
    assert quantities.geometry_moves(study(runs)).value == 0.003
    assert verdict_of("geometry-static", study(runs))["verdict"] == "replicates"
    assert verdict_of("geometry-static", study([run | {"largest_drift": 0.5} for run in runs]))["verdict"] == "does not"


def test_phantom_jumps_need_still_embeddings():
    lora = {"group": "lora", "arm": "lora", "jump_ratio": 6.0}
    assert verdict_of("phantom-jumps", runs(lambda *_: {}, **lora))["verdict"] == "replicates"
    assert verdict_of("phantom-jumps", runs(lambda *_: {}, largest_drift=1e-9, **lora))["ours"] is None


def test_jumps_within_the_readout():
    kept = runs(lambda *_: {"jump_ratio": 9.0, "readout_share": 1.02, "logit_step_at_jump": 1.5})
    moved = runs(lambda *_: {"jump_ratio": 9.0, "readout_share": 0.6, "logit_step_at_jump": 4.0})
    assert [verdict_of("jump-in-readout", made)["verdict"] for made in (kept, moved)] == ["replicates", "does not"]
    assert [verdict_of("logit-gap-smooth", made)["verdict"] for made in (kept, moved)] == ["replicates", "does not"]


def test_structural_failures_foretold_by_the_first_steps():
    def make(_, c):
        return {
            "outcome_born": "structural" if c < 3 else "resolved",
            "early_drag": -0.01 if c < 3 else 0.01,
            "base_born_rank": 5.0 + c,
        }

    made = runs(make)
    assert verdict_of("early-drag-predicts", made)["verdict"] == "replicates"
    assert verdict_of("born-rank-predicts", made)["verdict"] == "does not"  # the small ranks fail here
    assert verdict_of("structural-failure", made)["ours"] == pytest.approx(0.5)


def test_catapults_full_and_lora_at_the_same_field():
    full = [{"model": m, "context": c, "jump_ratio": 10.0} for m, c in cells()]
    lora = [{"model": m, "context": c, "group": "lora", "jump_ratio": 3.0} for m, c in cells()]
    assert verdict_of("fewer-catapults-lora", study([*full, *lora]))["ours"] == 1.0


def test_stopping_saves_and_keeps():
    saved = {"stop_born": 30, "saved_share": 0.4, "changed_gold_rank": False, "changed_order": False}
    made = runs(lambda *_: saved)
    assert verdict_of("stopping-saves", made)["ours"] == pytest.approx(0.4)
    assert verdict_of("stopping-saves", made)["verdict"] == "replicates"
    assert verdict_of("stopping-keeps-ranking", made)["verdict"] == "replicates"  # 36 of 36: at least 0.903
    lost = runs(lambda *_: saved | {"changed_order": True})
    assert verdict_of("stopping-keeps-ranking", lost)["verdict"] == "does not"


def test_collapse_is_a_geometric_mean():
    made = runs(lambda _, c: {"collapse": 5.0 if c % 2 else 20.0, "base_participation_ratio": 30.0})
    assert quantities.collapse_factor(made).value == pytest.approx(10.0)


def test_what_starts_small_cannot_collapse():
    made = runs(lambda _, c: {"collapse": 2.0, "base_participation_ratio": 4.0 + c})
    found = verdict_of("collapse", made)
    assert found["verdict"] == "not testable here"
    assert "it starts at 9 at most here and can't fall by 10" in found["why"]


def test_head_pairs_need_a_head_of_their_own():
    def rows(tied):
        both = [{"group": "lora-readout", "jump_ratio": 12.0}, {"group": "lora", "jump_ratio": 3.0}]
        return [{"model": m, "context": c, "tied": tied} | side for m, c in cells() for side in both]

    assert verdict_of("second-channel-lora", study(rows(tied=False)))["ours"] == 1.0
    assert "no model with a head" in verdict_of("second-channel-lora", study(rows(tied=True)))["why"]


def critical_rows(factor, by="collocation", method="full", criterion="born"):
    truth = {"method": method, "criterion": criterion, "status": "ok", "seed": 0}
    rows = []
    for m, c in cells():
        place = truth | {"model": m, "context": c, "gold_overlap": 0.5 + 0.05 * c}
        rate = 1e-4 / (0.5 + 0.05 * c)
        rows += [place | {"by": "bisect", "critical_rate": rate}, place | {"by": by, "critical_rate": rate * factor}]
    return rows


def base_rows():
    contexts = [{"model": m, "context": c, "gold_overlap": 0.5 + 0.05 * c} for m, c in cells()]
    models = [
        {"model": f"m{i}", "class": "A", "tied": True, "readout_crowding": 10.0 + i, "centered_crowding": 2.0}
        for i in range(6)
    ]
    return {"contexts": contexts, "models": models}


def test_forecasts_are_held_against_bisection():
    good, bad = (study(critical=critical_rows(factor), **base_rows()) for factor in (1.02, 0.5))
    assert verdict_of("collocation-full", good)["ours"] == pytest.approx(0.02)
    assert verdict_of("collocation-full", good)["verdict"] == "replicates"
    assert verdict_of("collocation-full", bad)["ours"] == pytest.approx(1.0)  # half is off by a factor of 2
    assert verdict_of("collocation-full", bad)["verdict"] == "does not"


def test_one_theta_for_all_contexts_is_a_constant_field():
    made = study(critical=critical_rows(1.0), **base_rows())
    record = verdict_of("field-constant-full", made)
    assert record["ours"] == pytest.approx(0.0, abs=1e-12)
    assert record["verdict"] == "replicates"
    # H = 2e-5 * mean(Gmax) / 1e-4
    assert verdict_of("field-ten", made)["ours"] == pytest.approx(0.2 * 0.625)
    assert verdict_of("theta-collapses", made)["verdict"] == "replicates"


def test_class_mean_is_the_papers_rule():
    made = study(critical=critical_rows(1.0, method="lora"), **base_rows())
    # 1e-4 * 0.625 / (1.7 * Gmax) against 1e-4 / Gmax
    assert verdict_of("class-mean", made)["ours"] == pytest.approx(1.7 / 0.625 - 1)


def test_classes_that_are_missing_are_said():
    lora = [{"model": m, "context": c, "group": "lora", "label": "0.0001"} for m, c in cells()]
    made = study(lora, **base_rows())
    assert "6 of class A, 0 of class B" in verdict_of("class-separates-lora", made)["why"]
    kinds = [row | {"class": "B" if i < 3 else "A"} for i, row in enumerate(base_rows()["models"])]
    split = [run | {"outcome_rank": "resolved" if run["model"] in {"m0", "m1", "m2"} else "unresolved"} for run in lora]
    assert verdict_of("class-separates-lora", study(split, models=kinds))["ours"] == 1.0


def test_crowding_with_and_without_the_mean_row():
    made = study(**base_rows())
    expected = math.exp(sum(math.log((10 + i) / 2) for i in range(6)) / 6)
    assert verdict_of("class-by-mean", made)["ours"] == pytest.approx(expected)
    assert verdict_of("class-by-mean", made)["verdict"] == "replicates"
    assert "no model" in verdict_of("class-by-matrix", made)["why"]


def test_dose_collapse_reads_the_rate_off_one_run():
    rate = 1e-4 / 0.5
    run = {"model": "m0", "context": 0, "rate": 4 * rate, "flip_time_born": 50 / 4, "gold_overlap": 0.5}
    late = run | {"rate": 8 * rate, "flip_time_born": 50 / 4}
    found = modelwise.near(modelwise.collapse(study([run, late], critical=critical_rows(1.0))))
    assert found.sort("multiple")["quotient"].to_list() == pytest.approx([1.0, 2.0])
    assert found.sort("multiple")["multiple"].to_list() == pytest.approx([4.0, 8.0])


def test_forecast_outcomes_that_a_run_answered_do_not_count():
    ends = [
        {
            "model": m,
            "context": c,
            "group": "full",
            "label": "H=1.7",
            "outcome": "resolved" if c else "kinematic",
            "by": "run" if c == 1 else "collocation",
        }
        for m, c in cells()
    ]
    made = study([{"model": m, "context": c, "label": "H=1.7"} for m, c in cells()], ends=ends)
    assert modelwise.misses(made).height == 30
    assert modelwise.outcomes_forecast(made).value == pytest.approx(24 / 30)


def test_kappa_against_other_candidates():
    rows = []
    for m, c in cells(models=3, contexts=8):
        overlap = 0.2 + 0.1 * c
        for rate in (1e-4, 2e-4, 4e-4, 8e-4):
            ratio = 12.0 if rate * overlap > 1.5e-4 else 3.0
            rows.append({"model": m, "context": c, "gold_overlap": overlap, "rate": rate, "jump_ratio": ratio})
    made = study(rows)
    assert verdict_of("kappa-separates", made)["ours"] >= 0.9
    assert verdict_of("kappa-beats-rate", made)["ours"] > 0


def test_claims_name_the_paper_or_us():
    assert {c.source for c in claimlist.PAPER} == {"paper"}
    assert {c.source for c in claimlist.OURS} == {"ours"}
    assert isinstance(claims_table(judged(CLAIMS[:1], study())).rows, pl.DataFrame)


def test_tables_of_nothing_are_empty_and_its_figures_left_out():
    tables, figures = all_tables(study()), all_figures(study())
    assert {f"table{n}" for n in range(1, 8)} <= {t.id for t in tables}
    assert all(t.rows.height == 0 and table_markdown(t) for t in tables)
    assert [f.id for f in figures] == ["figure1", "figure2"]  # by formula


def test_what_is_not_a_number_does_not_spoil_a_mean():
    made = study(
        [
            {"model": "m0", "context": c, "group": "lora", "final_burial_depth": b}
            for c, b in enumerate((1.0, math.nan, 3.0))
        ]
    )
    assert burial(made)["B_after"].to_list() == [2.0]
