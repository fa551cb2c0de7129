"""Scans: each position's numbers are those of a probe of its prefix alone, whatever batch and window it was in."""

from __future__ import annotations

import copy

import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.cases import case
from tests.tiny import CONFIGS, tiny

from borngap.context import Context, Target
from borngap.errors import UserError
from borngap.model.forward import Prompt, forward, selected_logits
from borngap.model.readout import geometry_of, observing
from borngap.model.words import words_of
from borngap.observables.geometry import Geometry
from borngap.observables.overlaprows import OverlapRows
from borngap.observables.predictions import measure
from borngap.observables.sorting import _by_sorting, nucleus, ranking
from borngap.scanning import batches as batching
from borngap.scanning.candidates import Candidates, Rule
from borngap.scanning.rivals import NUMBERS, Rivals, background_at_once, background_by_row
from borngap.scanning.scan import scan
from borngap.words.relation import relation
from borngap.words.thesaurus import read_thesaurus

PROSE = "The old man felt shame and guilt. He said that the method returns a list of words; she said that a function"
TEXTS = [
    PROSE,
    "Raise an error",
    " ".join([PROSE] * 4),  # longer than the models' context
    "He",
    "She felt guilt, and shame. A shameless list, an error; words words that the exception returns of words.",
]
EASY = {"percentile": 90.0}
MEANT = pl.col("relation").is_in(["synonym", "spelling"])


def expected(model, tokenizer, texts, top_p=0.9, thesaurus=None):
    """Positions with their rivals by the rules, one forward of one prefix at a time."""
    geometry = geometry_of(model, "centered", tokenizer)
    least = geometry.bulk().overlap_percentiles["90"]
    pieces = tokenizer.convert_ids_to_tokens(range(geometry.size))
    words = {i for i, piece in enumerate(pieces) if piece.startswith("Ġ") and piece[1:].isalpha()}
    window = model.config.max_position_embeddings
    stride = window - window // 4
    found = {}
    for row, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        for at in range(1, len(ids)):
            follows = tokenizer.decode(ids[at + 1 : at + 2])
            if ids[at] not in words or follows[:1].isalpha():
                continue
            start = 0 if at < window else (1 + (at - window) // stride) * stride
            start = 0 if len(ids) <= window else start
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[start:at]])).logits[0, -1]
            inside = nucleus(logits.softmax(0)[None, : geometry.size], top_p)[0].nonzero().flatten().tolist()
            same = pieces[ids[at]].casefold()
            rivals = {k: float(geometry.overlap(torch.tensor(k), torch.tensor(ids[at]))) for k in inside if k in words}
            rivals = {k: g for k, g in rivals.items() if pieces[k].casefold() != same}
            kinds = {k: relation(pieces[k][1:], pieces[ids[at]][1:], thesaurus=thesaurus) for k in rivals}
            means = {k for k, kind in kinds.items() if kind in {"synonym", "spelling"}}
            rivals = {k: (k in means, g) for k, g in rivals.items() if k in means or g >= least}
            if rivals:
                found[row, at] = (start, ids[at], max(rivals, key=rivals.get))
    return found


def placed(frame):
    keys = ("row", "offset", "start", "gold_id", "rival_id")
    return {(row, at): tuple(rest) for row, at, *rest in frame.select(keys).iter_rows()}


def targets_of(frame, tokenizer, texts):
    """The prefix of each position as a target of its own."""
    return [
        Target(
            Context("x", "y", "z"), tuple(tokenizer(texts[row])["input_ids"][start:at]), gold, rival, {}, fragment=False
        )
        for (row, at), (start, gold, rival) in placed(frame).items()
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_positions_and_numbers_are_those_of_each_prefix_alone(tokenizer, name, tmp_path):
    model = tiny(name, len(tokenizer))
    groups = tmp_path / "groups.txt"
    groups.write_text("guilt, man, word, list\nshame; function; error; exception\n", encoding="utf-8")
    # these models spread out: most words are in 0.9
    found = scan(model, tokenizer, TEXTS, top_p=0.3, thesaurus=str(groups), **EASY)
    assert placed(found.positions) == expected(model, tokenizer, TEXTS, 0.3, read_thesaurus(groups))
    assert 10 < len(found.positions) < found.summary["counts"]["words"]
    assert len(set(found.positions["start"])) > 1, "no window of a long row has a position"
    assert "synonym" in found.positions["relation"]
    targets = targets_of(found.positions, tokenizer, TEXTS)
    logits, _ = forward(model, targets)
    gold, rival = (torch.tensor([getattr(t, key) for t in targets]) for key in ("gold_id", "rival_id"))
    alone = measure(logits, geometry_of(model, "readout", tokenizer), gold, rival, top_p=0.3, only=NUMBERS)
    for number in NUMBERS:
        assert found.positions[number].to_list() == pytest.approx(alone[number].tolist(), abs=1e-5, rel=1e-5), number


@pytest.mark.parametrize(
    ("tokens", "elements", "chunk"),
    [(1, 1 << 26, 1), (40, 1 << 26, 3), (1 << 20, 1000, 512), (1 << 20, 1 << 26, 2), (40, 1000, 512)],
)
def test_batches_chunks_and_padding_change_nothing(tokenizer, monkeypatch, tokens, elements, chunk):
    model = tiny("gpt2", len(tokenizer))
    whole = scan(model, tokenizer, TEXTS, **EASY)
    monkeypatch.setattr(batching, "_WINDOW_TOKENS", tokens)
    monkeypatch.setattr(batching, "LOGIT_ELEMENTS", elements)
    again = scan(model, tokenizer, TEXTS, chunk=chunk, **EASY)
    exact = [column for column in whole.positions.columns if column not in NUMBERS]
    assert again.positions.select(exact).equals(whole.positions.select(exact))
    for number in NUMBERS:
        assert again.positions[number].to_list() == pytest.approx(whole.positions[number].to_list(), abs=1e-5)
    assert again.summary["counts"] == whole.summary["counts"]


def test_packed_token_ids_are_read_as_one_row(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    ids = [i for text in TEXTS[:2] for i in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    labels = [-100] * 5 + ids[5:]
    found = scan(model, tokenizer, [{"input_ids": ids, "labels": labels}], **EASY)
    at = [row["offset"] for row in found.positions.to_dicts()]
    joined = expected(model, tokenizer, ["<|endoftext|>".join([*TEXTS[:2], ""])])
    assert at == [offset for _, offset in joined if offset >= 5]
    assert found.summary["counts"]["targets"] == len(ids) - 5


@pytest.mark.parametrize("name", [*CONFIGS, "peft"])
def test_logits_at_chosen_positions_are_the_models_own(name):
    model = tiny("llama-untied" if name == "peft" else name)
    if name == "peft":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    prompts = [list(range(3, 12)), list(range(40, 45))]
    rows, columns = torch.tensor([0, 0, 1, 1]), torch.tensor([2, 8, 0, 4])
    seen = []
    hook = model.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    with observing(model):
        found = selected_logits(model, [Prompt(ids) for ids in prompts], rows, columns)
        hook.remove()
        for logits, row, column in zip(found, rows, columns, strict=True):
            own = model(input_ids=torch.tensor([prompts[row]])).logits[0, column]
            torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-5)
    assert seen == [(1, 4, 97)], "the head saw more than the chosen positions"


def test_logits_of_a_head_that_is_not_called():
    model = tiny("gpt2")
    head = model.lm_head
    model.lm_head.forward = None  # a fused head: the model multiplies its weight itself
    body = model.transformer

    class Fused(torch.nn.Module):
        config, get_output_embeddings, get_input_embeddings = model.config, lambda _: head, lambda _: body.wte

        def forward(self, input_ids, attention_mask=None):
            out = body(input_ids=input_ids, attention_mask=attention_mask)[0] @ head.weight.T
            return type("Out", (), {"logits": out})

    with torch.no_grad():
        found = selected_logits(Fused(), [Prompt([1, 2, 3]), Prompt([4])], torch.tensor([0, 1]), torch.tensor([1, 0]))
        alone = body(input_ids=torch.tensor([[1, 2]]))[0][0, -1] @ head.weight.T
    torch.testing.assert_close(found[0], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.9, 0.999999, 1.0])
@pytest.mark.parametrize(("size", "spread"), [(40, 2.0), (64, 0.0), (63, 5.0), (200, 0.1)])
def test_the_edge_is_the_nucleus(size, spread, top_p):
    logits = case(3, vocabulary=size + 7, batch=20, spread=spread).logits.float()
    logits[0, :size] = logits[0, 0]  # ties
    logits[1, 5] = -torch.inf
    probs = logits.double().softmax(1)[:, :size]
    # processors round in other ways: where a running sum is top_p to eight digits either side of it is right
    slack = 1e-8 if top_p < 1 else 0
    fewest, most = nucleus(probs, top_p * (1 - slack)), nucleus(probs, top_p * (1 + slack))
    assert int((fewest != most).any(1).sum()) <= 1
    for way in (ranking, _by_sorting):
        found = way(logits[:, :size], logits[:, size:], top_p)
        kept = logits[:, :size] >= found.edge[:, None]
        assert not (fewest & ~kept).any()
        assert not (kept & ~most).any()
        torch.testing.assert_close(found.log_normaliser, logits.double().logsumexp(1))
    for token in (0, 5, size - 1):
        ranks = 1 + (logits[:, :size] > logits[:, token : token + 1]).sum(1)
        assert found.ranks(torch.arange(20), logits[:, token : token + 1]).squeeze(1).tolist() == ranks.tolist()


@pytest.mark.parametrize("worth", [1, 10, 1000])
def test_the_background_is_the_same_row_by_row_and_at_once(worth):
    x = case(3, vocabulary=50, batch=9)
    logits, pair = x.logits.float(), tuple(torch.randint(50, (2, 9)))
    edge, normaliser = logits.quantile(0.6, dim=1), logits.double().logsumexp(1)
    rows = [OverlapRows(Geometry(x.matrix.float())) for _ in range(2)]
    rows[0]._worth, rows[1]._worth = worth, 1
    given = ((logits, edge, normaliser, pair, own, [4, 17]) for own in rows)
    one, other = (way(*own) for way, own in zip((background_by_row, background_at_once), given, strict=True))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert len(rows[0].slots) == {1: len(set(torch.cat(pair).tolist())), 1000: 0}.get(worth, len(rows[0].slots))


def test_a_batch_in_which_no_target_has_a_rival(tokenizer):
    found = scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, pairs=(("shame", "guilt"),), top_p=1e-9)
    assert found.summary["counts"]["with_neighbours"] > 0
    assert len(found.positions) == found.summary["counts"]["with_rival"] == 0


def test_the_rival_is_the_nearest_word_of_the_nucleus_that_is_no_variant():
    rows = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.9, 0.3], [0.8, 0.6], [0.0, 1.0]])
    words, key = torch.tensor([True, True, True, True, True]), torch.tensor([0, 0, 2, 3, 4])
    near = Candidates(Geometry(rows), Rule(words, key, 0.5))
    rivals = Rivals(Geometry(rows), near, 0.9)
    assert [token for token, _ in near.of(0)] == [2, 3]
    probs = torch.tensor([[0.3, 0.3, 0.2, 0.15, 0.05], [0.3, 0.35, 0.01, 0.30, 0.04], [0.9, 0.03, 0.03, 0.02, 0.02]])
    near.possible(torch.tensor([0]))
    found = rivals.find(probs.log(), torch.tensor([0, 0, 0]))
    assert (found.index.tolist(), found.rival.tolist()) == ([0, 1], [2, 3])
    given = Candidates.given(Geometry(rows), Rule(words, key, 0.0), [(0, 4)])
    assert Rivals(Geometry(rows), given, 1.0).find(probs.log(), torch.tensor([0])).rival.tolist() == [4]
    assert given.possible(torch.tensor([0, 1, 4])).tolist() == [True, False, False]


def test_overlaps_kept_within_a_small_table(monkeypatch):
    x = case(1, vocabulary=300, dimension=16, batch=40)
    words = torch.ones(300, dtype=torch.bool)
    for module in ("rivals", "candidates"):
        monkeypatch.setattr(f"borngap.scanning.{module}._OVERLAP_ELEMENTS", 900)
    monkeypatch.setattr("borngap.observables.overlaprows._TABLE_ELEMENTS", 8 * 900)
    rivals = Rivals(Geometry(x.matrix), Candidates(Geometry(x.matrix), Rule(words, torch.arange(300), -1.0)), 1.0)
    for gold in (x.gold, x.gold.flip(0)):
        rivals.candidates.possible(gold)
        found = rivals.find(x.logits.float(), gold)
        alone = measure(x.logits.float(), x.matrix, gold, found.rival, top_p=1.0, only=NUMBERS)
        for name in NUMBERS:
            torch.testing.assert_close(found.numbers[name].double(), alone[name].double(), rtol=1e-4, atol=1e-6)


def test_logits_that_are_not_finite(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = torch.nan
    message = (
        r"NaN or infinite, somewhere in data, record 1 to data, record 1\n  rule: they are finite\n  found: at \d+ of"
    )
    with pytest.raises(UserError, match=message):
        scan(model, tokenizer, [PROSE], pairs=(("shame", "guilt"), ("list", "method")))


def test_whole_words(tokenizer):
    words = words_of(tokenizer, len(tokenizer))
    ids = tokenizer(" shame", add_special_tokens=False)["input_ids"]
    assert words.whole[ids].tolist() == [True]
    for text in ("shame", ".", " <|endoftext|>", "1", ";"):
        assert not words.whole[tokenizer(text)["input_ids"][-1]], text
    small, large = (tokenizer(text)["input_ids"][0] for text in ("a", "A"))
    assert words.key[small] == words.key[large] == words.key[tokenizer(" a")["input_ids"][0]] != words.key[ids[0]]
    less = tokenizer(" shameless")["input_ids"]
    assert less[0] == ids[0]
    assert words.continues[less[1]]
    assert not words.continues[tokenizer(".")["input_ids"][0]]
    assert not words.continues[ids[0]]


def test_given_pairs_are_looked_for_in_both_directions(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    found = scan(model, tokenizer, TEXTS, pairs=(("shame", "guilt"),), top_p=1.0)
    assert set(zip(found.pairs["gold"], found.pairs["rival"], strict=True)) == {
        (" shame", " guilt"), (" guilt", " shame")
    }  # fmt: skip
    shames = sum(text.count(" shame") - text.count(" shameless") for text in TEXTS)
    assert found.pairs.filter(pl.col("gold") == " shame")["targets"].to_list() == [shames]
    assert found.summary["least_overlap"] is None


def test_pairs_of_several_tokens_are_left_out_and_named(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    alone = scan(model, tokenizer, TEXTS, pairs=(("shame", "guilt"),), top_p=1.0)
    mixed = (("shameless", "guilt"), ("shame", "guilt"), ("list", "zebra"))
    found = scan(model, tokenizer, TEXTS, pairs=mixed, top_p=1.0)
    assert found.pairs.equals(alone.pairs)
    assert (found.summary["given_pairs"], alone.summary["pairs_left_out"]) == (1, [])
    for entry, (gold, rival) in zip(found.summary["pairs_left_out"], (mixed[0], mixed[2]), strict=True):
        assert (entry["gold"], entry["rival"]) == (gold, rival)
        odd = gold if gold == "shameless" else rival
        pieces = [repr(tokenizer.decode([i])) for i in tokenizer(f" {odd}")["input_ids"]]
        assert entry["reason"] == f"{odd!r} is {len(pieces)} tokens: {' '.join(pieces)}"
    message = (
        r"none of the pairs can be looked for\n  rule: pairs of whole words.*\n  found: 'shameless' is \d tokens: ' s"
    )
    with pytest.raises(UserError, match=message):
        scan(model, tokenizer, TEXTS, pairs=(("shameless", "guilt"), ("42", "list")))
    other = copy.deepcopy(tokenizer)
    other.add_tokens([" ;"])
    with pytest.raises(UserError, match=r"found: ';' is no word by the rules of a scan$"):
        scan(tiny("gpt2", len(other)), other, TEXTS, pairs=((";", "guilt"),))


def test_least_overlap_by_hand(tokenizer):
    model = tiny("gpt2", len(tokenizer))
    bulk = geometry_of(model, "centered", tokenizer).bulk().overlap_percentiles
    lower, higher = (scan(model, tokenizer, TEXTS, geometry="centered", min_overlap=bulk[p]) for p in ("90", "99"))
    assert lower.positions.equals(scan(model, tokenizer, TEXTS, geometry="centered", **EASY).positions)
    lowest = [f.positions.filter(~MEANT)["gold_overlap"].min() for f in (lower, higher)]
    assert lowest[1] >= bulk["99"] > lowest[0]
    with pytest.raises(UserError, match=r"min_overlap is out of range\n  rule: at least .*, the 90th percentile"):
        scan(model, tokenizer, TEXTS, min_overlap=bulk["90"] / 2)


def test_pairs_and_counts_add_up(tokenizer):
    found = scan(tiny("llama-tied", len(tokenizer)), tokenizer, TEXTS, **EASY)
    positions, counts = found.positions, found.summary["counts"]
    assert found.pairs["targets"].sum() == len(positions) == counts["with_rival"]
    assert counts["rival_ahead"] == (positions["logit_gap"] <= 0).sum() == found.pairs["rival_ahead"].sum()
    assert counts["born_rival_ahead"] == (positions["born_gap"] <= 0).sum()
    assert counts["targets"] == sum(max(0, len(tokenizer(text)["input_ids"]) - 1) for text in TEXTS)
    assert counts["split"] == counts["unsupervised"] == 1
    meant = found.pairs.filter(MEANT)
    assert meant.equals(found.pairs.head(len(meant)))
    for part in (meant, found.pairs.filter(~MEANT)):
        assert part["rival_ahead"].is_sorted(descending=True)
    for pair in found.pairs.head(5).to_dicts():
        own = positions.filter(pl.col("gold_id") == pair["gold_id"], pl.col("rival_id") == pair["rival_id"]).sort(
            "logit_gap"
        )
        assert pair["median_logit_gap"] == pytest.approx(own["logit_gap"].median())
        assert [place["logit_gap"] for place in pair["examples"]] == own["logit_gap"].head(2).to_list()
    assert found.summary["share_with_rival"] == len(positions) / counts["targets"]


def test_the_model_is_left_as_it_was(tokenizer):
    model = tiny("gpt2", len(tokenizer)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    scan(model, tokenizer, TEXTS, **EASY)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize(("rows", "message"), [
    ([{"text": "He"}], r"no supervised tokens in data\n  rule: at least one token to predict after the first one"),
    ([{"prompt": "He felt", "completion": " guilt"}, {"prompt": "a"}], r"row: data, record 2\n  found: the field"),
    (iter([{"text": "x"}]), r"the data can't be read again from the start"),
])  # fmt: skip
def test_rows_that_end_a_scan(tokenizer, rows, message):
    with pytest.raises(UserError, match=message):
        scan(tiny("gpt2", len(tokenizer)), tokenizer, rows, strict=True, **EASY)


@pytest.mark.parametrize(("options", "message"), [
    ({"percentile": 50}, r"percentile is out of range\n  rule: in \[90, 100\)\n  found: 50"),
    ({"top_p": 0.0}, "top_p is out of range"),
    ({"window": 65}, r"the window is too long\n  rule: at most 64 tokens"),
    ({"window": 3}, "window is out of range"),
    ({"limit": 0}, "limit is out of range"),
    ({"min_overlap": 1.5}, "min_overlap is out of range"),
    ({"max_length": 1}, "max_length is out of range"),
    ({"chunk": 0}, "chunk is out of range"),
    ({"geometry": "odd"}, "geometry is out of range"),
])  # fmt: skip
def test_settings_out_of_range(tokenizer, options, message):
    with pytest.raises(UserError, match=message):
        scan(tiny("gpt2", len(tokenizer)), tokenizer, TEXTS, **options)
