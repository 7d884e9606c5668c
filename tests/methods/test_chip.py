"""Channel independence by nuclear norms (Sui et al., 2021)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import zoo
from pomona import trace
from pomona.collect import collect
from pomona.criteria.channel_independence import ChannelIndependence
from pomona.statistics.independence import Independence, loss
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, Member, Site, View


def brute(rows):
    """By a singular value decomposition for every unit."""
    whole, found = torch.linalg.matrix_norm(rows, "nuc"), []
    for i in range(len(rows)):
        without = rows.clone()
        without[i] = 0
        found.append(whole - torch.linalg.matrix_norm(without, "nuc"))
    return torch.stack(found)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_duplicates_lose_less_than_a_loner_of_the_same_norm():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert_close(loss(rows), torch.tensor([2**0.5 - 1, 2**0.5 - 1, 1.0], dtype=torch.float64))


def test_orthogonal_rows_lose_their_norms_and_a_zero_row_nothing():
    rows = torch.linalg.qr(random(9, 4)).Q.T * torch.tensor([[3.0], [0.0], [1.0], [0.5]])
    assert_close(loss(rows), torch.tensor([3.0, 0.0, 1.0, 0.5], dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_gram_matrices_of_either_side_equal_singular_values(shape):
    assert_close(loss(random(*shape)), brute(random(*shape)), rtol=1e-6, atol=1e-9)


def test_nothing_changes_with_the_order_of_pixels_and_scale_scales():
    rows = random(5, 12)
    assert_close(loss(rows[:, torch.randperm(12)]), loss(rows))
    assert_close(loss(3 * rows), 3 * loss(rows))
    assert (loss(random(7, 3)) >= 0).all()


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_singular_values_of_every_size_and_none_are_within_reach(shape):
    u, v = (torch.linalg.qr(random(n, 30, seed=n)).Q for n in shape)
    values = torch.logspace(0, -6, 30, dtype=torch.float64)
    values[-5:] = 0
    rows = u * values @ v.T
    assert_close(loss(rows), brute(rows), rtol=1e-5, atol=3e-8)


def axis(units, *tensors):
    members = tuple(Member(tensor, "in", 1) for tensor in tensors)
    return Site("a", "axis", (units,), members, axis=Axis("a", units, "channel", members))


def independence(model, site, *batches):
    return collect(model, [site], [Independence()], batches)["a"][Independence()]


def test_images_are_averaged_after_their_norms():
    x = random(3, 4, 5, 5).float()
    model = nn.Sequential(nn.Conv2d(4, 2, 3))
    expected = torch.stack([brute(image.flatten(1).double()) for image in x]).mean(0)
    assert_close(independence(model, axis(4, "0.weight"), x[:1], x[1:]), expected)


class Two(nn.Module):
    """A convolution and a pooled linear layer that read the same map, as the end of a residual stream is read."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(4, 2, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.conv(x).mean((2, 3)) + self.fc(x.mean((2, 3)))


def test_a_reader_behind_global_pooling_does_not_count_beside_one_that_sees_maps():
    x = random(3, 4, 5, 5).float()
    alone = independence(nn.Sequential(nn.Conv2d(4, 2, 3)), axis(4, "0.weight"), x)
    assert_close(independence(Two(), axis(4, "conv.weight", "fc.weight"), x), alone)


def test_where_an_example_is_one_position_all_examples_are_the_columns():
    x = random(40, 4).float()
    expected = brute(x.double().T) / 40**0.5
    assert_close(independence(nn.Sequential(nn.Linear(4, 2)), axis(4, "0.weight"), x[:7], x[7:]), expected)


def test_near_duplicates_go_first_where_their_norms_would_not_tell():
    rows = torch.nn.functional.normalize(random(16, 64), dim=1)
    rows[8:12] = rows[:4] + 0.02 * random(4, 64, seed=1)  # four pairs and eight loners
    pairs = {*range(4), *range(8, 12)}
    assert set(loss(rows).argsort()[:8].tolist()) == pairs
    assert set(rows.abs().sum(1).argsort()[:8].tolist()) != pairs


@pytest.mark.parametrize("make", [zoo.vgg, zoo.vit, zoo.mlp, zoo.gpt2])
def test_axes_of_every_family_have_a_score(make):
    model, args = make()
    structure = Axes.read("axes")
    for site in structure.sites(trace(model, args)):
        if any(m.role == "in" and not m.buffer for m in site.members):
            stats = collect(model, [site], ChannelIndependence().needs, [args])[site.name]
            score = ChannelIndependence().score(View(site, structure, {}, torch.ones(site.shape, dtype=torch.bool), stats)).value
            assert score.shape == site.shape and torch.isfinite(score).all() and score.max() > 0
