"""Whole kernels of convolutions."""

import pytest
import torch

import pomona
import zoo
from papergraph import PaperGraph, conv, linear
from pomona.structures import structure
from pomona.structures.kernels import Kernels
from pomona.vocabulary import InputError, Scores


def site(weight):
    return Kernels().sites(PaperGraph({weight.tensor: weight}))[0]


def test_a_kernel_is_all_positions_of_a_pair_of_channels():
    place = site(conv("c", 8, 4))
    assert place.shape == (8, 4) and place.units == 32
    w = torch.arange(8 * 4 * 9.0).view(8, 4, 3, 3)
    assert Kernels().reduce(place, {"c": w})[1, 2] == w[1, 2].sum()
    assert Kernels().reduce(place, {"c": w}, how="max")[7, 3] == 8 * 4 * 9 - 1
    keep = Kernels().select(place, Scores(torch.arange(32.0).view(8, 4)), torch.tensor(1))
    mask = Kernels().expand(place, keep)["c"]
    assert mask.shape == (8, 4, 3, 3) and mask.sum() == 9 and bool(mask[7, 3].all())


def test_rows_are_output_channels():
    place = site(conv("c", 8, 4))
    keep = Kernels().select(place, Scores(torch.rand(8, 4)), torch.full((8,), 3))
    assert keep.sum(1).tolist() == [3] * 8


def test_only_convolutions_have_kernels():
    graph = PaperGraph({w.tensor: w for w in (conv("c", 8, 4), linear("a", 3, 3))})
    assert [s.name for s in Kernels().sites(graph)] == ["c"]
    with pytest.raises(InputError, match="no convolutions"):
        site(linear("a", 3, 3))


def test_the_smallest_kernels_of_a_network_leave_as_wholes():
    model, args = zoo.vgg()
    result = pomona.prune(model, args, method="magnitude", structure="kernels", goal="units=0.5", latency=False)
    assert structure("kernels") == Kernels() and result.report.recipe.structure == "kernels"
    for name, weight in result.model.named_parameters():
        if weight.dim() == 4:
            alive = (weight != 0).flatten(2)
            assert torch.equal(alive.any(2), alive.all(2)), name
            dense = model.get_parameter(name).detach().abs().flatten(2).sum(2)
            kept = alive.any(2)
            assert kept.all() or not kept.any() or dense[kept].min() >= dense[~kept].max()
