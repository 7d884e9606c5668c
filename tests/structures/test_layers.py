"""Residual blocks, and unions."""

import pytest
import torch

from papergraph import PaperGraph, graph
from pomona.structures.axes import Axes
from pomona.structures.layers import Layers
from pomona.structures.n_m import NM
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError


def test_blocks_gather_their_parameters():
    site = Layers().sites(graph())[0]
    assert (site.name, site.kind, site.shape, site.blocks) == ("blocks", "branch", (2,), ("blocks.0", "blocks.1"))
    values = {"blocks.0.map.weight": torch.ones(12, 12), "blocks.1.map.weight": torch.full((12, 12), -2.0)}
    assert Layers().reduce(site, values).tolist() == [144, -288]
    assert Layers().reduce(site, values, how="mean").tolist() == [1, -2]
    assert Layers().reduce(site, values, how="max").tolist() == [1, -2]


def test_no_blocks_is_refused():
    with pytest.raises(InputError, match="no run of blocks"):
        Layers().sites(PaperGraph({}))


def test_a_union_answers_by_the_owner():
    both = Union((NM(only=("fc",)), Weights(only=("conv*",)), Axes(("width",)), Layers()))
    sites = {site.name: site for site in both.sites(graph())}
    assert list(sites) == ["fc.weight", "conv1.weight", "conv2.weight", "stream", "blocks"]
    assert both.feasible(sites["fc.weight"]) == 192 and both.feasible(sites["conv1.weight"]) is None
    assert both.window(sites["fc.weight"]) == 4 and both.window(sites["blocks"]) == 1


def test_two_claims_on_one_weight_are_refused():
    with pytest.raises(InputError, match=r"claim fc\.weight"):
        Union((NM(only=("fc",)), Weights(only=("fc",)))).sites(graph())
