"""Pruning filters by their norms (Li et al., 2017)."""

import torch
from torch import nn
from torch.testing import assert_close

import pomona
import zoo
from handmade import axis_site, filters, net, view
from pomona.criteria.magnitude import Magnitude
from pomona.structures.axes import Axes
from pomona.vocabulary import View

FILTERS = torch.tensor([[1.0, -1.0], [0.5, 0.0], [2.0, 0.0]])


def test_the_norms_of_the_card():
    assert_close(Magnitude("l1").score(filters(FILTERS)).value, torch.tensor([2.0, 0.5, 2.0]))
    assert_close(Magnitude("l2").score(filters(FILTERS)).value, torch.tensor([2**0.5, 0.5, 2.0]))
    assert_close(Magnitude("linf").score(filters(FILTERS)).value, torch.tensor([1.0, 0.5, 2.0]))


def test_removing_one_takes_the_smallest_filter():
    scores = Magnitude("l1").score(filters(FILTERS))
    keep = Axes().select(filters(FILTERS).site, scores, torch.tensor(2))
    assert keep.tolist() == [True, False, True]


def test_only_the_filters_count_by_default_and_readers_when_asked():
    model = net()
    by_filter = model.conv.weight.abs().sum((1, 2, 3))
    assert_close(Magnitude().score(view(model, axis_site())).value, by_filter.detach())
    readers = model.fc.weight.abs().reshape(6, 5, 16).sum((0, 2))
    both = Magnitude(roles=("out", "in")).score(view(model, axis_site())).value
    assert_close(both, (by_filter + readers).detach())


def plain():
    """16 -> 32 -> 32 channels, then a layer that stays: on 8 x 8 pixels."""
    torch.manual_seed(0)
    convs = (nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, bias=False))
    return nn.Sequential(*convs), torch.randn(1, 16, 8, 8)


def test_costs_fall_as_counted_by_hand():
    model, x = plain()
    with torch.no_grad():
        model[0].weight[::4] = 0
    result = pomona.prune(model, x, method="l1-filters", goal="macs=0.75x", latency=False)
    assert result.plan.keep("0.weight:0").tolist() == [i % 4 != 0 for i in range(32)]
    assert_close(result.model(x), model(x))  # empty filters leave without a trace
    assert [tuple(m.weight.shape) for m in (result.model[0], result.model[2])] == [(24, 16, 3, 3), (32, 24, 3, 3)]
    report = result.report["macs"]
    assert (report["before"], report["after"]) == (64 * 9 * (16 * 32 + 32 * 32), 64 * 9 * (16 * 24 + 24 * 32))


def test_in_rounds_columns_of_removed_channels_no_longer_count():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 1)
    )
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([0.1, 1.0]).view(2, 1, 1, 1)
        model[2].weight[:] = torch.tensor([[9.0, 0.1], [0.0, 1.0], [0.0, 2.0]]).view(3, 2, 1, 1)
    x = torch.randn(1, 1, 4, 4)
    graph = pomona.trace(model, x)
    second = next(s for s in Axes().sites(graph) if s.name == "2.weight:0")

    def smallest():
        tensors = dict(model.named_parameters())
        given = View(second, Axes(), tensors, torch.ones(3, dtype=torch.bool))
        return int(Magnitude().score(given).value.argmin())

    assert smallest() == 1
    with torch.no_grad():
        model[2].weight[:, 0] = 0  # what the engine does between rounds, once the first channel has left
    assert smallest() == 0


def test_layers_on_one_residual_stream_keep_the_same_filters():
    model, args = zoo.resnet()
    result = pomona.prune(model, args, method="l1-filters", goal="params=0.5x", latency=False)
    keep = result.plan.keep("conv1.weight:0")
    for name in ("conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv2.weight"):
        assert_close(result.model.get_parameter(name).shape[0], int(keep.sum()))
    assert torch.equal(result.model.layer1[0].bn2.weight, model.layer1[0].bn2.weight[keep])
    assert torch.equal(result.model.layer1[1].bn2.weight, model.layer1[1].bn2.weight[keep])
