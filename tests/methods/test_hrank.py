"""Ranks of feature maps (Lin et al., 2020)."""

from statistics import mean

import pytest
import torch
from torch import nn

import digits
import zoo
from filter_trial import Reversed, left, trained
from pomona import trace
from pomona.collect import collect
from pomona.criteria.hrank import HRank
from pomona.statistics.map_rank import MapRank
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, InputError, Member, Site, View


def axis(tensor, units, index=None, family="channel", dim=1):
    members = (Member(tensor, "in", dim, index),)
    return Site("a", "axis", (units,), members, axis=Axis("a", units, family, members))


def ranks(model, site, *batches):
    return collect(model, [site], [MapRank()], batches)["a"][MapRank()].tolist()


CONV = nn.Sequential(nn.Conv2d(4, 1, 3))
MAPS = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.outer(torch.arange(8.0), torch.arange(3.0, 11.0)), torch.eye(8)])


def test_ranks_of_zero_constant_outer_product_and_identity():
    assert ranks(CONV, axis("0.weight", 4), MAPS.unsqueeze(0)) == [0, 1, 1, 8]


def test_batches_of_unequal_size_count_by_their_images():
    maps = torch.stack([MAPS, MAPS, MAPS.flip(0)])
    assert ranks(CONV, axis("0.weight", 4), maps[:2], maps[2:]) == pytest.approx([8 / 3, 1, 1, 16 / 3])


def test_the_size_of_a_map_changes_nothing_but_breaks_ties():
    site, scales = axis("0.weight", 4), torch.tensor([1.0, 1e3, 1e-3, 1.0]).view(1, 4, 1, 1)
    assert ranks(CONV, site, MAPS.unsqueeze(0) * scales) == [0, 1, 1, 8]
    stats = collect(CONV, [site], HRank().needs, [MAPS.unsqueeze(0) * scales])["a"]
    scores = HRank().score(View(site, Axes(), {}, torch.ones(4, dtype=torch.bool), stats))
    assert scores.order.tolist() == [0, 2, 1, 3]


def test_singular_values_count_down_to_the_spacing_of_float32():
    nearly = torch.ones(1, 4, 8, 8) + torch.tensor([0.0, 2e-6, 1e-4, 1e-2]).view(1, 4, 1, 1) * torch.eye(8)
    assert ranks(CONV, axis("0.weight", 4), nearly) == [1, 1, 8, 8]  # seven are e, and the limit is 8 * 8 * 1.2e-7


def test_a_flattened_square_map_is_folded_back():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4 * 64, 2))
    site = axis("1.weight", 4, torch.arange(256).view(4, 64))
    assert ranks(model, site, MAPS.unsqueeze(0)) == [0, 1, 1, 8]


def test_a_head_is_features_by_tokens():
    x = torch.zeros(1, 5, 6)  # five tokens, two heads of three features
    x[0, :, :3] = torch.randn(5, 1) * torch.randn(3)
    x[0, :, 3:] = torch.randn(5, 3)
    site = axis("0.weight", 2, torch.arange(6).view(2, 3), "head")
    assert ranks(nn.Sequential(nn.Linear(6, 2)), site, x) == [1, 3]


def test_neurons_have_no_rank():
    with pytest.raises(InputError, match=r"single numbers at each position.*skip it"):
        ranks(nn.Sequential(nn.Linear(4, 2)), axis("0.weight", 4, family="neuron"), torch.randn(8, 4))


@pytest.mark.parametrize(("make", "families"), [(zoo.resnet, ("channel",)), (zoo.vit, ("head",)), (zoo.densenet, ("channel",))])
def test_every_channel_and_head_of_a_traced_model_has_one(make, families):
    model, args = make()
    sites = Axes(families).sites(trace(model, args))
    stats = collect(model, sites, [MapRank()], [args])
    assert all(stats[site.name][MapRank()].shape == site.shape for site in sites)
    assert any(stats[site.name][MapRank()].max() > 1 for site in sites)


def spearman(a, b):
    return torch.corrcoef(torch.stack([a.argsort().argsort().float(), b.argsort().argsort().float()]))[0, 1]


def test_which_images_are_used_hardly_matters():
    model, (x, *_) = trained(0), digits.digits()
    site = Axes(("channel",)).sites(trace(model, x[:2]))[0]  # maps of 8 x 8; the 4 x 4 of the other have too few ranks to tell
    one, two = (collect(model, [site], [MapRank()], [images])[site.name][MapRank()] for images in (x[:64], x[64:128]))
    assert spearman(one, two) > 0.9


def test_keeping_high_ranks_beats_keeping_low_ones_on_digits():
    high, low = ([left(criterion, seed, "0.12x", 10) for seed in range(2)] for criterion in (HRank(), Reversed(HRank())))
    assert mean(high) > mean(low) + 0.05
