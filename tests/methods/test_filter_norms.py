"""Pruning filters by their norms (Li et al., 2017)."""

import torch
from torch.testing import assert_close

from handmade import axis_site, filters, net, view
from pomona.criteria.magnitude import Magnitude
from pomona.structures.axes import Axes

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
