"""What may be a learning rate, and how lists of them are read."""

from __future__ import annotations

import math

import pytest

from borngap.errors import UserError
from borngap.rates import check_rate, check_rates, read_rates


@pytest.mark.parametrize(
    ("rates", "message"),
    [([], "no learning rates"), ([0.0, 1.0], "positive and finite"), ([math.nan], "out of range"),
     ([1e-4, math.inf], "positive and finite"),
     ([2e-4, 1e-4], "do not increase"), ([1e-4, 1e-4], "do not increase")],
)  # fmt: skip
def test_bad_rates_are_refused(rates, message):
    with pytest.raises(UserError, match=message):
        check_rates(rates)


@pytest.mark.parametrize("rate", [0.0, -1e-4, math.inf, math.nan])
def test_a_bad_rate_is_refused_by_its_name(rate):
    check_rate(1e-4)
    with pytest.raises(UserError, match=r"the largest rate is out of range(.|\n)*a positive, finite number"):
        check_rate(rate, "the largest rate")


@pytest.mark.parametrize(
    ("text", "rates"),
    [("1e-4", (1e-4,)), ("1e-4, 3e-4", (1e-4, 3e-4)), ("1e-5:1e-3:3", (1e-5, 1e-4, 1e-3)), ("1:4:3", (1.0, 2.0, 4.0))],
)
def test_rates_are_read(text, rates):
    assert read_rates(text) == rates


@pytest.mark.parametrize(
    "text", ["", "a", "1e-5:1e-3", "1e-5:1e-3:x", "1e-3:1e-5:3", "0:1:3", "1e-5:1e-3:1", "1:inf:3"]
)
def test_rates_that_cannot_be_read(text):
    with pytest.raises(UserError, match=r"can't read the rates|a grid of rates is out of range"):
        read_rates(text)
