"""The units of an axis change places, and the model stays what it is."""

import pytest
import torch
from torch import nn

import zoo
from pomona.graph import trace
from pomona.graph.precise import precise
from pomona.graph.proof import difference
from pomona.graph.reference import answer
from pomona.graph.reorder import fixed, reordered
from pomona.vocabulary import InputError


def shuffled(model, graph, seed=0):
    g = torch.Generator().manual_seed(seed)
    free = {name: axis for name, axis in graph.axes.items() if fixed(model, axis) is None}
    return {name: torch.randperm(axis.size, generator=g) for name, axis in free.items()}


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_a_model_with_all_its_axes_shuffled_is_the_same_function(make):
    model, args = make()
    graph = trace(model, args)
    positional, keywords = graph.program.example_inputs
    orders = shuffled(model, graph)
    made = reordered(model, graph, orders)
    moved = [n for n, p in made.named_parameters() if not torch.equal(p, model.get_parameter(n))]
    assert orders and len(moved) > len(orders)
    error = difference(answer(precise(made), positional, keywords), answer(precise(model), positional, keywords))
    assert error < 1e-9


def test_an_order_and_its_inverse_give_the_weights_back_and_ties_stay():
    model, args = zoo.gpt2()
    graph = trace(model, args)
    orders = shuffled(model, graph)
    back = reordered(reordered(model, graph, orders), graph, {name: order.argsort() for name, order in orders.items()})
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True))
    assert back.lm_head.weight is back.transformer.wte.weight


def test_what_is_not_moved_is_shared_and_the_model_is_untouched():
    model, args = zoo.mlp()
    graph = trace(model, args)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    name = next(iter(graph.atoms))
    made = reordered(model, graph, {name: torch.arange(graph.axes[name].size).flip(0)})
    touched = {member.tensor for member in graph.axes[name].members}
    for tensor, parameter in made.named_parameters():
        assert (parameter is not model.get_parameter(tensor)) == (tensor in touched)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


class Scaled(nn.Module):
    """What scales its units is not saved with it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.rand(8), persistent=False)

    def forward(self, x):
        return self.two(self.one(x) * self.scale)


def test_an_axis_on_a_tensor_that_is_not_saved_must_stay():
    model = Scaled()
    graph = trace(model, torch.randn(2, 4))
    axis = next(axis for axis in graph.axes.values() if axis.size == 8)
    assert fixed(model, axis) == "scale is not saved with the model"
    assert "input" in fixed(model, next(axis for axis in graph.axes.values() if axis.size == 4))


@pytest.mark.parametrize("order", [torch.tensor([0, 0, 1]), torch.arange(5)])
def test_what_is_no_order_of_an_axis_is_refused(order):
    model, args = zoo.mlp()
    graph = trace(model, args)
    with pytest.raises(InputError, match="not one of an axis"):
        reordered(model, graph, {next(iter(graph.atoms)): order})
    with pytest.raises(InputError, match="not one of an axis"):
        reordered(model, graph, {"nowhere:0": order})
