"""Optimal brain damage with the Fisher diagonal (LeCun et al., 1989)."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import axis_site, data, linear_site, net, view
from pomona.collect import collect
from pomona.criteria.fisher import Fisher
from pomona.criteria.magnitude import Magnitude
from pomona.structures.weights import Weights
from pomona.vocabulary import View


def fisher(model, site, batches, loss):
    stats = collect(model, [site], Fisher().needs, batches, loss)[site.name]
    values = {m.tensor: model.get_parameter(m.tensor).detach() for m in site.members if not m.buffer}
    return View(site, Weights(), values, torch.ones(site.shape, dtype=torch.bool), stats)


def test_curvature_outvotes_magnitude():
    # loss = g . w for examples (2, 0), (-2, 0), (0, 1), (0, -1): mean squared gradients (2, 1/2), mean gradient 0.
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, 0.9]]))
    x = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    seen = fisher(model, linear_site("0.weight", (1, 2)), [(x, torch.zeros(4))], lambda out, target: out.mean())
    assert_close(Fisher().score(seen).value, torch.tensor([[2 * 0.25 / 2, 0.5 * 0.81 / 2]]))
    assert Fisher().score(seen).value.argmin() == 1
    assert Magnitude().score(seen).value.argmin() == 0


def test_examples_that_contradict_each_other_do_not_cancel():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    x, target = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    seen = fisher(model, linear_site("0.weight", (1, 1)), [(x, target)], lambda out, t: out.mean())
    assert_close(Fisher().score(seen).value, model[0].weight.detach().square() / 2)


def test_elements_equal_a_loop_over_examples():
    model, (x, y) = net(), data(12)
    site = linear_site("fc.weight", (6, 80))
    squares = torch.zeros(6, 80)
    for i in range(12):
        (g,) = torch.autograd.grad(cross_entropy(model(x[i : i + 1]), y[i : i + 1]), model.fc.weight)
        squares += g.square() / 12
    seen = fisher(model, site, [(x[:5], y[:5]), (x[5:], y[5:])], cross_entropy)
    assert_close(Fisher().score(seen).value, squares * model.fc.weight.detach().square() / 2)


def test_a_channel_is_the_sum_over_its_filter():
    model, (x, y) = net(), data(6)
    stats = collect(model, [axis_site()], Fisher().needs, [(x, y)], cross_entropy)["channels"]
    weight = linear_site("conv.weight", (5, 2, 3, 3))
    elements = Fisher().score(fisher(model, weight, [(x, y)], cross_entropy)).value
    assert_close(Fisher().score(view(model, axis_site(), stats)).value, elements.sum((1, 2, 3)))
