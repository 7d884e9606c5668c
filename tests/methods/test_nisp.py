"""Neuron importance score propagation (Yu et al., 2018)."""

from statistics import mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import zoo
from filter_trial import Reversed, left
from pomona import trace
from pomona.collect import collect
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.nisp import Nisp
from pomona.probes.propagation import Propagation, propagated
from pomona.structures.axes import Axes
from pomona.vocabulary import Batch, View


def mlp(*matrices):
    layers = []
    for w in matrices:
        layers += [nn.Linear(w.shape[1], w.shape[0]), nn.ReLU()]
        layers[-2].weight.data.copy_(w)
    return nn.Sequential(*layers[:-1])


def carried(model, names, response, scores, shape):
    found = propagated(model, Batch((torch.randn(3, *shape),)), names, response, torch.tensor(scores))
    return [found[name][0] for name in names]


def test_scores_go_back_through_absolute_weights():
    model = mlp(torch.ones(3, 1), torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.0, 2.0]]), torch.ones(4, 2))
    hidden, first = carried(model, ["2.weight", "0.weight"], "4.weight", [1.0, 2.0], (1,))
    assert hidden.tolist() == [2.0, 1.0, 4.0]
    assert first.tolist() == [7.0]


def score(model, site, args, criterion, structure):
    stats = collect(model, [site], criterion.needs, [args])[site.name]
    tensors = {m.tensor: model.get_parameter(m.tensor).detach() for m in site.members if not m.buffer}
    return criterion.score(View(site, structure, tensors, torch.ones(site.shape, dtype=torch.bool), stats)).value


def test_equal_responses_behind_one_layer_are_its_outgoing_l1_norms():
    model, args = zoo.mlp()
    structure = Axes(("neuron",))
    first = structure.sites(trace(model, args))[0]
    found = score(model, first, args, Nisp(Propagation("equal")), structure)
    outgoing = score(model, first, args, Magnitude("l1", roles=("in",)), structure)
    assert_close(found, outgoing / outgoing.max())


def test_it_is_linear_in_the_final_scores():
    model, args = zoo.vgg()
    one, two, both = (
        propagated(model, Batch(args), ["features.3.weight"], "classifier.4.weight", s)["features.3.weight"]
        for s in (torch.arange(20.0), torch.ones(20), 2 * torch.arange(20.0) + torch.ones(20))
    )
    assert_close(2 * one + two, both)


@settings(max_examples=25)
@given(seed=st.integers(0, 100_000))
def test_what_masking_does_to_the_responses_is_within_the_bound(seed):
    g = torch.Generator().manual_seed(seed)
    model = mlp(*(torch.randn(s, generator=g) for s in ((6, 4), (5, 6), (3, 5), (2, 3)))).double()
    s = torch.rand(3, generator=g)
    carried_back = propagated(model.float(), Batch((torch.randn(1, 4),)), ["2.weight"], "6.weight", s)["2.weight"][0]
    model, x = model.double(), torch.randn(4, generator=g, dtype=torch.float64)
    keep = torch.rand(6, generator=g) > 0.5
    hidden = model[:2](x)
    change = (model[2:6](hidden) - model[2:6](hidden * keep)).abs() @ s.double()
    assert change <= (carried_back * hidden.abs())[~keep].sum() * (1 + 1e-9) + 1e-9


class Residual(nn.Module):
    """A stream that two branches read and write, with a batch norm in one of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.norm(self.a(x)))
        return self.head((x + self.b(x)).mean((2, 3)))


def test_a_residual_stream_is_worth_what_all_that_read_it_are():
    torch.manual_seed(0)
    model = Residual().eval()
    model.norm.running_var.uniform_(0.5, 2.0)
    args = (torch.randn(2, 2, 6, 6),)
    (site,) = Axes(("channel",)).sites(trace(model, args))
    needs = Nisp(Propagation("equal")).needs
    found = collect(model, [site], needs, [args])[site.name][needs[0]]
    a, b = (m.weight.detach().abs().double() for m in (model.a, model.b))
    ones = torch.ones(1, 4, 6, 6, dtype=torch.float64) / 36
    second = nn.functional.conv_transpose2d(ones, b)  # what the head wants of the stream, seen through b
    scale = (model.norm.weight.double() / (model.norm.running_var.double() + 1e-5).sqrt()).detach().view(1, -1, 1, 1)
    first = nn.functional.conv_transpose2d((ones + second) * scale, a, padding=1)
    assert_close(found, (ones + second + first).sum((0, 2, 3)))


@pytest.mark.parametrize("make", [zoo.resnet, zoo.mobilenet, zoo.densenet, zoo.convnext, zoo.senet, zoo.vit, zoo.llama, zoo.bert])
def test_every_axis_that_weights_read_is_scored(make):
    model, args = make()
    structure = Axes(("channel", "neuron", "group", "head", "kv-group", "width"))
    sites = structure.sites(trace(model, args))
    stats = collect(model, sites, Nisp().needs, [args])
    for site in sites:
        value = Nisp().score(View(site, structure, {}, torch.ones(site.shape, dtype=torch.bool), stats[site.name])).value
        assert value.shape == site.shape and torch.isfinite(value).all() and value.max() == 1 and (value > 0).all()


def test_keeping_what_the_responses_need_beats_keeping_what_they_do_not_on_digits():
    high, low = ([left(criterion, seed, "0.12x", 10) for seed in range(2)] for criterion in (Nisp(), Reversed(Nisp())))
    assert mean(high) > mean(low)
