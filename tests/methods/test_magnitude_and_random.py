"""The two baselines: magnitude and chance."""

import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import data, element_site, linear_site, net, view
from pomona.collect import collect
from pomona.criteria.gradient_magnitude import GradientMagnitude
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.structures.weights import Weights
from pomona.vocabulary import View


def test_single_weights_are_ranked_by_their_absolute_value_under_every_norm():
    model = net()
    for norm in ("l1", "l2", "linf"):
        assert_close(Magnitude(norm).score(view(model, element_site())).value, model.conv.weight.detach().abs())


def test_magnitude_keeps_the_largest():
    site = linear_site("w", (2, 3))
    given = View(site, Weights(), {"w": torch.tensor([[0.1, -5.0, 2.0], [-0.2, 0.3, -3.0]])}, torch.ones(2, 3, dtype=torch.bool))
    keep = Weights().select(site, Magnitude().score(given), torch.tensor(3))
    assert keep.tolist() == [[False, True, True], [False, False, True]]


def test_chance_follows_the_seed_and_nothing_else():
    one, same, other = (Random().score(view(net(seed), element_site(), seed=s)).value for seed, s in ((0, 1), (9, 1), (0, 2)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0 and one.max() < 1


def test_the_gradient_is_averaged_before_its_absolute_value_and_the_dead_have_one_too():
    model, (x, y) = net(), data(12)
    with torch.no_grad():
        model.fc.weight[0] = 0
    site = linear_site("fc.weight", (6, 80))
    stats = collect(model, [site], GradientMagnitude().needs, [(x[:4], y[:4]), (x[4:], y[4:])], cross_entropy)[site.name]
    (g,) = torch.autograd.grad(cross_entropy(model(x), y), model.fc.weight)
    value = GradientMagnitude().score(view(model, site, stats)).value
    assert_close(value, g.abs())
    assert value[0].max() > 0
