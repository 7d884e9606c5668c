"""A float64 copy is told from anything that is not one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pomona.graph.alike import unlike
from pomona.graph.precise import precise


class Holding(nn.Module):
    """A module that holds what modules hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)])
        self.config = SimpleNamespace(heads=2, widths=[4, 4], rope={"theta": 1e4})
        self.act, self.later, self.own = partial(torch.add, alpha=2), self.layers[0].forward, [self]
        self.table, self.shape = torch.arange(3.0), (2, 3)


CHANGES: dict[str, Callable[[Holding], object]] = {
    "an integer": lambda m: setattr(m.layers[0], "in_features", 5),
    "a place of a tuple": lambda m: setattr(m, "shape", (2, 4)),
    "what an object holds": lambda m: setattr(m.config, "heads", 3),
    "what a list in an object holds": lambda m: m.config.widths.append(1),
    "what a dictionary in an object holds": lambda m: m.config.rope.update(theta=1.0),
    "what a function is called with": lambda m: setattr(m, "act", partial(torch.add, alpha=3)),
    "a function": lambda m: setattr(m, "act", torch.sub),
    "whose method it is": lambda m: setattr(m, "later", nn.Linear(4, 4).forward),
    "a tensor beside the state": lambda m: m.table.add_(1),
    "a buffer": lambda m: m.layers[1].running_mean.add_(1e-6),
    "a class": lambda m: setattr(m.layers[0], "__class__", type("Linear", (nn.Linear,), {})),
    "a hook": lambda m: m.layers[0].register_forward_hook(lambda *a: None),
    "another module": lambda m: m.layers.append(nn.ReLU()),
}


def test_a_copy_in_float64_is_alike() -> None:
    small = Holding()
    small.register_forward_hook(print)
    assert unlike(precise(small), small) == set()


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_difference_than_one_of_weights_is_seen(change: str) -> None:
    small = Holding()
    twin = precise(small)
    CHANGES[change](small)
    assert unlike(twin, small) is None


def test_weights_that_differ_are_named() -> None:
    small = Holding()
    twin = precise(small)
    with torch.no_grad():
        small.layers[0].weight[0, 0] += 1e-7
    assert unlike(twin, small) == {"layers.0.weight"}


def test_sets_are_alike_however_they_came_about_and_not_when_an_entry_differs():
    one, other = Holding(), Holding()
    other.load_state_dict(one.state_dict())
    one.ties, other.ties = {0, 8}, {8, 0}
    assert list(one.ties) != list(other.ties) and unlike(precise(one), other) == set()
    other.ties = {8, 1}
    assert unlike(precise(one), other) is None
