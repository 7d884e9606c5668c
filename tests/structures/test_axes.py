"""Axes of the graph."""

import pytest
import torch

import pomona
import zoo
from papergraph import PaperGraph, graph, linear
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, InputError, Member


def site(name):
    return next(s for s in Axes(("channel", "width")).sites(graph()) if s.name == name)


def test_families_and_patterns_choose():
    assert [s.name for s in Axes().sites(graph())] == ["conv1", "conv2"]
    assert [s.name for s in Axes(("width",)).sites(graph())] == ["stream"]
    assert [s.name for s in Axes(only=("conv1",)).sites(graph())] == ["conv1"]
    assert [s.name for s in Axes(keep=("conv1.bias",)).sites(graph())] == ["conv2"]


def test_all_frozen_is_refused_with_the_reason():
    with pytest.raises(InputError, match="it reaches the output"):
        Axes(("neuron",)).sites(graph())


def test_a_family_that_is_not_there_is_refused_with_those_that_can_be_pruned():
    with pytest.raises(InputError, match="no heads to prune; it has channels, width"):
        Axes(("head",)).sites(graph())


def test_units_gather_all_their_positions():
    fc = torch.arange(12.0 * 32).view(12, 32)
    values = {"fc.weight": fc, "conv2.weight": torch.ones(8, 8, 3, 3)}
    place, by_unit = site("conv2"), fc.view(12, 8, 4).sum((0, 2))
    torch.testing.assert_close(Axes().reduce(place, values, roles=("in",)), by_unit)
    torch.testing.assert_close(Axes().reduce(place, values, roles=("out", "in")), by_unit + 72)
    torch.testing.assert_close(Axes().reduce(place, values, how="mean", roles=("out", "in")), (by_unit + 72) / (48 + 72))
    torch.testing.assert_close(Axes().reduce(place, values, how="max", roles=("out", "in")), fc.view(12, 8, 4).amax((0, 2)))


def test_a_role_that_nothing_has_is_refused():
    with pytest.raises(InputError, match="its roles are in, out"):
        Axes().reduce(site("conv2"), {"fc.weight": torch.ones(12, 32)}, roles=("scale",))


def test_masks_broadcast_and_cover_flattened_positions():
    masks = Axes().expand(site("conv2"), torch.tensor([True] * 7 + [False]))
    assert masks["conv2.weight"].shape == (8, 1, 1, 1) and masks["fc.weight"].shape == (1, 32)
    assert masks["fc.weight"][0].tolist() == [True] * 28 + [False] * 4


def test_a_tensor_reached_along_two_dimensions_gets_both():
    weight = linear("a", 3, 3)
    square = Axis("w", 3, "width", (Member("a", "out", 0), Member("a", "in", 1)))
    place = Axes(("width",)).sites(PaperGraph({"a": weight}, {"w": square}))[0]
    mask = Axes().expand(place, torch.tensor([True, False, True]))["a"]
    assert mask.tolist() == [[True, False, True], [False] * 3, [True, False, True]]


def test_one_part_of_a_concatenation_leaves_the_rest_alone():
    weight = linear("a", 2, 5)
    part = Axis("p", 2, "channel", (Member("a", "in", 1, torch.tensor([[3], [4]])),))
    place = Axes().sites(PaperGraph({"a": weight}, {"p": part}))[0]
    assert Axes().expand(place, torch.tensor([False, True]))["a"].tolist() == [[True, True, True, False, True]]


def test_heads_that_share_keys_and_values_leave_by_groups_where_that_is_asked():
    kinds = ("head", "kv-group")
    model, args = zoo.llama()
    graph = pomona.trace(model, args)
    assert {site.axis.family for site in Axes(kinds).sites(graph)} == {"head", "kv-group"}
    assert {site.axis.family for site in Axes(kinds, shared=True).sites(graph)} == {"kv-group"}
    model, args = zoo.gpt2()
    assert {site.axis.family for site in Axes(kinds, shared=True).sites(pomona.trace(model, args))} == {"head"}
