"""Biases of zero where a class has none: another model, the same function."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pomona.graph.biases import Biases, biased, takes_bias
from pomona.vocabulary import InputError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(bias=False, inner=SimpleNamespace(bias=False))
        self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x).relu())


def test_a_copy_has_them_and_is_the_same_function():
    net, x = Net().double(), torch.randn(5, 3, dtype=torch.float64)
    made = biased(net, Biases({"a.bias": 4}, ("inner.bias",)))
    assert torch.equal(made(x), net(x)) and made.a.bias.dtype == torch.float64 and not made.a.bias.any()
    assert made.config.inner.bias and not made.config.bias
    assert net.a.bias is None and not net.config.inner.bias and made.a.weight is net.a.weight
    with torch.no_grad():
        made.a.bias += 1
    assert not torch.equal(made(x), net(x))


def test_biases_that_are_there_stay():
    net = Net()
    made = biased(net, Biases({"b.bias": 2}))
    assert made.b.bias is net.b.bias


def test_a_module_of_two_names_is_given_one():
    net = Net()
    net.again = net.a
    made = biased(net, Biases({"a.bias": 4, "again.bias": 4}))
    assert made.again is made.a and made.a.bias.shape == (4,)


@pytest.mark.parametrize("name", ["b.bias", "c.bias", "a.shift", "config.bias"])
def test_where_there_is_no_room_it_is_refused(name):
    assert not takes_bias(Net(), name)
    with pytest.raises(InputError, match="cannot be given the bias"):
        biased(Net(), Biases({name: 7}))


def test_they_are_plain_data():
    told = Biases({"a.bias": 4}, ("mlp_bias",))
    assert Biases.from_json(told.to_json()) == told and Biases.from_json({}) == Biases()
