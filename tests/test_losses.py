"""Losses on rivals: the formulae against naive ones, their gradients against finite differences, the host's average."""

import math

import pytest
import torch

from borngap.errors import UserError
from borngap.losses.averaged import per_item
from borngap.losses.crowding import decorrelation, pair_overlap
from borngap.losses.form import LossForm, read_form
from borngap.losses.formulae import row_loss, strongest
from borngap.losses.passthrough import picked
from borngap.model.hostloss import host_cross_entropy

FORMS = [LossForm("margin", 3, 2), LossForm("logistic", 3), LossForm("unlikelihood", 30), LossForm("weight", 10)]


def naive(form, row, gold, rival):
    """The formulae as they are written down (spec, section 12)."""
    p = torch.tensor([math.exp(z) for z in row.tolist()], dtype=torch.float64)
    p = p / p.sum()
    delta = float(row[gold] - row[rival])
    return (
        form.weight
        * {
            "margin": max(0.0, form.margin - delta),
            "logistic": math.log(1 + math.exp(-delta)),
            "unlikelihood": -math.log(1 - float(p[rival])),
            "weight": -math.log(float(p[gold])),
        }[form.kind]
    )


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 11, dtype=torch.float64, generator=generator)
    golds, rivals = torch.arange(6), torch.arange(6) + 4
    logits[0, 0] = logits[0, 4] + 5  # far beyond the margin
    return logits, golds, rivals


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_formulae_and_gradients(form, rows):
    logits, golds, rivals = rows
    wanted = [naive(form, *row) for row in zip(logits, golds.tolist(), rivals.tolist(), strict=True)]
    torch.testing.assert_close(row_loss(form, logits, golds, rivals), torch.tensor(wanted, dtype=torch.float64))
    leaf = logits.clone().requires_grad_()
    row_loss(form, leaf, golds, rivals).sum().backward()
    step, found = 1e-6, torch.zeros_like(logits)
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            ends = []
            for sign in (1, -1):
                moved = logits.clone()
                moved[i, j] += sign * step
                ends.append(float(row_loss(form, moved, golds, rivals)[i]))
            found[i, j] = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(leaf.grad, found, atol=1e-7, rtol=1e-6)
    assert float(leaf.grad.abs().sum()) > 1


def test_unlikelihood_is_stable_where_the_rival_is_all_but_certain():
    logits = torch.tensor([[0.0, 60.0, 0.0]], requires_grad=True)
    loss = row_loss(LossForm("unlikelihood", 1), logits, torch.tensor([0]), torch.tensor([1]))
    loss.sum().backward()
    assert float(loss) == pytest.approx(60 - math.log(2), abs=1e-5)  # -log(1 - p) would be infinite in float32
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 1.0, -0.5]]))


def test_16_bit_is_computed_in_32(rows):
    logits, golds, rivals = rows
    low = logits.to(torch.bfloat16)
    for form in FORMS:
        torch.testing.assert_close(row_loss(form, low, golds, rivals), row_loss(form, low.float(), golds, rivals))


def test_the_strongest_rival():
    logits = torch.tensor([[1.0, 3.0, 9.0], [2.0, 2.0, 1.0]])
    assert strongest(logits, torch.tensor([[5, 6, -1], [7, 8, 9]])).tolist() == [1, 0]


@pytest.mark.parametrize("items", [None, torch.tensor(23), 23])
def test_the_hosts_cross_entropy_and_terms_are_divided_alike(items):
    logits, labels = torch.randn(3, 9, 13), torch.randint(13, (3, 9))
    labels[0, :4] = labels[2] = -100
    counted = 5 + 8 if items is None else 23
    targets = [(row, at) for row in range(2) for at in range(1, 9) if labels[row, at] != -100]
    losses = [-logits[row, at - 1].double().log_softmax(0)[labels[row, at]] for row, at in targets]
    assert float(host_cross_entropy(logits, labels, items)) == pytest.approx(float(sum(losses)) / counted, abs=1e-6)
    assert float(per_item(torch.tensor([2.0, 3.0]), labels, items)) == pytest.approx(5 / counted)


def test_what_is_picked_has_the_gradient_of_indexing():
    logits, index = torch.randn(2, 5, 7), (torch.tensor([0, 1, 1]), torch.tensor([3, 0, 4]))
    found = []
    for pick in (picked, lambda x, *i: (x, x[i])):
        leaf = logits.clone().requires_grad_()
        through, wanted = pick(leaf, *index)
        (through.exp().sum() + wanted.square().sum()).backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)
    leaf = logits.clone().requires_grad_()
    picked(leaf, *index)[1].sum().backward()
    assert float(leaf.grad.sum()) == 3 * 7


@pytest.mark.parametrize("text", ["margin:3,2", "logistic:3", "unlikelihood:30", "weight:0.5"])
def test_forms_are_written_as_they_are_read(text):
    assert str(read_form(text)) == text


def test_none_is_no_form():
    assert read_form("none") is None


@pytest.mark.parametrize(("text", "said"), [
    ("hinge:3", "can't read"), ("margin", "can't read"), ("margin:3", "can't read"), ("logistic:3,2", "can't read"),
    ("weight:x", "can't read"), ("weight:-1", "the weight is out of range"), ("weight:nan", "the weight"),
    ("margin:3,inf", "the margin is out of range"), ("", "can't read"), ("margin:3,", "can't read"),
])  # fmt: skip
def test_bad_forms(text, said):
    with pytest.raises(UserError, match=said):
        read_form(text)


def naive_overlap(matrix, i, j):
    right, other = matrix[i], matrix[j]
    return (right @ other) ** 2 / ((right @ right) * (other @ other))


def test_penalties_on_the_geometry_and_their_gradients():
    matrix = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    golds, rivals = torch.tensor([0, 2, 2]), torch.tensor([5, 1, 7])
    everyone = [(i, j) for i in range(9) for j in range(9) if i != j]
    for penalty, pairs, mean in (
        (lambda m: pair_overlap(m, golds, rivals), [*zip(golds.tolist(), rivals.tolist(), strict=True)], False),
        (decorrelation, everyone, True),
    ):
        one, other = matrix.clone().requires_grad_(), matrix.clone().requires_grad_()
        found = penalty(one)
        wanted = sum(naive_overlap(other, i, j) for i, j in pairs) / (len(pairs) if mean else 1)
        torch.testing.assert_close(found, wanted)
        found.backward()
        wanted.backward()
        torch.testing.assert_close(one.grad, other.grad)
        assert torch.autograd.gradcheck(penalty, matrix.clone().requires_grad_())
        assert float((penalty(matrix - 1e-2 * one.grad) - found).detach()) < 0, "a step down lowers it"


def test_decorrelation_of_drawn_rows_and_rows_of_zeros():
    matrix = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:8]
    ids = torch.arange(len(matrix))
    found = decorrelation(matrix, 8, torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, decorrelation(matrix[drawn]))
    generator = torch.Generator().manual_seed(4)
    means = torch.stack([decorrelation(matrix, 8, generator) for _ in range(400)])
    assert float(means.mean()) == pytest.approx(float(decorrelation(matrix)), abs=4 * float(means.std()) / 20)
    torch.testing.assert_close(decorrelation(torch.cat([matrix, torch.zeros(5, 6)])), decorrelation(matrix))
    assert float(decorrelation(matrix[:1])) == float(decorrelation(torch.zeros(3, 2))) == 0
    torch.testing.assert_close(decorrelation(torch.eye(5).bfloat16()), torch.tensor(0.0))
    assert float(decorrelation(torch.ones(5, 3))) == pytest.approx(1, abs=1e-6)
    for tiny_or_huge in (1e-20, 1e25):
        other = matrix.clone()
        other[2] *= tiny_or_huge
        torch.testing.assert_close(decorrelation(other), decorrelation(matrix))
        torch.testing.assert_close(pair_overlap(other, ids[1:3], ids[2:4]), pair_overlap(matrix, ids[1:3], ids[2:4]))
    zeros = torch.cat([matrix, torch.zeros(50, 6)])
    assert float(decorrelation(zeros, 8, torch.Generator().manual_seed(3))) > 0.5 * float(decorrelation(matrix))


@pytest.mark.parametrize("rows", [-3, 0, 1, 2.5, True])
def test_a_penalty_of_too_few_rows_is_one_error(rows):
    with pytest.raises(UserError, match="the number of rows is out of range"):
        decorrelation(torch.ones(5, 3), rows)
    with pytest.raises(UserError, match="golds and rivals are no pairs"):
        pair_overlap(torch.ones(5, 3), torch.arange(1), torch.arange(2))
