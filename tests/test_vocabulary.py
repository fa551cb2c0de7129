"""Which rows are tokens: gaps between ids, ids beyond their number, rows of zero norm, too few or too many rows.

The reference is the same model with its rows packed: what takes no part must change nothing for the rest.
"""

from __future__ import annotations

import copy
import json

import pytest
import torch
from tests.hosts import trainer
from tests.tiny import tiny
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner

import borngap
from borngap.cli import app
from borngap.context import Context, write_contexts
from borngap.errors import UserError
from borngap.model.load import Loaded
from borngap.model.readout import geometry_of
from borngap.model.vocabulary import tokenizer_digest, vocabulary_of
from borngap.model.words import words_of
from borngap.observables.geometry import Geometry
from borngap.observables.predictions import measure
from borngap.train.finetune import FineTune
from borngap.training import Training

CONTEXTS = [Context("The old man felt", " shame", " guilt"), Context("He said that the", " method", " function")]
TEXTS = ["She said that the method returns a list of words.", "The old man felt guilt, and shame. Raise an error."]
ROWS = 448  # more than any id
# not about the ids below a row's softmax: these are of the whole model, whose other rows count there
OF_THE_RANKING = {"gold_rank", "rival_rank", "top1_margin"}  # so is the padding token, without a direction
OF_THE_SOFTMAX = {"gold_probability", "rival_probability", "cross_entropy", "entropy", "pool_mass"}


def moved(token):
    """Where a token of the plain tokenizer stands in the one with gaps."""
    return token if token < 300 else token + 40


@pytest.fixture(scope="module")
def gappy(tokenizer, tmp_path_factory):
    """Return the tokenizer with a gap of 40 ids and a padding token far beyond, as it is read from a folder."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = {token: moved(i) for token, i in state["model"]["vocab"].items()}
    state["model"]["vocab"] = vocabulary | {"<pad>": 420}
    state["added_tokens"].append({**state["added_tokens"][0], "id": 420, "content": "<pad>"})
    made = Tokenizer.from_str(json.dumps(state))
    folder = tmp_path_factory.mktemp("gappy")
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<pad>").save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def pair(tokenizer, gappy):
    """Return a model of the plain tokenizer and one whose rows are moved apart; all other rows are zero."""
    plain, apart = tiny("llama-untied", len(tokenizer)), tiny("llama-untied", ROWS)
    state = plain.state_dict()
    rows = torch.tensor([moved(i) for i in range(len(tokenizer))])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.zeros(ROWS, 32).index_copy(0, rows, state[name])
    apart.load_state_dict(state)
    return Loaded("plain", plain, tokenizer), Loaded("apart", apart, gappy)


def test_the_ids_are_the_tokenizers_own(tokenizer, gappy):
    assert (len(gappy), len(tokenizer)) == (353, 352)
    found = vocabulary_of(gappy, ROWS)
    assert found.ids == sorted(gappy.get_vocab().values()) == [*range(300), *range(340, 392), 420]
    assert (found.size, found.special, found.rowless) == (421, {0, 420}, [])
    assert found.holes == {*range(300, 340), *range(392, 420)}
    small = vocabulary_of(gappy, 400)
    assert (small.size, small.rowless, small.holes) == (392, [420], set(range(300, 340)))
    assert vocabulary_of(tokenizer, 352).holes == frozenset()
    grown = copy.deepcopy(tokenizer)
    assert len(vocabulary_of(grown, 400).ids) == 352
    grown.add_tokens(["<new>"])  # ids are kept, until there are more
    assert vocabulary_of(grown, 400).ids[-1] == 352


def test_a_probe_is_that_of_packed_rows(pair):
    plain, apart = (borngap.probe(x.model, x.tokenizer, CONTEXTS, top_p=1) for x in pair)
    for name in set(plain.columns) - OF_THE_SOFTMAX - OF_THE_RANKING - {"notes", "gold_id", "rival_id"}:
        for a, b in zip(plain[name], apart[name], strict=True):
            assert b == (pytest.approx(a, rel=1e-5, abs=1e-7) if isinstance(a, float) else a), name
    assert apart["gold_id"].to_list() == [moved(i) for i in plain["gold_id"]]
    ids, model = sorted(pair[1].tokenizer.get_vocab().values()), pair[1].model
    for row in apart.to_dicts():
        with torch.no_grad():
            logits = model(pair[1].tokenizer(row["prompt"], return_tensors="pt")["input_ids"]).logits[0, -1]
        assert row["gold_rank"] == 1 + int((logits[ids] > logits[row["gold_id"]]).sum())
        others = logits[[i for i in ids if i != row["gold_id"]]]
        assert row["top1_margin"] == pytest.approx(float(logits[row["gold_id"]] - others.max()), abs=1e-5)
    note = json.loads(apart["notes"][0])["geometry"]
    assert note.startswith("1 tokens have embedding rows without a direction (ids [420], readout geometry): left out")
    assert note.endswith("68 rows below the last token's belong to no token: left out as padding")
    assert "geometry" not in json.loads(plain["notes"][0])


def test_chosen_rivals_and_neighbours_are_those_of_packed_rows(pair):
    open_ = [Context(c.prompt, c.gold) for c in CONTEXTS]
    plain, apart = (borngap.probe(x.model, x.tokenizer, open_, top_p=1)["rival"].to_list() for x in pair)
    assert plain == apart
    near = [geometry_of(x.model, "readout", x.tokenizer).neighbours(k=3)[0] for x in pair]
    assert [[moved(i) for i in row] for row in near[0].tolist()] == near[1].tolist()


def test_a_scan_is_that_of_packed_rows(pair):
    plain, apart = (borngap.scan(x.model, x.tokenizer, TEXTS, top_p=1, percentile=90.0).positions for x in pair)
    assert len(plain)
    assert plain["gold"].to_list() == apart["gold"].to_list()
    assert plain["rival"].to_list() == apart["rival"].to_list()
    for name in ("logit_gap", "born_gap", "drag", "gold_overlap"):
        assert apart[name].to_list() == pytest.approx(plain[name].to_list(), rel=1e-4, abs=1e-6)


def test_words_of_a_vocabulary_with_holes(tokenizer, gappy):
    plain, apart = words_of(tokenizer, 352), words_of(gappy, ROWS)
    at = torch.tensor([moved(i) for i in range(352)])
    assert (len(apart.text), apart.text[310]) == (421, "")
    assert torch.equal(apart.whole[at], plain.whole)
    assert torch.equal(apart.continues[at], plain.continues)
    assert int(apart.whole.sum()) == int(plain.whole.sum())


def test_rows_of_data_that_the_model_has_no_row_for(pair):
    _, apart = pair
    rows = [{"input_ids": [345, 350, 421]}, {"input_ids": [345, 350, 346]}]
    found = borngap.scan(apart.model, apart.tokenizer, rows, percentile=90.0)
    ((_, reason),) = [tuple(row.values()) for row in found.summary["malformed"]]
    assert reason == "token ids are from 0 to 420, the last that the model has a row for: [421]"
    assert found.summary["counts"]["targets"] == 2


def test_an_embedding_smaller_than_the_tokenizer(gappy):
    """A padding token that was added and never given a row is no obstacle, unless it is used."""
    small = tiny("llama-untied", 400)
    assert borngap.probe(small, gappy, CONTEXTS)["gold_rank"].max() <= 352
    message = (
        r"the context '.*' has tokens that the model has no row for\n  rule: ids below 400.*\n  found: '<pad>' \(420\)"
    )
    with pytest.raises(UserError, match=message):
        borngap.probe(small, gappy, [Context("The<pad> man felt", " shame", " guilt")])
    with pytest.raises(UserError, match=r"the rival '<pad>' id is out of range\n  rule: 0 <= id < 392"):
        borngap.probe(small, gappy, [Context("The old man felt", " shame", "<pad>")])


def blanked(loaded, *tokens):
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight[list(tokens)] = 0
    return loaded


def test_a_blank_gold_or_rival_is_an_error(pair):
    plain, _ = pair
    shame = plain.tokenizer(" shame")["input_ids"][0]
    rule = r"\n  rule: an embedding row that is not zero\n  found: token ids "
    with pytest.raises(UserError, match=rf"the gold ' shame' has no direction{rule}\[{shame}\] \(readout geometry\)"):
        borngap.probe(blanked(plain, shame).model, plain.tokenizer, CONTEXTS)
    swapped = [Context("The old man felt", " guilt", " shame")]
    with pytest.raises(UserError, match=r"the rival ' shame' has no direction"):
        FineTune(plain, swapped, Training())
    with pytest.raises(UserError, match=r"the gold ' shame' has no direction"):
        borngap.probe(plain.model, plain.tokenizer, [Context("The old man felt", " shame")])


def test_a_blank_token_of_the_nucleus():
    """Where it is special, or holds little, it is left out of the pool; else the pool would be another one."""
    rows = torch.eye(4, 3, dtype=torch.float64)  # the last is zero
    logits = torch.tensor([[0.4, 0.2, 0.1, 0.3]], dtype=torch.float64).log()
    message = (
        r"a token of the nucleus has no direction\n  rule: .*\n  found: token ids \[3\] .*\n  fix: .* smaller top_p"
    )
    for top_p in (0.85, 1.0):
        with pytest.raises(UserError, match=message):
            measure(logits, rows, 0, 1, top_p=top_p)
    little = torch.tensor([[0.4, 0.2, 0.36, 0.04]], dtype=torch.float64).log()
    special = Geometry(rows, special=frozenset({3}))
    for x, geometry, top_p, mass in (
        (logits, special, 0.85, 0.6), (logits, special, 1.0, 0.7), (logits, rows, 0.35, 0.6), (little, rows, 1.0, 0.96)
    ):  # fmt: skip
        found = measure(x, geometry, 0, 1, top_p=top_p)
        assert float(found["pool_mass"]) == pytest.approx(mass)
        assert float(found["born_gap"]) == pytest.approx((0.4 - 0.2) / mass, rel=1e-12)
        assert int(found["born_rank"]) == 1
    assert int(measure(logits, special, 1, 0)["gold_rank"]) == 3  # of the model's own ranking it is part


def test_a_scan_leaves_blank_words_out(pair):
    plain, _ = pair
    guilt = plain.tokenizer(" guilt")["input_ids"][0]
    pairs = (("shame", "guilt"), ("list", "method"))
    blanked(plain, guilt, 0)
    found = borngap.scan(plain.model, plain.tokenizer, TEXTS, pairs=pairs, top_p=1)
    assert set(found.positions["gold"]) == {" list", " method"}
    near = borngap.scan(plain.model, plain.tokenizer, TEXTS, top_p=1, percentile=90.0).positions
    assert guilt not in {*near["gold_id"], *near["rival_id"]}
    # numbers are those of a probe, which leaves the same tokens out of its pools
    row = near.row(0, named=True)
    ids = plain.tokenizer(TEXTS[row["row"]])["input_ids"][: row["offset"]]
    with torch.no_grad():
        logits = plain.model(torch.tensor([ids])).logits[0, -1]
    kept = torch.tensor([i for i in range(352) if i not in {guilt, 0}])
    rows = plain.model.lm_head.weight.detach()[kept]
    gold, rival = (int((kept == row[name]).nonzero()) for name in ("gold_id", "rival_id"))
    assert row["born_gap"] == pytest.approx(
        float(measure(logits[kept], rows, gold, rival, top_p=1)["born_gap"]), rel=1e-4
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_with_blank_rows(pair, method):
    """Pools leave the blank token out to the end, though full fine-tuning moves its row."""
    plain, _ = pair
    run = FineTune(blanked(plain, 0), CONTEXTS, Training(method=method, rate=1e-2, steps=3, top_p=1))
    steps = list(run.alone(0))
    head = run.model.get_output_embeddings().weight.detach()
    assert (float(head[0].norm()) > 0) == (method == "full")
    target = run.targets[0]
    with torch.no_grad():
        logits = run.model(torch.tensor([target.ids])).logits[:, -1]
    kept = slice(1, None)  # the same pool without the row
    found = measure(logits[:, kept], head[kept], target.gold_id - 1, target.rival_id - 1, top_p=1)
    for name in ("born_gap", "drag", "participation_ratio", "born_rank"):
        assert steps[-1].records[0][name] == pytest.approx(float(found[name]), rel=1e-4)
    assert "1 tokens have embedding rows without" in run.entry(0, steps)["notes"]["geometry"]


def test_a_run_goes_on_where_a_probe_would_not(pair):
    """Much of the nucleus without a direction is an error for a probe; a run that has begun does not end of it."""
    plain, _ = pair
    blanked(plain, *range(40, 120))
    with pytest.raises(UserError, match="a token of the nucleus has no direction"):
        borngap.probe(plain.model, plain.tokenizer, CONTEXTS)
    run = FineTune(plain, CONTEXTS, Training(method="full", rate=1e-3, steps=2))
    assert [step.records[0]["pool_mass"] < 0.9 for step in run.alone(0)] == [True] * 3


@pytest.mark.filterwarnings("ignore:.*the right word falls too")  # other prose is trained, and it does
def test_a_host_trains_with_blank_rows(tmp_path):
    """A pad token's row is zero in many base models: a run begins, ends and says so."""
    loaded = borngap.load("docs-gpt2-s")
    pad = loaded.tokenizer.eos_token_id
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight[pad] = 0
    callback = borngap.BornGapCallback([CONTEXTS[1]], out=tmp_path / "run")
    trainer(tmp_path, [callback], model=loaded.model).train()
    (verdict,) = callback.verdicts
    assert f"(ids [{pad}], readout geometry)" in verdict["notes"]["geometry"]


def test_commands_say_once_what_is_left_out(pair, tmp_path):
    plain, _ = pair
    blanked(plain, 0).model.save_pretrained(tmp_path / "model")
    plain.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "contexts.jsonl").write_text(write_contexts(CONTEXTS))
    (tmp_path / "data.txt").write_text("\n".join(TEXTS))
    model = ["-m", str(tmp_path / "model")]
    contexts = [*model, "-c", str(tmp_path / "contexts.jsonl"), "--method", "lora", "--steps", "2"]
    for command in (
        ["neighbours", *model, "shame"],
        ["critical", *contexts, "--by", "ray"],
        ["finetune", *contexts, "--out", str(tmp_path / "run")],
        ["scan", str(tmp_path / "data.txt"), *model, "--percentile", "90", "--out", str(tmp_path / "scan")],
    ):
        said = CliRunner().invoke(app, command, catch_exceptions=False).stdout
        assert said.count("note: 1 tokens have embedding rows without a direction (ids [0]") == 1, said


def test_truncation_and_padding_of_a_last_call_are_no_other_tokenizer(tokenizer, tmp_path):
    """A trainer's call leaves them in what is saved beside its model."""
    tokenizer.save_pretrained(tmp_path)
    told = tokenizer_digest(tokenizer)
    used = AutoTokenizer.from_pretrained(tmp_path)
    used("He said that", truncation=True, max_length=2)
    used.pad_token = used.eos_token
    used(["He", "He said that"], padding=True)
    used.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["padding"] is not None
    assert tokenizer_digest(AutoTokenizer.from_pretrained(tmp_path)) == told
    used.chat_template = "{{ messages }}"
    assert tokenizer_digest(used) != told
