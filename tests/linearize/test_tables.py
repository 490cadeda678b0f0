"""Tables that bound the norms of the rows that they look up."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.linearize.dense import dense, evaluate, relative
from tests.linearize.zoo import Net, parameter
from torch import nn
from torch.nn import functional as F

from steepest.errors import InvalidArgument
from steepest.linearize import Linearization

X = torch.tensor([[0, 1], [2, 0], [1, 1]])
OTHER = torch.tensor([[3, 4], [2, 5]])

ALONE = {
    "embedding": lambda: nn.Embedding(6, 3, max_norm=1.0),
    "of another norm": lambda: nn.Embedding(6, 3, max_norm=1.0, norm_type=1.0),
    "sparse": lambda: nn.Embedding(6, 3, max_norm=1.0, sparse=True),
    "sum of a bag": lambda: nn.EmbeddingBag(6, 3, max_norm=1.0, mode="sum"),
    "mean of a bag": lambda: nn.EmbeddingBag(6, 3, max_norm=1.0),
    "below a layer": lambda: Net(
        lambda s, x: s.a(s.t(x).mean(1)), t=nn.Embedding(6, 3, max_norm=1.0), a=nn.Linear(3, 2)
    ),
    "frozen": lambda: Net(
        lambda s, x: s.a(s.t(x).mean(1)),
        t=nn.Embedding(6, 3, max_norm=1.0).requires_grad_(False),
        a=nn.Linear(3, 2),
    ),
    "as a function, within its bound": lambda: Net(
        lambda s, x: F.embedding(x, s.w, max_norm=100.0).sum(1), w=parameter(6, 3)
    ),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", ALONE)
def test_a_bounded_table_is_that_after_the_bound_and_the_users_stays(name, check):
    model = ALONE[name]().double()
    before = copy.deepcopy(model.state_dict())
    lin = Linearization(model, X, check=check)
    features, fresh, predictions = lin.features(), lin.features(OTHER), lin.predictions(OTHER)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert relative(features, dense(model, (X,))) < 1e-10
    assert relative(fresh, dense(model, (OTHER,))) < 1e-10
    assert relative(predictions, evaluate(model, (OTHER,)).detach()) < 1e-10


def tied(first):
    table, head = nn.Embedding(6, 3, max_norm=1.0), nn.Linear(3, 6)
    head.weight = table.weight
    parts = {"t": table, "h": head} if first == "table" else {"h": head, "t": table}
    return Net(lambda s, x: s.h(s.t(x).mean(1)), **parts)


CHANGING = {
    "as a function": lambda: Net(lambda s, x: F.embedding(x, s.w, max_norm=1.0).sum(1), w=parameter(6, 3)),
    "a bag as a function": lambda: Net(lambda s, x: F.embedding_bag(x, s.w, max_norm=1.0), w=parameter(6, 3)),
    "tied to the head": lambda: tied("table"),
    "tied to the head before it": lambda: tied("head"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_a_bound_that_changes_what_others_see_is_refused_with_the_reason(name):
    """Which rows have been bounded depends on what was looked up before: the outputs are those of no function of x."""
    model = CHANGING[name]().double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InvalidArgument, match=r"same outputs whenever .*calls that change .*max_norm"):
        Linearization(model, X)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
