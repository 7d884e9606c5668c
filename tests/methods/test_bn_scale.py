"""Network slimming's criterion: the scale of the normalisation (Liu et al., 2017)."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from handmade import axis_site, net, view
from pomona.criteria.norm_scale import NormScale
from pomona.structures.axes import Axes
from pomona.vocabulary import Member, Site


def test_scores_are_absolute_scales_and_nothing_else():
    model = net()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([0.9, -0.1, 0.5, 0.05, 0.7]))
    scores = NormScale().score(view(model, axis_site()))
    assert_close(scores.value, torch.tensor([0.9, 0.1, 0.5, 0.05, 0.7]))
    assert Axes().select(axis_site(), scores, torch.tensor(3)).tolist() == [True, False, True, False, True]


def test_several_norms_on_one_axis_are_averaged():
    members = (Member("a.weight", "scale", 0), Member("b.weight", "scale", 0), Member("a.bias", "scale", 0))
    values = {"a.weight": torch.tensor([1.0, -3.0]), "b.weight": torch.tensor([2.0, 1.0]), "a.bias": torch.tensor([9.0, 9.0])}
    site = Site("s", "axis", (2,), members)
    given = replace(view(net(), axis_site()), site=site, tensors=values, alive=torch.ones(2, dtype=torch.bool))
    assert_close(NormScale().score(given).value, torch.tensor([1.5, 2.0]))
