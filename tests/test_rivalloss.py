"""RivalLoss in hosts: places in labels, Trainer, SFTTrainer with its chunked head, plain loops; what it refuses."""

import copy
import math

import pytest
import torch
from tests.hosts import TIED, arguments, same, weights
from tests.rivaltraining import KINDS, OPTIMISER, PAIRS, padded, plain_run, rows_of
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq, Trainer

import borngap
from borngap import RivalLoss
from borngap.errors import UserError
from borngap.losses.formulae import row_loss
from borngap.rivals.spots import TermSpots
from borngap.words.termfile import terms_of


@pytest.fixture(scope="module")
def loaded():
    return borngap.load(TIED)


def places(tokenizer, row):
    """The places of one row by borngap terms' own search, as (place, right token, rival)."""
    from borngap.data.tokenised import plain
    from borngap.scanning.supervised import Example
    from borngap.usage.places import Placer
    from borngap.words.occurrences import Finder

    tokens = plain(row["input_ids"], row["labels"])
    example = Example(None, tokens.ids, tokens.labels, tokens.documents)
    (found,), _ = Placer(tokenizer, Finder(terms_of(PAIRS).terms)).places([example])
    told = [p for p in found if p.reason is None]
    return tuple(
        sorted((p.measured, p.gold_id, p.rival_id) for p in told if p.occurrence.side == side)
        for side in ("use", "avoid")
    )


def naive_loss(logits, batch, form, tokenizer, rows):
    """Cross-entropy and term as they are written down, target by target; sums."""
    total = logits.new_zeros(())
    for number, row in enumerate(rows):
        labels = batch["labels"][number]
        for at in range(1, len(labels)):
            if labels[at] >= 0:
                total = total + cross_entropy(logits[number, at - 1], labels[at])
        for at, gold, rival in places(tokenizer, row)[0]:
            one = logits[number, at - 1][None]
            total = total + row_loss(form, one, torch.tensor([gold]), torch.tensor([rival]))[0]
    return total


@pytest.mark.parametrize("masked", [0, 3])
def test_places_are_those_of_terms(loaded, masked):
    rows = rows_of(loaded.tokenizer, masked)
    spots = TermSpots(terms_of(PAIRS), loaded.tokenizer).find(padded(loaded.tokenizer, rows)["labels"])
    due = torch.stack([spots.rows, spots.columns, spots.golds, spots.rivals[:, 0]], 1).tolist()
    there = [places(loaded.tokenizer, row) for row in rows]
    wanted = [[n, *place] for n, (own, _) in enumerate(there) for place in own]
    assert sorted(due) == wanted
    assert len(wanted) == (8 if masked == 0 else 7)
    others = [[n, at, rival, gold] for n, (_, own) in enumerate(there) for at, gold, rival in own]
    assert sorted(spots.others.tolist()) == others
    assert len(others) == (masked == 0)


@pytest.mark.parametrize(("kind", "weight"), KINDS)
def test_loss_and_gradient_of_a_padded_batch(loaded, kind, weight):
    rows = rows_of(loaded.tokenizer)
    batch = padded(loaded.tokenizer, rows)
    loss = RivalLoss(PAIRS, loaded.tokenizer, kind=kind, weight=weight)
    with torch.no_grad():
        logits = loaded.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    supervised = int((batch["labels"][:, 1:] >= 0).sum())
    for items in (None, torch.tensor(2 * supervised)):
        one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found = loss(one, batch["labels"], items)
        found.backward()
        wanted = naive_loss(other, batch, loss.form, loaded.tokenizer, rows) / (supervised if items is None else items)
        wanted.backward()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-8)
    each = loss.per_token(logits, batch["labels"])
    assert each.shape == batch["labels"].shape
    whole = loss(logits.requires_grad_(), batch["labels"])
    torch.testing.assert_close(each.sum() / supervised, whole, rtol=1e-5, atol=0)
    # the same from hidden states, of which only those at rivals meet the head
    inner, heads = loaded.model.transformer, []
    hidden = inner(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state

    def head(states):
        heads.append(len(states))
        return loaded.model.lm_head(states)

    term = loss.term(hidden, batch["labels"], head=head)
    torch.testing.assert_close(term, loss.term(logits, batch["labels"]), rtol=1e-4, atol=1e-6)
    assert sum(heads) == sum(len(places(loaded.tokenizer, row)[0]) for row in rows)


class Ordered(Trainer):
    """A Trainer without dropout whose rows stay in order."""

    def training_step(self, model, *args, **kwargs):
        model.eval()
        model.train = lambda mode=True: model  # the host calls it at every step
        return super().training_step(model, *args, **kwargs)

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trained(folder, tokenizer, loss, rows, kind=Ordered, **options):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    model = borngap.load(TIED).model
    host = kind(
        model=model, args=arguments(folder, **OPTIMISER | {"max_steps": 3} | options), train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer), processing_class=tokenizer, compute_loss_func=loss,
    )  # fmt: skip
    host.train()
    return host


def test_trainer_with_accumulation_and_padding_is_a_plain_loop(loaded, tmp_path):
    rows = rows_of(loaded.tokenizer, 1)[:4]
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 1}
    host = trained(tmp_path, loaded.tokenizer, RivalLoss(PAIRS, weight=3, margin=2), rows, **options)
    own = [padded(loaded.tokenizer, rows[a : a + 2]) for a in (0, 2)]
    plain = plain_run(borngap.load(TIED).model, [own] * 3, RivalLoss(PAIRS, loaded.tokenizer), 3)
    batch = padded(loaded.tokenizer, rows)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = [model(**inputs).logits for model in (host.model, plain)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    alone = trained(tmp_path, loaded.tokenizer, None, rows, **options)
    assert not same(weights(alone.model), weights(host.model))
    logs = [entry for entry in host.state.log_history if "loss" in entry]
    due = sum(len(places(loaded.tokenizer, row)[0]) for row in rows)
    assert [entry["rival_loss/targets"] for entry in logs] == [due / 2] * 3
    assert all(0 < entry["rival_loss/share"] < 1 and 0 <= entry["rival_loss/success"] <= 1 for entry in logs)
    assert logs[-1]["rival_loss/success"] >= logs[0]["rival_loss/success"]
    assert all(entry["rival_loss/over_use"] in (0, 1) for entry in logs)


def test_weight_0_is_the_hosts_own_training_bit_for_bit(loaded, tmp_path):
    rows = rows_of(loaded.tokenizer, 1)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    found = [
        weights(trained(tmp_path, loaded.tokenizer, loss, rows, Trainer, **options).model)
        for loss in (None, RivalLoss(PAIRS, weight=0), RivalLoss(PAIRS, weight=1))
    ]
    assert same(*found[:2])
    assert not same(*found[1:])


def test_without_gradients_it_is_the_cross_entropy(loaded):
    batch = padded(loaded.tokenizer, rows_of(loaded.tokenizer))
    with torch.no_grad():
        out = loaded.model.eval()(**batch)
        assert torch.equal(RivalLoss(PAIRS, loaded.tokenizer)(out, batch["labels"]), out.loss)


def test_a_rival_beyond_the_vocabulary_is_one_error():
    labels = torch.tensor([[3, 1, 5]])
    with pytest.raises(
        UserError, match=r"a pair has a token that the model can't predict\n  rule: token ids below 9.*\n  found: 12"
    ):
        RivalLoss([(1, 12)])(torch.zeros(1, 3, 9, requires_grad=True), labels)


def test_pairs_of_tokens_take_the_strongest_rival():
    logits, labels = torch.randn(1, 5, 9), torch.tensor([[3, 4, 3, 7, -100]])
    loss = RivalLoss([(3, 5), (3, 6), (4, 7)], kind="margin", weight=2, margin=1)
    loss(logits.requires_grad_(), labels)
    spots, values, gaps = loss.at_spots(logits, labels)
    assert (spots.rows.tolist(), spots.columns.tolist(), spots.golds.tolist()) == ([0, 0], [1, 2], [4, 3])
    wanted = [logits[0, 0, 4] - logits[0, 0, 7], logits[0, 1, 3] - logits[0, 1, 5:7].max()]
    torch.testing.assert_close(gaps, torch.stack(wanted).detach())
    torch.testing.assert_close(values, 2 * (1 - torch.stack(wanted)).relu())
    assert spots.others.tolist() == [[0, 3, 4, 7]]
    told = loss.numbers()
    assert told["rival_loss/over_use"] == float(logits[0, 2, 4] > logits[0, 2, 7])
    assert loss.numbers() == {}


def test_many_targets_go_by_pieces(monkeypatch):
    labels = torch.randint(3, 6, (2, 40))
    logits, found = torch.randn(2, 40, 9), []
    for size in (256, 7):
        monkeypatch.setattr("borngap.rivals.rivalloss._PIECE", size)
        leaf = logits.clone().requires_grad_()
        loss = RivalLoss([(3, 5), (4, 7)], kind="unlikelihood", weight=2)
        value = loss.term(leaf, labels, head=lambda x: x)
        value.backward()
        found.append((value.detach(), leaf.grad, loss.gaps_of_others(leaf, loss.at_spots(leaf, labels)[0])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("options", "said"), [
    ({"weight": -1}, "the weight is out of range"), ({"weight": math.nan}, "the weight"),
    ({"margin": math.inf}, "the margin"), ({"kind": "hinge"}, "unknown loss"), ({"weight": "3"}, "the weight"),
])  # fmt: skip
def test_bad_numbers(options, said):
    with pytest.raises(UserError, match=said):
        RivalLoss(PAIRS, **options)


def test_words_that_no_token_tells_apart(loaded):
    with pytest.raises(UserError, match="can't hold two words apart"):
        RivalLoss([("exception", "exception handler")], loaded.tokenizer)
    with pytest.raises(UserError, match="no pair of right token and rival"):
        RivalLoss([(3, 3)])
    with pytest.raises(UserError, match=r"no pairs|no terms"):
        RivalLoss([])


def test_no_tokenizer(loaded):
    with pytest.raises(UserError, match="no tokenizer"):
        RivalLoss(PAIRS)(torch.randn(1, 3, 5, requires_grad=True), torch.tensor([[1, 2, 3]]))


def test_no_logits_or_labels():
    loss = RivalLoss([(1, 2)])
    with pytest.raises(UserError, match="needs logits and labels"):
        loss(torch.randn(1, 3, 5), None)
    with pytest.raises(UserError, match="fused loss"):
        loss({"logits": None}, torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize(
    "labels", [torch.zeros(1, 2).long(), torch.zeros(1, 4).long(), torch.zeros(2, 3).long(), torch.zeros(3).long(),
               torch.zeros(1, 3)], ids=str)  # fmt: skip
def test_labels_of_another_batch(labels):
    with pytest.raises(UserError, match="labels do not fit"):
        RivalLoss([(1, 2)]).term(torch.randn(1, 3, 5), labels)


def test_a_batch_in_which_nothing_is_learnt_adds_nothing():
    masked = torch.full((2, 3), -100)
    assert float(RivalLoss([(1, 2)]).term(torch.randn(2, 3, 5), masked)) == 0


def test_words_that_never_occur_are_told_at_the_start(loaded, tmp_path):
    rows = rows_of(loaded.tokenizer)
    with pytest.raises(UserError, match="none of the words to use stands in the training data"):
        trained(tmp_path, loaded.tokenizer, RivalLoss([("zebra", "horse")]), rows)
    with pytest.warns(UserWarning, match="'zebra' instead of 'horse'"):
        trained(tmp_path, loaded.tokenizer, RivalLoss([*PAIRS, ("zebra", "horse")]), rows, max_steps=1)


def test_hosts_that_cannot_be_joined(loaded, tmp_path):
    tokenizer = loaded.tokenizer
    rows = rows_of(tokenizer)
    with pytest.raises(UserError, match="label smoothing"):
        trained(tmp_path, tokenizer, RivalLoss(PAIRS), rows, label_smoothing_factor=0.1)
    host = trainer_of(tmp_path, tokenizer, rows, Own)
    with pytest.raises(UserError, match="a loss of its own"):
        RivalLoss(PAIRS).join(host)
    host = trainer_of(tmp_path, tokenizer, rows, Trainer)
    host.compute_loss_func = print
    with pytest.raises(UserError, match="another compute_loss_func"):
        RivalLoss(PAIRS).join(host)


class Own(Trainer):
    """A Trainer with a loss of its own."""

    def compute_loss(self, *_, **__):
        raise AssertionError


def trainer_of(folder, tokenizer, rows, kind):
    model = borngap.load(TIED).model
    return kind(model=model, args=arguments(folder), train_dataset=rows, processing_class=tokenizer)


def test_auto_takes_the_likeliest_synonym_that_is_in_the_nucleus(loaded):
    from borngap.model.tokenrelations import vocabulary_relations

    batch = padded(loaded.tokenizer, rows_of(loaded.tokenizer, 1))
    with torch.no_grad():
        logits = loaded.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    relations, wanted = vocabulary_relations(loaded.tokenizer, len(loaded.tokenizer)), []
    for row, labels in enumerate(batch["labels"].tolist()):
        for at, gold in enumerate(labels):
            synonyms = relations.synonyms(gold) if at and gold >= 0 else []
            if not synonyms:
                continue
            p = logits[row, at - 1].double().softmax(0)
            best = max(synonyms, key=lambda token: float(p[token]))
            order = p.argsort(descending=True).tolist()
            if float(p[order[: order.index(best)]].sum()) < 0.9:
                wanted.append([row, at, gold, best])
    loss = RivalLoss("auto", loaded.tokenizer, kind="margin")
    spots, values, gaps = loss.at_spots(logits, batch["labels"])
    found = torch.stack([spots.rows, spots.columns, spots.golds, spots.rivals[:, 0]], 1).tolist()
    assert found == wanted
    assert 3 < len(found) < int((batch["labels"] >= 0).sum())
    torch.testing.assert_close(values, 3 * (2 - gaps).relu())
    assert len(RivalLoss("auto", loaded.tokenizer, top_p=1e-6).at_spots(logits, batch["labels"])[0]) < len(found)
    leaf = logits.clone().requires_grad_()
    loss(leaf, batch["labels"]).backward()
    assert loss.numbers()["rival_loss/targets"] == len(found)
    with pytest.raises(UserError, match="top_p"):
        RivalLoss("auto", top_p=0)
