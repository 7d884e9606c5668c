"""Limits become integers."""

import pytest

from papergraph import graph
from pomona.allocations.uniform import Uniform
from pomona.engines.budget import budget
from pomona.engines.prices import price
from pomona.structures.axes import Axes
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import Goal, InputError, Limits

STRUCTURE = Union((Axes(), Weights(only=("fc",))))
SITES = STRUCTURE.sites(graph())
PRICE = price(Goal("sparsity", 0.5), graph(), SITES, STRUCTURE)


def bound(ratio=0.5, **limits):
    return budget(Goal("sparsity", ratio), Limits(**limits), PRICE, SITES)


def test_one_unit_stays_unless_more_is_asked_for():
    made = bound(minimum={"conv1": 0.3}, maximum={"conv*": 0.5})
    assert made.lower == {"conv1": 3, "conv2": 1, "fc.weight": 1}
    assert made.upper == {"conv1": 4, "conv2": 4, "fc.weight": 384}


def test_the_first_pattern_wins():
    assert bound(minimum={"conv2": 0.5, "conv*": 0.25}).lower["conv2"] == 4


def test_multiples_bind_axes_only():
    assert bound(multiple=4).multiple == {"conv1": 4, "conv2": 4}
    assert bound().multiple == {}


def test_a_whole_unit_is_not_lost_to_rounding():
    for percent in range(1, 100):
        limit = bound(ratio=percent / 100).limit
        assert int(limit * 100 / PRICE.dense + 1e-9) == percent and limit >= PRICE.dense * percent / 100


SENSELESS = [
    {"minimum": {"conv1": 1.5}},
    {"maximum": {"nothing": 0.5}},
    {"multiple": 0},
    {"minimum": {"*": 0.9}, "maximum": {"*": 0.5}},
]


@pytest.mark.parametrize("limits", SENSELESS)
def test_senseless_limits_are_refused(limits):
    with pytest.raises(InputError):
        bound(**limits)


@pytest.mark.parametrize("cost", ["sparsity", "params", "macs"])
@pytest.mark.parametrize("structure", [Axes(("channel", "width")), STRUCTURE], ids=str)
@pytest.mark.parametrize("ratio", [0.9, 0.7, 0.6])
def test_real_prices_are_met_within_one_unit(cost, structure, ratio):
    sites = structure.sites(graph())
    made = price(Goal(cost, ratio), graph(), sites, structure)
    keeps = Uniform().allocate({s.name: s for s in sites}, {}, budget(Goal(cost, ratio), Limits(), made, sites))
    assert made(keeps) <= ratio * made.dense * (1 + 1e-9)
    assert any(made({**keeps, s.name: keeps[s.name] + 1}) > ratio * made.dense for s in sites)
